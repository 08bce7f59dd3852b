//! The command line: flags, exit codes, files, signals, pipes.

mod program;

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command as Process},
    time::{Duration, Instant},
};

use predicates::prelude::*;
use program::{
    DIGITS, Finished, classify, finish, fixture, predictions, process, program, summary, wait_until,
};
use serde_json::Value;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_expected() {
    let cases: [(&[&str], &str); 14] = [
        (&[], "Usage: cpu-inference"),
        (&["fly"], "unrecognized subcommand 'fly'"),
        (&["run", "--fly"], "unexpected argument '--fly'"),
        (
            &["run", "--arch", "vgg16"],
            "expected resnet18, resnet34 or resnet50, got \"vgg16\"",
        ),
        (
            &["run", "--stem", "large"],
            "expected imagenet or small, got \"large\"",
        ),
        (
            &["run", "--rung", "top"],
            "expected one of eager, folded, channels-last",
        ),
        (
            &["run", "--dtype", "f64"],
            "expected f32, bf16 or f16, got \"f64\"",
        ),
        (
            &["run", "--device", "gpu"],
            "unknown device \"gpu\"; expected one of auto, cpu, cuda",
        ),
        (
            &["run", "--batch", "0"],
            "expected a batch size from 1 to 4096, got \"0\"",
        ),
        (
            &["run", "--threads", "0"],
            "expected a number of threads from 1 to 1024, got \"0\"",
        ),
        (&["run", "--count", "-1"], "unexpected argument '-1'"),
        (&["run", "--image", "7"], "7 is not in 8..=1024"),
        (
            &["run", "--data", "mnist"],
            "[possible values: digits, cifar10, synthetic]",
        ),
        (
            &["run", "--images", "a", "--data", "digits"],
            "cannot be used with",
        ),
    ];
    for (args, said) in cases {
        let run = finish(program().args(args));
        run.expect(2, &[said]);
        assert_eq!(run.stdout, "", "{args:?}");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let help = finish(program().arg("--help"));
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    for command in ["run", "ladder", "learn", "worker"] {
        assert!(
            help.stdout.contains(&format!("\n  {command} ")),
            "{}",
            help.stdout
        );
    }
    let version = finish(program().arg("--version"));
    let expected = format!("cpu-inference {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.code, version.stdout), (0, expected));
}

#[test]
fn a_device_that_is_not_there_ends_with_3() {
    let dir = folder();
    for device in ["cuda", "cuda:7", "tpu"] {
        let run = finish(
            program()
                .args(DIGITS)
                .args(["--device", device, "--out"])
                .arg(dir.path().join("out")),
        );
        run.expect(
            3,
            &[
                &format!("error: --device {device} is not available"),
                "use --device auto",
            ],
        );
    }
    assert!(!dir.path().join("out").exists(), "work began");
    for device in ["auto", "cpu"] {
        finish(
            program()
                .args(DIGITS)
                .args(["--device", device, "--out"])
                .arg(dir.path().join("out")),
        )
        .expect(0, &["device cpu"]);
    }
}

#[test]
fn an_announced_tpu_is_not_silently_replaced() {
    let dir = folder();
    let run = finish(
        program()
            .env("PJRT_DEVICE", "TPU")
            .args(DIGITS)
            .arg("--out")
            .arg(dir.path()),
    );
    // The exact choice is the shared crate's; what counts is that it is told.
    assert!(run.stderr.contains("TPU"), "{}", run.stderr);
    assert!([0, 3].contains(&run.code), "{}", run.code);
}

#[test]
fn json_is_one_object_that_adds_up() {
    let dir = folder();
    let run = finish(
        program()
            .args(DIGITS)
            .args(["--json", "--batch", "50", "--out"])
            .arg(dir.path()),
    );
    run.expect(0, &[]);
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.stdout);
    let said: Value = serde_json::from_str(&run.stdout).expect("JSON on stdout");
    assert_eq!(said, summary(dir.path()));

    assert_eq!(said["schema_version"], 1);
    assert_eq!(said["images_in"], 269);
    assert_eq!(said["images_predicted"], 269);
    assert_eq!(said["images_failed"], 0);
    assert_eq!(said["interrupted"], false);
    // 5 batches of 50 and one of 19; fewer images only if one had to wait a second.
    assert!(said["batches"].as_u64().unwrap() >= 6, "{said}");
    assert!(said["accuracy"].as_f64().unwrap() >= 0.97, "{said}");
    let number = |value: &Value| {
        value
            .as_f64()
            .unwrap_or_else(|| panic!("{value} in {said}"))
    };
    let rate = number(&said["images_in"]) / number(&said["seconds"]);
    assert!((number(&said["images_per_second"]) / rate - 1.0).abs() < 1e-9);
    let latency = &said["latency_seconds"];
    assert!(number(&latency["p50"]) > 0.0);
    assert!(number(&latency["p50"]) <= number(&latency["p95"]));
    assert!(number(&latency["p95"]) <= number(&latency["p99"]));
    let stages = said["stages"].as_object().unwrap();
    let names: Vec<&str> = stages.keys().map(String::as_str).collect();
    let expected = [
        "read",
        "decode",
        "resize",
        "normalise",
        "batch",
        "infer",
        "top-k",
        "write",
    ];
    assert_eq!(names, expected);
    let shares: f64 = stages.values().map(|stage| number(&stage["share"])).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");

    let lines = predictions(dir.path());
    assert_eq!(lines.len(), 269);
    let correct = lines
        .iter()
        .filter(|l| l["top"][0]["class"] == l["label"])
        .count();
    let accuracy = correct as f64 / 269.0;
    assert!((number(&said["accuracy"]) - accuracy).abs() < 1e-12);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["index"], index, "out of order");
        let top = line["top"].as_array().unwrap();
        assert_eq!(top.len(), 5);
        let probabilities: Vec<f64> = top.iter().map(|s| number(&s["probability"])).collect();
        assert!(probabilities.is_sorted_by(|a, b| a >= b), "{line}");
        assert!(probabilities.iter().sum::<f64>() <= 1.0 + 1e-5, "{line}");
    }
}

#[test]
fn the_result_file_is_valid_and_agrees_with_the_summary() {
    let dir = folder();
    finish(program().args(DIGITS).arg("--out").arg(dir.path())).expect(0, &[]);
    let file = accel::results::ResultFile::read(dir.path().join("result.json")).unwrap();
    assert_eq!(
        (file.chapter.as_str(), file.measurement.as_str()),
        ("01-cpu", "run")
    );
    let summary = summary(dir.path());
    let pipeline = file.row("pipeline").expect("the row of the pipeline");
    assert_eq!(pipeline.metrics["images"], 269.0);
    assert_eq!(
        Some(pipeline.metrics["accuracy"]),
        summary["accuracy"].as_f64()
    );
    assert_eq!(pipeline.workload["arch"], "resnet18");
    let latency = file.row("latency").expect("the row of latencies");
    assert_eq!(
        latency.samples.as_ref().expect("samples").seconds.len(),
        269
    );
    assert!(file.row("bare-model").is_some());
}

#[test]
fn order_is_the_sorted_order_of_the_folder_and_subfolders_are_labels() {
    let dir = folder();
    let images = dir.path().join("images");
    let mut names = vec![];
    for class in ["0", "8", "no-class"] {
        fs::create_dir_all(images.join(class)).unwrap();
        for index in 0..10 {
            let name = format!("{class}/{index:02}.png");
            // Some take long to decode, some are bad.
            let fixture_name = ["wide.png", "one-pixel.png", "grey.png"][index % 3];
            if index == 4 {
                fs::write(images.join(&name), "bad").unwrap();
            } else {
                fs::copy(fixture(fixture_name), images.join(&name)).unwrap();
            }
            names.push(name);
        }
    }
    let out = dir.path().join("out");
    let run = finish(
        program()
            .args(DIGITS)
            .args([
                "--repeat",
                "3",
                "--batch",
                "4",
                "--decoders",
                "6",
                "--images",
            ])
            .arg(&images)
            .arg("--out")
            .arg(&out),
    );
    run.expect(1, &["warning: 0/04.png: ", "warning: no-class/04.png: "]);
    let lines = predictions(&out);
    let got: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["input"].as_str())
        .collect();
    let thrice: Vec<&str> = (0..3).flat_map(|_| &names).map(String::as_str).collect();
    assert_eq!(got, thrice);
    for line in &lines {
        let class = line["input"].as_str().unwrap().split('/').next().unwrap();
        let expected = class.parse::<u64>().ok();
        assert_eq!(
            line.get("label").and_then(Value::as_u64),
            expected,
            "{line}"
        );
    }
    let summary = summary(&out);
    assert_eq!(
        (&summary["images_in"], &summary["images_failed"]),
        (&90.into(), &9.into())
    );
    // Labels count where there is a prediction: two classes, nine pictures, three times.
    assert_eq!(summary["labelled"], 54);
}

#[test]
fn batches_are_cut_by_size_and_by_pixels() {
    let dir = folder();
    // 64 values an image; the time to wait is longer than the run.
    for (flags, batches) in [
        (["--batch", "1"], 100),
        (["--batch", "30"], 4),
        (["--max-batch-pixels", "640"], 10),
        (["--max-batch-pixels", "1"], 100),
    ] {
        finish(
            program()
                .args(DIGITS)
                .args(["--count", "100", "--max-wait-ms", "100000", "--out"])
                .arg(dir.path())
                .args(flags),
        )
        .expect(0, &[]);
        assert_eq!(summary(dir.path())["batches"], batches, "{flags:?}");
        assert_eq!(predictions(dir.path()).len(), 100, "{flags:?}");
    }
}

#[test]
fn extreme_numbers_are_taken_or_refused_but_never_a_panic() {
    let dir = folder();
    let most = u64::MAX.to_string();
    for flags in [
        ["--max-wait-ms", &most],
        ["--max-wait-ms", "0"],
        ["--max-batch-pixels", &most],
        ["--top-k", "1000000000"],
        ["--decoders", "1024"],
        ["--seed", &most],
    ] {
        finish(
            program()
                .args(DIGITS)
                .args(["--count", "40", "--out"])
                .arg(dir.path())
                .args(flags),
        )
        .expect(0, &[]);
        assert_eq!(summary(dir.path())["images_predicted"], 40, "{flags:?}");
    }
    for line in predictions(dir.path()) {
        assert_eq!(line["top"].as_array().map(Vec::len), Some(5));
    }
}

#[test]
fn a_dry_run_fetches_nothing_and_goes_the_whole_way() {
    let dir = folder();
    let out = dir.path().join("out");
    let run = finish(
        program()
            .env("HF_ENDPOINT", "http://127.0.0.1:1")
            .args(["run", "--dry-run", "--arch", "resnet18", "--image", "32"])
            .args(["--batch", "2", "--images", "no/such/folder", "--out"])
            .arg(&out),
    );
    run.expect(0, &["random weights", "synthetic pictures"]);
    let summary = summary(&out);
    assert_eq!(summary["images_predicted"], 4);
    assert_eq!(predictions(&out).len(), 4);
    assert!(summary["accuracy"].is_null(), "{summary}");
}

#[test]
fn quiet_says_nothing_but_warnings() {
    let dir = folder();
    let run = finish(
        program()
            .args(DIGITS)
            .args(["--quiet", "--out"])
            .arg(dir.path().join("out")),
    );
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));

    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    fs::write(images.join("bad.jpg"), "bad").unwrap();
    let run = finish(
        program()
            .args(DIGITS)
            .args(["--quiet", "--images"])
            .arg(&images)
            .arg("--out")
            .arg(dir.path().join("out")),
    );
    run.expect(1, &[]);
    assert_eq!(
        run.stderr,
        "warning: bad.jpg: neither a JPEG nor a PNG: it begins with 626164; skipped\n"
    );
}

#[test]
fn the_same_seed_gives_the_same_predictions() {
    let dir = folder();
    let run = |seed: &str| {
        finish(
            program()
                .args(DIGITS)
                .args(["--data", "synthetic", "--count", "20", "--threads", "1"])
                .args(["--seed", seed, "--out"])
                .arg(dir.path()),
        )
        .expect(0, &[]);
        predictions(dir.path())
    };
    let first = run("1");
    assert_eq!(first.len(), 20);
    assert_eq!(first, run("1"));
    assert_ne!(first, run("2"));
}

#[test]
fn weights_from_a_hub_that_does_not_answer() {
    let dir = folder();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    fs::copy(fixture("colour.jpg"), images.join("a.jpg")).unwrap();
    // A port that was free a moment ago, and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a local port")
        .port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let start = Instant::now();
    let run = |endpoint: &str| {
        finish(
            program()
                .env("HF_ENDPOINT", endpoint)
                .env("HF_HOME", dir.path().join("hub"))
                .args([
                    "run",
                    "--arch",
                    "resnet18",
                    "--weights",
                    "imagenet",
                    "--images",
                ])
                .arg(&images)
                .arg("--out")
                .arg(dir.path().join("out")),
        )
    };
    run(&endpoint).expect(
        1,
        &[
            &format!("error: cannot reach {endpoint}/timm/resnet18.tv_in1k/"),
            "HF_ENDPOINT",
            "--weights FILE",
        ],
    );
    assert!(start.elapsed() < Duration::from_secs(30));
    run("localhost").expect(
        1,
        &[
            "expected an address that begins with http://",
            "HF_ENDPOINT",
            "--weights FILE",
        ],
    );
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_is_success() {
    for flags in [&["--json"][..], &[][..]] {
        let dir = folder();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = process()
            .args(DIGITS)
            .args(flags)
            .arg("--out")
            .arg(dir.path())
            .stdout(writer)
            .output()
            .unwrap();
        let run = Finished::new(output.status, &[], &output.stderr);
        run.expect(0, &[]);
        assert!(!run.stderr.contains("error"), "{}", run.stderr);
        assert_eq!(summary(dir.path())["images_in"], 269);
    }
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_on_stderr_is_no_panic_and_no_failure() {
    let dir = folder();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    fs::copy(fixture("colour.jpg"), images.join("a.jpg")).unwrap();
    fs::write(images.join("bad.jpg"), "bad").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = process()
        .args(DIGITS)
        .arg("--images")
        .arg(&images)
        .arg("--out")
        .arg(dir.path().join("out"))
        .stderr(writer)
        .output()
        .unwrap();
    // The bad picture's 1; a panic would be 101.
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(predictions(&dir.path().join("out")).len(), 2);
}

/// `kill -INT`, as Ctrl-C sends it.
#[cfg(unix)]
fn interrupt(child: &Child) {
    let sent = Process::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .expect("kill");
    assert!(sent.success());
}

/// Waits until the run has written so many bytes of predictions.
#[cfg(unix)]
fn wait_for_predictions(out: &Path, bytes: u64) {
    let file = out.join("predictions.jsonl");
    wait_until("predictions", || {
        fs::metadata(&file).is_ok_and(|file| file.len() >= bytes)
    });
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_in_order_with_130() {
    let dir = folder();
    let child = process()
        .args(DIGITS)
        .args([
            "--data",
            "synthetic",
            "--count",
            "100000000",
            "--json",
            "--out",
        ])
        .arg(dir.path())
        .spawn()
        .unwrap();
    wait_for_predictions(dir.path(), 50_000);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let run = Finished::new(output.status, &output.stdout, &output.stderr);
    run.expect(130, &[]);
    // Whole lines, as many as the summary says, and as went in.
    let lines = predictions(dir.path());
    let summary = summary(dir.path());
    assert_eq!(summary["interrupted"], true);
    assert_eq!(summary["images_in"], lines.len());
    assert_eq!(summary["images_predicted"], lines.len());
    assert!(lines.len() > 100);
    assert_eq!(lines.last().unwrap()["index"], lines.len() - 1);
    let said: Value = serde_json::from_str(&run.stdout).expect("the summary on stdout");
    assert_eq!(said, summary);
    accel::results::ResultFile::read(dir.path().join("result.json")).expect("a result file");
}

#[cfg(unix)]
#[test]
fn ctrl_c_twice_ends_at_once() {
    let dir = folder();
    // Batches of about a second: several are under way at the first signal.
    let child = process()
        .args([
            "run",
            "--data",
            "synthetic",
            "--arch",
            "resnet18",
            "--weights",
            "random",
        ])
        .args([
            "--image", "224", "--batch", "16", "--count", "1000000", "--quick", "--out",
        ])
        .arg(dir.path())
        .spawn()
        .unwrap();
    wait_for_predictions(dir.path(), 1);
    interrupt(&child);
    std::thread::sleep(Duration::from_millis(100));
    interrupt(&child);
    let start = Instant::now();
    let output = child.wait_with_output().unwrap();
    Finished::new(output.status, &output.stdout, &output.stderr).expect(130, &[]);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert!(!predictions(dir.path()).is_empty());
    assert!(
        !dir.path().join("summary.json").exists(),
        "the stream was drained before the second signal: make the batches larger"
    );
}

#[test]
fn a_run_replaces_the_files_of_the_last_one() {
    let dir = folder();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    for name in ["a.png", "b.png"] {
        fs::copy(fixture("grey.png"), images.join(name)).unwrap();
    }
    let out = dir.path().join("deep/er/out");
    classify(&images, &out).expect(0, &[]);
    assert_eq!(predictions(&out).len(), 2);
    fs::remove_file(images.join("b.png")).unwrap();
    classify(&images, &out).expect(0, &[]);
    assert_eq!(predictions(&out).len(), 1);
    assert_eq!(summary(&out)["images_in"], 1);
}

#[test]
fn the_worker_answers_bad_requests_and_goes_on() {
    let requests = concat!(
        "not json\n",
        "{\"run\": {\"warmup\": 0, \"samples\": 1}}\n",
        "{\"load\": {\"engine\": \"onnx\", \"arch\": \"resnet18\", \"stem\": \"small\", \
          \"image\": 32, \"batch\": 1, \"dtype\": \"f32\", \"threads\": 1, \"weights\": null}}\n",
        "{\"load\": {\"engine\": \"tch-folded\", \"arch\": \"resnet18\", \"stem\": \"small\", \
          \"image\": 32, \"batch\": 1, \"dtype\": \"f32\", \"threads\": 1, \
          \"weights\": \"no/such/file.safetensors\"}}\n",
        "{\"logits\": {\"input\": \"no/such/file.safetensors\"}}\n",
    );
    let run = finish(program().arg("worker").write_stdin(requests));
    run.expect(0, &[]);
    let answers: Vec<Value> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("an answer is JSON"))
        .collect();
    let expected = [
        "expected {\"load\"|\"run\"|\"logits\": {...}}",
        "load a model first",
        "expected an engine tch-<rung>, got \"onnx\"",
        "no/such/file.safetensors: no such checkpoint",
        "load a model first",
    ];
    assert_eq!(answers.len(), expected.len(), "{answers:?}");
    for (answer, said) in answers.iter().zip(expected) {
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(predicate::str::contains(said).eval(error), "{answer}");
    }
}

#[test]
fn the_ladder_writes_where_it_was_told_or_says_why_not() {
    let dir = folder();
    let file = dir.path().join("in-the-way");
    File::create(&file).unwrap();
    let run = finish(
        program()
            .args([
                "ladder",
                "--weights",
                "digits",
                "--quick",
                "--rounds",
                "1",
                "--out",
            ])
            .arg(file.join("ladder.json")),
    );
    assert!([1, 2].contains(&run.code), "{run:?}");
    run.expect(run.code, &["error: ", "in-the-way"]);
}
