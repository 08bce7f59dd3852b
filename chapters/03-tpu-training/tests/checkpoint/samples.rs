//! States to save, the same for the same step.

use std::path::Path;

use datasets::checkpoint::Description;
use serde_json::json;
use tpu_training::checkpoint::{EpochRecord, NamedTensor, Progress, TrainingState};
use tpu_training::run_folder::RunFolder;
use tpu_training::store::Place;

/// Values whose bits a conversion by way of text or f64 could lose.
const DELICATE: [f32; 6] = [
    0.1,
    -0.0,
    f32::MIN_POSITIVE / 8.0,
    f32::MAX,
    1.0e-45,
    -1.0 / 3.0,
];

fn tensor(name: &str, dims: &[usize], step: u64) -> NamedTensor {
    let count: usize = dims.iter().product();
    let value = |index: usize| match DELICATE.get(index) {
        Some(value) => *value,
        None => (step as f32 + 1.0) * 0.37 + index as f32,
    };
    NamedTensor {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data: (0..count).map(value).collect(),
    }
}

/// A small state; everything in it depends on the step alone.
pub fn state(step: u64) -> TrainingState {
    state_of_size(step, 2)
}

/// As [`state`], with a first convolution of `channels` channels (36 bytes each).
pub fn state_of_size(step: u64, channels: usize) -> TrainingState {
    TrainingState {
        model: vec![
            tensor("conv1.weight", &[channels, 1, 3, 3], step),
            tensor("bn1.weight", &[channels], step),
            tensor("bn1.running_mean", &[channels], step),
        ],
        optimizer: vec![
            tensor("conv1.weight.momentum", &[channels, 1, 3, 3], step + 7),
            tensor("bn1.weight.momentum", &[channels], step + 7),
            tensor("decay", &[], step),
        ],
        progress: Progress {
            epoch: step / 10,
            step,
            step_in_epoch: step % 10,
            seed: u64::MAX - step,
            epoch_losses: vec![2.197_224_6; (step % 10) as usize],
            epoch_seconds: 0.1 * (step % 10) as f64,
        },
        description: Description {
            arch: Some(String::from("resnet18")),
            width: Some(channels),
            stem: Some(String::from("small")),
            channels: Some(1),
            classes: Some(10),
            mean: Some(vec![0.305_316_8]),
            std: Some(vec![0.1 + 0.2]),
            labels: None,
        },
        config: json!({
            "arch": "resnet18",
            "optimizer": {"name": "sgd", "momentum": 0.9},
            "epochs": 3,
            "learning_rate": 0.1 + 0.2,
        }),
        history: vec![EpochRecord {
            epoch: 1,
            step: 10,
            loss: 1.0 / 3.0,
            accuracy: Some(0.1 + 0.7),
            learning_rate: 1e-300,
            images: 1259,
            seconds: 0.25,
        }],
    }
}

/// The same state with its tensors in alphabetical order, as a file gives them back.
pub fn in_file_order(mut state: TrainingState) -> TrainingState {
    state.model.sort_by(|a, b| a.name.cmp(&b.name));
    state.optimizer.sort_by(|a, b| a.name.cmp(&b.name));
    state
}

/// Equal to the last bit: `==` takes -0.0 for 0.0.
#[track_caller]
pub fn assert_same(got: &TrainingState, expected: &TrainingState) {
    let expected = in_file_order(expected.clone());
    assert_eq!(*got, expected);
    let bits = |tensors: &[NamedTensor]| -> Vec<u32> {
        let values = tensors.iter().flat_map(|tensor| &tensor.data);
        values.map(|value| value.to_bits()).collect()
    };
    assert_eq!(bits(&got.model), bits(&expected.model));
    assert_eq!(bits(&got.optimizer), bits(&expected.optimizer));
}

/// The run folder of a local path.
pub fn open(path: &Path, keep: usize) -> RunFolder {
    RunFolder::open(&Place::from(path), keep).unwrap()
}

/// A folder with the checkpoints of some steps.
pub fn saved(path: &Path, steps: &[u64]) -> RunFolder {
    let mut run = open(path, steps.len().max(1));
    for step in steps {
        run.save(&state(*step)).unwrap();
    }
    run
}

/// The names in a folder, sorted.
pub fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
