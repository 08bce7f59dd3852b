//! `cargo x bump` with an index of files, tiny wheels, and a cargo that only pretends.
#![cfg(unix)]

mod project;

use std::{fs, process::Command};

use assert_cmd::assert::OutputAssertExt;
use predicates::{prelude::PredicateBooleanExt, str::contains};
use project::{Project, executable};

const PINS: &str = r#"# A comment that stays.
schema_version = 1

[[part]]
title = "tiny plugin 1.0.0"
path = "pjrt/tpu"
platform = "linux-x86_64"
unpacked_bytes = 3 # bytes

[[part.wheel]]
name = "tiny"
version = "1.0.0"
platforms = ["manylinux_2_28_x86_64"]
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
bytes = 7
[part.wheel.keep]
"tiny/lib.so.1.0.0" = "lib.so"

[[part]]
title = "torch"
path = "libtorch/cpu"
platform = "linux-x86_64"
unpacked_bytes = 3

[[part.wheel]]
name = "torch"
version = "2.0"
platforms = ["manylinux_2_28_x86_64"]
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
bytes = 7
[part.wheel.keep]
"a" = "a"
"#;

const CARGO: &str = r#"#!/bin/sh
echo "$@" >> cargo-calls
echo "    Updating crates.io index" >&2
echo "    Updating serde v1.0.0 -> v1.0.1" >&2
"#;

/// A project whose index has `tiny` 1.1.0 with this file in its wheel, and `torch` 3.0.
fn project(file: &str) -> Project {
    let project = Project::new();
    project.write("ci/native.toml", PINS);
    project.write("cargo", CARGO);
    executable(&project.path("cargo"));
    let (sha256, bytes) = project.wheel("tiny", &[(file, "12345")]);
    index(&project, "tiny", "1.1.0", &sha256, bytes);
    index(&project, "torch", "3.0", &"1".repeat(64), 1);
    project
}

fn index(project: &Project, name: &str, version: &str, sha256: &str, bytes: u64) {
    let file = |version: &str, yanked: bool| {
        format!(
            r#"[{{"filename": "{name}-{version}-py3-none-manylinux_2_31_x86_64.whl", "size": {bytes},
                "digests": {{"sha256": "{sha256}"}}, "yanked": {yanked}}}]"#
        )
    };
    let json = format!(
        r#"{{"releases": {{"1.0.0": [], "{version}": {}, "9.0": {}, "10.0rc1": {}}}}}"#,
        file(version, false),
        file("9.0", true),
        file("10.0rc1", false),
    );
    project.write(&format!("packages/{name}/json"), &json);
}

fn bump(project: &Project, arguments: &[&str]) -> Command {
    let mut bump = project.x(&["bump"]);
    bump.args(arguments)
        .arg("--index")
        .arg(format!("file://{}", project.path("packages").display()))
        .env("CARGO", project.path("cargo"));
    bump
}

fn pins(project: &Project) -> String {
    fs::read_to_string(project.path("ci/native.toml")).unwrap()
}

#[test]
fn what_is_behind_is_listed_and_nothing_is_written() {
    let project = project("tiny/lib.so.1.1.0");
    project.write("THIRD-PARTY.md", "\n| tiny 1.0.0 | MIT |\n");
    bump(&project, &[])
        .assert()
        .success()
        .stdout(contains(
            "tiny: 1.0.0, newest 1.1.0: `cargo x bump --write` takes it",
        ))
        .stdout(contains(
            "torch: 2.0, newest 3.0: held: the crate tch decides",
        ))
        .stdout(contains("crate: Updating serde v1.0.0 -> v1.0.1"))
        .stdout(contains("THIRD-PARTY.md:2: names tiny 1.0.0"));
    assert_eq!(pins(&project), PINS);
    let calls = fs::read_to_string(project.path("cargo-calls")).unwrap();
    assert!(calls.contains("--dry-run"), "{calls}");
}

#[test]
fn a_new_pin_is_that_of_a_wheel_that_was_fetched_and_opened() {
    let project = project("tiny/lib.so.1.1.0");
    bump(&project, &["--write"])
        .assert()
        .success()
        .stdout(contains("newest 1.1.0: written"));
    let (sha256, bytes) = project.wheel("tiny", &[("tiny/lib.so.1.1.0", "12345")]);
    let expected = PINS
        .replacen("tiny plugin 1.0.0", "tiny plugin 1.1.0", 1)
        .replacen("version = \"1.0.0\"", "version = \"1.1.0\"", 1)
        .replacen("manylinux_2_28_x86_64", "manylinux_2_31_x86_64", 1)
        .replacen(&"0".repeat(64), &sha256, 1)
        .replacen(
            "unpacked_bytes = 3 # bytes",
            "unpacked_bytes = 5 # bytes",
            1,
        )
        .replacen("bytes = 7", &format!("bytes = {bytes}"), 1)
        .replacen("lib.so.1.0.0", "lib.so.1.1.0", 1);
    assert_eq!(pins(&project), expected);
    // And set-up takes what was written.
    let mut setup = project.x(&["setup", "--platform", "linux-x86_64", "--dry-run"]);
    setup
        .assert()
        .success()
        .stdout(contains("fetch   tiny 1.1.0"));
    let calls = fs::read_to_string(project.path("cargo-calls")).unwrap();
    assert!(
        calls.starts_with("update") && !calls.contains("--dry-run"),
        "{calls}"
    );
}

#[test]
fn a_wheel_without_the_kept_file_is_not_taken() {
    let project = project("tiny/renamed.so");
    bump(&project, &["--write"])
        .assert()
        .code(1)
        .stdout(contains(
            "not taken: pjrt/tpu for linux-x86_64: tiny 1.1.0 holds no tiny/lib.so.1.1.0",
        ));
    assert_eq!(pins(&project), PINS);
}

#[test]
fn a_wheel_that_is_not_the_indexs_is_not_taken() {
    let project = project("tiny/lib.so.1.1.0");
    bump(&project, &["--write"])
        .env("PIP_DOES", "tamper")
        .assert()
        .code(1)
        .stdout(contains("not taken").and(contains("is not the pinned file: expected SHA-256")));
    assert_eq!(pins(&project), PINS);
    // Nothing is left of the attempt.
    assert_eq!(project.native_names(), [""; 0]);
}

#[test]
fn a_platform_without_a_wheel_keeps_all_of_them() {
    let project = project("tiny/lib.so.1.1.0");
    let second = PINS
        .replace("linux-x86_64", "linux-aarch64")
        .replace("_x86_64", "_aarch64");
    let (_, second) = second.split_once("[[part]]").unwrap();
    let both = format!("{PINS}\n[[part]]{second}");
    project.write("ci/native.toml", &both);
    bump(&project, &["--write", "--only", "tiny"])
        .assert()
        .code(1)
        .stdout(contains(
            "tiny 1.1.0 has no wheel like manylinux_2_28_aarch64",
        ));
    assert_eq!(pins(&project), both);
    assert!(
        !project.path("cargo-calls").exists(),
        "--only leaves crates alone"
    );
}

#[test]
fn an_unreachable_index_and_an_unknown_name_are_told() {
    let project = project("tiny/lib.so.1.1.0");
    bump(&project, &["--only", "nothing"])
        .assert()
        .code(1)
        .stderr(contains("--only nothing: ci/native.toml has no such wheel"));
    fs::remove_file(project.path("packages/tiny/json")).unwrap();
    bump(&project, &["--only", "tiny"])
        .assert()
        .code(1)
        .stderr(contains("packages/tiny/json cannot be read"));
    bump(&project, &["--measure"]).assert().code(2);
}

#[test]
fn a_pull_request_has_a_branch_of_its_own_and_says_whether_the_tests_passed() {
    let project = project("tiny/lib.so.1.1.0");
    // What the tests put into the folder is not the project's.
    project.write(
        ".gitignore",
        "index\nbin\ncargo\ncargo-calls\n.native\nremote\npackages\nbody\ngh-calls\n",
    );
    project.write("Cargo.lock", "");
    project.write(".ci/run", "#!/bin/sh\nexit 1\n");
    executable(&project.path(".ci/run"));
    let git = |words: &[&str]| {
        let output = Command::new("git")
            .current_dir(project.root())
            .args(words)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "git {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "--quiet", "--initial-branch", "main"]);
    git(&["config", "user.name", "tester"]);
    git(&["config", "user.email", "tester@example.org"]);
    git(&["init", "--quiet", "--bare", "remote"]);
    git(&["remote", "add", "origin", "remote"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "first"]);
    project.fake(
        "gh",
        "case \"$*\" in --version) echo gh 2;; 'pr view'*) exit 1;; \
         'pr create'*) echo \"$@\" > gh-calls; while [ $# -gt 0 ]; do case $1 in \
         --body-file) cp \"$2\" body;; esac; shift; done;; esac",
    );
    bump(&project, &["--write", "--pull-request"])
        .assert()
        .success();
    assert_eq!(
        git(&["log", "--format=%s", "bump"]),
        "Newer versions\nfirst\n"
    );
    assert_eq!(
        git(&["diff", "--name-only", "main", "bump"]),
        "ci/native.toml\n"
    );
    assert_eq!(
        git(&["rev-parse", "bump"]),
        git(&["--git-dir", "remote", "rev-parse", "bump"])
    );
    let calls = fs::read_to_string(project.path("gh-calls")).unwrap();
    assert!(calls.contains("--draft"), "{calls}");
    let body = fs::read_to_string(project.path("body")).unwrap();
    for part in [
        "| tiny | 1.0.0 | 1.1.0 | written |",
        "`.ci/run` failed",
        "held: the crate tch",
    ] {
        assert!(body.contains(part), "{part}: {body}");
    }
    // Changes of somebody's own are not swept along.
    git(&["switch", "--quiet", "main"]);
    project.write("ci/native.toml", &format!("{PINS}\n"));
    bump(&project, &["--write", "--pull-request"])
        .assert()
        .code(1)
        .stderr(contains("commit or put away these changes first"));
}
