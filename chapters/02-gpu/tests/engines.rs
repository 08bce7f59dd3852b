//! The other engines through the program: files, rows, libraries that are missing or wrong.

mod program;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use accel::results::{ResultFile, Row, Status};
use libtest_mimic::{Arguments, Failed, Trial};
use program::{finish, program};

/// Seconds of a test, not minutes.
const QUICK: [&str; 8] = [
    "engines",
    "--weights",
    "digits",
    "--batch",
    "2",
    "--device",
    "cpu",
    "--quick",
];

fn main() -> ExitCode {
    let onnx_runtime = (
        "needs: ONNX Runtime; cargo x setup --engines",
        inference_engines::onnx_runtime::load().is_ok(),
    );
    let openvino = (
        "needs: OpenVINO; cargo x setup --engines",
        inference_engines::openvino::load().is_ok(),
    );
    let compiler = (
        "needs: a C++ compiler; apt-get install g++",
        compiler().is_some(),
    );
    let nothing = ("", true);
    let both = match onnx_runtime.1 {
        true => openvino,
        false => onnx_runtime,
    };
    type Test = (&'static str, (&'static str, bool), fn());
    let tests: Vec<Test> = vec![
        ("export_writes_a_file_and_says_what_it_is", nothing, export),
        (
            "export_refuses_what_it_cannot_write",
            nothing,
            export_refuses,
        ),
        ("unknown_names_are_wrong_usage", nothing, unknown_names),
        (
            "libtorch_alone_needs_no_other_library",
            nothing,
            libtorch_alone,
        ),
        ("a_missing_library_ends_with_3", nothing, a_missing_library),
        (
            "a_library_of_the_wrong_version_ends_with_3",
            compiler,
            the_wrong_version,
        ),
        ("another_library_ends_with_3", nothing, another_library),
        ("every_cell_of_the_table_has_a_row", both, every_cell),
        ("a_corrupt_file_ends_with_2", both, a_corrupt_file),
        ("the_worker_serves_the_engines", both, the_worker),
    ];
    let trial = |(name, (reason, here), test): Test| {
        let run = move || match here {
            true => {
                test();
                Ok(())
            }
            // Asked for by --ignored.
            false => Err(Failed::from(reason)),
        };
        match here {
            true => Trial::test(name, run),
            false => Trial::test(name, run)
                .with_ignored_flag(true)
                .with_kind(reason),
        }
    };
    let arguments = Arguments::from_args();
    libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect()).exit_code()
}

/// The C++ compiler: `CXX`, or the first one here.
fn compiler() -> Option<PathBuf> {
    let named = env::var_os("CXX").map(PathBuf::from);
    let usual = ["c++", "g++", "clang++"].map(PathBuf::from);
    let works = |compiler: &PathBuf| {
        let output = Command::new(compiler).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    };
    named.into_iter().chain(usual).find(works)
}

/// Compiles a file of `tests/fake/` to a shared library.
fn fake(source: &str, library: &Path) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake");
    let output = Command::new(compiler().unwrap())
        .args(["-std=c++17", "-shared", "-fPIC", "-o"])
        .arg(library)
        .arg(tests.join(source))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

fn export() {
    let folder = tempfile::tempdir().unwrap();
    let mut sizes = vec![];
    for dtype in ["f32", "f16", "bf16", "int8"] {
        let path = folder.path().join(format!("{dtype}.onnx"));
        let done = finish(
            program()
                .args(["export", "--weights", "digits", "--json", "--quiet"])
                .args(["--dtype", dtype, "--out"])
                .arg(&path),
        );
        done.expect(0, &[]);
        assert_eq!(done.stderr, "", "--quiet");
        let said: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert_eq!(said["bytes"], bytes);
        assert_eq!(said["dtype"], dtype);
        sizes.push(bytes);
    }
    assert!(sizes[1] < sizes[0] && sizes[3] < sizes[2], "{sizes:?}");
    // As the peers call it: the same bytes by another way.
    let path = folder.path().join("short.onnx");
    let done = finish(
        program()
            .args(["export", "--weights", "digits", "--int8", "--out"])
            .arg(&path),
    );
    done.expect(0, &["512 training digits"]);
    assert!(done.stdout.contains("int8"), "{}", done.stdout);
    let long = std::fs::read(folder.path().join("int8.onnx")).unwrap();
    assert!(std::fs::read(&path).unwrap() == long);
}

fn export_refuses() {
    finish(program().args(["export", "--weights", "digits", "--out", "/nowhere/x.onnx"]))
        .expect(1, &["cannot write /nowhere/x.onnx"]);
    finish(program().args([
        "export",
        "--weights",
        "no-such-file.safetensors",
        "--out",
        "x.onnx",
    ]))
    .expect(2, &["no-such-file.safetensors"]);
    finish(program().args([
        "export",
        "--weights",
        "digits",
        "--dtype",
        "f8",
        "--out",
        "x.onnx",
    ]))
    .expect(2, &["expected f32, bf16, f16 or int8"]);
    finish(program().args([
        "export",
        "--weights",
        "digits",
        "--marks",
        "me",
        "--out",
        "x.onnx",
    ]))
    .expect(2, &["expected cpu or tensorrt"]);
}

fn unknown_names() {
    finish(program().args(QUICK).args(["--engines", "caffe"]))
        .expect(2, &["expected one of tch-prepacked", "\"caffe\""]);
    finish(program().args(QUICK).args(["--dtypes", "fp4"])).expect(2, &["\"fp4\""]);
}

fn row<'a>(file: &'a ResultFile, id: &str) -> &'a Row {
    file.row(id).unwrap_or_else(|| panic!("no row {id}"))
}

fn libtorch_alone() {
    let done = finish(
        program()
            .env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")
            .env("OPENVINO_INSTALL_DIR", "/nowhere")
            .args(QUICK)
            .args(["--dtypes", "f32", "--json", "--quiet"]),
    );
    let file = done.result();
    let tch = row(&file, "tch-streams-f32-cpu-b2");
    assert_eq!(tch.status, Status::Ok);
    assert!(tch.metrics["logit_max_relative_difference"] < 1e-4);
    assert!(tch.metrics["digits_accuracy"] > 0.95);
    for (id, variable) in [
        ("onnxruntime-f32-cpu-b2", "ORT_DYLIB_PATH"),
        ("openvino-f32-cpu-b2", "OPENVINO_INSTALL_DIR"),
    ] {
        let missing = row(&file, id);
        assert_eq!(missing.status, Status::Skipped);
        let reason = missing.reason.as_deref().unwrap();
        for part in ["cargo x setup --engines", variable] {
            assert!(reason.contains(part), "{part} in {reason}");
        }
        assert!(!reason.contains("/nowhere"), "{reason}");
    }
}

/// Runs the one engine of a library that cannot be used: every row is left out.
fn ends_with_3(variable: &str, value: &Path, engine: &str, said: &[&str]) {
    let done = finish(program().env(variable, value).args(QUICK).args([
        "--dtypes",
        "f32",
        "--engines",
        engine,
    ]));
    done.expect(3, &["nothing was measured"]);
    for part in said {
        assert!(done.stdout.contains(part), "no {part:?} in {}", done.stdout);
    }
    assert!(!done.stderr.contains("RUST_BACKTRACE"), "{}", done.stderr);
}

fn a_missing_library() {
    let nowhere = Path::new("/nowhere/libonnxruntime.so");
    ends_with_3(
        "ORT_DYLIB_PATH",
        nowhere,
        "onnxruntime",
        &["cargo x setup --engines"],
    );
    let nowhere = Path::new("/nowhere");
    ends_with_3(
        "OPENVINO_INSTALL_DIR",
        nowhere,
        "openvino",
        &["cargo x setup --engines"],
    );
}

fn the_wrong_version() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libonnxruntime.so");
    fake("onnxruntime.cpp", &library);
    let said = ["expected version >= '1.22.x'", "'1.4.0'"];
    ends_with_3("ORT_DYLIB_PATH", &library, "onnxruntime", &said);
    // Where openvino-finder looks below an installation.
    let place = folder.path().join("runtime/lib/intel64");
    std::fs::create_dir_all(&place).unwrap();
    fake("openvino_c.cpp", &place.join("libopenvino_c.so"));
    let said = ["too old", "2024.0.0"];
    ends_with_3("OPENVINO_INSTALL_DIR", folder.path(), "openvino", &said);
}

fn another_library() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libonnxruntime.so");
    std::fs::write(&library, "no library at all").unwrap();
    ends_with_3(
        "ORT_DYLIB_PATH",
        &library,
        "onnxruntime",
        &["libonnxruntime.so"],
    );
}

fn every_cell() {
    let done = finish(program().args(QUICK).args(["--json"]));
    let file = done.result();
    let of = |family: &str, dtype: &str, device: &str| -> Vec<&Row> {
        let is = |row: &Row, name: &str, value: &str| row.workload[name] == value;
        let rows = file.rows.iter();
        rows.filter(|r| is(r, "family", family) && is(r, "dtype", dtype) && is(r, "device", device))
            .collect()
    };
    for family in ["tch", "ONNX Runtime", "OpenVINO", "TensorRT"] {
        for dtype in ["f32", "bf16", "int8"] {
            let cpu = of(family, dtype, "cpu");
            assert!(!cpu.is_empty(), "{family} {dtype}");
            for row in of(family, dtype, "cuda") {
                assert_eq!(row.status, Status::Skipped, "{}", row.id);
            }
        }
    }
    // All that this machine can do was done, and right.
    for row in &file.rows {
        assert_ne!(row.status, Status::Failed, "{}: {:?}", row.id, row.reason);
    }
    for id in [
        "onnxruntime-f32-cpu-b2",
        "onnxruntime-int8-cpu-b2",
        "openvino-f32-cpu-b2",
        "openvino-int8-cpu-b2",
        "openvino-streams-f32-cpu-b2",
    ] {
        let row = row(&file, id);
        assert_eq!(row.status, Status::Ok, "{id}: {:?}", row.reason);
        assert!(row.metrics["digits_accuracy"] > 0.95, "{id}");
    }
    let gpu = row(&file, "tensorrt-int8-cuda-b2")
        .reason
        .as_deref()
        .unwrap();
    assert!(gpu.contains("gpu-inference engines --device cuda"), "{gpu}");
    let libraries = &file.environment.libraries;
    assert!(libraries["openvino"].starts_with("20"), "{libraries:?}");
    assert!(libraries["onnxruntime"].starts_with("1."), "{libraries:?}");
}

fn a_corrupt_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.onnx");
    std::fs::write(&path, [0; 100]).unwrap();
    for engine in ["onnxruntime", "openvino"] {
        finish(
            program()
                .args(QUICK)
                .args(["--dtypes", "f32", "--engines", engine, "--onnx"])
                .arg(&path),
        )
        .expect(2, &["broken.onnx", "gpu-inference export"]);
    }
}

fn the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let int8 = folder.path().join("int8.onnx");
    finish(
        program()
            .args([
                "export", "--arch", "resnet18", "--image", "32", "--int8", "--out",
            ])
            .arg(&int8),
    )
    .expect(0, &[]);
    let load = |engine: &str, dtype: &str, onnx: Option<&Path>| {
        serde_json::json!({"load": {
            "engine": engine, "arch": "resnet18", "stem": "imagenet", "image": 32, "batch": 2,
            "dtype": dtype, "threads": 2, "weights": null, "device": "cpu", "onnx": onnx,
        }})
        .to_string()
    };
    let run = r#"{"run": {"warmup": 1, "samples": 2}}"#.to_owned();
    let lines = [
        load("onnxruntime", "f32", None),
        run.clone(),
        load("openvino", "int8", Some(&int8)),
        run,
        load("tensorrt", "f32", None),
        load("caffe", "f32", None),
        load("onnxruntime", "f32", Some(&folder.path().join("none.onnx"))),
    ];
    let done = finish(program().arg("worker").write_stdin(lines.join("\n") + "\n"));
    done.expect(0, &[]);
    let answers: Vec<serde_json::Value> = done
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), 7, "{}", done.stdout);
    for (loaded, ran) in [(0, 1), (2, 3)] {
        let library = &answers[loaded]["loaded"]["settings"]["library"];
        assert!(library.is_string(), "{}", answers[loaded]);
        assert_eq!(answers[ran]["seconds"].as_array().unwrap().len(), 2);
    }
    assert_eq!(answers[4]["unsupported"], true, "{}", answers[4]);
    for at in [5, 6] {
        assert!(answers[at]["error"].is_string(), "{}", answers[at]);
        assert!(answers[at]["unsupported"].is_null(), "{}", answers[at]);
    }
}
