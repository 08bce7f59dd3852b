//! What is refused before a worker is started: no plugin is needed for it.

use std::{fs, path::Path, process::Command};

fn program(words: &[&str], folder: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_parallel-training"))
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn grids_that_make_no_sweep() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    for (name, text, part) in [
        ("empty.toml", "batch = []", "there is no run in this grid"),
        (
            "nan.toml",
            "learning_rate = nan",
            "learning_rate = nan: expected a number",
        ),
        ("twice.toml", "batch = [16, 16]", "is in the grid twice"),
        ("model.toml", "arch = 'vgg16'", "vgg16"),
        (
            "many.toml",
            "seed = { from = 0, to = 9999, count = 10000 }",
            "--max-runs 10000",
        ),
        ("cut.toml", "batch = [16,", "cut.toml is no TOML"),
        ("cut.json", "{\"batch\": [16,", "cut.json is no JSON"),
        ("other.json", "{\"batch\": null}", "other.json is no JSON"),
        (
            "batch.json",
            "{\"batch\": 1}",
            "expected a whole number from 2",
        ),
    ] {
        fs::write(folder.join(name), text).unwrap();
        for command in ["sweep", "plan"] {
            let (code, errors) = program(&[command, "--grid", name], folder);
            assert_eq!(code, Some(2), "{name}: {errors}");
            assert!(errors.contains(part), "{name}: {errors}");
            assert!(!errors.contains("panicked"), "{errors}");
        }
    }
    let (code, errors) = program(&["plan", "--grid", "nowhere.toml"], folder);
    assert_eq!(code, Some(2));
    assert!(
        errors.contains("cannot read the grid nowhere.toml"),
        "{errors}"
    );
    let (code, _) = program(
        &["plan", "--grid", "many.toml", "--max-runs", "10000"],
        folder,
    );
    assert_eq!(code, Some(0), "a large grid is a wish, not an accident");
}

#[test]
fn folders_that_hold_no_sweep() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let manifest = |name: &str, text: &str| {
        fs::create_dir_all(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("manifest.json"), text).unwrap();
    };
    manifest("cut", "{\"manifest_version\": 1, \"runs\": [");
    manifest("newer", "{\"manifest_version\": 7}");
    fs::write(folder.join("file"), "").unwrap();
    for (words, part) in [
        (
            vec!["sweep", "--resume", "--out", "none"],
            "there is no sweep to resume",
        ),
        (
            vec!["sweep", "--resume", "--out", "cut"],
            "is damaged: expected a JSON object",
        ),
        (vec!["sweep", "--out", "cut"], "is damaged"),
        (
            vec!["sweep", "--resume", "--out", "newer"],
            "version 7 of the manifest",
        ),
        (
            vec!["deploy", "--out", "nowhere"],
            "nowhere: no such folder",
        ),
        (vec!["deploy", "--out", "none"], "none: there is no sweep"),
        (vec!["deploy", "--out", "cut"], "is damaged"),
        (vec!["sweep", "--slots", "0"], "a number of workers"),
        (vec!["sweep", "--silence-limit", "0"], "--silence-limit"),
        (vec!["worker", "--out", "ftp://x/y"], "ftp"),
    ] {
        let (code, errors) = program(&words, folder);
        assert_eq!(code, Some(2), "{words:?}: {errors}");
        assert!(errors.contains(part), "{words:?}: {errors}");
    }
    let (code, errors) = program(&["sweep", "--out", "file"], folder);
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("expected a folder"), "{errors}");
}
