//! The worker's protocol where it differs from chapter 1's: devices and feeds.

mod program;

use program::{finish, program};
use serde_json::{Value, json};

fn load(changes: Value) -> Value {
    let mut load = json!({
        "engine": "tch-channels-last", "arch": "resnet18", "stem": "small", "image": 8,
        "batch": 4, "dtype": "f32", "threads": 1, "weights": "digits",
    });
    for (name, value) in changes.as_object().expect("an object") {
        load[name] = value.clone();
    }
    json!({ "load": load })
}

fn ask(requests: &[Value]) -> Vec<Value> {
    let lines: String = requests
        .iter()
        .map(|request| format!("{request}\n"))
        .collect();
    let answers = finish(
        program()
            .arg("worker")
            .env("CUDA_VISIBLE_DEVICES", "")
            .write_stdin(lines),
    );
    answers.expect(0, &[]);
    answers
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn a_batch_can_lie_on_the_device_or_on_the_host() {
    let run = json!({"run": {"warmup": 1, "samples": 3}});
    for feed in [json!(null), json!("device"), json!("pageable")] {
        let answers = ask(&[load(json!({"feed": feed, "device": "auto"})), run.clone()]);
        assert_eq!(
            answers[0]["loaded"]["settings"]["device"], "cpu",
            "{answers:?}"
        );
        assert_eq!(answers[1]["seconds"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn what_needs_a_gpu_is_unsupported_and_the_worker_goes_on() {
    let answers = ask(&[
        load(json!({"feed": "pinned"})),
        load(json!({"feed": "queued"})),
        load(json!({"device": "cuda"})),
        load(json!({"engine": "tch-fused"})),
        load(json!({})),
    ]);
    for (answer, said) in answers.iter().zip([
        "pinned memory needs a CUDA device",
        "pinned memory needs a CUDA device",
        "--device cuda is not available",
        "need a CUDA device",
    ]) {
        assert_eq!(answer["unsupported"], true, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(said), "{answer}");
    }
    assert!(answers[4]["loaded"].is_object(), "{:?}", answers[4]);
}

#[test]
fn bad_requests_are_errors_and_not_unsupported() {
    for (changes, said) in [
        (
            json!({"feed": "spoon"}),
            "feed: expected one of device, pageable, pinned, queued",
        ),
        (json!({"device": "gpu"}), "unknown device \"gpu\""),
        (json!({"dtype": "f64"}), "expected f32, bf16 or f16"),
        (json!({"engine": "caffe"}), "\"caffe\""),
    ] {
        let answer = &ask(&[load(changes)])[0];
        assert!(answer["error"].as_str().unwrap().contains(said), "{answer}");
        assert!(answer.get("unsupported").is_none(), "{answer}");
    }
}
