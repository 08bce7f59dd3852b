//! Runs in object stores over HTTP: emulators of S3 and of Google Cloud Storage on 127.0.0.1.
//!
//! The emulators are Python programs and need their packages, in `.native/venv/emulators`;
//! without them the tests are skipped, with that reason. What the crate's logic promises is
//! tested without them, in `tests/checkpoint/objects.rs`; here it meets requests, signatures,
//! lists in pages and uploads in parts.

mod emulator;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use emulator::{BUCKET, Emulator};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::json;
use tpu_training::checkpoint::{CheckpointError, NamedTensor, Progress, TrainingState, latest};
use tpu_training::run_folder::RunFolder;
use tpu_training::store::{
    Environment, ObjectFolder, ObjectUrl, Place, RemoteKind, Scheme, Store, StoreError,
};

const NEEDS: &str = "needs: emulators of object stores (moto); cargo x test";

type Test = fn(&Emulator);

const TESTS: [(&str, Test); 6] = [
    ("a_run_is_kept_and_found", a_run_is_kept_and_found),
    ("large_files_go_in_parts", large_files_go_in_parts),
    ("many_checkpoints_are_listed", many_checkpoints_are_listed),
    (
        "an_unfinished_upload_is_passed_over",
        an_unfinished_upload_is_passed_over,
    ),
    (
        "no_such_bucket_is_told_at_once",
        no_such_bucket_is_told_at_once,
    ),
    (
        "a_killed_upload_leaves_the_checkpoint_before",
        a_killed_upload_leaves_the_checkpoint_before,
    ),
];

fn main() -> ExitCode {
    if let Ok(task) = std::env::var(CHILD) {
        save_until_killed(&task);
    }
    let arguments = Arguments::from_args();
    let python = python();
    let trials = [Scheme::S3, Scheme::Gs].into_iter().flat_map(|scheme| {
        let python = python.clone();
        TESTS.into_iter().map(move |(name, test)| {
            let missing = python.is_none();
            let python = python.clone().unwrap_or_default();
            let body = move || run(scheme, &python, test);
            let trial = Trial::test(format!("{}::{name}", scheme.name()), body);
            match missing {
                true => trial.with_kind(NEEDS).with_ignored_flag(true),
                false => trial,
            }
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn run(scheme: Scheme, python: &Path, test: Test) -> Result<(), Failed> {
    let emulator = Emulator::start(scheme, python)?;
    test(&emulator);
    Ok(())
}

/// The Python that has the packages, if set-up has brought them.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let python = root.join(".native/venv/emulators/bin/python");
    let imports = Command::new(&python)
        .args(["-c", "import moto.server"])
        .stderr(Stdio::null())
        .status();
    imports
        .is_ok_and(|status| status.success())
        .then_some(python)
}

impl Emulator {
    fn environment(&self) -> Environment {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Environment::new(self.scheme, self.variables().into_iter().map(owned))
    }

    fn url(&self, bucket: &str, prefix: &str) -> ObjectUrl {
        ObjectUrl {
            scheme: self.scheme,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        }
    }

    fn store(&self) -> ObjectFolder {
        ObjectFolder::connect(&self.url(BUCKET, "runs/a b+c"), &self.environment()).unwrap()
    }

    fn open(&self, keep: usize) -> RunFolder {
        RunFolder::with_store(Box::new(self.store()), keep).unwrap()
    }
}

/// A state of about `4 * values` bytes; everything in it depends on the step alone.
fn state(step: u64, values: usize) -> TrainingState {
    let tensor = |name: &str, offset: f32| NamedTensor {
        name: name.to_owned(),
        dims: vec![values],
        data: (0..values)
            .map(|i| step as f32 + offset + i as f32)
            .collect(),
    };
    TrainingState {
        model: vec![tensor("fc.weight", 0.5)],
        optimizer: vec![tensor("fc.weight.momentum", 0.25)],
        progress: Progress {
            step,
            ..Progress::default()
        },
        description: Default::default(),
        config: json!({"arch": "resnet18"}),
        history: Vec::new(),
    }
}

fn a_run_is_kept_and_found(emulator: &Emulator) {
    let mut first = emulator.open(2);
    first.require_empty().unwrap();
    for step in 1..5 {
        first.save(&state(step, 100)).unwrap();
    }
    let place = format!("{}://{BUCKET}/runs/a b+c", emulator.scheme.name());
    let model = first.publish_model(&state(4, 100), &Default::default());
    assert_eq!(model.unwrap(), format!("{place}/model.safetensors"));
    drop(first);

    let store = emulator.store();
    assert_eq!(store.folders().unwrap(), ["step-00000003", "step-00000004"]);
    assert!(store.exists("step-00000004/state.json").unwrap());
    assert!(!store.exists("step-00000002/state.json").unwrap());
    assert!(!store.exists(".write-check").unwrap());
    let mut second = emulator.open(2);
    let loaded = second.latest().unwrap();
    assert_eq!(loaded.state, state(4, 100));
    assert_eq!(loaded.checkpoint, format!("{place}/step-00000004"));
    // The same step again, as when a run goes on and stops at once.
    second.save(&state(4, 100)).unwrap();
    second.save(&state(5, 100)).unwrap();
    assert_eq!(second.latest().unwrap().state, state(5, 100));

    // A run that begins here, and one that does not know what the other writes.
    let mut third = emulator.open(2);
    let error = third.require_empty().unwrap_err();
    assert!(matches!(error, CheckpointError::Occupied { .. }), "{error}");
    let error = third.save(&state(6, 100)).unwrap_err();
    assert!(
        matches!(error, CheckpointError::OtherWriter { .. }),
        "{error}"
    );
}

fn large_files_go_in_parts(emulator: &Emulator) {
    let mut run = emulator.open(1);
    // 12 MB: a part of 8 MiB and a rest, for each of the two files.
    let large = state(1, 3_000_000);
    run.save(&large).unwrap();
    assert_eq!(run.latest().unwrap().state, large);
}

fn many_checkpoints_are_listed(emulator: &Emulator) {
    let store = emulator.store();
    // More than the 1,000 names that one answer holds.
    for step in 0..1_010 {
        store
            .write(&format!("step-{step:08}/state.json"), b"{}")
            .unwrap();
    }
    assert_eq!(store.folders().unwrap().len(), 1_010);
}

fn an_unfinished_upload_is_passed_over(emulator: &Emulator) {
    let mut run = emulator.open(1);
    run.save(&state(1, 10)).unwrap();
    let store = emulator.store();
    store
        .write("step-00000002/model.safetensors", b"half")
        .unwrap();
    let loaded = run.latest().unwrap();
    assert_eq!(loaded.state, state(1, 10));
    assert_eq!(loaded.skipped.len(), 1);
    run.save(&state(3, 10)).unwrap();
    assert_eq!(store.folders().unwrap(), ["step-00000003"]);
}

fn no_such_bucket_is_told_at_once(emulator: &Emulator) {
    let url = emulator.url("nobodys-bucket", "run");
    let store = ObjectFolder::connect(&url, &emulator.environment()).unwrap();
    let error = store.prepare().unwrap_err();
    let StoreError::Remote { kind, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*kind, RemoteKind::Bucket, "{error}");
    assert!(
        error.to_string().contains("make the bucket first"),
        "{error}"
    );
}

/// Set in the child only: the place that it saves to.
const CHILD: &str = "TPU_TRAINING_TEST_SAVES_TO";

/// Goes on from the newest checkpoint, through the environment as a user sets it.
fn save_until_killed(place: &str) -> ! {
    let mut run = RunFolder::open(&Place::parse(place).unwrap(), 2).unwrap();
    let mut step = match run.latest() {
        Ok(loaded) => loaded.state.progress.step,
        Err(_) => 0,
    };
    loop {
        step += 1;
        run.save(&state(step, 200_000)).unwrap();
        println!("{step}");
    }
}

fn a_killed_upload_leaves_the_checkpoint_before(emulator: &Emulator) {
    let url = emulator.url(BUCKET, "run");
    let temporary = tempfile::tempdir().unwrap();
    let store = ObjectFolder::connect(&url, &emulator.environment()).unwrap();
    let mut promised = 0;
    for kill in 0..8_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(CHILD, url.to_string())
            // What is staged there is nobody's after a kill.
            .env("TMPDIR", temporary.path())
            .envs(emulator.variables())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let step: u64 = lines.next().unwrap().unwrap().parse().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(kill * 7));
        child.kill().unwrap();
        child.wait().unwrap();
        let told = lines
            .map_while(Result::ok)
            .filter_map(|line| line.parse().ok());
        promised = told.fold(step.max(promised), u64::max);

        let loaded = latest(&store).unwrap();
        let step = loaded.state.progress.step;
        assert!(
            step >= promised,
            "kill {kill}: {step} after {promised} was saved"
        );
        assert_eq!(loaded.state, state(step, 200_000));
        // One that was not finished at most: the one that was being written, or removed.
        assert!(loaded.skipped.len() <= 1, "{:?}", loaded.skipped);
        promised = step;
    }
    let _ = fs::remove_dir_all(temporary.path());
}
