//! The whole chapter in one command: train, choose, deploy, and serve with chapter 1's program.

#[path = "../../03-tpu-training/crates/pjrt/tests/harness/mod.rs"]
mod harness;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use harness::Need;
use libtest_mimic::{Arguments, Failed, Trial};
use pjrt_runtime::Platform;
use serde_json::Value;

fn main() -> ExitCode {
    let plugin = Need::plugin(Platform::Cpu);
    let own = Path::new(env!("CARGO_BIN_EXE_parallel-training"));
    let server = own.with_file_name(format!("cpu-inference{}", std::env::consts::EXE_SUFFIX));
    let missing = match (&plugin.path, server.is_file()) {
        (None, _) => Some(plugin.reason),
        (_, false) => Some("needs: chapter 1's program; cargo build --release --workspace"),
        _ => None,
    };
    let path = plugin.path.clone();
    let test = move || match &path {
        Some(path) if missing.is_none() => {
            one_command_trains_chooses_deploys_and_serves(path);
            Ok(())
        }
        // Asked for by --ignored.
        _ => Err(Failed::from(missing.unwrap_or_default())),
    };
    let trial = Trial::test("one_command_trains_chooses_deploys_and_serves", test);
    let trial = match missing {
        Some(reason) => trial.with_ignored_flag(true).with_kind(reason),
        None => trial,
    };
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

fn one_command_trains_chooses_deploys_and_serves(plugin: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name);
    fs::write(
        place("grid.toml"),
        "width = 2\nconv = 'convolution'\nbatch = 64\nepochs = 3\nlearning_rate = [0.1, 0.01]\n",
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_parallel-training"))
        .args(["run", "--device", "cpu", "--slots", "1", "--quiet"])
        .arg("--grid")
        .arg(place("grid.toml"))
        .arg("--out")
        .arg(place("sweep"))
        .arg("--serve")
        .arg(place("serving"))
        .env("PJRT_PLUGIN_LIBRARY_PATH", plugin)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let version = fs::read_to_string(place("serving").join("current")).unwrap();
    let version = version.trim();

    // What was served is the winner, and it reads the held-out digits as well as training said.
    let read =
        |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let manifest = read(place("sweep").join("manifest.json"));
    let winner = &manifest["winner"];
    assert!(
        version.starts_with(winner["id"].as_str().unwrap()),
        "{version}"
    );
    let predictions = fs::read_to_string(place("sweep").join("served/predictions.jsonl")).unwrap();
    let predictions: Vec<Value> = predictions
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(predictions.iter().all(|line| line["model"] == version));
    let right = predictions
        .iter()
        .filter(|line| line["top"][0]["class"] == line["label"])
        .count();
    let accuracy = right as f64 / predictions.len() as f64;
    let trained = winner["test"]["accuracy"].as_f64().unwrap();
    assert_eq!(
        predictions.len() as u64,
        winner["test"]["images"].as_u64().unwrap()
    );
    // Two engines round differently: an image on the edge may fall to either side.
    assert!(
        (accuracy - trained).abs() <= 2.0 / predictions.len() as f64,
        "{accuracy} and {trained}"
    );
}
