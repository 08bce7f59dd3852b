//! `cargo x setup --bundle` and `--from-bundle` with tiny wheels and a cargo that only pretends.
#![cfg(unix)]

mod project;

use std::fs;

use assert_cmd::assert::OutputAssertExt;
use predicates::{prelude::PredicateBooleanExt, str::contains};
use project::{Project, executable};

/// Vendors one crate.
const CARGO: &str = r#"#!/bin/sh
[ "$1" = vendor ] || exit 9
for last in "$@"; do :; done
mkdir -p "$last/tiny-1.0.0" && echo source > "$last/tiny-1.0.0/lib.rs"
"#;

/// A project that has no network when its bundle is used.
fn project() -> Project {
    let project = Project::new();
    project.write("cargo", CARGO);
    executable(&project.path("cargo"));
    project
}

fn make(project: &Project, arguments: &[&str]) -> std::process::Command {
    let mut make = project.setup();
    make.args(arguments).env("CARGO", project.path("cargo"));
    make
}

#[test]
fn what_one_machine_packs_another_sets_up_without_pip() {
    let project = project();
    make(&project, &["--bundle", "bundle"])
        .assert()
        .success()
        .stdout(contains("2 wheels"));
    for file in [
        "README.md",
        "SHA256SUMS",
        "cargo-config.toml",
        "vendor/tiny-1.0.0/lib.rs",
    ] {
        assert!(project.path("bundle").join(file).is_file(), "{file}");
    }
    assert!(!project.part().exists(), "nothing is set up here");
    let readme = fs::read_to_string(project.path("bundle/README.md")).unwrap();
    assert!(readme.contains("cargo x setup --from-bundle"), "{readme}");
    // No machine's path is in what cargo is told.
    let config = fs::read_to_string(project.path("bundle/cargo-config.toml")).unwrap();
    assert!(config.contains("directory = \"BUNDLE/vendor\""), "{config}");

    fs::remove_dir_all(project.index()).unwrap();
    make(&project, &["--from-bundle", "bundle"])
        .env("PIP_DOES", "fail")
        .assert()
        .success()
        .stderr(contains("fetching").not());
    project.assert_ready();
    // Again: there is nothing to do, even without the bundle.
    make(&project, &["--from-bundle", "gone"])
        .assert()
        .success();
}

#[test]
fn the_checksums_are_those_that_sha256sum_checks() {
    let project = project();
    make(&project, &["--bundle", "bundle"]).assert().success();
    let check = || {
        let mut check = std::process::Command::new("sha256sum");
        check.current_dir(project.path("bundle"));
        check.args(["--check", "--quiet", "SHA256SUMS"]);
        check
    };
    if check()
        .status()
        .is_ok_and(|status| status.code() == Some(127))
    {
        return;
    }
    check().assert().success();
    project.write("bundle/vendor/tiny-1.0.0/lib.rs", "changed");
    check().assert().code(1);
}

#[test]
fn a_wheel_that_was_changed_on_the_way_is_refused() {
    let project = project();
    make(&project, &["--bundle", "bundle"]).assert().success();
    project.write("bundle/wheels/tiny-1.0-any.whl", "tampered");
    make(&project, &["--from-bundle", "bundle"])
        .assert()
        .code(1)
        .stderr(contains(
            "tiny 1.0 is not the pinned file: expected SHA-256",
        ));
    assert!(!project.part().exists());
}

#[test]
fn a_crate_that_was_changed_on_the_way_is_refused() {
    let project = project();
    make(&project, &["--bundle", "bundle"]).assert().success();
    project.write("bundle/vendor/tiny-1.0.0/lib.rs", "tampered");
    make(&project, &["--from-bundle", "bundle"])
        .assert()
        .code(1)
        .stderr(contains(
            "bundle/vendor/tiny-1.0.0/lib.rs: expected SHA-256",
        ));
    assert!(!project.part().exists());
}

#[test]
fn a_bundle_of_other_flags_says_so_and_nothing_is_fetched() {
    let project = project();
    make(&project, &["--bundle", "bundle"]).assert().success();
    let calls = project.downloads();
    project.pin_plugins();
    make(&project, &["--from-bundle", "bundle"])
        .assert()
        .code(1)
        .stderr(contains("it has no cpu 1.0: it was made with other flags"));
    make(&project, &["--from-bundle", "nowhere"])
        .assert()
        .code(1)
        .stderr(contains("--from-bundle nowhere: it is no bundle"));
    assert_eq!(project.downloads(), calls);
}

#[test]
fn a_bundle_takes_the_flags_parts_and_what_is_there_already() {
    let project = project();
    project.pin_plugins();
    make(&project, &["--bundle", "bundle"]).assert().success();
    assert_eq!(project.downloads(), 3);
    make(&project, &["--bundle", "bundle", "--tpu"])
        .assert()
        .success();
    assert_eq!(project.downloads(), 4);
    let readme = fs::read_to_string(project.path("bundle/README.md")).unwrap();
    assert!(
        readme.contains("--from-bundle THIS_FOLDER --tpu"),
        "{readme}"
    );
    make(&project, &["--from-bundle", "bundle", "--tpu"])
        .assert()
        .success();
    assert!(project.path(".native/pjrt/tpu/tpu.so").is_file());
}

#[test]
fn another_folder_is_left_alone() {
    let project = project();
    project.write("mine/precious", "");
    make(&project, &["--bundle", "mine"])
        .assert()
        .code(1)
        .stderr(contains("it is there and is no bundle"));
    assert!(project.path("mine/precious").exists());
    project.write("cargo", "#!/bin/sh\nexit 101\n");
    make(&project, &["--bundle", "bundle"])
        .assert()
        .code(1)
        .stderr(contains("vendor"));
    assert!(!project.path("bundle").exists());
}
