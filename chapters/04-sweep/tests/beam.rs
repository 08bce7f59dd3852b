//! The sweep and bulk inference on Apache Beam's engines, with the pipelines of `beam/`.
//!
//! They need Beam in `.native/venv/beam`, which `cargo x test` makes, and the CPU's plugin; those
//! that need more say so. One at a time: each has two workers of its own.

#[path = "../../03-tpu-training/crates/pjrt/tests/harness/mod.rs"]
mod harness;

#[path = "beam/cluster.rs"]
mod cluster;
#[path = "../../03-tpu-training/tests/object_stores/emulator.rs"]
mod emulator;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use accel::results::ResultFile;
use cluster::Cluster;
use emulator::{BUCKET, Emulator};
use harness::Need;
use libtest_mimic::{Arguments, Failed, Trial};
use pjrt_runtime::Platform;
use serde_json::Value;
use tpu_training::store::Scheme;

const NO_BEAM: &str = "needs: Apache Beam; cargo x test";
const NO_EMULATORS: &str = "needs: emulators of object stores (moto); cargo x test";
const NO_SERVER: &str = "needs: chapter 1's program; cargo build --release --workspace";

/// Longest time for a pipeline: a hang ends here.
const LIMIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    // While there is one thread.
    pjrt_runtime::quiet_plugins();
    let plugin = Need::plugin(Platform::Cpu);
    let here = Here {
        plugin: plugin.path.clone().unwrap_or_default(),
        python: environment("beam", "import apache_beam, distributed"),
        emulators: environment("emulators", "import moto.server"),
        server: beside("cpu-inference"),
    };
    let beam = here.python.is_none().then_some(NO_BEAM);
    let training = beam.or(plugin.path.is_none().then_some(plugin.reason));
    let stores = training.or(here.emulators.is_none().then_some(NO_EMULATORS));
    let serving = beam.or(here.server.is_none().then_some(NO_SERVER));
    let tests: [Test; 7] = [
        ("the_pipelines_own_tests", beam, the_pipelines_own_tests),
        (
            "two_processes_find_the_winner_of_the_sweep",
            training,
            two_processes_find_the_winner_of_the_sweep,
        ),
        (
            "a_cluster_finds_it_with_one_of_its_workers_killed",
            training,
            a_cluster_finds_it_with_one_of_its_workers_killed,
        ),
        (
            "a_killed_worker_costs_no_row_and_a_bad_run_is_one",
            training,
            a_killed_worker_costs_no_row_and_a_bad_run_is_one,
        ),
        (
            "a_run_that_is_moved_goes_on_from_its_bucket",
            stores,
            a_run_that_is_moved_goes_on_from_its_bucket,
        ),
        (
            "what_cannot_be_run_is_told",
            training,
            what_cannot_be_run_is_told,
        ),
        (
            "shards_of_pictures_are_classified_and_counted",
            serving,
            shards_of_pictures_are_classified_and_counted,
        ),
    ];
    let trials = tests.map(|(name, missing, test)| {
        let here = here.clone();
        let body = move || match missing {
            None => {
                test(&here);
                Ok(())
            }
            // Asked for by --ignored.
            Some(reason) => Err(Failed::from(reason)),
        };
        let trial = Trial::test(name, body);
        match missing {
            Some(reason) => trial.with_ignored_flag(true).with_kind(reason),
            None => trial,
        }
    });
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// A name, why it cannot run here, and the test.
type Test = (&'static str, Option<&'static str>, fn(&Here));

/// What there is on this machine.
#[derive(Clone)]
struct Here {
    /// The CPU's plugin.
    plugin: PathBuf,
    /// A Python with Beam.
    python: Option<PathBuf>,
    /// A Python with emulators of object stores.
    emulators: Option<PathBuf>,
    /// Chapter 1's program.
    server: Option<PathBuf>,
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn pipelines() -> PathBuf {
    root().join("chapters/04-sweep/beam")
}

/// The Python of an environment below `.native/venv`, if it can do what it is for.
fn environment(name: &str, imports: &str) -> Option<PathBuf> {
    let python = root().join(".native/venv").join(name).join("bin/python");
    let status = Command::new(&python)
        .args(["-c", imports])
        .stderr(Stdio::null())
        .status();
    status
        .is_ok_and(|status| status.success())
        .then_some(python)
}

/// Another program of the workspace.
fn beside(name: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_BIN_EXE_parallel-training"));
    let program = own.with_file_name(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    program.is_file().then_some(program)
}

impl Here {
    fn python(&self) -> Command {
        let mut command = Command::new(self.python.as_ref().expect("the need says so"));
        command
            .env("PYTHONPATH", pipelines())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // Beam leaves folders behind.
            .env("TMPDIR", env!("CARGO_TARGET_TMPDIR"))
            .env("PJRT_PLUGIN_LIBRARY_PATH", &self.plugin)
            .stdin(Stdio::null());
        command
    }

    fn trainer(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parallel-training"));
        command.env("PJRT_PLUGIN_LIBRARY_PATH", &self.plugin);
        command
    }
}

/// 18 runs of one program that compiles fast: nine rates with two seeds each.
const GRID: &str = "
width = 2
conv = 'convolution'
compile = 'fast'
arch = 'resnet18'
batch = 64
epochs = EPOCHS
seed = [0, 1]
learning_rate = { from = 0.001, to = 0.3, count = 9, scale = 'log' }
";

const DIRECT: [&str; 6] = [
    "--runner",
    "DirectRunner",
    "--direct_running_mode",
    "multi_processing",
    "--direct_num_workers",
    "2",
];

/// A sweep's folder.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new(here: &Here, epochs: usize) -> Self {
        let scratch = Scratch(tempfile::tempdir().unwrap());
        let grid = GRID.replace("EPOCHS", &epochs.to_string());
        fs::write(scratch.path("grid.toml"), grid).unwrap();
        let plan = here
            .trainer()
            .arg("plan")
            .arg("--grid")
            .arg(scratch.path("grid.toml"))
            .output()
            .unwrap();
        assert!(plan.status.success());
        fs::write(scratch.path("runs.jsonl"), plan.stdout).unwrap();
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The pipeline with these runs.
    fn sweep(&self, here: &Here, out: &str, engine: &[&str]) -> Command {
        let mut command = here.python();
        command
            .arg(pipelines().join("sweep.py"))
            .args(["--device", "cpu", "--json", "--time_limit", "120"])
            .arg("--program")
            .arg(env!("CARGO_BIN_EXE_parallel-training"))
            .arg("--runs")
            .arg(self.path("runs.jsonl"))
            .args(["--out", out])
            .arg("--result")
            .arg(self.path("result.json"))
            .args(engine);
        command
    }

    fn out(&self) -> String {
        self.path("runs").to_str().unwrap().to_owned()
    }

    fn result(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("result.json")).unwrap()).unwrap()
    }
}

/// Runs it to its end, and ends it if that does not come.
fn finish(command: &mut Command) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    finished(child)
}

fn finished(child: Child) -> Output {
    let pid = child.id();
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let guard = thread::spawn(move || {
        if receiver
            .recv_timeout(LIMIT)
            .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            signal("-KILL", pid);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(sender);
    guard.join().unwrap();
    output
}

#[track_caller]
fn succeed(output: &Output, code: i32) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}\n{errors}");
    said
}

fn signal(name: &str, pid: u32) -> bool {
    let sent = Command::new("kill").args([name, &pid.to_string()]).output();
    sent.is_ok_and(|output| output.status.success())
}

/// Rust workers of this sweep, wherever they hang: their `--out` names it.
fn workers(out: &str) -> Vec<u32> {
    let output = Command::new("pgrep")
        .args(["-f", &format!("parallel-training worker .*--out {out}")])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Runs of a sweep's folder that have saved an epoch.
fn begun(out: &str) -> usize {
    let saved = |run: &Path| {
        let entries = fs::read_dir(run).into_iter().flatten().flatten();
        entries
            .into_iter()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
    };
    let runs = fs::read_dir(out).into_iter().flatten().flatten();
    runs.filter(|run| saved(&run.path())).count()
}

fn wait_until(what: &str, child: &mut Child, there: impl Fn() -> bool) {
    let start = Instant::now();
    while !there() {
        if let Some(status) = child.try_wait().unwrap() {
            let mut errors = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                let _ = std::io::Read::read_to_string(&mut stderr, &mut errors);
            }
            panic!("{what} never came ({status}):\n{errors}");
        }
        assert!(start.elapsed() < LIMIT, "{what} never came");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What a run came to, without its times.
fn figures(row: &Value) -> (String, f64, f64) {
    let validation = &row["validation"];
    (
        row["id"].as_str().unwrap().to_owned(),
        validation["accuracy"].as_f64().unwrap(),
        validation["loss"].as_f64().unwrap(),
    )
}

/// All runs are done, with the figures and the winner of this chapter's own sweep.
#[track_caller]
fn assert_like_the_sweep(here: &Here, scratch: &Scratch) {
    let own = scratch.path("own");
    let mut command = here.trainer();
    command
        .args(["sweep", "--device", "cpu", "--quiet", "--slots", "2"])
        .args(["--threads", "1", "--grid"])
        .arg(scratch.path("grid.toml"))
        .arg("--out")
        .arg(&own);
    succeed(&finish(&mut command), 0);
    let file = ResultFile::read(own.join("result.json")).unwrap();
    let result = scratch.result();
    let rows = result["runs"].as_array().unwrap();
    assert_eq!(rows.len(), 18);
    assert!(rows.iter().all(|row| row["status"] == "done"));
    assert_eq!(
        result["winner"],
        file.row("sweep").unwrap().workload["winner"]
    );
    let own: Vec<_> = (file.rows.iter())
        .filter(|row| row.id != "sweep")
        .map(|row| {
            let metric = |name: &str| row.metrics[name];
            (
                row.id.clone(),
                metric("validation_accuracy"),
                metric("validation_loss"),
            )
        })
        .collect();
    let beam: Vec<_> = rows.iter().map(figures).collect();
    assert_eq!(beam, own, "in the same order, to the last digit");
}

fn distinct_workers(result: &Value) -> usize {
    let rows = result["runs"].as_array().unwrap();
    let names: BTreeSet<_> = rows
        .iter()
        .filter_map(|row| row["worker"].as_str())
        .collect();
    names.len()
}

fn the_pipelines_own_tests(here: &Here) {
    let output = finish(
        here.python()
            .args([
                "-m",
                "unittest",
                "discover",
                "--verbose",
                "-s",
                "tests",
                "-t",
                ".",
            ])
            .current_dir(pipelines()),
    );
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(!errors.contains("skipped"), "{errors}");
    assert!(errors.contains("test_hints_and_container"), "{errors}");
}

fn two_processes_find_the_winner_of_the_sweep(here: &Here) {
    let scratch = Scratch::new(here, 2);
    let output = finish(&mut scratch.sweep(here, &scratch.out(), &DIRECT));
    let said: Value = serde_json::from_str(&succeed(&output, 0)).unwrap();
    assert_eq!((&said["done"], &said["failed"]), (&18.into(), &0.into()));
    assert_like_the_sweep(here, &scratch);
    assert_eq!(said["winner"], scratch.result()["winner"]);
    assert_eq!(distinct_workers(&scratch.result()), 2);
    // What the worker says reaches the pipeline's log.
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("started on cpu"), "{errors}");
    assert_eq!(workers(&scratch.out()), [0; 0], "none is left");
}

fn a_cluster_finds_it_with_one_of_its_workers_killed(here: &Here) {
    let mut cluster = Cluster::start(|| here.python());
    let scratch = Scratch::new(here, 4);
    let out = scratch.out();
    let engine = [
        "--runner",
        "apache_beam.runners.dask.dask_runner.DaskRunner",
        "--dask_client_address",
        &cluster.address,
        "--dask_npartitions",
        "6",
        "--together",
        "3",
    ];
    let mut child = scratch
        .sweep(here, &out, &engine)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("half of the runs", &mut child, || begun(&out) >= 8);
    let seen = workers(&out).len();
    cluster.kill_one();
    let said: Value = serde_json::from_str(&succeed(&finished(child), 0)).unwrap();
    assert_eq!((&said["done"], &said["failed"]), (&18.into(), &0.into()));
    assert_eq!(seen, 2, "both had a worker");
    assert_like_the_sweep(here, &scratch);
    assert!(distinct_workers(&scratch.result()) >= 1);
}

fn a_killed_worker_costs_no_row_and_a_bad_run_is_one(here: &Here) {
    let scratch = Scratch::new(here, 6);
    let runs = fs::read_to_string(scratch.path("runs.jsonl")).unwrap();
    let mut lines: Vec<_> = runs.lines().map(str::to_owned).collect();
    // An id that is not that of the configuration.
    lines[3] = lines[3].replace("\"momentum\":0.9", "\"momentum\":0.8");
    assert!(!runs.contains(&lines[3]));
    fs::write(scratch.path("runs.jsonl"), lines.join("\n")).unwrap();
    let out = scratch.out();
    let mut child = scratch
        .sweep(here, &out, &DIRECT)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("a few runs", &mut child, || begun(&out) >= 5);
    let victims = workers(&out);
    assert_eq!(victims.len(), 2);
    assert!(signal("-KILL", victims[0]));
    let output = finished(child);
    let said: Value = serde_json::from_str(&succeed(&output, 1)).unwrap();
    assert_eq!((&said["done"], &said["failed"]), (&17.into(), &1.into()));
    let result = scratch.result();
    let rows = result["runs"].as_array().unwrap();
    assert_eq!(rows.len(), 18);
    assert_eq!(rows[17]["status"], "failed");
    assert_eq!(rows[17]["kind"], "refused");
    let reason = rows[17]["message"].as_str().unwrap();
    assert!(reason.contains("not that of the configuration"), "{reason}");
    let attempts: Vec<_> = rows
        .iter()
        .map(|row| row["attempts"].as_u64().unwrap())
        .collect();
    assert_eq!(
        attempts.iter().sum::<u64>(),
        19,
        "one was tried twice: {attempts:?}"
    );
    assert_eq!(distinct_workers(&result), 3);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("signal 9"), "{errors}");
}

fn a_run_that_is_moved_goes_on_from_its_bucket(here: &Here) {
    for scheme in [Scheme::S3, Scheme::Gs] {
        a_moved_run_goes_on_from(scheme, here);
    }
}

fn a_moved_run_goes_on_from(scheme: Scheme, here: &Here) {
    let python = here.emulators.as_ref().expect("the need says so");
    let emulator = Emulator::start(scheme, python).unwrap();
    let scratch = Scratch::new(here, 12);
    let runs = fs::read_to_string(scratch.path("runs.jsonl")).unwrap();
    let first = runs.lines().next().unwrap();
    fs::write(scratch.path("runs.jsonl"), first).unwrap();
    let out = format!("{}://{BUCKET}/sweep", scheme.name());

    // A worker begins it, and dies.
    let mut command = here.trainer();
    command
        .args(["worker", "--device", "cpu", "--progress", "--out", &out])
        .env("NPROC", "1")
        .envs(emulator.variables())
        .stdin(fs::File::open(scratch.path("runs.jsonl")).unwrap())
        .stdout(Stdio::piped());
    let mut begun = command.spawn().unwrap();
    let told = std::io::BufRead::lines(std::io::BufReader::new(begun.stdout.take().unwrap()));
    let saved = told
        .map_while(Result::ok)
        .filter(|line| line.contains("\"epoch\""))
        .nth(2);
    assert!(saved.is_some(), "three epochs with {scheme:?}");
    begun.kill().unwrap();
    begun.wait().unwrap();

    // Beam's worker goes on where it stopped.
    let mut sweep = scratch.sweep(here, &out, &DIRECT);
    let output = finish(sweep.envs(emulator.variables()));
    succeed(&output, 0);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains(r#""epoch": 12"#), "{log}");
    for epoch in [1, 2, 3] {
        let again = format!(r#""epoch": {epoch},"#);
        assert!(
            !log.contains(&again),
            "epoch {epoch} was trained again: {log}"
        );
    }
    let result = scratch.result();
    let row = &result["runs"][0];
    assert_eq!(row["epoch_seconds"].as_array().unwrap().len(), 12);
    let model = row["model"].as_str().unwrap();
    assert!(model.starts_with(&format!("{out}/resnet18-")), "{model}");

    // To the same figures as a run that was not moved.
    let mut undisturbed = scratch.sweep(here, &scratch.out(), &DIRECT);
    succeed(&finish(&mut undisturbed), 0);
    assert_eq!(figures(row), figures(&scratch.result()["runs"][0]));
}

fn what_cannot_be_run_is_told(here: &Here) {
    let scratch = Scratch::new(here, 1);
    // A worker that finds no device ends the pipeline, and says why.
    let mut sweep = scratch.sweep(here, &scratch.out(), &[]);
    let output = finish(sweep.args(["--plugin", "/nowhere/plugin.so"]));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("exit code"), "{errors}");
    assert!(errors.contains("/nowhere/plugin.so"), "{errors}");
    assert!(!scratch.path("result.json").exists());

    let output = finish(&mut scratch.sweep(here, &scratch.out(), &["--together", "0"]));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("--together 0"), "{errors}");

    fs::write(scratch.path("runs.jsonl"), "\n\n").unwrap();
    let output = finish(&mut scratch.sweep(here, &scratch.out(), &[]));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("runs.jsonl has no run"), "{errors}");
}

fn shards_of_pictures_are_classified_and_counted(here: &Here) {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    fs::create_dir_all(path("pictures/some")).unwrap();
    let samples = root().join("chapters/01-cpu/samples");
    for (number, name) in ["china.jpg", "flower.jpg"]
        .into_iter()
        .cycle()
        .take(6)
        .enumerate()
    {
        let copy = path("pictures/some").join(format!("{number}.jpg"));
        fs::copy(samples.join(name), copy).unwrap();
    }
    fs::write(path("pictures/cut.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(samples.join("china.jpg"), path("pictures/out.jpg")).unwrap();
    let classify = |name: &str, engine: &[&str]| {
        let mut command = here.python();
        command
            .arg(pipelines().join("classify.py"))
            .arg("--program")
            .arg(here.server.as_ref().expect("the need says so"))
            .arg("--images")
            .arg(path("pictures"))
            .arg("--out")
            .arg(path(name))
            .arg("--result")
            .arg(path(name).with_extension("json"))
            .args(["--weights", "random", "--arch", "resnet18"])
            .args(["--shard", "2", "--json"])
            .args(engine);
        let said = succeed(&finish(&mut command), 1);
        serde_json::from_str::<Value>(&said).unwrap()
    };
    let result = classify("two", &DIRECT);
    assert_eq!(result["images"], 8);
    assert_eq!(result["predicted"], 6);
    assert_eq!(result["bad"], 2);
    assert_eq!(result["shards"], 4);
    assert_eq!(
        result["workers"], 2,
        "each read the model once, for two shards"
    );
    let bad: Vec<_> = result["bad_images"].as_array().unwrap().iter().collect();
    assert_eq!(bad[0]["path"], "cut.png");
    assert_eq!(bad[1]["path"], "out.jpg");
    let reason = bad[1]["error"].as_str().unwrap();
    assert!(reason.contains("leads out of"), "{reason}");
    let lines = |name: &str| -> Vec<Value> {
        let mut files: Vec<_> = fs::read_dir(path(name))
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        assert_eq!(
            files.len(),
            4,
            "a file a shard, and nothing half done: {files:?}"
        );
        let text: String = files
            .iter()
            .map(|file| fs::read_to_string(file).unwrap())
            .collect();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let two = lines("two");
    assert_eq!(two.len(), 8);
    let top = |line: &Value| line["top"][0]["class"].as_u64();
    assert_eq!(two.iter().filter(|line| top(line).is_some()).count(), 6);
    // The same again, over what is there.
    classify("two", &[]);
    assert_eq!(lines("two"), two);
}
