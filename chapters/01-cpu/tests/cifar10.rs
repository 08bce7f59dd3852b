//! CIFAR-10's path through the program, on a small folder of its binary format.

use std::{fs, path::Path};

use assert_cmd::cargo::cargo_bin_cmd;
use cpu_inference::{
    engine::{Batch, Engine},
    model::{Model, Source, Wishes},
    pipeline::top,
    resnet::config::{Arch, Stem},
    tch_engine::{Dtype, Rung, TchEngine},
};
use serde_json::Value;
use tch::Device;

const PLANE: usize = 32 * 32;
const LABELS: [u8; 3] = [9, 0, 3];

/// Pixels of an image, planes of red, green and blue: another picture for each
/// label, and no two planes alike, so that a wrong order of anything shows.
fn planes(label: u8) -> Vec<u8> {
    let pixel = |at: usize| {
        let (plane, row, column) = (at / PLANE, at % PLANE / 32, at % 32);
        (plane * 80 + row * usize::from(label + 1) + column * 2) as u8
    };
    (0..3 * PLANE).map(pixel).collect()
}

fn records(labels: &[u8]) -> Vec<u8> {
    let record = |label: &u8| [vec![*label], planes(*label)].concat();
    labels.iter().flat_map(record).collect()
}

/// The six data files and the names, with a few records each.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for i in 1..=5 {
        fs::write(
            dir.path().join(format!("data_batch_{i}.bin")),
            records(&[i]),
        )
        .unwrap();
    }
    fs::write(dir.path().join("test_batch.bin"), records(&LABELS)).unwrap();
    let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
    fs::write(dir.path().join("batches.meta.txt"), names).unwrap();
    dir
}

/// (predictions, summary) of a run, which must end with exit code 0.
fn run(data: &Path, more: &[&str]) -> (Vec<Value>, Value) {
    let out = tempfile::tempdir().unwrap();
    cargo_bin_cmd!("cpu-inference")
        .args([
            "run", "--data", "cifar10", "--arch", "resnet18", "--quick", "--quiet",
        ])
        .args(["--batch", "2", "--data-dir"])
        .arg(data)
        .arg("--out")
        .arg(out.path())
        .args(more)
        .assert()
        .success();
    let read = |name: &str| fs::read_to_string(out.path().join(name)).unwrap();
    let lines = read("predictions.jsonl");
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (
        lines.collect(),
        serde_json::from_str(&read("summary.json")).unwrap(),
    )
}

#[test]
fn each_image_is_classified_once_with_its_label() {
    let data = folder();
    let (predictions, summary) = run(data.path(), &[]);
    assert_eq!(predictions.len(), 3);
    for (i, line) in predictions.iter().enumerate() {
        assert_eq!(line["index"], i);
        assert_eq!(line["label"], LABELS[i]);
        assert_eq!(line["input"], format!("cifar10/test/{i}"));
        assert_eq!(line["top"].as_array().unwrap().len(), 5);
    }
    for (key, expected) in [
        ("images_in", 3),
        ("images_predicted", 3),
        ("images_failed", 0),
        ("labelled", 3),
        ("batches", 2),
    ] {
        assert_eq!(summary[key], expected, "{key}");
    }
    let right = predictions
        .iter()
        .filter(|p| p["top"][0]["class"] == p["label"])
        .count();
    assert_eq!(summary["accuracy"], right as f64 / 3.0);
}

// The model is run here on the planes as the file has them: a channel or a row
// that went astray on the way through the pipeline would change the numbers.
#[test]
fn the_pixels_arrive_in_order() {
    let wishes = Wishes {
        arch: Some(Arch::Resnet18),
        stem: Some(Stem::Small),
        ..Wishes::default()
    };
    let model = Model::open(&Source::Random, wishes, true).unwrap();
    let (config, weights) = (&model.config, &model.weights);
    let mut engine =
        TchEngine::load(config, weights, 32, Rung::Folded, Dtype::F32, Device::Cpu).unwrap();

    let data = folder();
    let (predictions, _) = run(data.path(), &["--rung", "folded"]);
    for (line, label) in predictions.iter().zip(LABELS) {
        let normalise = |(i, value): (usize, &u8)| {
            let channel = i / PLANE;
            let (mean, std) = (model.transform.mean[channel], model.transform.std[channel]);
            (f32::from(*value) / 255.0 - mean) / std
        };
        let pixels: Vec<f32> = planes(label).iter().enumerate().map(normalise).collect();
        let shape = [1, 3, 32, 32];
        let logits = engine
            .infer(Batch {
                pixels: &pixels,
                shape,
            })
            .unwrap();
        for (got, expected) in line["top"]
            .as_array()
            .unwrap()
            .iter()
            .zip(top(&logits.values, 5))
        {
            assert_eq!(got["class"], expected.class, "label {label}");
            let probability = got["probability"].as_f64().unwrap() as f32;
            let difference = (probability - expected.probability).abs();
            assert!(
                difference < 1e-4,
                "label {label}: {probability}, {expected:?}"
            );
        }
    }
}

#[test]
fn count_cuts_and_repeats() {
    let data = folder();
    for count in [2, 7] {
        let (predictions, summary) = run(data.path(), &["--count", &count.to_string()]);
        assert_eq!(summary["images_in"], count);
        assert_eq!(predictions.len(), count);
        for (i, line) in predictions.iter().enumerate() {
            assert_eq!(
                line["label"],
                LABELS[i % LABELS.len()],
                "image {i} of {count}"
            );
        }
    }
}

#[test]
fn a_damaged_folder_is_refused_before_work_begins() {
    let data = folder();
    let test = data.path().join("test_batch.bin");
    let whole = records(&LABELS);
    fs::write(&test, &whole[..whole.len() - 1]).unwrap();
    let out = tempfile::tempdir().unwrap();
    cargo_bin_cmd!("cpu-inference")
        .args([
            "run",
            "--data",
            "cifar10",
            "--arch",
            "resnet18",
            "--quiet",
            "--data-dir",
        ])
        .arg(data.path())
        .arg("--out")
        .arg(out.path())
        .assert()
        .code(2)
        .stderr(predicates::str::contains("test_batch.bin"))
        .stderr(predicates::str::contains("2 of them and 3072 bytes more"));
    let predictions = fs::read(out.path().join("predictions.jsonl")).unwrap();
    assert_eq!(predictions, b"");
}
