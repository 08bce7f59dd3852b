//! `cargo x setup` with tiny wheels: no network, no large download.

mod project;

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use assert_cmd::assert::OutputAssertExt;
use predicates::str::contains;
use project::Project;

#[test]
fn a_first_run_fetches_and_a_second_does_nothing() {
    let project = Project::new();
    project
        .setup()
        .assert()
        .success()
        .stderr(contains("fetching 2 wheels"))
        .stdout(contains("tiny libtorch: ready in .native/libtorch/cpu"));
    project.assert_ready();
    assert_eq!(project.downloads(), 2);
    // No pip, no index: it must not even be asked.
    fs::remove_dir_all(project.index()).unwrap();
    project
        .setup()
        .env("PIP_DOES", "fail")
        .assert()
        .success()
        .stderr("")
        .stdout(contains("ready"));
}

#[test]
fn the_real_pip_takes_the_wheels_from_where_it_is_told() {
    let project = Project::new();
    fs::remove_file(project.path("bin/python3")).unwrap();
    project
        .setup()
        .env("PIP_NO_INDEX", "1")
        .env("PIP_FIND_LINKS", project.index())
        .assert()
        .success();
    project.assert_ready();
}

#[test]
fn the_real_pip_refuses_another_file_and_nothing_is_kept() {
    let project = Project::new();
    fs::remove_file(project.path("bin/python3")).unwrap();
    let pins = fs::read_to_string(project.path("ci/native.toml")).unwrap();
    let start = pins.find("sha256 = \"").unwrap() + "sha256 = \"".len();
    let right = &pins[start..start + 64];
    let wrong = "0".repeat(64);
    project.write("ci/native.toml", &pins.replacen(right, &wrong, 1));
    project
        .setup()
        .env("PIP_NO_INDEX", "1")
        .env("PIP_FIND_LINKS", project.index())
        .assert()
        .code(1)
        .stderr(contains(format!("expected SHA-256 {wrong}, got {right}")))
        .stderr(contains("cargo x setup"));
    assert_eq!(project.native_names(), [".lock"]);
}

#[test]
fn the_plan_is_told_and_nothing_is_done() {
    let project = Project::new();
    let mut dry = project.setup();
    dry.arg("--dry-run")
        .assert()
        .success()
        .stdout(contains("fetch   tiny 1.0"))
        .stdout(contains("would fetch 2 wheels"));
    assert!(!project.path(".native").exists());
    assert_eq!(project.downloads(), 0);
}

#[test]
fn a_tampered_file_is_refused_even_if_pip_lets_it_pass() {
    let project = Project::new();
    project
        .setup()
        .env("PIP_DOES", "tamper")
        .assert()
        .code(1)
        .stderr(contains(
            "tiny 1.0 is not the pinned file: expected SHA-256 ",
        ))
        .stderr(contains(", got "));
    assert_eq!(project.native_names(), [".lock"]);
    project.setup().assert().success();
    project.assert_ready();
}

#[test]
fn a_tampered_wheel_in_the_cache_is_refused_and_deleted() {
    let project = Project::new();
    let cached = ".native/wheels/tiny-1.0-any.whl";
    project.write(cached, "tampered");
    project
        .setup()
        .assert()
        .code(1)
        .stderr(contains("expected SHA-256 "))
        .stderr(contains("run `cargo x setup` again"));
    assert!(!project.path(cached).exists());
    assert_eq!(project.downloads(), 0);
    project.setup().assert().success();
    project.assert_ready();
}

#[test]
fn wheels_can_be_kept_and_are_then_not_fetched_again() {
    let project = Project::new();
    project.setup().arg("--keep-wheels").assert().success();
    assert!(project.path(".native/wheels/tiny-1.0-any.whl").exists());
    fs::remove_dir_all(project.part()).unwrap();
    project.setup().assert().success();
    assert_eq!(project.downloads(), 2);
    project.assert_ready();
}

#[test]
fn a_damaged_part_is_made_anew() {
    let project = Project::new();
    project.setup().assert().success();
    fs::remove_file(project.part().join("include/a.h")).unwrap();
    project
        .setup()
        .assert()
        .success()
        .stderr(contains("include/a.h is missing or damaged"));
    project.assert_ready();
}

#[test]
fn an_interrupted_run_leaves_nothing_half_done_and_the_next_one_sweeps() {
    let project = Project::new();
    let mut first = project.setup();
    first.env("PIP_DOES", "hang").stderr(Stdio::null());
    let mut first = first.spawn().unwrap();
    let pid = wait_for(&project.index().join("pid"));
    first.kill().unwrap();
    first.wait().unwrap();
    // The fake pip is ours, and still sleeps.
    let killed = Command::new("kill").arg(pid.trim()).status().unwrap();
    assert!(killed.success());
    assert!(!project.part().exists());

    project
        .setup()
        .assert()
        .success()
        .stderr(contains("deleted what an interrupted set-up had left"));
    project.assert_ready();
}

fn wait_for(path: &std::path::Path) -> String {
    let start = Instant::now();
    loop {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ if start.elapsed() > Duration::from_secs(30) => panic!("no {}", path.display()),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[test]
fn two_runs_at_once_fetch_once() {
    let project = Project::new();
    let start = || {
        let mut command = project.setup();
        command.env("PIP_DOES", "slow").stderr(Stdio::piped());
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let runs = [start(), start()];
    let outputs = runs.map(|run| run.wait_with_output().unwrap());
    let mut waited = 0;
    for output in outputs {
        let text = String::from_utf8_lossy(&output.stderr);
        waited += usize::from(text.contains("waiting for it to end"));
        assert!(output.status.success(), "{text}");
    }
    assert_eq!(waited, 1);
    assert_eq!(project.downloads(), 2);
    project.assert_ready();
}

#[test]
fn what_pip_says_is_passed_on() {
    let project = Project::new();
    project
        .setup()
        .env("PIP_DOES", "fail")
        .assert()
        .code(1)
        .stderr(contains("pip could not fetch tiny 1.0"))
        .stderr(contains("ERROR: the mirror is down"));
    assert_eq!(project.native_names(), [".lock"]);
}

#[test]
fn without_python_the_command_that_mends_it_is_told() {
    let project = Project::new();
    fs::create_dir(project.path("empty")).unwrap();
    project
        .setup()
        .env("PATH", project.path("empty"))
        .assert()
        .code(1)
        .stderr(contains("python3 is missing"))
        .stderr(contains("then `cargo x setup` again"));
}

#[test]
fn without_pip_the_command_that_mends_it_is_told() {
    let project = Project::new();
    project.fake("python3", "[ \"$1\" = --version ] && echo Python 3.12.0");
    project
        .setup()
        .assert()
        .code(1)
        .stderr(contains("pip is missing"))
        .stderr(contains("run `"));
}

#[test]
fn too_little_room_is_told_before_fetching() {
    let project = Project::new();
    project.fake("df", "echo Filesystem; echo /dev/x 10 9 1 90% /");
    let pins = fs::read_to_string(project.path("ci/native.toml")).unwrap();
    let pins = pins.replace("unpacked_bytes = 10", "unpacked_bytes = 1000000");
    project.write("ci/native.toml", &pins);
    project
        .setup()
        .assert()
        .code(1)
        .stderr(contains("not enough room"))
        .stderr(contains("the disk has 1.02 kB free"));
    assert_eq!(project.downloads(), 0);
}

#[test]
fn a_libtorch_of_the_user_wins() {
    let project = Project::new();
    let mine = project.libtorch("2.11.0+cpu");
    project
        .setup()
        .env("LIBTORCH", &mine)
        .assert()
        .success()
        .stdout(contains("is yours and is used"));
    assert!(!project.path(".native").exists());
}

#[test]
fn a_libtorch_of_the_user_of_another_version_is_refused() {
    let project = Project::new();
    let mine = project.libtorch("2.10.0");
    project
        .setup()
        .env("LIBTORCH", &mine)
        .assert()
        .code(1)
        .stderr(contains("expected version 2.11.0, got 2.10.0"));
}

#[test]
fn the_projects_own_libtorch_in_the_environment_is_not_the_users() {
    let project = Project::new();
    project
        .setup()
        .env("LIBTORCH", project.part())
        .assert()
        .success();
    project.assert_ready();
}

#[test]
fn a_libtorch_of_the_user_helps_where_nothing_is_pinned() {
    let project = Project::new();
    let setup = || project.x(&["setup", "--platform", "linux-riscv64"]);
    setup()
        .assert()
        .code(1)
        .stderr(contains("no libtorch is pinned for linux-riscv64"));
    let mine = project.libtorch("2.11.0");
    setup().env("LIBTORCH", mine).assert().success();
}

#[test]
fn the_cpu_plugin_always_comes_and_another_by_its_flag() {
    let project = Project::new();
    project.pin_plugins();
    let plugin = |name: &str| project.path(&format!(".native/pjrt/{name}/{name}.so"));
    project
        .setup()
        .assert()
        .success()
        .stderr(contains(
            "tiny CPU plugin: .native/pjrt/cpu not there yet; 6 bytes when unpacked",
        ))
        .stderr(contains("fetching 3 wheels"))
        .stdout(contains("tiny CPU plugin: ready in .native/pjrt/cpu"));
    assert_eq!(fs::read_to_string(plugin("cpu")).unwrap(), "plugin");
    assert!(!plugin("tpu").exists());
    let mut with_tpu = project.setup();
    with_tpu
        .arg("--tpu")
        .assert()
        .success()
        .stdout(contains("tiny TPU plugin: ready in .native/pjrt/tpu"));
    assert_eq!(fs::read_to_string(plugin("tpu")).unwrap(), "plugin");
    assert_eq!(project.downloads(), 4);
}

#[test]
fn a_plugin_of_the_user_wins() {
    let project = Project::new();
    project.pin_plugins();
    project.write("mine/xla_cpu_pjrt.so", "");
    project
        .setup()
        .arg("--tpu")
        .env("PJRT_PLUGIN_LIBRARY_PATH", project.path("mine"))
        .assert()
        .success()
        .stdout(contains(
            "by PJRT_PLUGIN_LIBRARY_PATH is yours and is used; tiny CPU plugin is not fetched",
        ))
        .stdout(contains("tiny TPU plugin: ready"));
    assert!(!project.path(".native/pjrt/cpu").exists());
}

#[test]
fn the_engines_come_by_their_flag() {
    let project = Project::new();
    project.pin_engines();
    project.setup().assert().success();
    assert!(!project.path(".native/engines").exists());
    let mut engines = project.setup();
    engines
        .arg("--engines")
        .assert()
        .success()
        .stderr(contains("fetching 2 wheels"))
        .stdout(contains("tiny OpenVINO: ready in .native/engines/openvino"));
    for name in ["onnxruntime", "openvino"] {
        let library = project.path(&format!(".native/engines/{name}/lib{name}.so"));
        assert_eq!(fs::read_to_string(library).unwrap(), name);
    }
}

#[test]
fn an_engine_of_the_user_wins() {
    let project = Project::new();
    project.pin_engines();
    project.write("mine/libonnxruntime.so", "");
    let mut engines = project.setup();
    engines
        .arg("--engines")
        .env("ORT_DYLIB_PATH", project.path("mine/libonnxruntime.so"))
        .assert()
        .success()
        .stdout(contains(
            "by ORT_DYLIB_PATH is yours and is used; tiny ONNX Runtime is not fetched",
        ))
        .stdout(contains("tiny OpenVINO: ready"));
    assert!(!project.path(".native/engines/onnxruntime").exists());
}

#[test]
fn what_is_not_to_be_had_is_told_with_its_reason() {
    let project = Project::new();
    let pins = fs::read_to_string(project.path("ci/native.toml")).unwrap();
    let absent = |flag: &str, pjrt: &str| {
        format!(
            "[[absent]]\ntitle = \"a plugin\"\nplatform = \"test\"\n{flag}\
             pjrt = \"{pjrt}\"\nreason = \"nobody has made one for {pjrt}\"\n"
        )
    };
    let both = absent("", "cpu") + &absent("flag = \"tpu\"\n", "tpu");
    project.write("ci/native.toml", &format!("{pins}{both}"));
    project
        .setup()
        .assert()
        .success()
        .stdout(contains("a plugin: not here: nobody has made one for cpu"));
    project
        .setup()
        .arg("--tpu")
        .assert()
        .code(1)
        .stderr(contains(
            "nothing for --tpu on test: a plugin: nobody has made one for tpu",
        ));
    project
        .setup()
        .arg("--cuda")
        .assert()
        .code(1)
        .stderr(contains("ci/native.toml has nothing for --cuda on test"));
}

#[test]
fn a_wheel_that_would_write_elsewhere_is_refused() {
    let project = Project::new();
    let path = project.index().join("tiny-1.0-py3-none-any.whl");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    zip.start_file("../../../escape", options).unwrap();
    zip.finish().unwrap();
    let sum = Command::new("python3")
        .args([
            "-c",
            "import hashlib,sys;print(hashlib.sha256(open(sys.argv[1],'rb').read()).hexdigest())",
        ])
        .arg(&path)
        .output()
        .unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let pins = fs::read_to_string(project.path("ci/native.toml")).unwrap();
    let start = pins.find("sha256 = \"").unwrap() + "sha256 = \"".len();
    let old = pins[start..start + 64].to_owned();
    project.write("ci/native.toml", &pins.replace(&old, sum.trim()));
    project
        .setup()
        .assert()
        .code(1)
        .stderr(contains("holds an entry that is refused"));
    assert!(!project.path(".native/escape").exists());
    assert!(!project.path("escape").exists());
}
