//! Driving the binary `cpu-inference` from a test, and reading what it left.

#![allow(dead_code)] // Each test file uses a part.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command as Process, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use assert_cmd::Command;
use serde_json::Value;

/// Longer than any run of these tests on a busy machine; a hang ends here.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The arguments of the shortest run: the small model of the digits.
pub const DIGITS: [&str; 6] = [
    "run",
    "--weights",
    "digits",
    "--arch",
    "resnet18",
    "--quick",
];

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; a death by signal fails the test before.
    pub code: i32,
    /// Everything on stdout.
    pub stdout: String,
    /// Everything on stderr.
    pub stderr: String,
}

impl Finished {
    /// Checks what holds for every run, whatever came in.
    #[track_caller]
    pub fn new(status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> Self {
        let stdout = String::from_utf8(stdout.to_vec()).expect("stdout is UTF-8");
        let stderr = String::from_utf8(stderr.to_vec()).expect("stderr is UTF-8");
        assert!(!stderr.contains("panicked"), "a panic:\n{stderr}");
        let code = status
            .code()
            .unwrap_or_else(|| panic!("ended by {status}, not by an exit code:\n{stderr}"));
        Finished {
            code,
            stdout,
            stderr,
        }
    }

    /// The code, and every one of the texts on stderr.
    #[track_caller]
    pub fn expect(&self, code: i32, said: &[&str]) -> &Self {
        assert_eq!(self.code, code, "stderr:\n{}", self.stderr);
        for text in said {
            assert!(
                self.stderr.contains(text),
                "no {text:?} on stderr:\n{}",
                self.stderr
            );
        }
        self
    }

    /// Refused: exit code 2, a line that begins with `error: ` and holds the texts.
    #[track_caller]
    pub fn refused(&self, said: &[&str]) -> &Self {
        self.expect(2, &["error: "]).expect(2, said)
    }
}

/// The program, free of what the environment of the test says about devices,
/// proxies and the hub.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cpu-inference"));
    command.timeout(LIMIT);
    for name in SILENCED {
        command.env_remove(name);
    }
    command
}

/// The same, to be fed and signalled while it runs.
pub fn process() -> Process {
    let mut command = Process::new(env!("CARGO_BIN_EXE_cpu-inference"));
    for name in SILENCED {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

const SILENCED: [&str; 8] = [
    "PJRT_DEVICE",
    "HF_ENDPOINT",
    "HF_HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
    "ALL_PROXY",
];

/// Runs to the end.
#[track_caller]
pub fn finish(command: &mut Command) -> Finished {
    let output = command.output().expect("the program starts");
    Finished::new(output.status, &output.stdout, &output.stderr)
}

/// `cpu-inference run` on a folder with the digits model.
#[track_caller]
pub fn classify(images: &Path, out: &Path) -> Finished {
    finish(
        program()
            .args(DIGITS)
            .arg("--images")
            .arg(images)
            .arg("--out")
            .arg(out),
    )
}

/// The lines of `predictions.jsonl`; each must be whole.
#[track_caller]
pub fn predictions(out: &Path) -> Vec<Value> {
    let path = out.join("predictions.jsonl");
    let text = fs::read_to_string(&path).expect("predictions.jsonl");
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the last line is not whole: {:?}",
        text.lines().last()
    );
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

/// `summary.json`.
#[track_caller]
pub fn summary(out: &Path) -> Value {
    let text = fs::read_to_string(out.join("summary.json")).expect("summary.json");
    serde_json::from_str(&text).expect("summary.json is JSON")
}

/// The reason why the picture of that name has no prediction.
#[track_caller]
pub fn reason<'a>(predictions: &'a [Value], name: &str) -> &'a str {
    let line = of(predictions, name);
    assert!(line.get("top").is_none(), "{name} was predicted: {line}");
    line["error"]
        .as_str()
        .unwrap_or_else(|| panic!("no reason for {name}: {line}"))
}

/// The likeliest class of the picture of that name, and its probability.
#[track_caller]
pub fn best(predictions: &[Value], name: &str) -> (u64, f64) {
    let line = of(predictions, name);
    assert!(line.get("error").is_none(), "{name} was skipped: {line}");
    let best = &line["top"][0];
    let class = best["class"].as_u64().expect("a class");
    (class, best["probability"].as_f64().expect("a probability"))
}

#[track_caller]
fn of<'a>(predictions: &'a [Value], name: &str) -> &'a Value {
    let mut found = predictions.iter().filter(|line| line["input"] == name);
    let line = found
        .next()
        .unwrap_or_else(|| panic!("no line for {name} in {predictions:?}"));
    assert!(found.next().is_none(), "two lines for {name}");
    line
}

/// A small picture that was committed beside the tests.
pub fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

/// The bytes of a committed photograph.
pub fn photograph(name: &str) -> Vec<u8> {
    fs::read(root().join("samples").join(name)).expect("a sample")
}

/// The folder of this chapter.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Waits until `ready`, and fails the test if it never is.
#[track_caller]
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < LIMIT, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
