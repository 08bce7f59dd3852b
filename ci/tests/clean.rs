//! `cargo x clean` on a small project.
#![cfg(unix)]

mod project;

use std::{fs, os::unix::fs::symlink, process::Command};

use assert_cmd::assert::OutputAssertExt;
use predicates::{prelude::PredicateBooleanExt, str::contains};
use project::Project;

fn project() -> Project {
    let project = Project::new();
    for file in [
        "target/release/x",
        "book/html/index.html",
        "book/src/page.md",
        ".native/libtorch/cpu/lib",
        ".native/wheels/a.whl",
        ".native/.setup-x1/part",
        "results-local/01-cpu/m/ladder.json",
    ] {
        project.write(file, "1234567890");
    }
    project
}

fn clean(project: &Project, arguments: &[&str]) -> Command {
    let mut clean = project.x(&["clean"]);
    clean.args(arguments).env_remove("CARGO_TARGET_DIR");
    clean
}

#[test]
fn what_is_built_goes_and_the_rest_stays() {
    let project = project();
    clean(&project, &["--yes"])
        .assert()
        .success()
        .stdout(contains("target: what cargo has built"))
        .stdout(contains("freed 40 bytes"));
    for gone in ["target", "book/html", ".native/wheels", ".native/.setup-x1"] {
        assert!(!project.path(gone).exists(), "{gone}");
    }
    for stays in [
        ".native/libtorch/cpu/lib",
        "results-local/01-cpu/m/ladder.json",
        "book/src/page.md",
        "ci/native.toml",
    ] {
        assert!(project.path(stays).exists(), "{stays}");
    }
    clean(&project, &["--yes"])
        .assert()
        .success()
        .stdout(contains("nothing to delete"));
}

#[test]
fn all_takes_what_was_fetched_and_no_results() {
    let project = project();
    clean(&project, &["--all", "--yes"]).assert().success();
    assert!(!project.path(".native").exists());
    assert!(project.path("results-local/01-cpu/m/ladder.json").exists());
}

#[test]
fn nobody_to_ask_is_an_error_and_a_look_is_free() {
    let project = project();
    clean(&project, &[])
        .stdin(std::process::Stdio::null())
        .assert()
        .code(1)
        .stderr(contains("say --yes to delete"));
    clean(&project, &["--dry-run", "--all"])
        .assert()
        .success()
        .stdout(contains("in all; results-local/ stays").and(contains("freed").not()));
    assert!(project.path("target/release/x").exists());
    assert!(project.path(".native/wheels/a.whl").exists());
}

#[test]
fn a_link_out_of_the_project_is_left_alone() {
    let project = project();
    let elsewhere = tempfile::tempdir().unwrap();
    for file in ["wheels/precious", "release/precious"] {
        let path = elsewhere.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    for link in [".native", "target"] {
        fs::remove_dir_all(project.path(link)).unwrap();
        symlink(elsewhere.path(), project.path(link)).unwrap();
    }
    for arguments in [&["--yes"][..], &["--all", "--yes"]] {
        clean(&project, arguments)
            .assert()
            .success()
            .stdout(contains("left alone: target is a link to another place"));
    }
    for file in ["wheels/precious", "release/precious"] {
        assert!(elsewhere.path().join(file).exists(), "{file}");
    }
    // A link inside of what goes is deleted, and not what it leads to.
    fs::remove_file(project.path("target")).unwrap();
    fs::create_dir(project.path("target")).unwrap();
    symlink(elsewhere.path(), project.path("target/link")).unwrap();
    clean(&project, &["--yes"]).assert().success();
    assert!(!project.path("target").exists());
    assert!(elsewhere.path().join("wheels/precious").exists());
}

#[test]
fn a_target_folder_elsewhere_is_told_and_left_alone() {
    let project = project();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("precious"), "").unwrap();
    clean(&project, &["--yes"])
        .env("CARGO_TARGET_DIR", elsewhere.path())
        .assert()
        .success()
        .stdout(contains("(CARGO_TARGET_DIR) may be others' too"));
    assert!(elsewhere.path().join("precious").exists());
}
