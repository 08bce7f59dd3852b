//! Checkpoints that are not what was written.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use tempfile::TempDir;
use tpu_training::checkpoint::{CheckpointError, Damage, FILES};
use tpu_training::run_folder::RunFolder;
use tpu_training::store::LocalFolder;

use crate::samples::{assert_same, names, open, saved, state};
use crate::stores::{Faults, Faulty};

/// Something that happens to a file.
#[derive(Clone, Debug)]
enum Harm {
    Truncate(prop::sample::Index),
    Flip(prop::sample::Index, u8),
    Append(u8),
    Overwrite(Vec<u8>),
    Remove,
    ReplaceByFolder,
}

impl Harm {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            3 => any::<prop::sample::Index>().prop_map(Self::Truncate),
            8 => (any::<prop::sample::Index>(), 0..8_u8).prop_map(|(at, bit)| Self::Flip(at, bit)),
            1 => any::<u8>().prop_map(Self::Append),
            1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Self::Overwrite),
            1 => Just(Self::Remove),
            1 => Just(Self::ReplaceByFolder),
        ]
    }

    fn apply(&self, path: &Path) {
        let mut content = fs::read(path).unwrap();
        match self {
            Self::Truncate(at) => content.truncate(at.index(content.len())),
            Self::Flip(at, bit) => {
                let at = at.index(content.len());
                content[at] ^= 1 << bit;
            }
            Self::Append(byte) => content.push(*byte),
            Self::Overwrite(other) => content = other.clone(),
            Self::Remove | Self::ReplaceByFolder => {
                fs::remove_file(path).unwrap();
                if matches!(self, Self::ReplaceByFolder) {
                    fs::create_dir(path).unwrap();
                }
                return;
            }
        }
        fs::write(path, content).unwrap();
    }
}

/// A folder with the checkpoints of steps 1 and 2. To save waits for the disk; to copy does not.
fn copy_of_two_checkpoints() -> TempDir {
    static ORIGINAL: LazyLock<TempDir> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        drop(saved(dir.path(), &[1, 2]));
        dir
    });
    let dir = tempfile::tempdir().unwrap();
    for folder in ["step-00000001", "step-00000002"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        for file in FILES {
            let name = Path::new(folder).join(file);
            fs::copy(ORIGINAL.path().join(&name), dir.path().join(&name)).unwrap();
        }
    }
    dir
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_harm_to_any_file_is_seen(file in 0..FILES.len(), harm in Harm::any()) {
        let dir = copy_of_two_checkpoints();
        let mut run = open(dir.path(), 2);
        harm.apply(&dir.path().join("step-00000002").join(FILES[file]));
        match run.latest() {
            Ok(loaded) => {
                assert_same(&loaded.state, &state(1));
                prop_assert_eq!(loaded.skipped.len(), 1);
                prop_assert_eq!(loaded.skipped[0].step, 2);
            }
            // A flipped bit of the version's digit makes it another version.
            Err(CheckpointError::Newer { .. }) => prop_assert_eq!(FILES[file], "state.json"),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}

/// A bit of every byte of a small state.json, and every bit of its first line.
#[test]
fn no_bit_of_state_json_can_flip_unseen() {
    let dir = copy_of_two_checkpoints();
    let mut run = open(dir.path(), 2);
    let path = dir.path().join("step-00000002/state.json");
    let good = fs::read(&path).unwrap();
    let first_line = good.iter().position(|byte| *byte == b'\n').unwrap();
    for position in 0..good.len() {
        for bit in 0..8 {
            if position > first_line && bit != position % 8 {
                continue;
            }
            let mut bad = good.clone();
            bad[position] ^= 1 << bit;
            fs::write(&path, &bad).unwrap();
            match run.latest() {
                Ok(loaded) => assert_eq!(
                    loaded.state.progress.step, 1,
                    "byte {position}, bit {bit}: {}",
                    bad[position] as char
                ),
                // Another version, as far as anybody can tell.
                Err(CheckpointError::Newer { .. }) => assert!(position < first_line),
                Err(error) => panic!("{error}"),
            }
        }
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(run.latest().unwrap().state.progress.step, 2);
}

#[test]
fn the_one_before_is_taken_and_the_reason_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = saved(dir.path(), &[1, 2, 3]);
    let file = |step: u64, name: &str| dir.path().join(format!("step-{step:08}/{name}"));
    let model = fs::read(file(3, FILES[0])).unwrap();
    fs::write(file(3, FILES[0]), &model[..model.len() - 4]).unwrap();
    fs::remove_file(file(2, FILES[2])).unwrap();

    let loaded = run.latest().unwrap();
    assert_same(&loaded.state, &state(1));
    let [newest, second] = &loaded.skipped[..] else {
        panic!("{:?}", loaded.skipped);
    };
    let Damage::Size {
        file,
        expected,
        got,
    } = newest.damage
    else {
        panic!("{newest}");
    };
    assert_eq!((file, expected - got), ("model.safetensors", 4));
    assert!(
        newest
            .to_string()
            .contains("step-00000003: damaged: model.safetensors: expected")
    );
    assert!(
        second
            .to_string()
            .ends_with("step-00000002: damaged: state.json is missing")
    );

    // They stay until there is a newer one, and are not counted among those that are kept.
    assert_eq!(names(dir.path()).len(), 4);
    run.save(&state(2)).unwrap();
    assert_eq!(
        names(dir.path()),
        [".lock", "step-00000001", "step-00000002"]
    );
    assert_same(&run.latest().unwrap().state, &state(2));
}

#[test]
fn with_one_kept_the_good_one_outlives_a_damaged_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    drop(saved(dir.path(), &[5, 9]));
    fs::write(dir.path().join("step-00000009/model.safetensors"), "cut").unwrap();
    let mut run = open(dir.path(), 1);
    assert_same(&run.latest().unwrap().state, &state(5));
    run.save(&state(7)).unwrap();
    assert_eq!(names(dir.path()), [".lock", "step-00000007"]);
}

#[test]
fn nothing_whole_and_nothing_at_all_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = open(dir.path(), 1);
    let error = run.latest().unwrap_err();
    assert!(
        matches!(error, CheckpointError::NoCheckpoint { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("--resume"), "{error}");

    run.save(&state(4)).unwrap();
    fs::write(dir.path().join("step-00000004/state.json"), "").unwrap();
    let error = run.latest().unwrap_err();
    assert!(
        matches!(error, CheckpointError::AllDamaged { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("step-00000004: damaged"),
        "{error}"
    );
}

#[test]
fn a_checkpoint_under_another_steps_name_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = saved(dir.path(), &[1, 2]);
    let folder = |step: u64| dir.path().join(format!("step-{step:08}"));
    fs::rename(folder(2), folder(3)).unwrap();
    assert_same(&run.latest().unwrap().state, &state(1));
}

#[test]
fn a_disk_that_does_not_answer_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    drop(saved(dir.path(), &[1, 2]));
    let faults = Arc::new(Faults::default());
    let store = Faulty {
        inner: LocalFolder::new(dir.path()),
        faults: Arc::clone(&faults),
    };
    let mut run = RunFolder::with_store(Box::new(store), 2).unwrap();
    faults.read.store(true, Ordering::Relaxed);
    let error = run.latest().unwrap_err();
    assert!(matches!(error, CheckpointError::Store(_)), "{error}");
    faults.read.store(false, Ordering::Relaxed);
    assert_same(&run.latest().unwrap().state, &state(2));
}
