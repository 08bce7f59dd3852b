//! Runs in an object store, which is in memory here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use object_store::memory::InMemory;
use tpu_training::checkpoint::{CheckpointError, FILES, latest};
use tpu_training::run_folder::RunFolder;
use tpu_training::store::{Store, StoreError};

use crate::samples::{assert_same, state, state_of_size};
use crate::stores::{Faults, Faulty, in_memory};

fn run(memory: &Arc<InMemory>, keep: usize) -> RunFolder {
    RunFolder::with_store(Box::new(in_memory(memory)), keep).unwrap()
}

#[test]
fn a_run_is_kept_and_found() {
    let memory = Arc::new(InMemory::new());
    let mut first = run(&memory, 2);
    first.require_empty().unwrap();
    for step in 1..5 {
        let saved = first.save(&state(step)).unwrap();
        assert_eq!(
            saved.checkpoint,
            format!("gs://bucket/runs/a/step-{step:08}")
        );
    }
    let store = in_memory(&memory);
    assert_eq!(store.folders().unwrap(), ["step-00000003", "step-00000004"]);
    drop(first);
    let mut second = run(&memory, 2);
    let loaded = second.latest().unwrap();
    assert_same(&loaded.state, &state(4));
    assert_eq!(loaded.checkpoint, "gs://bucket/runs/a/step-00000004");

    let model = second
        .publish_model(&state(4), &Default::default())
        .unwrap();
    assert_eq!(model, "gs://bucket/runs/a/model.safetensors");
    assert_eq!(
        store.read("model.safetensors").unwrap(),
        store.read("step-00000004/model.safetensors").unwrap()
    );
    let log = second.write_file("logs/a.txt", b"text").unwrap();
    assert_eq!(log, "gs://bucket/runs/a/logs/a.txt");
    assert_eq!(store.read("logs/a.txt").unwrap(), b"text");
    assert!(matches!(
        store.read("nothing").unwrap_err(),
        StoreError::NotFound { address } if address == "gs://bucket/runs/a/nothing"
    ));
}

#[test]
fn an_upload_that_breaks_off_is_not_a_checkpoint() {
    for files in 0..FILES.len() {
        let memory = Arc::new(InMemory::new());
        let faults = Arc::new(Faults::default());
        let store = Faulty {
            inner: in_memory(&memory),
            faults: Arc::clone(&faults),
        };
        let mut first = RunFolder::with_store(Box::new(store), 1).unwrap();
        first.save(&state(1)).unwrap();
        faults.publish_only(files);
        first.save(&state(2)).unwrap_err();
        drop(first);

        let mut second = run(&memory, 1);
        assert_same(&second.latest().unwrap().state, &state(1));
        // Another number of steps an epoch, so that step 2 does not come again.
        second.save(&state(3)).unwrap();
        assert_eq!(in_memory(&memory).folders().unwrap(), ["step-00000003"]);
    }
}

#[test]
fn a_removal_that_breaks_off_leaves_no_checkpoint_that_looks_whole() {
    let memory = Arc::new(InMemory::new());
    let mut first = run(&memory, 3);
    first.save(&state(1)).unwrap();
    first.save(&state(2)).unwrap();
    // As after a kill between two removals: state.json goes first.
    let store = in_memory(&memory);
    store.remove_folder("step-00000002", &FILES[2..]).unwrap();
    let loaded = latest(&store).unwrap();
    assert_same(&loaded.state, &state(1));
    assert_eq!(loaded.skipped.len(), 1);
}

#[test]
fn saving_a_step_again_keeps_it_whole_all_the_time() {
    let memory = Arc::new(InMemory::new());
    let faults = Arc::new(Faults::default());
    let store = Faulty {
        inner: in_memory(&memory),
        faults: Arc::clone(&faults),
    };
    let mut run = RunFolder::with_store(Box::new(store), 1).unwrap();
    run.save(&state(1)).unwrap();
    // Nothing of the only checkpoint may be removed or uploaded again.
    faults.publish_only(0);
    faults.remove.store(true, Ordering::Relaxed);
    let mut again = state(1);
    again.config["epochs"] = 50.into();
    run.save(&again).unwrap();
    assert_same(&run.latest().unwrap().state, &again);
}

#[test]
fn a_second_run_is_told_at_its_save() {
    let memory = Arc::new(InMemory::new());
    let mut first = run(&memory, 1);
    let mut second = run(&memory, 1);
    first.require_empty().unwrap();
    second.require_empty().unwrap();
    first.save(&state(1)).unwrap();
    let error = second.save(&state(1)).unwrap_err();
    let CheckpointError::OtherWriter { folder, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(folder, "step-00000001");
    assert!(
        error.to_string().contains("another run saves there"),
        "{error}"
    );
    first.save(&state(2)).unwrap();
    assert_same(&first.latest().unwrap().state, &state(2));
}

#[test]
fn large_files_go_in_parts() {
    let memory = Arc::new(InMemory::new());
    let mut run = run(&memory, 1);
    // 11 MB: a part of 8 MiB and a rest.
    let large = state_of_size(1, 250_000);
    run.save(&large).unwrap();
    assert_same(&run.latest().unwrap().state, &large);
}

#[test]
fn a_thread_of_a_runtime_may_save_too() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let memory = Arc::new(InMemory::new());
        let mut run = run(&memory, 1);
        run.save(&state(1)).unwrap();
        assert_same(&run.latest().unwrap().state, &state(1));
    });
}

#[test]
fn a_whole_bucket_can_be_a_place() {
    use tpu_training::store::{Environment, ObjectFolder, ObjectUrl, Scheme};
    let url = ObjectUrl {
        scheme: Scheme::S3,
        bucket: String::from("bucket"),
        prefix: String::new(),
    };
    let memory = Arc::new(InMemory::new());
    let environment = Environment::new(Scheme::S3, []);
    let store = ObjectFolder::with_store(url, environment, memory).unwrap();
    let mut run = RunFolder::with_store(Box::new(store), 1).unwrap();
    run.save(&state(1)).unwrap();
    let loaded = run.latest().unwrap();
    assert_eq!(loaded.checkpoint, "s3://bucket/step-00000001");
}
