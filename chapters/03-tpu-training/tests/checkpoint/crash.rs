//! Processes that are killed while they save, and disks that are full.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tpu_training::checkpoint::{CheckpointError, TrainingState};
use tpu_training::run_folder::RunFolder;
use tpu_training::store::{Place, StoreError};

use crate::child;
use crate::samples::{assert_same, names, open, state, state_of_size};

/// How often the child is killed.
const KILLS: u64 = 40;
/// How many checkpoints it keeps.
const KEEP: usize = 2;

/// The state that the child saves: 0.3 to 3 MB, so that kills fall into every part of saving.
fn child_state(step: u64) -> TrainingState {
    state_of_size(step, 4_000 + 36_000 * (step as usize % 2))
}

/// Goes on from the newest checkpoint and saves until it is killed. Each step is saved twice.
fn save_until_killed(path: &Path) -> ! {
    let mut run = open(path, KEEP);
    let mut step = match run.latest() {
        Ok(loaded) => loaded.state.progress.step,
        Err(CheckpointError::NoCheckpoint { .. }) => {
            run.require_empty().unwrap();
            0
        }
        Err(error) => panic!("{error}"),
    };
    loop {
        step += 1;
        for _ in 0..2 {
            run.save(&child_state(step)).unwrap();
            println!("\nsaved {step}");
            std::io::stdout().flush().unwrap();
        }
    }
}

#[test]
fn killed_while_saving() {
    if let Some(path) = child::task() {
        save_until_killed(Path::new(&path));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    let mut random = ChaCha8Rng::seed_from_u64(17);
    let mut promised = 0;
    let mut interrupted = 0;
    for kill in 0..KILLS {
        let task = path.display().to_string();
        let mut child = child::command("crash::killed_while_saving", &task, None)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        // Some kills come before the first save, some after a few.
        let mut line = String::new();
        let mut saves = random.next_u32() % 4;
        while saves > 0 {
            line.clear();
            assert!(
                output.read_line(&mut line).unwrap() > 0,
                "the child ended by itself"
            );
            saves -= u32::from(line.starts_with("saved "));
            promised = promised.max(step_in(&line));
        }
        std::thread::sleep(Duration::from_micros(u64::from(random.next_u32() % 30_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        promised = rest.lines().map(step_in).fold(promised, u64::max);

        if path.exists() {
            interrupted += u32::from(names(&path).iter().any(|name| name.starts_with(".saving-")));
        }
        // The kernel has let go of the lock, and opening removes what was half-written.
        let mut run = open(&path, KEEP);
        let left = names(&path);
        assert!(
            left.iter().all(|name| !name.starts_with(".saving-")),
            "{left:?}"
        );
        match run.latest() {
            Ok(loaded) => {
                let step = loaded.state.progress.step;
                assert!(
                    loaded.skipped.is_empty(),
                    "kill {kill}: {:?}",
                    loaded.skipped
                );
                assert!(
                    step >= promised,
                    "kill {kill}: {step} after {promised} was saved"
                );
                assert_same(&loaded.state, &child_state(step));
                promised = step;
            }
            Err(CheckpointError::NoCheckpoint { .. }) => assert_eq!(promised, 0, "kill {kill}"),
            Err(error) => panic!("kill {kill}: {error}"),
        }
    }
    assert!(promised > 0, "no child came so far as to save");
    assert!(interrupted > 0, "no kill fell into a save");
}

fn step_in(line: &str) -> u64 {
    line.strip_prefix("saved ")
        .and_then(|step| step.trim().parse().ok())
        .unwrap_or(0)
}

#[test]
fn the_lock_ends_with_a_killed_process() {
    if let Some(path) = child::task() {
        let _run = open(Path::new(&path), 1);
        println!("\nlocked");
        // Until the parent kills it, or has ended itself.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let place = Place::from(dir.path());
    let task = dir.path().display().to_string();
    let mut child = child::command("crash::the_lock_ends_with_a_killed_process", &task, None)
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap() == "locked"));
    let error = RunFolder::open(&place, 1).err().unwrap();
    let CheckpointError::Store(StoreError::InUse { pid, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(pid, Some(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    RunFolder::open(&place, 1).unwrap();
}

#[test]
fn a_full_disk_while_saving() {
    if let Some(path) = child::task() {
        let mut run = open(Path::new(&path), 2);
        run.latest().unwrap();
        for file_to_fail in ["model", "optimizer", "state"] {
            let mut large = state(2);
            match file_to_fail {
                "model" => large.model = state_of_size(2, 40_000).model,
                "optimizer" => large.optimizer = state_of_size(2, 40_000).optimizer,
                _ => large.progress.epoch_losses = vec![0.1; 200_000],
            }
            let error = run.save(&large).unwrap_err();
            println!("\n{file_to_fail}: {error}");
        }
        // A file of the run that does not fit leaves the older one.
        run.write_file("log", &vec![b'x'; 2_000_000]).unwrap_err();
        println!(
            "\nlog: {}",
            std::fs::read_to_string(Path::new(&path).join("log")).unwrap()
        );
        // There is room for a small one, and the run can go on.
        run.save(&state(3)).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let run = {
        let mut run = open(dir.path(), 2);
        run.save(&state(1)).unwrap();
        run.write_file("log", b"old").unwrap();
        run
    };
    drop(run);
    // Blocks of sh have 512 bytes, of bash 1,024: half a MB or one.
    let task = dir.path().display().to_string();
    let output = child::command("crash::a_full_disk_while_saving", &task, Some(1_000))
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    for said in [
        "model: ",
        "model.safetensors: cannot write the checkpoint",
        "optimizer: ",
        "optimizer.safetensors: cannot write the checkpoint",
        "state.json: cannot write: File too large (os error 27); make room on that disk",
        "log: old",
    ] {
        assert!(text.contains(said), "{said:?} in {text}");
    }
    let mut run = open(dir.path(), 2);
    assert_eq!(
        names(dir.path()),
        [".lock", "log", "step-00000001", "step-00000003"]
    );
    assert_same(&run.latest().unwrap().state, &state(3));
}
