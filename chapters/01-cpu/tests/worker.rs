//! The worker's protocol: one JSON object a line in, one a line out.

#[path = "reference/logits.rs"]
mod reference;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use cpu_inference::resnet::{
    config::{Arch, Stem},
    seeded,
};
use datasets::checkpoint::{self, Description, Dtype};
use reference::{Case, F32, Reference, rounding};
use serde_json::{Value, json};

/// The running program.
struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cpu-inference"))
            .arg("worker")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Worker {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn ask_bytes(&mut self, line: &[u8]) -> Value {
        self.stdin.write_all(line).unwrap();
        self.stdin.write_all(b"\n").unwrap();
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).unwrap();
        assert!(
            answer.ends_with('\n'),
            "no answer to {}",
            String::from_utf8_lossy(line)
        );
        serde_json::from_str(&answer).unwrap()
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.ask_bytes(request.to_string().as_bytes())
    }

    /// Closes the input: nothing more may come, and the exit code must be 0.
    fn end(mut self) {
        drop(self.stdin);
        let mut rest = String::new();
        self.stdout.read_line(&mut rest).unwrap();
        assert_eq!(rest, "");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

/// A request that loads ResNet-18 with the ImageNet stem for 64x64 pixels.
fn load() -> Value {
    json!({"load": {
        "engine": "tch-folded", "arch": "resnet18", "stem": "imagenet", "image": 64,
        "batch": 2, "dtype": "f32", "threads": 2, "weights": null,
    }})
}

fn load_with(changes: Value) -> Value {
    let mut request = load();
    for (key, value) in changes.as_object().unwrap() {
        request["load"][key] = value.clone();
    }
    request
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Writes one seeded tensor as a file that `logits` takes.
fn write_input(folder: &Path, name: &str, shape: &[usize]) -> PathBuf {
    let path = folder.join(format!("{name}.safetensors"));
    let bytes = little_endian(&seeded::tensor(0, "input", shape));
    let tensors = [(name.to_owned(), shape.to_vec(), Dtype::F32, bytes)];
    checkpoint::write(&path, &tensors, &Description::default(), &BTreeMap::new()).unwrap();
    path
}

fn assert_reference(answer: &Value, case: &Case) {
    let rows: Vec<Vec<f32>> = serde_json::from_value(answer["logits"].clone())
        .unwrap_or_else(|error| panic!("{error}: {answer}"));
    let difference = case.difference(rows.iter().map(Vec::as_slice));
    let bound = rounding(case.arch, F32);
    assert!(difference <= bound, "{difference:e} > {bound:e}");
}

fn assert_error(answer: &Value, says: &str) {
    let error = answer["error"].as_str();
    assert!(
        error.is_some_and(|e| e.contains(says)),
        "expected {says:?}, got {answer}"
    );
    assert!(answer.get("unsupported").is_none(), "{answer}");
}

#[test]
fn load_run_and_logits_give_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let reference = Reference::read();
    let case = reference.case(Arch::Resnet18, Stem::Imagenet);
    let input = write_input(folder.path(), "input", &case.input_shape);
    let mut worker = Worker::start();
    for engine in [
        "tch-folded",
        "tch-channels-last",
        "tch-prepacked",
        "tch-streams",
    ] {
        let answer = worker.ask(&load_with(json!({ "engine": engine })));
        let loaded = &answer["loaded"];
        assert!(
            loaded["seconds"].as_f64().is_some_and(|s| s > 0.0),
            "{answer}"
        );
        assert!(loaded["versions"]["libtorch"].is_string(), "{answer}");

        let answer = worker.ask(&json!({"run": {"warmup": 1, "samples": 3}}));
        let seconds: Vec<f64> = serde_json::from_value(answer["seconds"].clone()).unwrap();
        assert_eq!(seconds.len(), 3, "{engine}: warm-up is not counted");
        assert!(seconds.iter().all(|s| *s > 0.0), "{engine}: {seconds:?}");

        let answer = worker.ask(&json!({"logits": {"input": &input}}));
        assert_reference(&answer, case);
    }
    worker.end();
}

#[test]
fn weights_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let reference = Reference::read();
    let case = reference.case(Arch::Resnet18, Stem::Small);
    let weights = folder.path().join("weights.safetensors");
    let specs = case.config().specs();
    let tensors: Vec<_> = specs
        .into_iter()
        .filter(|spec| !spec.optional)
        .map(|spec| {
            let values = seeded::tensor(reference.seed, &spec.name, &spec.shape);
            (spec.name, spec.shape, spec.dtype, little_endian(&values))
        })
        .collect();
    checkpoint::write(
        &weights,
        &tensors,
        &Description::default(),
        &BTreeMap::new(),
    )
    .unwrap();

    let input = write_input(folder.path(), "input", &case.input_shape);
    let mut worker = Worker::start();
    let answer = worker.ask(&load_with(json!({
        "engine": "tch-trimmed", "stem": "small", "image": 32, "weights": weights,
    })));
    assert!(answer.get("loaded").is_some(), "{answer}");
    assert_reference(&worker.ask(&json!({"logits": {"input": &input}})), case);
    worker.end();
}

#[test]
fn a_bad_request_is_answered_and_the_worker_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let small = write_input(folder.path(), "input", &[2, 3, 32, 32]);
    let other_name = write_input(folder.path(), "image", &[2, 3, 64, 64]);
    let flat = folder.path().join("flat");
    std::fs::create_dir(&flat).unwrap();
    let flat = write_input(&flat, "input", &[2, 3 * 64 * 64]);
    std::fs::write(path("text.safetensors"), "not a checkpoint").unwrap();
    let input = |path: &Path| json!({"logits": {"input": path}});

    let mut worker = Worker::start();
    // Before a model is there.
    assert_error(
        &worker.ask(&json!({"run": {"warmup": 0, "samples": 1}})),
        "load a model first",
    );
    assert_error(&worker.ask(&input(&small)), "load a model first");

    for garbage in [
        &b"garbage"[..],
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xFF\xFE",
        b"{\"sing\": {}}",
    ] {
        assert_error(
            &worker.ask_bytes(garbage),
            "expected {\"load\"|\"run\"|\"logits\": {...}}",
        );
    }
    for (changes, says) in [
        (
            json!({"engine": "onnxruntime"}),
            "expected an engine tch-<rung>, got \"onnxruntime\"",
        ),
        (
            json!({"engine": "tch-warp"}),
            "expected one of eager, folded, channels-last, ",
        ),
        (
            json!({"arch": "resnet1000"}),
            "unknown variant `resnet1000`",
        ),
        (
            json!({"dtype": "int8"}),
            "expected f32, bf16 or f16, got \"int8\"",
        ),
        (
            json!({"device": "gpu"}),
            "unknown device \"gpu\"; expected one of auto, cpu",
        ),
        (
            json!({"weights": path("missing.safetensors")}),
            "missing.safetensors",
        ),
        (
            json!({"weights": path("text.safetensors")}),
            "text.safetensors",
        ),
        (json!({"weights": small}), "conv1.weight"),
        (json!({"batch": 0}), "batch: expected 1 to 4096, got 0"),
        (json!({"batch": 1_000_000_000}), "batch: expected 1 to 4096"),
        (
            json!({"image": 4_294_967_295_u32}),
            "image: expected 8 to 1024",
        ),
        (json!({"threads": 0}), "threads: expected 1 to 1024, got 0"),
    ] {
        assert_error(&worker.ask(&load_with(changes)), says);
    }
    // A load that failed leaves no model behind.
    assert_error(
        &worker.ask(&json!({"run": {"warmup": 0, "samples": 1}})),
        "load a model first",
    );

    let answer = worker.ask(&load());
    assert!(answer.get("loaded").is_some(), "{answer}");
    assert_error(
        &worker.ask(&input(&small)),
        "expected images of [3, 64, 64]",
    );
    assert_error(&worker.ask(&input(&flat)), "expected 4 dimensions (NCHW)");
    assert_error(&worker.ask(&input(&other_name)), "no tensor \"input\"");
    assert_error(&worker.ask(&input(&path("missing"))), "missing");
    let most = u64::MAX;
    assert_error(
        &worker.ask(&json!({"run": {"warmup": most, "samples": most}})),
        "warmup",
    );

    // And the model is still there.
    let good = write_input(folder.path(), "input", &[2, 3, 64, 64]);
    let answer = worker.ask(&input(&good));
    assert_reference(
        &answer,
        Reference::read().case(Arch::Resnet18, Stem::Imagenet),
    );
    worker.end();
}

// oneDNN can be told to forget AVX-512, which its bf16 needs on x86-64: so a CPU
// without it is played on one that has it.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_rung_that_the_cpu_lacks_is_unsupported_and_not_a_crash() {
    let mut worker = Worker::start_with(&[("ONEDNN_MAX_CPU_ISA", "AVX2")]);
    for rung in ["prepacked", "streams"] {
        let engine = format!("tch-{rung}");
        let answer = worker.ask(&load_with(json!({"engine": engine, "dtype": "bf16"})));
        assert_eq!(answer["unsupported"], true, "{answer}");
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains(rung) && error.contains("bf16"), "{answer}");
    }

    let answer = worker.ask(&load());
    assert!(answer.get("loaded").is_some(), "{answer}");
    worker.end();
}

#[test]
fn a_device_that_is_not_there_is_unsupported_and_named() {
    let mut worker = Worker::start();
    let answer = worker.ask(&load_with(json!({"device": "cuda:0"})));
    assert_eq!(answer["unsupported"], true, "{answer}");
    let error = answer["error"].to_string();
    assert!(
        error.contains("--device cuda:0 is not available"),
        "{answer}"
    );
    let answer = worker.ask(&load_with(json!({"engine": "tch-fused"})));
    assert_eq!(answer["unsupported"], true, "{answer}");
    let error = answer["error"].to_string();
    assert!(error.contains("need a CUDA device"), "{answer}");

    let answer = worker.ask(&load());
    assert_eq!(answer["loaded"]["settings"]["device"], "cpu", "{answer}");
    worker.end();
}
