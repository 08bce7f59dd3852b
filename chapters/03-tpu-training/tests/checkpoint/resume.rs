//! A checkpoint against the run that wants to go on from it.

use serde_json::json;
use tpu_training::checkpoint::{CheckpointError, Difference, Loaded, NamedTensor};

use crate::samples::{saved, state};

fn loaded() -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), &[1]).latest().unwrap()
}

fn specs(tensors: &[NamedTensor]) -> Vec<(String, Vec<usize>)> {
    tensors
        .iter()
        .map(|tensor| (tensor.name.clone(), tensor.dims.clone()))
        .collect()
}

#[track_caller]
fn differences(error: CheckpointError) -> Vec<Difference> {
    match error {
        CheckpointError::OtherRun { differences, .. } => differences,
        error => panic!("{error}"),
    }
}

#[test]
fn more_epochs_are_the_same_run() {
    let mut now = state(1).config;
    let loaded = loaded();
    loaded.check_config(&now, &[]).unwrap();
    now["epochs"] = json!(30);
    loaded.check_config(&now, &["epochs"]).unwrap();
    let found = differences(loaded.check_config(&now, &["out"]).unwrap_err());
    assert_eq!(found.len(), 1);
}

#[test]
fn another_model_or_optimizer_is_another_run() {
    let now = json!({
        "arch": "resnet34",
        "optimizer": {"name": "adamw", "weight_decay": 0.01},
        "epochs": 3,
        "learning_rate": 0.1 + 0.2,
        "batch": 64,
    });
    let error = loaded().check_config(&now, &["epochs"]).unwrap_err();
    let text = error.to_string();
    for line in [
        "step-00000001: not a checkpoint of this run, 5 differences:",
        "\n  arch: expected \"resnet34\", got \"resnet18\"",
        "\n  batch: expected 64, got nothing",
        "\n  optimizer.momentum: expected nothing, got 0.9",
        "\n  optimizer.name: expected \"adamw\", got \"sgd\"",
        "\n  optimizer.weight_decay: expected 0.01, got nothing",
        "\nresume with the checkpoint's settings, or choose another folder",
    ] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
}

#[test]
fn a_configuration_is_an_object() {
    let error = loaded().check_config(&json!(["sgd"]), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the run's configuration: expected a JSON object, got a list"
    );
}

#[test]
fn tensors_come_in_the_runs_order() {
    let mut loaded = loaded();
    let run = state(1);
    // A file has them in alphabetical order.
    assert_ne!(specs(&loaded.state.model), specs(&run.model));
    loaded
        .arrange(&specs(&run.model), &specs(&run.optimizer))
        .unwrap();
    assert_eq!(loaded.state.model, run.model);
    assert_eq!(loaded.state.optimizer, run.optimizer);
}

#[test]
fn all_tensors_that_differ_are_told() {
    let run = state(1);
    let (mut model, mut optimizer) = (specs(&run.model), specs(&run.optimizer));
    model[0].1 = vec![4, 1, 3, 3];
    model.remove(1);
    optimizer.push((String::from("second moment"), vec![2]));
    let error = loaded().arrange(&model, &optimizer).unwrap_err();
    let found = differences(error);
    let found: Vec<String> = found.iter().map(Difference::to_string).collect();
    assert_eq!(
        found,
        [
            "model tensor \"bn1.weight\": expected nothing, got f32 [2]",
            "model tensor \"conv1.weight\": expected f32 [4, 1, 3, 3], got f32 [2, 1, 3, 3]",
            "optimizer tensor \"second moment\": expected f32 [2], got nothing",
        ]
    );
}
