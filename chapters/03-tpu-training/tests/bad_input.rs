//! Whatever comes in: an error that says what to do, an exit code, and nothing lost.

#[path = "../crates/pjrt/tests/harness/mod.rs"]
mod harness;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use datasets::checkpoint::{self, Checkpoint, Description};
use harness::Need;
use pjrt_runtime::Platform;
use tpu_training::{run_folder::RunFolder, store::Place};

fn main() -> ExitCode {
    let need = Need::plugin(Platform::Cpu);
    let tests = tests![
        numbers_that_cannot_be_trained_with_are_refused,
        a_plugin_that_is_none_is_a_device_error,
        a_device_that_is_not_here_is_a_device_error,
        resuming_from_nothing_is_refused,
        a_folder_with_checkpoints_is_not_overwritten,
        a_checkpoint_of_another_run_is_refused_with_all_differences,
        a_truncated_checkpoint_is_passed_over_for_the_one_before,
        a_checkpoint_from_a_newer_version_is_refused,
        a_data_file_cut_short_is_named,
        a_folder_that_cannot_be_written_is_named,
        a_place_that_is_none_is_refused,
        a_model_of_another_network_is_refused,
        a_full_disk_is_a_failure_and_told_once,
        flags_that_would_mean_nothing_are_refused,
        learning_leaves_a_run_that_goes_on_alone,
        requests_that_make_no_sense_are_answered,
    ];
    harness::run(&need, false, tests)
}

fn program(plugin: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tpu-training"));
    command.env("PJRT_PLUGIN_LIBRARY_PATH", plugin);
    command
}

/// Runs a small training and checks its exit code; returns what it said.
fn train(plugin: &Path, out: &Path, words: &[&str], code: i32) -> String {
    let output = program(plugin)
        .args(["train", "--device", "cpu", "--width", "4"])
        .args(["--conv", "convolution", "--compile", "fast", "--quiet"])
        .args(words)
        .arg("--out")
        .arg(out)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}\n{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in:\n{message}");
    }
}

fn numbers_that_cannot_be_trained_with_are_refused(plugin: &Path) {
    let cases: [(&[&str], &[&str]); 12] = [
        (&["--lr", "0"], &["lr = 0", "over 0"]),
        (&["--lr", "-0.1"], &["lr = -0.1"]),
        (&["--lr", "NaN"], &["lr = NaN"]),
        (&["--lr", "inf"], &["lr = inf"]),
        (&["--momentum", "1"], &["momentum = 1", "0 <= value < 1"]),
        (&["--weight-decay", "-1"], &["weight-decay = -1"]),
        (
            &["--batch", "2000"],
            &["batch = 2000", "1259 training rows"],
        ),
        (&["--batch", "1"], &["batch = 1", "at least 2"]),
        (&["--batch", "0"], &["from 1 to"]),
        (&["--epochs", "0"], &["from 1 to"]),
        (
            &["--epochs", "1", "--warmup-steps", "20"],
            &["warmup-steps = 20", "19 steps"],
        ),
        (
            &["--arch", "resnet50"],
            &["bottleneck", "resnet18 or resnet34"],
        ),
    ];
    let scratch = tempfile::tempdir().unwrap();
    for (words, parts) in cases {
        says(&train(plugin, scratch.path(), words, 2), parts);
    }
    let wrong = ["--optimizer", "adamw", "--momentum", "0.9"];
    says(
        &train(plugin, scratch.path(), &wrong, 2),
        &["belongs to SGD"],
    );
    assert_eq!(
        fs::read_dir(scratch.path()).unwrap().count(),
        0,
        "nothing was begun"
    );
}

fn a_plugin_that_is_none_is_a_device_error(plugin: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let text = scratch.path().join("text.so");
    fs::write(&text, "not a library").unwrap();
    for (path, part) in [
        (text.as_path(), "text.so"),
        (Path::new("/nowhere/x.so"), "/nowhere/x.so"),
    ] {
        let words = ["--plugin", path.to_str().unwrap()];
        says(&train(plugin, scratch.path(), &words, 3), &[part]);
    }
    // A library that is no plugin: this machine's C library.
    if let Some(library) = [
        "/lib/x86_64-linux-gnu/libm.so.6",
        "/lib/aarch64-linux-gnu/libm.so.6",
    ]
    .into_iter()
    .find(|path| Path::new(path).is_file())
    {
        let message = train(plugin, scratch.path(), &["--plugin", library], 3);
        says(&message, &["libm", "GetPjrtApi"]);
    }
}

fn a_device_that_is_not_here_is_a_device_error(plugin: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    // The only plugin on this path is the CPU's.
    let folder = plugin.parent().unwrap();
    for device in ["cuda", "tpu"] {
        let output = program(folder)
            .args(["train", "--device", device, "--out"])
            .arg(scratch.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        says(&said, &[device, "--device cpu"]);
    }
}

fn resuming_from_nothing_is_refused(plugin: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    says(
        &train(plugin, scratch.path(), &["--resume"], 2),
        &["expected a checkpoint", "without --resume"],
    );
}

fn a_folder_with_checkpoints_is_not_overwritten(plugin: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    train(plugin, scratch.path(), &["--epochs", "1"], 0);
    let model = fs::read(scratch.path().join("model.safetensors")).unwrap();
    let message = train(plugin, scratch.path(), &["--epochs", "1", "--seed", "9"], 2);
    says(&message, &["--resume"]);
    assert!(fs::read(scratch.path().join("model.safetensors")).unwrap() == model);
}

fn a_checkpoint_of_another_run_is_refused_with_all_differences(plugin: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    train(plugin, scratch.path(), &["--epochs", "1"], 0);
    let words = ["--epochs", "1", "--resume", "--seed", "9", "--batch", "32"];
    let message = train(plugin, scratch.path(), &words, 2);
    says(
        &message,
        &["seed: expected 9, got 0", "batch: expected 32, got 64"],
    );
}

/// The checkpoints of a folder, oldest first.
fn checkpoints(out: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(out)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("state.json").is_file())
        .collect();
    paths.sort();
    paths
}

fn a_truncated_checkpoint_is_passed_over_for_the_one_before(plugin: &Path) {
    let undisturbed = tempfile::tempdir().unwrap();
    let words = ["--epochs", "2"];
    train(plugin, undisturbed.path(), &words, 0);
    let scratch = tempfile::tempdir().unwrap();
    train(plugin, scratch.path(), &words, 0);
    let newest = checkpoints(scratch.path()).pop().unwrap();
    let file = newest.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let words = ["--epochs", "2", "--resume"];
    let message = train(plugin, scratch.path(), &words, 0);
    says(&message, &["passed over", "step-00000038"]);
    let model = |out: &Path| fs::read(out.join("model.safetensors")).unwrap();
    assert!(model(scratch.path()) == model(undisturbed.path()));
}

fn a_checkpoint_from_a_newer_version_is_refused(plugin: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    train(plugin, scratch.path(), &["--epochs", "1"], 0);
    for path in checkpoints(scratch.path()) {
        let state = path.join("state.json");
        let text = fs::read_to_string(&state).unwrap();
        let newer = text.replacen("\"format_version\":2,", "\"format_version\":99,", 1);
        assert_ne!(text, newer);
        fs::write(&state, newer).unwrap();
    }
    let message = train(plugin, scratch.path(), &["--epochs", "1", "--resume"], 2);
    says(&message, &["expected format version 2 or older, got 99"]);
}

fn a_data_file_cut_short_is_named(plugin: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    fs::create_dir(&data).unwrap();
    // A record is a label and 3,072 pixels.
    for part in 1..=5 {
        fs::write(data.join(format!("data_batch_{part}.bin")), [1; 4 * 3073]).unwrap();
    }
    fs::write(data.join("test_batch.bin"), [1; 3073 + 100]).unwrap();
    fs::write(
        data.join("batches.meta.txt"),
        "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n",
    )
    .unwrap();
    let words = ["--data", "cifar10", "--data-dir", data.to_str().unwrap()];
    says(
        &train(plugin, scratch.path(), &words, 2),
        &["test_batch.bin"],
    );
}

fn a_folder_that_cannot_be_written_is_named(plugin: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let message = train(plugin, &file.join("out"), &["--epochs", "1"], 1);
    says(&message, &["file"]);
}

fn a_place_that_is_none_is_refused(plugin: &Path) {
    for place in ["s3://", "gs:///nothing", "ftp://host/x"] {
        let output = program(plugin)
            .args(["train", "--out", place])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{place}");
    }
}

fn a_model_of_another_network_is_refused(plugin: &Path) {
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../01-cpu/weights/digits.safetensors");
    let ours = Checkpoint::open(&digits).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    // Its tensors, with the first filter for `channels`, under a description that says `width`.
    let model = |name: &str, width: usize, channels: usize| {
        let tensors: Vec<_> = ours
            .tensors()
            .map(|tensor| match tensor.name {
                "conv1.weight" => {
                    let shape = vec![tensor.shape[0], channels, 3, 3];
                    let bytes = tensor.bytes.repeat(channels);
                    (tensor.name.to_owned(), shape, tensor.dtype, bytes)
                }
                name => (
                    name.to_owned(),
                    tensor.shape.to_vec(),
                    tensor.dtype,
                    tensor.bytes.to_vec(),
                ),
            })
            .collect();
        let description = Description {
            width: Some(width),
            channels: Some(channels),
            mean: Some(vec![0.5; channels]),
            std: Some(vec![0.5; channels]),
            ..ours.description.clone()
        };
        let path = scratch.path().join(name);
        checkpoint::write(&path, &tensors, &description, &BTreeMap::new()).unwrap();
        path
    };
    let evaluate = |path: &Path| {
        let mut command = program(plugin);
        let output = command.args(["evaluate", "--model"]).arg(path).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let width = ours.description.width.unwrap();
    // Written the same way and with its own description, it is accepted.
    let (code, said) = evaluate(&model("ours", width, 1));
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = evaluate(&model("wide", 2 * width, 1));
    assert_eq!(code, Some(2), "{said}");
    says(&said, &["wide", "conv1.weight"]);
    let (code, said) = evaluate(&model("colour", width, 3));
    assert_eq!(code, Some(2), "{said}");
    says(&said, &["channels = 3, the data set 1"]);

    let cut = scratch.path().join("cut.safetensors");
    let bytes = fs::read(&digits).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 10]).unwrap();
    let (code, said) = evaluate(&cut);
    assert_eq!(code, Some(2), "{said}");
    says(&said, &["cut.safetensors"]);
}

#[cfg(unix)]
fn a_full_disk_is_a_failure_and_told_once(plugin: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    // A limit on the size of files stands for the disk: 16 or 32 KiB, by the shell. Without
    // the trap the system would end the program instead of failing its write.
    let script = "trap '' XFSZ; ulimit -f 32; exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_tpu-training")])
        .args(["train", "--device", "cpu", "--width", "4", "--epochs", "1"])
        .args(["--conv", "convolution", "--compile", "fast", "--quiet"])
        .arg("--out")
        .arg(scratch.path())
        .env("PJRT_PLUGIN_LIBRARY_PATH", plugin)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    says(&said, &["cannot write the checkpoint"]);
    assert_eq!(said.matches("File too large").count(), 1, "{said}");
    assert!(checkpoints(scratch.path()).is_empty());
}

#[cfg(not(unix))]
fn a_full_disk_is_a_failure_and_told_once(_plugin: &Path) {}

fn flags_that_would_mean_nothing_are_refused(plugin: &Path) {
    let cases: [(&[&str], &[&str]); 11] = [
        (
            &["train", "--epochs", "18446744073709551615"],
            &["a count from 1 to 1000000"],
        ),
        (
            &["train", "--compile-for", "v5e:1x1", "--lr", "0.3"],
            &["--lr has no meaning with --compile-for"],
        ),
        (
            &["train", "--compile-for", "v5e:1x1", "--steps-per-call", "4"],
            &["--steps-per-call has no meaning"],
        ),
        (
            &["train", "--compile-for", "v5e:1x1", "--resume"],
            &["--resume has no meaning"],
        ),
        (
            &["train", "--compile-for", "v5e:1x1", "--momentum", "2"],
            &["momentum = 2"],
        ),
        (
            &["compile-for", "v5e:1x1", "--batch", "60000"],
            &["--batch 60000", "50000 rows"],
        ),
        (
            &["compile-for", "v5e:1x1", "--data-dir", "somewhere"],
            &["--data-dir", "leave it out"],
        ),
        (
            &["steps-per-call", "--steps", "100000", "--batch", "65536"],
            &["--steps 100000 with --batch 65536", "smaller batch"],
        ),
        (&["conv-forms", "--images", "0"], &["from 1 to 1024"]),
        (
            &["learn", "--only", "trian"],
            &["--only trian", "train-digits, steps-per-call"],
        ),
        // There is such a measurement, but not a quick one.
        (
            &["learn", "--quick", "--only", "inference"],
            &["--only inference", "compile-for-digits"],
        ),
    ];
    let scratch = tempfile::tempdir().unwrap();
    for (words, parts) in cases {
        let mut command = program(plugin);
        let output = command.args(words).current_dir(scratch.path()).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words:?}\n{said}");
        says(&said, parts);
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

fn learning_leaves_a_run_that_goes_on_alone(plugin: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("train-digits");
    let run = RunFolder::open(&Place::from(folder.as_path()), 1).unwrap();
    run.write_file("model.safetensors", b"of the run that goes on")
        .unwrap();
    let mut command = program(plugin);
    let output = command
        .args(["learn", "--quick", "--only", "train-digits", "--out"])
        .arg(scratch.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    says(&said, &["train-digits", "in use by another run"]);
    assert!(folder.join("model.safetensors").is_file());
}

fn requests_that_make_no_sense_are_answered(plugin: &Path) {
    use std::{io::Write, process::Stdio};
    let mut child = program(plugin)
        .arg("worker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let requests = b"not json\n{\"run\": {\"warmup\": 0, \"samples\": 1}}\n{\"load\": {}}\n\xff\n";
    child.stdin.take().unwrap().write_all(requests).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<serde_json::Value> = answers
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), 4);
    assert!(
        answers.iter().all(|answer| answer["error"].is_string()),
        "{answers:?}"
    );
}
