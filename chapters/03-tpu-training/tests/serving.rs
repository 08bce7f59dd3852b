//! The trained model in other programs: chapter 1's, and PyTorch.

#[path = "../crates/pjrt/tests/harness/mod.rs"]
mod harness;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use accel::results::ResultFile;
use harness::Need;
use libtest_mimic::{Arguments, Failed, Trial};
use pjrt_runtime::Platform;

/// What a test needs beside the plugin.
struct Program {
    path: Option<PathBuf>,
    reason: &'static str,
}

fn main() -> ExitCode {
    let plugin = Need::plugin(Platform::Cpu);
    let serving = Program {
        path: beside(&format!("cpu-inference{}", std::env::consts::EXE_SUFFIX)),
        reason: "needs: chapter 1's program; cargo build --release --workspace",
    };
    let python = Program {
        path: Some(root().join(".native/venv/peers/bin/python")).filter(|path| path.is_file()),
        reason: "needs: PyTorch beside the program; cargo x peers train --quick",
    };
    let trial = |(name, test): Trying, program: Program| {
        let missing = match (&plugin.path, &program.path) {
            (None, _) => Some(plugin.reason),
            (_, None) => Some(program.reason),
            _ => None,
        };
        let plugin = plugin.path.clone();
        let run = move || match (&plugin, &program.path) {
            (Some(plugin), Some(program)) => {
                test(plugin, program);
                Ok(())
            }
            // Asked for by --ignored.
            _ => Err(Failed::from(missing.unwrap_or_default())),
        };
        match missing {
            Some(reason) => Trial::test(name, run)
                .with_ignored_flag(true)
                .with_kind(reason),
            None => Trial::test(name, run),
        }
    };
    let trials = vec![
        trial(
            ("chapter_one_serves_the_model", chapter_one_serves_the_model),
            serving,
        ),
        trial(
            (
                "pytorch_computes_the_same_logits",
                pytorch_computes_the_same_logits,
            ),
            python,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

type Trying = (&'static str, fn(&Path, &Path));

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A program of the workspace beside this package's, if the workspace was built.
fn beside(name: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_BIN_EXE_tpu-training"));
    Some(own.with_file_name(name)).filter(|path| path.is_file())
}

fn succeed(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{errors}");
    output.stdout
}

fn tpu_training(plugin: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tpu-training"));
    command.env("PJRT_PLUGIN_LIBRARY_PATH", plugin);
    command
}

/// A small training; returns its accuracy on the test rows.
fn train(plugin: &Path, out: &Path) -> f64 {
    let words = ["train", "--device", "cpu", "--epochs", "3", "--width", "8"];
    succeed(tpu_training(plugin).args(words).arg("--out").arg(out));
    let file = ResultFile::read(out.join("result.json")).unwrap();
    file.row("run").unwrap().metrics["test_accuracy"]
}

fn chapter_one_serves_the_model(plugin: &Path, serving: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let trained = train(plugin, scratch.path());
    let output = succeed(
        Command::new(serving)
            .args(["run", "--data", "digits", "--json", "--weights"])
            .arg(scratch.path().join("model.safetensors"))
            .arg("--out")
            .arg(scratch.path().join("served")),
    );
    let summary: serde_json::Value = serde_json::from_slice(&output).unwrap();
    let served = summary["accuracy"]
        .as_f64()
        .expect("the digits have labels");
    // Logits agree to about 1e-6 of the largest: an image or two may stand on the edge.
    assert!(
        (served - trained).abs() <= 2.0 / 269.0,
        "{served} and {trained}"
    );
}

fn pytorch_computes_the_same_logits(plugin: &Path, python: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let trained = train(plugin, scratch.path());
    let model = scratch.path().join("model.safetensors");
    let logits = scratch.path().join("logits.safetensors");
    let evaluate = ["evaluate", "--device", "cpu", "--model"];
    succeed(
        tpu_training(plugin)
            .args(evaluate)
            .arg(&model)
            .arg("--logits")
            .arg(&logits),
    );
    assert!(fs::metadata(&logits).unwrap().len() > 0);
    // The script fails if a logit differs by more than 1e-4 of the largest.
    let output = succeed(
        Command::new(python)
            .arg(root().join("ci/peers/check_logits.py"))
            .arg("--model")
            .arg(&model)
            .arg("--logits")
            .arg(&logits),
    );
    let said: serde_json::Value = serde_json::from_slice(&output).unwrap();
    let accuracy = said["accuracy"].as_f64().unwrap();
    assert!(
        (accuracy - trained).abs() <= 2.0 / 269.0,
        "{accuracy} and {trained}"
    );
}
