//! `cargo x containers` on a small project, with a stand-in for the engine: it keeps the names of
//! what it has built in `images`, and what it was called with in `calls`.
#![cfg(unix)]

mod project;

use std::fs;

use assert_cmd::assert::OutputAssertExt;
use predicates::{prelude::PredicateBooleanExt, str::contains};
use project::Project;

/// podman without containers: $RUN is what an image's program does.
const PODMAN: &str = r#"
echo podman "$@" | tee -a calls
case "$1" in
    image) grep -qxF "$3" images 2> /dev/null;;
    build)
        [ "$BUILD" = fail ] && exit 1
        while [ $# -gt 0 ]; do
            [ "$1" = --tag ] && echo "$2" >> images
            [ "$1" = --file ] && cat "$2" >> files
            shift
        done
        exit 0;;
    run) eval "$RUN";;
esac"#;

/// What the image `cpu` answers.
const CPU: &str = r#"case "$*" in
    *"--entrypoint id "*) echo 65532;;
    *"--device cuda") echo "--device cuda is not available" >&2; exit 3;;
    *) echo accuracy 97 %;;
esac"#;

fn project() -> Project {
    let project = Project::new();
    project.fake("docker", "exit 1");
    project.fake("podman", PODMAN);
    project.fake("buildah", "exit 9");
    project.fake("nvidia-smi", "exit 9");
    project
}

fn read(project: &Project, file: &str) -> String {
    fs::read_to_string(project.path(file)).unwrap_or_default()
}

#[test]
fn the_first_engine_that_works_builds_and_runs() {
    let project = project();
    project.fake("nvidia-smi", "echo NVIDIA H200, 580.00");
    project
        .x(&[
            "containers",
            "build",
            "beam-gpu",
            "--build-arg",
            "BASE=a@sha256:00",
            "--",
            "--no-cache",
        ])
        .assert()
        .success()
        .stdout(contains(
            "podman build --format docker --layers --file docker/Dockerfile.beam \
             --tag hardware-accelerators/beam-gpu:dev --build-arg DEVICE=cuda \
             --build-arg BASE=a@sha256:00 --no-cache .",
        ));
    // The exit code is the program's.
    project
        .x(&["containers", "run", "gpu", "--engine-arg", "--init", "--", "run", "--json"])
        .env("RUN", "exit 3")
        .assert()
        .code(3)
        .stdout(contains(
            "podman run --rm --device nvidia.com/gpu=all --init hardware-accelerators/gpu:dev run --json",
        ));
    project
        .x(&["containers", "build", "cpu", "--build-arg", "BASE"])
        .assert()
        .code(2)
        .stderr(contains("expected NAME=VALUE"));
    // With its daemon, docker comes first.
    project.fake("docker", "echo docker \"$@\"");
    project
        .x(&["containers", "run", "gpu", "--dry-run"])
        .assert()
        .success()
        .stdout(contains(
            "docker run --rm --gpus all hardware-accelerators/gpu:dev",
        ));
}

#[test]
fn without_a_gpu_the_container_gets_none() {
    project()
        .x(&["containers", "run", "gpu", "--dry-run"])
        .assert()
        .success()
        .stdout(contains("podman run --rm hardware-accelerators/gpu:dev"))
        .stderr(contains("no NVIDIA GPU here"));
}

#[test]
fn without_an_engine_a_build_is_skipped_or_fails() {
    let project = project();
    project.fake("podman", "exit 1");
    let build = |rest: &[&str]| project.x(&[&["containers", "build", "cpu"][..], rest].concat());
    build(&[]).assert().success().stdout(contains(
        "skipped  build cpu: needs docker with a running daemon, podman or buildah",
    ));
    build(&["--required"]).assert().code(1);
}

#[test]
fn bases_are_made_once_where_no_registry_is() {
    let project = project();
    project.fake("id", "echo 0");
    project.fake("debootstrap", "[ $1 = --version ] || mkdir -p \"$3/etc\"");
    project.write("toolchain/bin/rustc", "");
    let toolchain = project.path("toolchain").canonicalize().unwrap();
    project.fake("rustc", &format!("echo {}", toolchain.display()));
    let build = |image| project.x(&["containers", "build", image, "--stand-in", "--", "--quiet"]);

    build("cpu").assert().success().stdout(contains(
        "--tag hardware-accelerators/cpu:dev \
         --build-arg RUST_BASE=localhost/hardware-accelerators/stand-in-rust:bookworm \
         --build-arg BASE=localhost/hardware-accelerators/stand-in-debian:bookworm \
         --pull=never --quiet .",
    ));
    let names = ["stand-in-debian:bookworm", "stand-in-rust:bookworm"];
    let images = read(&project, "images");
    for name in names {
        assert!(images.contains(name), "{images}");
    }
    let files = read(&project, "files");
    assert!(files.contains("ADD debian.tar /") && files.contains("COPY bin /usr/local/rust/bin"));
    let calls = read(&project, "calls");
    // The toolchain itself is the folder that the image is made from.
    assert!(
        calls.contains(&format!("--quiet {}\n", toolchain.display())),
        "{calls}"
    );
    assert_eq!(project.native_names(), Vec::<String>::new());

    // Another image: only what is missing.
    build("beam").assert().success().stdout(contains(
        "--build-arg BASE=localhost/hardware-accelerators/stand-in-beam:bookworm",
    ));
    let images = read(&project, "images");
    for name in names {
        assert_eq!(images.matches(name).count(), 1, "{images}");
    }
    assert!(images.contains("stand-in-beam:bookworm"), "{images}");
}

#[test]
fn what_bases_cannot_be_made_of_is_told() {
    let project = project();
    project.fake("id", "echo 1000");
    let build = || project.x(&["containers", "build", "cpu", "--stand-in"]);
    build().assert().success().stdout(contains(
        "skipped  build cpu: needs debootstrap, and to be run as root",
    ));
    project
        .x(&["containers", "check", "cpu", "--stand-in", "--required"])
        .assert()
        .code(1)
        .stdout(contains("skipped  cpu: build"));
    project.fake("id", "echo 0");
    project.fake("debootstrap", "[ $1 = --version ] && exit 0; exit 7");
    build()
        .assert()
        .code(1)
        .stdout(contains("failed   build cpu: debootstrap").and(contains("exit status: 7")));
}

#[test]
fn an_image_is_built_and_what_it_says_is_judged() {
    let project = project();
    let check = |run: &str| {
        let mut check = project.x(&["containers", "check", "cpu"]);
        check.env("RUN", run);
        check
    };
    check(CPU)
        .assert()
        .success()
        .stdout(contains("passed   cpu: build"))
        .stdout(contains("passed   cpu: its user"))
        .stdout(contains("passed   cpu: its quick run"))
        .stdout(contains("passed   cpu: a device it has not"));
    let calls = read(&project, "calls");
    assert!(
        calls.contains("podman run --rm --network none hardware-accelerators/cpu:dev\n"),
        "{calls}"
    );
    for (change, said) in [
        (("65532", "0"), "failed   cpu: its user: it does not say"),
        (
            ("exit 3", "exit 0"),
            "failed   cpu: a device it has not: exit code 0, expected 3",
        ),
        (
            ("echo accuracy", "exit 1"),
            "failed   cpu: its quick run: exit code 1, expected 0",
        ),
    ] {
        let run = CPU.replace(change.0, change.1);
        check(&run).assert().code(1).stdout(contains(said));
    }
    check(CPU)
        .env("BUILD", "fail")
        .assert()
        .code(1)
        .stdout(contains("failed   cpu: build").and(contains("quick run").not()));
}

#[test]
fn an_engine_that_only_builds_runs_nothing() {
    let project = project();
    project.fake("podman", "exit 1");
    project.fake("buildah", "exit 0");
    let check = |rest: &[&str]| project.x(&[&["containers", "check", "cpu"][..], rest].concat());
    check(&[])
        .assert()
        .success()
        .stdout(contains("passed   cpu: build"))
        .stdout(contains(
            "skipped  cpu: its quick run: needs docker or podman",
        ));
    check(&["--required"]).assert().code(1);
}
