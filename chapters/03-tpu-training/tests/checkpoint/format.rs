//! The files of a checkpoint.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use datasets::checkpoint::{Checkpoint, Spec};
use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tpu_training::checkpoint::{
    CheckpointError, FORMAT_VERSION, folder_name, load_latest, step_of,
};
use tpu_training::store::Place;

use crate::samples::{assert_same, names, open, saved, state};

fn sha256(content: &[u8]) -> String {
    let digits = Sha256::digest(content);
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn state_text(path: &Path, step: u64) -> String {
    fs::read_to_string(path.join(folder_name(step)).join("state.json")).unwrap()
}

#[test]
fn what_is_saved_is_loaded_to_the_last_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/run");
    let mut run = open(&path, 3);
    let saved = run.save(&state(12)).unwrap();
    let folder = path.join("step-00000012");
    assert_eq!(saved.checkpoint, folder.display().to_string());
    assert_eq!(
        names(&folder),
        ["model.safetensors", "optimizer.safetensors", "state.json"]
    );
    let bytes: u64 = names(&folder)
        .iter()
        .map(|name| fs::metadata(folder.join(name)).unwrap().len())
        .sum();
    assert_eq!(saved.bytes, bytes);
    assert_eq!(names(&path), [".lock", "step-00000012"]);

    let loaded = run.latest().unwrap();
    assert_same(&loaded.state, &state(12));
    assert_eq!(loaded.checkpoint, saved.checkpoint);
    assert!(loaded.skipped.is_empty());
    // A reader needs no lock.
    assert_same(
        &load_latest(&Place::from(&*path)).unwrap().state,
        &state(12),
    );
}

#[test]
fn the_models_file_is_one_that_chapter_1_opens() {
    let dir = tempfile::tempdir().unwrap();
    let run = saved(dir.path(), &[5]);
    let extra = BTreeMap::from([(String::from("accuracy"), String::from("0.98"))]);
    let published = run.publish_model(&state(5), &extra).unwrap();
    assert_eq!(published, run.address("model.safetensors"));
    let inside = dir.path().join("step-00000005/model.safetensors");
    for path in [Path::new(&published), &inside] {
        let file = Checkpoint::open(path).unwrap();
        assert_eq!(file.description, state(5).description);
        let specs: Vec<Spec> = state(5)
            .model
            .iter()
            .map(|tensor| Spec {
                name: tensor.name.clone(),
                shape: tensor.dims.clone(),
                dtype: datasets::checkpoint::Dtype::F32,
                optional: false,
            })
            .collect();
        file.check(&specs).unwrap();
    }
    let published = Checkpoint::open(Path::new(&published)).unwrap();
    assert_eq!(published.extra["accuracy"], "0.98");
}

#[test]
fn the_text_of_state_json_does_not_change_unnoticed() {
    // Who changes it must think of the files that are out there, and of FORMAT_VERSION.
    let dir = tempfile::tempdir().unwrap();
    let _run = saved(dir.path(), &[12]);
    let text = state_text(dir.path(), 12);
    let seal = |name: &str| {
        let content = fs::read(dir.path().join("step-00000012").join(name)).unwrap();
        format!(
            "    \"{name}\": {{\n      \"bytes\": {},\n      \"sha256\": \"{}\"\n    }}",
            content.len(),
            sha256(&content)
        )
    };
    let rest = format!(
        r#"  "written_by": "tpu-training {version}",
  "files": {{
{model},
{optimizer}
  }},
  "progress": {{
    "epoch": 1,
    "step": 12,
    "step_in_epoch": 2,
    "seed": 18446744073709551603,
    "epoch_losses": [
      2.1972246,
      2.1972246
    ],
    "epoch_seconds": 0.2
  }},
  "config": {{
    "arch": "resnet18",
    "optimizer": {{
      "name": "sgd",
      "momentum": 0.9
    }},
    "epochs": 3,
    "learning_rate": 0.30000000000000004
  }},
  "history": [
    {{
      "epoch": 1,
      "step": 10,
      "loss": 0.3333333333333333,
      "accuracy": 0.7999999999999999,
      "learning_rate": 1e-300,
      "images": 1259,
      "seconds": 0.25
    }}
  ]
}}
"#,
        version = env!("CARGO_PKG_VERSION"),
        model = seal("model.safetensors"),
        optimizer = seal("optimizer.safetensors"),
    );
    let first = format!(
        "{{\"format_version\":{FORMAT_VERSION},\"sha256\":\"{}\",\n",
        sha256(rest.as_bytes())
    );
    assert_eq!(text, first + &rest);
    // The first line is a trick of ours; the file is JSON for everybody else.
    let parsed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed["format_version"], FORMAT_VERSION);
    assert_eq!(parsed["progress"]["step"], 12);
}

#[test]
fn a_newer_version_is_refused_whatever_it_has_become() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = saved(dir.path(), &[1, 2]);
    let file = dir.path().join("step-00000002/state.json");
    let later = format!(
        "{{\"format_version\":{},\"sha256\":\"new kinds of hash\",\nnot even JSON",
        FORMAT_VERSION + 1
    );
    fs::write(&file, later).unwrap();
    // Not the older one instead: to go on from it would throw the newer run's work away.
    let error = run.latest().unwrap_err();
    let CheckpointError::Newer { expected, got, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((expected, got), (FORMAT_VERSION, FORMAT_VERSION + 1));
    assert!(error.to_string().contains("state.json"), "{error}");
    assert!(
        error.to_string().contains("program that wrote it"),
        "{error}"
    );
}

#[test]
fn folders_are_named_by_their_step() {
    assert_eq!(folder_name(12), "step-00000012");
    assert_eq!(folder_name(1_234_567_890), "step-1234567890");
    for step in [0, 12, 99_999_999, 100_000_000, u64::MAX] {
        assert_eq!(step_of(&folder_name(step)), Some(step));
    }
    for other in [
        "step-12",
        "step-+0000012",
        "step-000000012",
        "step-",
        "step-99999999999999999999999",
        ".saving-step-00000012",
        "results",
    ] {
        assert_eq!(step_of(other), None, "{other}");
    }
}

#[test]
fn steps_beyond_eight_digits_stay_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = saved(dir.path(), &[99_999_999, 100_000_000]);
    assert_eq!(run.latest().unwrap().state.progress.step, 100_000_000);
}

#[cfg(unix)]
#[test]
fn others_may_read_a_checkpoint() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let _run = saved(dir.path(), &[1]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // What this process's umask makes of any other folder and file.
    let (folder, file) = (dir.path().join("folder"), dir.path().join("file"));
    fs::create_dir(&folder).unwrap();
    fs::write(&file, "").unwrap();
    let checkpoint = dir.path().join("step-00000001");
    assert_eq!(mode(&checkpoint), mode(&folder));
    for name in names(&checkpoint) {
        assert_eq!(mode(&checkpoint.join(name)), mode(&file));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_finite_numbers_come_back(
        data in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO, 1..64),
        loss in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO,
        seed: u64,
        name in "\\PC{1,20}",
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut state = state(3);
        state.model.truncate(1);
        state.model[0].dims = vec![data.len(), 1];
        state.progress.epoch_losses = data.clone();
        state.progress.seed = seed;
        state.model[0].data = data;
        state.history[0].loss = loss;
        // "__metadata__" is the format's own.
        state.optimizer[0].name = format!("{name}.");
        let mut run = open(dir.path(), 1);
        run.save(&state).unwrap();
        assert_same(&run.latest().unwrap().state, &state);
    }
}
