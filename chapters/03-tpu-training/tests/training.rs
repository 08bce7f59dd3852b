//! Whole trainings through the program, on the CPU's plugin.

#[path = "../crates/pjrt/tests/harness/mod.rs"]
mod harness;

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Output, Stdio},
    thread,
    time::Duration,
};

use accel::results::{ResultFile, Status};
use datasets::checkpoint::Checkpoint;
use harness::Need;
use pjrt_runtime::Platform;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() -> ExitCode {
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

/// A training small enough for a test: digits at width 4.
fn train(plugin: &Path, out: &Path, words: &[&str]) -> Command {
    let mut command = program(plugin);
    command.args(["train", "--device", "cpu", "--conv", "products"]);
    if !words.contains(&"--width") {
        command.args(["--width", "4"]);
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
        &["--epochs", "6", "--width", "8"],
    ));
    let file = result(scratch.path());
    assert!(file.rows.iter().all(|row| row.status == Status::Ok));
    let loss = |epoch: usize| metric(&file, &format!("epoch-{epoch}"), "loss");
    // A network that guesses has a loss of ln 10 = 2.3 and is right one time in ten.
    assert!(loss(6) < 0.5 * loss(1), "{} to {}", loss(1), loss(6));
    let accuracy = metric(&file, "run", "test_accuracy");
    assert!(accuracy > 0.8, "{accuracy}");
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
    let (mut kills, mut resume) = (0, false);
    loop {
        let mut command = train(plugin, disturbed.path(), &words);
        if resume {
            command.arg("--resume");
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        // Between the start of the process and well after its end on a fast machine.
        thread::sleep(Duration::from_millis(random.random_range(300..4000)));
        if child.try_wait().unwrap().is_none() && kills < 6 {
            child.kill().unwrap();
            kills += 1;
        }
        let output = child.wait_with_output().unwrap();
        resume = has_checkpoint(disturbed.path());
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
        kills > 0,
        "no kill hit: the delays are too long for this machine"
    );
    assert!(
        model(disturbed.path()) == model(undisturbed.path()),
        "after {kills} kills"
    );
}
// ANCHOR_END: kill

fn has_checkpoint(out: &Path) -> bool {
    let entries = fs::read_dir(out).into_iter().flatten();
    let mut names = entries.map(|entry| entry.unwrap().path());
    names.any(|path| path.join("state.json").is_file())
}

#[cfg(unix)]
fn an_interrupt_saves_within_the_epoch_and_resuming_gives_the_same_bits(plugin: &Path) {
    let words = ["--epochs", "40", "--quiet"];
    let undisturbed = folder();
    succeed(&mut train(plugin, undisturbed.path(), &words));

    let disturbed = folder();
    let child = train(plugin, disturbed.path(), &words)
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while !has_checkpoint(disturbed.path()) {
        thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(
        !disturbed.path().join("model.safetensors").exists(),
        "it has not ended"
    );
    succeed(train(plugin, disturbed.path(), &words).arg("--resume"));
    assert!(model(disturbed.path()) == model(undisturbed.path()));
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
    for style in ["while", "unroll"] {
        let many = losses(&["--steps-per-call", "4", "--loop", style]);
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
    succeed(&mut train(
        plugin,
        scratch.path(),
        &["--epochs", "1", "--warmup-steps", "0"],
    ));
    let words = ["--epochs", "3", "--warmup-steps", "0", "--resume"];
    succeed(&mut train(plugin, scratch.path(), &words));
    let file = result(scratch.path());
    assert_eq!(file.rows.len(), 4, "the run and three epochs");
    assert_eq!(
        file.row("run")
            .unwrap()
            .samples
            .as_ref()
            .unwrap()
            .seconds
            .len(),
        2
    );
}

fn a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(plugin: &Path) {
    let scratch = folder();
    // So large a rate that parameters overflow, but not in the warm-up of the first epoch.
    let words = [
        "--epochs",
        "30",
        "--lr",
        "1e30",
        "--schedule",
        "constant",
        "--warmup-steps",
        "500",
    ];
    let output = train(plugin, scratch.path(), &words).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let message = text(&output.stderr);
    assert!(
        message.contains("the loss is NaN at step") || message.contains("the loss is inf at step"),
        "{message}"
    );
    assert!(message.contains("--lr"), "{message}");
    assert!(!scratch.path().join("model.safetensors").exists());
}

fn two_runs_do_not_share_a_folder(plugin: &Path) {
    let scratch = folder();
    let mut first = train(plugin, scratch.path(), &["--epochs", "1000"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !has_checkpoint(scratch.path()) {
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
