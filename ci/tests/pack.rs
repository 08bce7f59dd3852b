//! `cargo x pack` on a small project, and the script of a pack with programs that obey, fail
//! and hang.
#![cfg(target_os = "linux")]

mod project;

use std::{fs, process::Command};

use assert_cmd::assert::OutputAssertExt;
use predicates::str::contains;
use project::Project;

/// Does as the name of the measurement says.
const PROGRAM: &str = r#"
fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).find(|w| ["ladder", "tune", "roofline", "engines"].contains(w)) {
        Some("tune") => std::thread::sleep(std::time::Duration::from_secs(60)),
        Some("roofline") => {
            eprintln!("error: out of memory");
            std::process::exit(1);
        }
        Some("engines") => {
            eprintln!("error: no library");
            std::process::exit(3);
        }
        Some(_) => {
            eprintln!("error: no memory for this rung");
            println!("left out, for the reasons above: ladder");
        }
        None => {
            let library_path = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
            std::fs::write("called", format!("{}\n{library_path}", words.join(" "))).unwrap();
            let folder = std::path::Path::new("results-local/02-gpu/machine");
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("run-digits.json"), "{}").unwrap();
        }
    }
}
"#;

/// A Python of which only the paths are asked.
const PYTHON: &str = r#"#!/bin/sh
echo '{"torch_libraries": "/torch/lib", "onnxruntime": null, "pjrt_plugin": null, "version": "3.12.0"}'
"#;

fn project() -> (Project, Command) {
    let project = Project::new();
    project.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"gpu\", \"training\", \"sweep\"]\n",
    );
    for (folder, name) in [
        ("gpu", "gpu-inference"),
        ("training", "tpu-training"),
        ("sweep", "parallel-training"),
    ] {
        project.write(
            &format!("{folder}/Cargo.toml"),
            &format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
        );
        project.write(&format!("{folder}/src/main.rs"), PROGRAM);
    }
    project.write("ci/pack/measure.py", include_str!("../pack/measure.py"));
    for input in [
        "ci/pack/README.md",
        "ci/peers/protocol.py",
        "shared/result.schema.json",
        "shared/data/digits/digits.csv",
        "chapters/01-cpu/samples/a.jpg",
        "chapters/01-cpu/weights/digits.safetensors",
    ] {
        project.write(input, "");
    }
    let mine = project.libtorch("2.11.0");
    project.write("xla_cpu_pjrt.so", "");
    let mut pack = project.x(&["pack"]);
    pack.env("LIBTORCH", mine)
        .env("PJRT_PLUGIN_LIBRARY_PATH", project.path("xla_cpu_pjrt.so"))
        .env("CARGO_TARGET_DIR", project.path("target"));
    (project, pack)
}

#[test]
fn a_pack_measures_what_it_can_and_says_what_it_could_not() {
    let (project, mut pack) = project();
    pack.assert().success().stdout(contains("target/pack: "));
    // An older pack gives way.
    project.write("target/pack/old", "");
    pack.assert().success();
    assert!(!project.path("target/pack/old").exists());
    for file in [
        "bin/x",
        "bin/gpu-inference",
        "bin/tpu-training",
        "bin/parallel-training",
        "ci/native.toml",
    ] {
        assert!(project.path("target/pack").join(file).is_file(), "{file}");
    }

    project.write("python", PYTHON);
    project::executable(&project.path("python"));
    let measure = |words: &[&str]| {
        let mut measure = Command::new("python3");
        measure
            .arg(project.path("target/pack/measure.py"))
            .arg("--python")
            .arg(project.path("python"))
            .args(words)
            .env_remove("PJRT_PLUGIN_LIBRARY_PATH")
            .env_remove("LD_LIBRARY_PATH");
        measure
    };
    measure(&["--dry-run"])
        .assert()
        .success()
        .stdout(contains(
            "peers-gpu (220 s, and what others leave): bin/x peers gpu",
        ))
        .stdout(contains("missing: no PJRT plugin"));
    measure(&["--dry-run", "--sweep"])
        .assert()
        .success()
        .stdout(contains(
            "sweep-18 (200 s, and what others leave): bin/parallel-training learn --only sweep-18 --device cuda",
        ));
    assert!(!project.path("target/pack/summary.json").exists());
    let names = [
        "run-digits",
        "ladder",
        "tune",
        "roofline",
        "engines",
        "steps",
    ];
    let only: Vec<&str> = names.iter().flat_map(|name| ["--only", *name]).collect();
    measure(&[&only[..], &["--limit", "2", "--device", "cuda"]].concat())
        .assert()
        .code(1)
        .stdout(contains("tune: out of time"))
        .stdout(contains("roofline: failed"));
    let summary = fs::read(project.path("target/pack/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
    let part = |name: &str| {
        let parts = summary["parts"].as_array().unwrap();
        parts.iter().find(|part| part["name"] == name).unwrap()
    };
    for (name, status, reason) in [
        ("run-digits", "measured", ""),
        (
            "tune",
            "out of time",
            "stopped after 2 s; see logs/tune.txt",
        ),
        ("roofline", "failed", "error: out of memory"),
        ("engines", "not measured", "error: no library"),
        ("ladder", "not measured", "error: no memory for this rung"),
        ("steps-per-call", "not measured", "no PJRT plugin"),
    ] {
        assert_eq!(part(name)["status"], status, "{summary:#}");
        let got = part(name)["reason"].as_str().unwrap_or_default();
        assert!(got.starts_with(reason), "{name}: {got}");
    }
    // The programs run in the folder, with PyTorch's libraries.
    assert_eq!(
        fs::read_to_string(project.path("target/pack/called")).unwrap(),
        "learn --only run-digits --device cuda --out results-local/02-gpu --quiet\n/torch/lib"
    );
    measure(&["--only", "run-digits"]).assert().code(0);
    measure(&["--only", "engines"]).assert().code(3);
    for (words, said) in [
        (["--only", "none"], "no part is called so"),
        (["--limit", "0"], "expected seconds above 0"),
        (["--python", "/nowhere"], "no such program"),
    ] {
        measure(&words).assert().code(2).stderr(contains(said));
    }
}

#[test]
fn a_folder_that_is_no_pack_is_left_alone() {
    let (project, mut pack) = project();
    project.write("mine/precious", "");
    pack.args(["--out", "mine"])
        .assert()
        .code(1)
        .stderr(contains("it is there and is no pack"));
    assert!(project.path("mine/precious").exists());
    assert!(!project.path("target").exists());
}
