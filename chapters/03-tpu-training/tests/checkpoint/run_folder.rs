//! One run, one folder, the last K checkpoints.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tpu_training::checkpoint::{CheckpointError, NamedTensor, TrainingState, load_latest};
use tpu_training::run_folder::RunFolder;
use tpu_training::store::{LocalFolder, Place, StoreError};

use crate::samples::{assert_same, names, open, saved, state};
use crate::stores::{Faults, Faulty};

#[test]
fn the_last_k_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = open(dir.path(), 2);
    for step in [1, 2, 3, 10, 11] {
        run.save(&state(step)).unwrap();
    }
    assert_eq!(
        names(dir.path()),
        [".lock", "step-00000010", "step-00000011"]
    );
    let error = RunFolder::open(&Place::from(dir.path()), 0).err().unwrap();
    assert!(matches!(error, CheckpointError::KeepNone), "{error}");
}

#[test]
fn what_was_just_saved_is_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    drop(saved(dir.path(), &[10, 20]));
    let mut run = open(dir.path(), 1);
    run.latest().unwrap();
    // A lower step than those that are there.
    run.save(&state(5)).unwrap();
    assert_eq!(names(dir.path()), [".lock", "step-00000005"]);
}

#[test]
fn what_is_not_a_checkpoint_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = open(dir.path(), 1);
    run.write_file("result.json", b"{}").unwrap();
    fs::create_dir(dir.path().join("step-notes")).unwrap();
    fs::write(dir.path().join("step-00000001"), "a file, not a folder").unwrap();
    for step in 2..5 {
        run.save(&state(step)).unwrap();
    }
    assert_eq!(
        names(dir.path()),
        [
            ".lock",
            "result.json",
            "step-00000001",
            "step-00000004",
            "step-notes"
        ]
    );
}

#[test]
fn the_same_step_can_be_saved_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = saved(dir.path(), &[1, 2]);
    // A run of more epochs that is stopped at once: other settings, the same tensors.
    let mut again = state(2);
    again.config["epochs"] = 50.into();
    run.save(&again).unwrap();
    assert_same(&run.latest().unwrap().state, &again);
    // Other tensors, too.
    again.model[0].data[7] = 0.5;
    run.save(&again).unwrap();
    assert_same(&run.latest().unwrap().state, &again);
    assert_eq!(
        names(dir.path()),
        [".lock", "step-00000001", "step-00000002"]
    );
}

#[test]
fn a_second_run_is_told_who_has_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::from(dir.path());
    let run = open(dir.path(), 1);
    let error = RunFolder::open(&place, 1).err().unwrap();
    let CheckpointError::Store(StoreError::InUse { pid, .. }) = &error else {
        panic!("{error}");
    };
    assert_eq!(*pid, Some(std::process::id()));
    let text = error.to_string();
    assert!(
        text.contains(&format!("(process {})", std::process::id())),
        "{text}"
    );
    assert!(text.contains("choose another folder"), "{text}");
    drop(run);
    RunFolder::open(&place, 1).unwrap();
}

#[test]
fn leftovers_go_under_the_lock_only() {
    let dir = tempfile::tempdir().unwrap();
    let run = open(dir.path(), 1);
    let leftover = dir.path().join(".saving-abc");
    fs::create_dir(&leftover).unwrap();
    fs::write(leftover.join("model.safetensors"), "half").unwrap();
    assert!(RunFolder::open(&Place::from(dir.path()), 1).is_err());
    assert!(leftover.exists(), "it may be what the other run is writing");
    drop(run);
    let _run = open(dir.path(), 1);
    assert_eq!(names(dir.path()), [".lock"]);
}

#[test]
fn a_new_run_does_not_begin_beside_an_old_one() {
    let dir = tempfile::tempdir().unwrap();
    drop(saved(dir.path(), &[100, 200]));
    let mut run = open(dir.path(), 1);
    let error = run.require_empty().unwrap_err();
    let CheckpointError::Occupied { newest, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(newest, "step-00000200");
    assert!(error.to_string().contains("--resume"), "{error}");
    // Without asking, it does not destroy them, either: step 1 would be the oldest.
    let error = run.save(&state(1)).unwrap_err();
    assert!(
        matches!(error, CheckpointError::OtherWriter { .. }),
        "{error}"
    );
    assert_same(&run.latest().unwrap().state, &state(200));
}

#[test]
fn what_was_never_finished_is_no_old_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = saved(dir.path(), &[7]);
    fs::remove_file(dir.path().join("step-00000007/state.json")).unwrap();
    run.require_empty().unwrap();
    run.save(&state(1)).unwrap();
    assert_eq!(names(dir.path()), [".lock", "step-00000001"]);
}

#[test]
fn numbers_that_are_not_finite_are_not_saved() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = saved(dir.path(), &[1]);
    let with = |change: fn(&mut TrainingState)| {
        let mut bad = state(2);
        change(&mut bad);
        bad
    };
    for (bad, expected) in [
        (
            with(|state| state.model[2].data[1] = f32::NAN),
            "model tensor \"bn1.running_mean\"",
        ),
        (
            with(|state| state.optimizer[2].data[0] = f32::NEG_INFINITY),
            "optimizer tensor \"decay\"",
        ),
        (
            with(|state| state.progress.epoch_losses[0] = f32::NAN),
            "the loss",
        ),
        (
            with(|state| state.history[0].loss = f64::INFINITY),
            "the loss of epoch 1",
        ),
    ] {
        let error = run.save(&bad).unwrap_err();
        let CheckpointError::NotFinite { step: 2, what } = &error else {
            panic!("{error}");
        };
        assert_eq!(what, expected);
        assert!(
            error
                .to_string()
                .contains("another folder with a smaller --lr")
        );
    }
    assert_eq!(names(dir.path()), [".lock", "step-00000001"]);
    assert_same(&run.latest().unwrap().state, &state(1));
}

#[test]
fn a_state_that_no_file_can_hold_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = saved(dir.path(), &[1]);
    let mut twice = state(2);
    twice.model.push(twice.model[0].clone());
    let mut short = state(2);
    short.optimizer[0].data.pop();
    for bad in [twice, short] {
        let error = run.save(&bad).unwrap_err();
        assert!(matches!(error, CheckpointError::Tensors(_)), "{error}");
        assert_eq!(names(dir.path()), [".lock", "step-00000001"]);
    }
}

#[test]
fn an_older_checkpoint_that_stays_does_not_stop_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let store = Faulty {
        inner: LocalFolder::new(dir.path()),
        faults: Arc::clone(&faults),
    };
    let mut run = RunFolder::with_store(Box::new(store), 1).unwrap();
    faults.remove.store(true, Ordering::Relaxed);
    assert_eq!(run.save(&state(1)).unwrap().not_removed, None);
    for step in 2..4 {
        let told = run.save(&state(step)).unwrap().not_removed;
        assert!(told.is_some(), "step {step}");
    }
    assert_eq!(names(dir.path()).len(), 4);
    faults.remove.store(false, Ordering::Relaxed);
    assert_eq!(run.save(&state(4)).unwrap().not_removed, None);
    assert_eq!(names(dir.path()), [".lock", "step-00000004"]);
}

#[test]
fn a_place_that_cannot_be_a_folder_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "content").unwrap();
    for path in [file.clone(), file.join("run")] {
        let error = RunFolder::open(&Place::from(&*path), 1).err().unwrap();
        assert!(matches!(error, CheckpointError::Store(_)), "{error}");
        assert!(error.to_string().contains("file"), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"content");
}

#[test]
fn an_empty_model_can_be_saved() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = open(dir.path(), 1);
    let mut bare = state(1);
    bare.model = vec![NamedTensor {
        name: String::from("none"),
        dims: vec![0, 3],
        data: Vec::new(),
    }];
    bare.optimizer.clear();
    run.save(&bare).unwrap();
    assert_same(&run.latest().unwrap().state, &bare);
}

#[test]
fn a_reader_beside_a_run_that_keeps_one_always_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::from(dir.path());
    let mut run = open(dir.path(), 1);
    run.save(&state(1)).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for step in 2..40 {
                run.save(&state(step)).unwrap();
            }
        });
        let mut newest = 0;
        while !writer.is_finished() {
            let step = load_latest(&place).unwrap().state.progress.step;
            assert!(step >= newest);
            newest = step;
        }
    });
}
