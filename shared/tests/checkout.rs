//! The checkout's root and commit, in repositories made for the test.

use std::path::Path;
use std::process::Command;

use accel::checkout::{Commit, PACKED_COMMIT, checkout_root_above, commit};

const MANIFEST: &str = "[workspace]\nmembers = [\"shared\", \"ci\"]\n";

fn git(folder: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args([
            "-c",
            "commit.gpgsign=false",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .args(arguments)
        .output()
        .expect("git runs: the checkout itself came by it");
    assert!(output.status.success(), "{output:?}");
}

fn workspace(root: &Path) {
    std::fs::create_dir_all(root.join("shared/src")).unwrap();
    std::fs::write(root.join("Cargo.toml"), MANIFEST).unwrap();
    std::fs::write(root.join("shared/result.schema.json"), "{}").unwrap();
    std::fs::write(
        root.join("shared/Cargo.toml"),
        "[package]\nname = \"accel\"\n",
    )
    .unwrap();
}

#[test]
fn the_root_is_found_from_inside_and_not_from_outside() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(checkout_root_above(folder.path()), None);
    let root = folder.path().join("a/checkout");
    workspace(&root);
    for inside in ["", "shared", "shared/src", "shared/src/no/such/file"] {
        assert_eq!(
            checkout_root_above(&root.join(inside)).as_deref(),
            Some(&*root),
            "{inside}"
        );
    }
    assert_eq!(checkout_root_above(folder.path()), None);
}

#[test]
fn another_workspace_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    for manifest in [
        "[workspace]\nmembers = [\"other\"]\n",
        "[package]\nname = \"x\"\n",
        "[workspace\n",
        "\u{0}",
    ] {
        workspace(folder.path());
        std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
        assert_eq!(checkout_root_above(folder.path()), None, "{manifest:?}");
    }
    workspace(folder.path());
    std::fs::remove_file(folder.path().join("shared/result.schema.json")).unwrap();
    assert_eq!(checkout_root_above(folder.path()), None);
}

#[test]
fn this_checkout_is_found() {
    let root = checkout_root_above(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert!(root.join("shared/Cargo.toml").is_file());
}

#[test]
fn a_commit_and_whether_the_tree_is_dirty() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    workspace(root);
    assert_eq!(commit(root), None, "no repository");
    git(root, &["init", "-q"]);
    assert_eq!(commit(root), None, "no commit");
    let results = root.join("chapters/01-cpu/results/m/ladder");
    std::fs::create_dir_all(&results).unwrap();
    std::fs::write(results.join("old.json"), "1").unwrap();
    git(root, &["add", "."]);
    git(root, &["commit", "-q", "-m", "x"]);

    let clean = commit(root).unwrap();
    assert_eq!(clean.id.len(), 40);
    assert!(!clean.dirty);
    // A result file, new or changed, is no change of what was measured.
    std::fs::write(results.join("new.json"), "2").unwrap();
    std::fs::write(results.join("old.json"), "2").unwrap();
    assert!(!commit(root).unwrap().dirty);
    std::fs::write(root.join("Cargo.toml"), format!("{MANIFEST}# more\n")).unwrap();
    let dirty = commit(root).unwrap();
    assert!(dirty.dirty);
    assert_eq!(dirty.id, clean.id);
}

#[test]
fn the_repository_around_an_unpacked_archive_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "-q"]);
    std::fs::write(folder.path().join("x"), "").unwrap();
    git(folder.path(), &["add", "."]);
    git(folder.path(), &["commit", "-q", "-m", "x"]);
    let root = folder.path().join("unpacked");
    workspace(&root);
    assert_eq!(commit(&root), None);
    // A pack lies anywhere, in another project's repository too, and says itself.
    let packed = Commit {
        id: "0123456789abcdef0123456789abcdef01234567".to_owned(),
        dirty: true,
    };
    let file = root.join(PACKED_COMMIT);
    std::fs::write(&file, serde_json::to_string(&packed).unwrap()).unwrap();
    assert_eq!(commit(&root), Some(packed));
    for damaged in ["", "{}", r#"{"id": "main", "dirty": false}"#] {
        std::fs::write(&file, damaged).unwrap();
        assert_eq!(commit(&root), None, "{damaged}");
    }
}
