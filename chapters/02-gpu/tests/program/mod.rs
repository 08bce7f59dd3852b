//! Driving the binary `gpu-inference` from a test.

#![allow(dead_code, reason = "each test file uses a part")]

use std::{path::PathBuf, time::Duration};

use accel::results::ResultFile;
use assert_cmd::Command;

/// Longer than any run of these tests on a busy machine; a hang ends here.
pub const LIMIT: Duration = Duration::from_secs(300);

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
    /// The code, and every one of the texts on stderr.
    #[track_caller]
    pub fn expect(&self, code: i32, said: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{}\nstderr:\n{}", self.stdout, self.stderr);
        for text in said {
            assert!(
                self.stderr.contains(text),
                "no {text:?} on stderr:\n{}",
                self.stderr
            );
        }
        self
    }

    /// The result file on stdout, of a run with `--json`.
    #[track_caller]
    pub fn result(&self) -> ResultFile {
        self.expect(0, &[]);
        let file: ResultFile = serde_json::from_str(&self.stdout).expect("a result file");
        file.validate().expect("a sound result file");
        file
    }
}

/// The program, free of what the test's environment says about devices.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpu-inference"));
    command.timeout(LIMIT);
    for name in ["PJRT_DEVICE", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    command
}

/// Runs to the end.
#[track_caller]
pub fn finish(command: &mut Command) -> Finished {
    let output = command.output().expect("the program starts");
    let stdout = String::from_utf8(output.stdout).expect("stdout is UTF-8");
    let stderr = String::from_utf8(output.stderr).expect("stderr is UTF-8");
    assert!(!stderr.contains("panicked"), "a panic:\n{stderr}");
    let code = output.status.code();
    Finished {
        code: code.unwrap_or_else(|| panic!("ended by {}:\n{stderr}", output.status)),
        stdout,
        stderr,
    }
}

/// The project's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}
