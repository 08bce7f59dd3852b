//! `cargo x doctor`, `cargo x test` and `cargo x tidy` on a small project.

mod project;

use std::{fs, process::Command};

use assert_cmd::assert::OutputAssertExt;
use predicates::{prelude::PredicateBooleanExt, str::contains};
use project::Project;

#[test]
fn doctor_reports_as_json() {
    let project = Project::new();
    let mine = project.libtorch("2.11.0");
    project.fake(
        "df",
        "echo Filesystem; echo /dev/x 99999999 9 90000000 1% /",
    );
    project.fake("c++", "echo a compiler 1.0");
    let output = project
        .x(&["doctor", "--json"])
        .env_remove("CXX")
        .env("LIBTORCH", mine)
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["ready"], true, "{report:#}");
    assert!(output.status.success());
    let checks = report["checks"].as_array().unwrap();
    let check = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap();
    assert_eq!(check("C++ compiler")["status"], "found");
    assert_eq!(check("libtorch")["status"], "found");
    assert_eq!(check("disk")["status"], "found");
}

#[test]
fn doctor_shows_the_plugins() {
    let project = Project::new();
    project.pin_plugins();
    project.pin_for_this_platform();
    let mine = project.libtorch("2.11.0");
    let doctor = || {
        let mut doctor = project.x(&["doctor"]);
        doctor.env("LIBTORCH", &mine);
        doctor
    };
    doctor()
        .assert()
        .stdout(contains("missing  PJRT CPU plugin"))
        .stdout(contains(
            ".native/pjrt/cpu not there yet; the two commands fetch it",
        ))
        .stdout(contains("missing  PJRT TPU plugin"))
        .stdout(contains("-> cargo x setup --tpu"));
    let mut setup = project.x(&["setup", "--tpu"]);
    setup.env("LIBTORCH", &mine).assert().success();
    doctor()
        .assert()
        .stdout(contains(
            "tiny CPU plugin, as pinned, in .native/pjrt/cpu/cpu.so",
        ))
        .stdout(contains(
            "tiny TPU plugin, as pinned, in .native/pjrt/tpu/tpu.so",
        ));
    // Another file than the one that set-up has put there.
    project.write(".native/pjrt/cpu/cpu.so", "other");
    doctor()
        .assert()
        .stdout(contains("missing  PJRT CPU plugin"))
        .stdout(contains("cpu.so is missing or damaged"));
    let plugin = project.path("mine/xla_cpu_pjrt.so");
    project.write("mine/xla_cpu_pjrt.so", "");
    doctor()
        .env("PJRT_PLUGIN_LIBRARY_PATH", &plugin)
        .assert()
        .stdout(contains("xla_cpu_pjrt.so, by PJRT_PLUGIN_LIBRARY_PATH"));
}

#[test]
fn doctor_shows_the_engines_and_the_gpus_libtorch() {
    let project = Project::new();
    project.pin_engines();
    project.pin_cuda_libtorch();
    project.pin_for_this_platform();
    project.fake("nvidia-smi", "echo NVIDIA H200, 580.1");
    let doctor = || project.x(&["doctor"]);
    doctor()
        .assert()
        .stdout(contains("found    CUDA"))
        .stdout(contains("NVIDIA H200, 580.1"))
        .stdout(contains("missing  CUDA libtorch"))
        .stdout(contains("-> cargo x setup --cuda"))
        .stdout(contains("missing  ONNX Runtime"))
        .stdout(contains("the two commands fetch it"))
        .stdout(contains("-> cargo x setup --engines"));
    project
        .x(&["setup", "--cuda", "--engines"])
        .assert()
        .success();
    project.write("mine/libonnxruntime.so", "");
    doctor()
        .env("ORT_DYLIB_PATH", project.path("mine/libonnxruntime.so"))
        .assert()
        .stdout(contains(
            "tiny libtorch for CUDA, as pinned, in .native/libtorch/cuda",
        ))
        .stdout(contains("libonnxruntime.so, by ORT_DYLIB_PATH"))
        .stdout(contains(
            "tiny OpenVINO, as pinned, in .native/engines/openvino",
        ));
}

#[test]
fn doctor_names_what_is_missing_and_the_command() {
    let project = Project::new();
    fs::create_dir(project.path("empty")).unwrap();
    let mine = project.libtorch("2.11.0");
    project
        .x(&["doctor"])
        .env("PATH", project.path("empty"))
        .env_remove("CXX")
        .env("LIBTORCH", mine)
        .assert()
        .code(1)
        .stdout(contains("MISSING  C++ compiler"))
        .stdout(contains("-> "))
        .stdout(contains("not ready"));
}

/// A workspace of one crate, with these tests.
fn with_tests(source: &str) -> (Project, Command) {
    let project = Project::new();
    project.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"one\"]\n",
    );
    project.write(
        "one/Cargo.toml",
        "[package]\nname = \"one\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
    );
    project.write("one/src/lib.rs", source);
    // A libtorch of the user's: set-up has nothing to bring.
    let mine = project.libtorch("2.11.0");
    let mut command = project.x(&["test"]);
    command
        .env("LIBTORCH", mine)
        .env("CARGO_TARGET_DIR", project.path("target"));
    (project, command)
}

#[test]
fn the_tests_fetch_libtpu_and_the_engines_unless_told_otherwise() {
    let (project, mut test) = with_tests("#[test] fn passes() {}\n");
    project.pin_plugins();
    project.pin_engines();
    project.pin_for_this_platform();
    let names = || {
        let count = |folder: &str| fs::read_dir(project.path(folder)).map_or(0, Iterator::count);
        [count(".native/pjrt"), count(".native/engines")]
    };
    test.args(["--no-tpu", "--no-engines"]).assert().success();
    assert_eq!(names(), [1, 0]);
    let mut test = project.x(&["test"]);
    test.env("LIBTORCH", project.path("mine"))
        .env("CARGO_TARGET_DIR", project.path("target"))
        .assert()
        .success();
    assert_eq!(names(), [2, 2]);
}

#[test]
fn skips_are_listed_with_their_command() {
    let (_project, mut test) = with_tests(
        "#[test] fn passes() {}\n\
         #[test] #[ignore = \"needs: a GPU; cargo x setup --cuda\"] fn on_gpu() {}\n",
    );
    test.assert()
        .success()
        .stdout(contains("test passes ... ok"))
        .stdout(contains("on_gpu: needs a GPU; `cargo x setup --cuda`"))
        .stdout(contains("time:"))
        .stdout(predicates::str::ends_with(
            "\n1 passed, 0 failed, 1 skipped\n",
        ));
}

#[test]
fn a_forbidden_skip_and_one_without_reason_fail() {
    let (_project, mut test) = with_tests(
        "#[test] #[ignore = \"needs: a GPU; cargo x setup --cuda\"] fn on_gpu() {}\n\
         #[test] #[ignore] fn plain() {}\n",
    );
    test.args(["--fail-on-skip", "GPU"])
        .assert()
        .code(1)
        .stdout(contains("on_gpu was skipped for want of a GPU"))
        .stdout(contains("plain is ignored without a reason"))
        .stdout(predicates::str::ends_with(
            "\n0 passed, 0 failed, 2 skipped\n",
        ));
}

#[test]
fn failures_and_crashes_are_counted() {
    let (_project, mut test) = with_tests(
        "#[test] fn fails() { panic!(\"test result: ok. 7 passed; 0 failed; 0 ignored\") }\n",
    );
    test.assert()
        .code(1)
        .stdout(contains("failed:\n  fails\n"))
        .stdout(predicates::str::ends_with(
            "\n0 passed, 1 failed, 0 skipped\n",
        ));

    let (_project, mut test) = with_tests("#[test] fn aborts() { std::process::abort() }\n");
    test.assert()
        .code(1)
        .stdout(contains("ended without a result"))
        .stdout(predicates::str::ends_with(
            "\n0 passed, 1 failed, 0 skipped\n",
        ));
}

#[test]
fn a_build_that_fails_says_so() {
    let (_project, mut test) = with_tests("this is not Rust\n");
    test.assert().code(1).stderr(contains(
        "cargo test --release --no-fail-fast --workspace --no-run failed",
    ));
}

/// A workspace whose chapters and book-builder only note how and when they were called.
fn with_chapters(chapter_exit: u8) -> (Project, Command) {
    let project = Project::new();
    let members = "members = [\"chapter\", \"gpu\", \"training\", \"sweep\", \"builder\"]";
    project.write(
        "Cargo.toml",
        &format!("[workspace]\nresolver = \"3\"\n{members}\n"),
    );
    for (folder, name, exit) in [
        ("chapter", "cpu-inference", chapter_exit),
        ("gpu", "gpu-inference", 0),
        ("training", "tpu-training", 0),
        ("sweep", "parallel-training", 0),
        ("builder", "book-builder", 0),
    ] {
        project.write(
            &format!("{folder}/Cargo.toml"),
            &format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
        );
        project.write(
            &format!("{folder}/src/main.rs"),
            &format!(
                "fn main() {{\n\
                 let words: Vec<String> = std::env::args().skip(1).collect();\n\
                 std::fs::write(\"{folder}.called\", words.join(\" \")).unwrap();\n\
                 use std::{{fs::OpenOptions, io::Write}};\n\
                 let order = OpenOptions::new().create(true).append(true).open(\"order\");\n\
                 order.unwrap().write_all(b\"{folder} \").unwrap();\n\
                 std::process::exit({exit});\n}}\n"
            ),
        );
    }
    let mine = project.libtorch("2.11.0");
    // A plugin of the user's stands for the one that this platform may lack.
    project.write("xla_cpu_pjrt.so", "");
    let mut command = project.x(&["learn"]);
    command
        .env("LIBTORCH", mine)
        .env("PJRT_PLUGIN_LIBRARY_PATH", project.path("xla_cpu_pjrt.so"))
        .env("CARGO_TARGET_DIR", project.path("target"));
    (project, command)
}

#[test]
fn learn_runs_the_chapters_and_names_the_page() {
    let (project, mut learn) = with_chapters(0);
    learn
        .assert()
        .success()
        .stdout(contains("  01-cpu  "))
        .stdout(contains("file:///"))
        .stdout(predicates::str::ends_with("/book/html/index.html\n"))
        .stderr(contains(
            "chapter 01-cpu stands in the book with your figures: file:///",
        ))
        .stderr(contains("/book/html/01-cpu/index.html\n"))
        .stderr(contains("chapter 04-sweep stands").not());
    let called = |name: &str| fs::read_to_string(project.path(name)).unwrap();
    assert_eq!(
        called("chapter.called"),
        "learn --quick --out results-local/01-cpu"
    );
    assert_eq!(
        called("gpu.called"),
        "learn --quick --out results-local/02-gpu"
    );
    assert_eq!(
        called("training.called"),
        "learn --quick --out results-local/03-tpu-training"
    );
    assert_eq!(
        called("sweep.called"),
        "learn --quick --out results-local/04-sweep"
    );
    assert!(called("builder.called").starts_with("--root "));
    assert_eq!(
        called("order"),
        "chapter builder gpu builder training builder sweep builder ",
        "the book shows each chapter as soon as it has run"
    );
}

#[test]
fn learn_says_what_a_gpu_takes_until_it_is_there() {
    let (project, mut learn) = with_chapters(0);
    project.pin_cuda_libtorch();
    project.pin_for_this_platform();
    project.fake("nvidia-smi", "echo NVIDIA H200, 580.1");
    let said = "a GPU is here (NVIDIA H200, 580.1), and its libtorch is not";
    // A libtorch of the user's has what it has.
    learn.assert().success().stderr(contains(said).not());
    learn.env_remove("LIBTORCH");
    learn
        .assert()
        .success()
        .stderr(contains(said))
        .stderr(contains("`cargo x setup --cuda` fetches what it takes"));
    project.x(&["setup", "--cuda"]).assert().success();
    learn.assert().success().stderr(contains(said).not());
}

#[test]
fn learn_leaves_out_a_chapter_whose_plugin_is_not_to_be_had() {
    let (project, mut learn) = with_chapters(0);
    learn
        .env_remove("PJRT_PLUGIN_LIBRARY_PATH")
        .assert()
        .success()
        .stderr(contains("chapter 03-tpu-training is left out: "))
        .stderr(contains("PJRT_PLUGIN_LIBRARY_PATH"));
    assert!(project.path("chapter.called").exists());
    assert!(!project.path("training.called").exists());
}

#[test]
fn learn_renders_the_book_even_if_a_chapter_fails() {
    let (project, mut learn) = with_chapters(3);
    learn
        .assert()
        .code(1)
        .stderr(contains("failed: chapter 01-cpu"))
        .stdout(contains("/book/html/index.html"));
    assert!(project.path("builder.called").exists());
}

#[test]
fn book_passes_the_check_on() {
    let (project, learn) = with_chapters(0);
    let mut book = project.x(&["book", "--check"]);
    for (name, value) in learn.get_envs() {
        if let Some(value) = value {
            book.env(name, value);
        }
    }
    book.assert().success();
    let called = fs::read_to_string(project.path("builder.called")).unwrap();
    assert!(called.ends_with(" --check"), "{called}");
}

#[test]
fn tidy_names_file_and_rule() {
    let project = Project::new();
    project.write("Cargo.toml", "[workspace]\n");
    let tidy = || project.x(&["tidy", "--no-cargo"]);
    tidy().assert().success().stdout(contains("all is well"));
    project.write("model.pth", "");
    tidy()
        .assert()
        .code(1)
        .stdout(contains("model.pth: a pickle").and(contains("1 broken rule(s)")));
}

#[test]
fn outside_a_project_the_reason_is_told() {
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_x"))
        .arg("doctor")
        .current_dir(folder.path())
        .assert()
        .code(1)
        .stderr(contains("no ci/native.toml in"));
}
