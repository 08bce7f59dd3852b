//! `cargo x peers` with engines that lack what they are asked for.

mod project;

use std::process::Command;

use assert_cmd::assert::OutputAssertExt;
use predicates::str::contains;
use project::{Project, executable};

/// Stands in for Python and for our program: prepares nothing, and has no GPU.
const NO_GPU: &str = r#"#!/bin/sh
case "$*" in *prepare*) exit 0;; esac
while read line; do echo '{"error": "this PyTorch sees no GPU", "unsupported": true}'; done
"#;

fn peers(project: &Project, words: &[&str]) -> Command {
    project.write("engine", NO_GPU);
    executable(&project.path("engine"));
    let mut peers = project.x(&["peers"]);
    peers.args(words);
    for flag in ["--python", "--worker"] {
        peers.arg(flag).arg(project.path("engine"));
    }
    peers
}

#[test]
fn without_a_gpu_the_exit_code_says_so() {
    let project = Project::new();
    project.pin_for_this_platform();
    peers(&project, &["gpu", "--quick", "--json"])
        .assert()
        .code(3)
        .stderr(contains("tch-fused skipped: this PyTorch sees no GPU"))
        .stderr(contains("nobody could be measured here"))
        .stdout(contains("peers-resnet50-224-b32-bf16-cuda.json"))
        .stdout(contains("\"failed_rows\":0"));
}

#[test]
fn a_sweep_in_which_nobody_answers_is_a_result_of_failures() {
    let project = Project::new();
    project.pin_for_this_platform();
    peers(&project, &["sweep", "--quick", "--json"])
        .assert()
        .code(1)
        .stderr(contains("ours failed: cannot read"))
        .stderr(contains("joblib failed: its last line is not the answer"))
        .stdout(contains("peers-sweep-18.json"))
        .stdout(contains("\"failed_rows\":3"));
}

#[test]
fn the_plan_names_both_sides_of_each_engine() {
    let project = Project::new();
    peers(&project, &["engines", "--dry-run"])
        .assert()
        .success()
        .stdout(contains(
            "peers-resnet50-224-b8-int8: ours-onnxruntime, ours-openvino",
        ))
        .stdout(contains("torch-compile, onnxruntime, openvino\n"));
    peers(&project, &["sweep", "--dry-run"])
        .assert()
        .success()
        .stdout("peers-sweep-18: ours, joblib, sequential\n");
    peers(&project, &["sweep", "--contender", "ray"])
        .assert()
        .code(2)
        .stderr(contains("contenders: ours, joblib, sequential"));
    peers(&project, &["gpu", "--dry-run", "--only", "none"])
        .assert()
        .code(2)
        .stderr(contains("peers-resnet50-224-b256-bf16-cuda"));
}
