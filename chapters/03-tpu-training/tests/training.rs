//! Whole trainings through the program, on the CPU's plugin.

#[path = "../crates/pjrt/tests/harness/mod.rs"]
mod harness;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Output, Stdio},
    sync::atomic::AtomicBool,
    thread,
    time::Duration,
};

use accel::{
    device::DeviceRequest,
    results::{ResultFile, Status},
};
use datasets::checkpoint::Checkpoint;
use harness::Need;
use pjrt_runtime::Platform;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tpu_training::{
    config::{CompileEffort, ConvStyle, LoopStyle, TrainConfig},
    data_set::DataSet,
    device,
    run_folder::RunFolder,
    store::Place,
    trainer::{Driving, Snapshot, TrainError, Trainer},
    training_run::{self, RunOptions},
};

fn main() -> ExitCode {
    // While there is one thread.
    pjrt_runtime::quiet_plugins();
    let need = Need::plugin(Platform::Cpu);
    let tests = tests![
        a_dry_run_takes_the_whole_path_and_leaves_nothing,
        digits_are_learned_and_the_result_has_every_epoch,
        the_same_seed_gives_the_same_model_and_another_one_does_not,
        a_run_killed_at_random_moments_ends_as_if_it_had_not_been,
        an_interrupt_saves_within_the_epoch_and_resuming_gives_the_same_bits,
        no_copy_is_made_for_a_step,
        a_loop_and_single_steps_learn_the_same,
        adamw_and_bf16_learn,
        more_epochs_go_on_from_where_a_shorter_run_ended,
        a_run_goes_on_with_its_own_data_only,
        a_run_may_pause_and_a_second_one_compiles_nothing,
        a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint,
        two_runs_do_not_share_a_folder,
        the_trained_model_is_evaluated_as_the_run_said,
    ];
    harness::run(&need, false, tests)
}

/// The program, with few threads of its own: many tests run at once.
fn program(plugin: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tpu-training"));
    command.env("PJRT_PLUGIN_LIBRARY_PATH", plugin);
    command
}

/// A training small enough for a test: digits at width 4, in programs that are compiled soon.
fn train(plugin: &Path, out: &Path, words: &[&str]) -> Command {
    let mut command = program(plugin);
    command.args(["train", "--device", "cpu"]);
    for (flag, value) in [("--width", "4"), ("--compile", "fast")] {
        if !words.contains(&flag) {
            command.args([flag, value]);
        }
    }
    command.args(words).arg("--out").arg(out);
    command
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}",
        text(&output.stderr)
    );
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Every tensor of the published model, as bytes.
fn model(out: &Path) -> Vec<u8> {
    fs::read(out.join("model.safetensors")).unwrap()
}

fn result(out: &Path) -> ResultFile {
    ResultFile::read(out.join("result.json")).unwrap()
}

fn metric(file: &ResultFile, row: &str, name: &str) -> f64 {
    file.row(row).unwrap().metrics[name]
}

fn a_dry_run_takes_the_whole_path_and_leaves_nothing(plugin: &Path) {
    let scratch = folder();
    let output = succeed(
        program(plugin)
            .args(["train", "--dry-run", "--width", "4", "--json"])
            .current_dir(scratch.path()),
    );
    let file: ResultFile = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(file.rows.len(), 3, "the run and two epochs");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

fn digits_are_learned_and_the_result_has_every_epoch(plugin: &Path) {
    let scratch = folder();
    succeed(&mut train(
        plugin,
        scratch.path(),
        &["--epochs", "6", "--width", "8", "--compile", "thorough"],
    ));
    let file = result(scratch.path());
    assert!(file.rows.iter().all(|row| row.status == Status::Ok));
    let loss = |epoch: usize| metric(&file, &format!("epoch-{epoch}"), "loss");
    // A network that guesses has a loss of ln 10 = 2.3 and is right one time in ten.
    assert!(loss(6) < 0.5 * loss(1), "{} to {}", loss(1), loss(6));
    let accuracy = metric(&file, "run", "test_accuracy");
    assert!(accuracy > 0.8, "{accuracy}");
    // Weights and their velocities lie on the device throughout, and what a step keeps beside.
    let model = fs::metadata(scratch.path().join("model.safetensors")).unwrap();
    let memory = metric(&file, "run", "estimated_device_bytes");
    assert!(memory > 2.0 * model.len() as f64, "{memory}");
    assert_eq!(
        file.row("run")
            .unwrap()
            .samples
            .as_ref()
            .unwrap()
            .seconds
            .len(),
        6
    );
    let kept: Vec<_> = fs::read_dir(scratch.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("step-"))
        .collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
}

fn the_same_seed_gives_the_same_model_and_another_one_does_not(plugin: &Path) {
    let run = |seed: &str| {
        let scratch = folder();
        succeed(&mut train(
            plugin,
            scratch.path(),
            &["--epochs", "1", "--seed", seed],
        ));
        model(scratch.path())
    };
    let first = run("7");
    assert!(first == run("7"));
    assert!(first != run("8"));
}

// ANCHOR: kill
fn a_run_killed_at_random_moments_ends_as_if_it_had_not_been(plugin: &Path) {
    let words = ["--epochs", "12", "--quiet"];
    let undisturbed = folder();
    succeed(&mut train(plugin, undisturbed.path(), &words));

    let disturbed = folder();
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut killed_after_resuming = 0;
    // Fewer kills than epochs: each lets a checkpoint pass.
    for kill in 0.. {
        let before = newest_checkpoint(disturbed.path());
        let mut command = train(plugin, disturbed.path(), &words);
        if before.is_some() {
            command.arg("--resume");
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        if kill < 4 {
            // While it trains, evaluates or saves.
            while newest_checkpoint(disturbed.path()) == before && is_running(&mut child) {
                thread::sleep(Duration::from_millis(2));
            }
            thread::sleep(Duration::from_millis(random.random_range(0..60)));
            if is_running(&mut child) {
                child.kill().unwrap();
                killed_after_resuming += usize::from(before.is_some());
            }
        }
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            break;
        }
        assert_eq!(
            output.status.code(),
            None,
            "killed, not failed: {}",
            text(&output.stderr)
        );
    }
    assert!(
        killed_after_resuming >= 2,
        "{killed_after_resuming}: more epochs are needed on this machine"
    );
    assert!(model(disturbed.path()) == model(undisturbed.path()));
}
// ANCHOR_END: kill

fn is_running(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_none()
}

/// `state.json` of a folder's newest checkpoint.
fn newest_checkpoint(out: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(out).into_iter().flatten();
    let states = entries.map(|entry| entry.unwrap().path().join("state.json"));
    states.filter(|path| path.is_file()).max()
}

/// What it says, without its first line's seal.
fn state(checkpoint: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(checkpoint).unwrap()).unwrap()
}

#[cfg(unix)]
fn an_interrupt_saves_within_the_epoch_and_resuming_gives_the_same_bits(plugin: &Path) {
    // Many steps an epoch: the host runs ahead of the device by some.
    let words = ["--epochs", "6", "--batch", "8", "--quiet"];
    let undisturbed = folder();
    succeed(&mut train(plugin, undisturbed.path(), &words));

    let disturbed = folder();
    let out = disturbed.path();
    let mut within_an_epoch = 0;
    for _ in 0..5 {
        let before = newest_checkpoint(out);
        let mut command = train(plugin, out, &words);
        if before.is_some() {
            command.arg("--resume");
        }
        let mut child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        while newest_checkpoint(out) == before && is_running(&mut child) {
            thread::sleep(Duration::from_millis(2));
        }
        thread::sleep(Duration::from_millis(15));
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(sent.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
        assert!(!out.join("model.safetensors").exists(), "it has not ended");
        let progress = &state(&newest_checkpoint(out).unwrap())["progress"];
        let steps = progress["step_in_epoch"].as_u64().unwrap();
        assert_eq!(
            progress["epoch_losses"].as_array().unwrap().len() as u64,
            steps
        );
        assert_eq!(progress["epoch_seconds"].as_f64().unwrap() > 0.0, steps > 0);
        within_an_epoch += usize::from(steps > 0);
        if within_an_epoch == 1 {
            break;
        }
    }
    assert!(
        within_an_epoch > 0,
        "every interrupt fell between two epochs"
    );
    succeed(train(plugin, out, &words).arg("--resume"));
    assert!(model(out) == model(undisturbed.path()));

    // Every epoch counts whole, and the run's time is theirs together.
    let history = state(&newest_checkpoint(out).unwrap())["history"].take();
    let history = history.as_array().unwrap();
    assert_eq!(history.len(), 6);
    assert!(history.iter().all(|epoch| epoch["images"] == 157 * 8));
    let seconds: f64 = history
        .iter()
        .map(|epoch| epoch["seconds"].as_f64().unwrap())
        .sum();
    let told = metric(&result(out), "run", "training_seconds");
    assert!((told / seconds - 1.0).abs() < 1e-9, "{told} and {seconds}");
}

#[cfg(not(unix))]
fn an_interrupt_saves_within_the_epoch_and_resuming_gives_the_same_bits(_plugin: &Path) {}

fn no_copy_is_made_for_a_step(plugin: &Path) {
    let scratch = folder();
    succeed(&mut train(plugin, scratch.path(), &["--epochs", "2"]));
    let file = result(scratch.path());
    let steps = metric(&file, "run", "steps_per_epoch");
    assert_eq!(steps, 19.0);
    assert_eq!(metric(&file, "run", "host_to_device_copies_per_epoch"), 0.0);
    assert_eq!(
        metric(&file, "run", "device_to_host_copies_per_epoch"),
        1.0,
        "the losses"
    );
}

fn a_loop_and_single_steps_learn_the_same(plugin: &Path) {
    let losses = |words: &[&str]| {
        let scratch = folder();
        let all = [&["--epochs", "2", "--no-augment"], words].concat();
        succeed(&mut train(plugin, scratch.path(), &all));
        let file = result(scratch.path());
        [1, 2].map(|epoch| metric(&file, &format!("epoch-{epoch}"), "loss"))
    };
    let single = losses(&[]);
    // Neither number divides an epoch's 19 steps. Written out, each step is compiled again.
    for (style, steps) in [("while", "4"), ("unroll", "2")] {
        let many = losses(&["--steps-per-call", steps, "--loop", style]);
        for (single, many) in single.iter().zip(many) {
            // The compiler may fuse other operations and round elsewhere, and steps
            // amplify that: 38 of them turn 1e-7 into less than 1e-3 here.
            assert!(
                (single - many).abs() < 1e-2 * single,
                "{style}: {single} and {many}"
            );
        }
    }
}

fn adamw_and_bf16_learn(plugin: &Path) {
    for words in [["--optimizer", "adamw"], ["--precision", "bf16"]] {
        let scratch = folder();
        let all = [&["--epochs", "4", "--width", "8"], &words[..]].concat();
        succeed(&mut train(plugin, scratch.path(), &all));
        let accuracy = metric(&result(scratch.path()), "run", "test_accuracy");
        assert!(accuracy > 0.5, "{words:?}: {accuracy}");
    }
}

fn more_epochs_go_on_from_where_a_shorter_run_ended(plugin: &Path) {
    let scratch = folder();
    succeed(&mut train(plugin, scratch.path(), &["--epochs", "1"]));
    let first = metric(&result(scratch.path()), "run", "training_seconds");
    // With the default warm-up, which depends on the epochs: the checkpoint's holds.
    let words = ["--epochs", "3", "--resume"];
    succeed(&mut train(plugin, scratch.path(), &words));
    let file = result(scratch.path());
    assert_eq!(file.rows.len(), 4, "the run and three epochs");
    let samples = file.row("run").unwrap().samples.as_ref().unwrap();
    assert_eq!(samples.seconds.len(), 2);
    let all = metric(&file, "run", "training_seconds");
    let second: f64 = samples.seconds.iter().sum();
    assert!(
        (all - first - second).abs() < 1e-9 * all,
        "all three epochs"
    );
    let state = state(&newest_checkpoint(scratch.path()).unwrap());
    // A tenth of the first run's 19 steps.
    assert_eq!(state["config"]["warmup_steps"], 1);
    // Asked for, it is another run.
    let words = ["--epochs", "3", "--resume", "--warmup-steps", "2"];
    let output = train(plugin, scratch.path(), &words).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let message = text(&output.stderr);
    assert!(
        message.contains("warmup_steps: expected 2, got 1"),
        "{message}"
    );
}

/// A training that takes no time, on made-up images.
fn tiny(epochs: usize) -> TrainConfig {
    let mut config = TrainConfig::digits();
    config.network.width = 2;
    config.batch = 16;
    config.epochs = epochs;
    config.warmup_steps = 0;
    // Compiled sooner than the forms.
    config.conv = ConvStyle::Convolution;
    config.compile = CompileEffort::Fast;
    config
}

fn a_run_goes_on_with_its_own_data_only(plugin: &Path) {
    let scratch = folder();
    let config = tiny(1);
    let opened = device::open(DeviceRequest::Cpu, Some(plugin)).unwrap();
    let driving = Driving {
        steps_per_call: 1,
        loop_style: LoopStyle::While,
    };
    let run = |data: &DataSet, resume: bool| {
        let place = Place::from(scratch.path());
        let mut folder = RunFolder::open(&place, 1).unwrap();
        let options = RunOptions {
            resume,
            default_warmup: true,
            driving,
            until: None,
            test: true,
        };
        let stop = AtomicBool::new(false);
        training_run::train(&opened, &config, data, &mut folder, &options, &stop, |_| {})
    };
    let data = DataSet::made_up(64, 8, 1, 10);
    run(&data, false).unwrap();
    let before = newest_checkpoint(scratch.path()).unwrap();
    let mut relabelled = data.clone();
    relabelled.labels.swap(0, 1);
    for (other, part) in [
        (
            DataSet::made_up(128, 8, 1, 10),
            "data.training_rows: expected 64, got 32",
        ),
        (relabelled, "1 difference:\n  data.sha256: "),
    ] {
        let error = run(&other, true).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(newest_checkpoint(scratch.path()).unwrap(), before);
    run(&data, true).unwrap();

    // A place that no run of this data has.
    let (client, ordinal) = (&opened.client, opened.ordinal);
    let mut trainer = Trainer::new(client, ordinal, &config, &data, driving).unwrap();
    let good = trainer.snapshot().unwrap();
    for (epoch, step, losses) in [(0, 3, 3), (0, 1, 0), (usize::MAX, 0, 0)] {
        let wrong = Snapshot {
            epoch,
            step,
            losses: vec![1.0; losses],
            ..good.clone()
        };
        let error = trainer.restore(&wrong).unwrap_err();
        assert!(matches!(error, TrainError::Place { .. }), "{error}");
    }
    trainer.restore(&good).unwrap();
}

fn a_run_may_pause_and_a_second_one_compiles_nothing(plugin: &Path) {
    let scratch = folder();
    let data = DataSet::made_up(64, 8, 1, 10);
    let mut config = tiny(3);
    let opened = device::open(DeviceRequest::Cpu, Some(plugin)).unwrap();
    let run = |name: &str, config: &TrainConfig, resume: bool, until: Option<usize>, test: bool| {
        let mut folder = RunFolder::open(&Place::from(scratch.path().join(name)), 1).unwrap();
        assert_eq!(folder.has_checkpoint().unwrap(), resume);
        let driving = Driving {
            steps_per_call: 1,
            loop_style: LoopStyle::While,
        };
        let options = RunOptions {
            resume,
            default_warmup: false,
            driving,
            until,
            test,
        };
        let stop = AtomicBool::new(false);
        training_run::train(&opened, config, &data, &mut folder, &options, &stop, |_| {}).unwrap()
    };
    let whole = run("whole", &config, false, None, false);
    assert!(whole.model.is_some() && whole.test.is_none());

    let part = run("parts", &config, false, Some(2), false);
    assert_eq!((part.history.len(), part.stopped), (2, false));
    assert!(part.model.is_none());
    let rest = run("parts", &config, true, None, false);
    assert_eq!(rest.validation, whole.validation);
    let model = |name: &str| model(&scratch.path().join(name));
    assert!(model("whole") == model("parts"));
    // What is complete is evaluated, and not trained again.
    let tested = run("parts", &config, true, None, true);
    assert_eq!(tested.validation, whole.validation);
    assert!(tested.test.is_some() && tested.epochs.is_empty());

    // Another learning rate is another run of the same programs; another batch is not.
    let compiled = opened.programs.len();
    config.learning_rate = 0.01;
    run("other", &config, false, None, false);
    assert!(model("other") != model("whole"));
    assert_eq!(opened.programs.len(), compiled);
    config.batch = 8;
    run("batch", &config, false, None, false);
    assert_eq!(opened.programs.len(), compiled + 1);
}

fn a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(plugin: &Path) {
    let scratch = folder();
    // A rate that rises slowly enough to survive the first epoch, and too far for the second.
    let words = ["--epochs", "30", "--lr", "300", "--schedule", "constant"];
    let words = [&words[..], &["--warmup-steps", "200"]].concat();
    let output = train(plugin, scratch.path(), &words).output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    let error = message.lines().last().unwrap();
    assert!(
        error.contains("the loss is NaN at step") || error.contains("the loss is inf at step"),
        "{error}"
    );
    let kept = newest_checkpoint(scratch.path()).expect("the first epoch's checkpoint");
    assert!(state(&kept)["progress"]["epoch"].as_u64() > Some(0));
    let kept = kept.parent().unwrap().display().to_string();
    assert_eq!(error.matches(&kept).count(), 1, "{error}");
    assert_eq!(error.matches("the loss is").count(), 1, "{error}");
    // What it advises is possible: to resume with another rate is not.
    assert!(error.contains("smaller --lr") && error.contains("in another folder"));
    assert!(!error.contains("--resume"), "{error}");
    assert!(!scratch.path().join("model.safetensors").exists());
}

fn two_runs_do_not_share_a_folder(plugin: &Path) {
    let scratch = folder();
    let mut first = train(plugin, scratch.path(), &["--epochs", "1000"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while newest_checkpoint(scratch.path()).is_none() {
        thread::sleep(Duration::from_millis(5));
    }
    let second = train(plugin, scratch.path(), &["--epochs", "1000", "--resume"])
        .output()
        .unwrap();
    let pid = first.id().to_string();
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(second.status.code(), Some(2), "{}", text(&second.stderr));
    assert!(
        text(&second.stderr).contains(&pid),
        "{}",
        text(&second.stderr)
    );
}

fn the_trained_model_is_evaluated_as_the_run_said(plugin: &Path) {
    let scratch = folder();
    succeed(&mut train(plugin, scratch.path(), &["--epochs", "2"]));
    let logits = scratch.path().join("logits.safetensors");
    let output = succeed(
        program(plugin)
            .args(["evaluate", "--json", "--model"])
            .arg(scratch.path().join("model.safetensors"))
            .arg("--logits")
            .arg(&logits),
    );
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let trained = metric(&result(scratch.path()), "run", "test_accuracy");
    assert_eq!(said["accuracy"].as_f64(), Some(trained));
    let file = Checkpoint::open(&logits).unwrap();
    assert_eq!(file.tensor("logits").unwrap().shape, [269, 10]);
    assert_eq!(file.tensor("images").unwrap().shape, [269, 1, 8, 8]);
}
