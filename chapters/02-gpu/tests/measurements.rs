//! The measurements on the CPU: every row that a machine without a GPU has, and the
//! reason for each that it has not.

mod program;

use accel::results::{ResultFile, Row, Status};
use program::{finish, program};

fn json(words: &[&str]) -> ResultFile {
    finish(program().args(words).args([
        "--device",
        "cpu",
        "--threads",
        "2",
        "--quick",
        "--json",
        "--quiet",
    ]))
    .result()
}

fn rate(row: &Row) -> f64 {
    row.samples
        .as_ref()
        .and_then(|s| s.items_per_second())
        .expect("samples")
}

#[test]
fn the_ladder_has_a_row_for_every_step() {
    let file = json(&["ladder", "--weights", "digits", "--batch", "16"]);
    assert_eq!(
        (file.chapter.as_str(), file.measurement.as_str()),
        ("02-gpu", "ladder")
    );
    let ids: Vec<&str> = file.rows.iter().map(|row| row.id.as_str()).collect();
    let steps: Vec<&str> = gpu_inference::steps::STEPS.iter().map(|s| s.name).collect();
    assert_eq!(ids, steps);
    for name in ["eager-f32", "folded", "channels-last", "pageable"] {
        let row = file.row(name).unwrap();
        assert_eq!(row.status, Status::Ok, "{name}: {:?}", row.reason);
        assert_eq!(row.samples.as_ref().unwrap().items_per_sample, 16);
    }
    for name in ["tf32", "autotuned", "f16", "fused", "pinned", "queued"] {
        let row = file.row(name).unwrap();
        assert_eq!(row.status, Status::Skipped, "{name}");
        let reason = row.reason.as_deref().unwrap();
        assert!(
            reason.contains("gpu-inference ladder --device cuda"),
            "{reason}"
        );
    }
    // A gain is the ratio of two rows of the file.
    let folded = file.row("folded").unwrap();
    assert_eq!(folded.workload["over"], "eager-f32");
    let gain = rate(folded) / rate(file.row("eager-f32").unwrap());
    assert!((folded.metrics["gain_ratio"] - gain).abs() < 1e-9);
    assert!(folded.metrics["logit_max_relative_difference"] < 1e-4);
}

#[test]
fn the_ladder_can_be_measured_in_part() {
    let file = json(&["ladder", "--weights", "digits", "--only", "folded"]);
    assert_eq!(file.rows.len(), 1);
    assert!(
        !file.rows[0].metrics.contains_key("gain_ratio"),
        "nothing to compare with"
    );
}

#[test]
fn the_sweep_has_a_row_for_every_power_of_two_and_the_knee_is_one_of_them() {
    let file = json(&["tune", "--weights", "digits", "--max-batch", "9"]);
    let ids: Vec<&str> = file.rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["b1", "b2", "b4", "b8", "knee"]);
    let best = file.rows[..4].iter().map(rate).fold(0.0, f64::max);
    let knee = &file.row("knee").unwrap().metrics;
    let chosen = file.row(&format!("b{}", knee["knee_batch"])).unwrap();
    assert_eq!(rate(chosen), knee["knee_images_per_second"]);
    assert!(rate(chosen) >= 0.9 * best);
    for row in &file.rows[..4] {
        assert!(
            row.metrics["latency_p50_ms"] <= row.metrics["latency_p99_ms"],
            "{}",
            row.id
        );
        assert!(
            !row.metrics.contains_key("host_ms"),
            "the CPU is the device"
        );
    }
}

#[test]
fn the_roofline_counts_predicts_and_measures() {
    let file = json(&[
        "roofline", "--archs", "resnet18", "--dtypes", "f32,f16", "--batch", "2",
    ]);
    let copy = file.row("copy").unwrap().metrics["peak_bytes_per_second"];
    let matmul = file.row("matmul-f32").unwrap().metrics["peak_flops_per_second"];
    assert!(copy.is_finite() && copy > 0.0 && matmul.is_finite() && matmul > 0.0);
    let whole = file.row("resnet18-f32").unwrap();
    // torchvision's documentation: 1.81 GMACs.
    assert!((whole.metrics["gflop_per_image"] - 3.63).abs() < 0.02);
    let layers: Vec<&Row> = file
        .rows
        .iter()
        .filter(|row| row.workload.get("kind").is_some_and(|kind| kind == "layer"))
        .collect();
    // 20 convolutions, two poolings, the classifier.
    assert_eq!(layers.len(), 23);
    let predicted: f64 = layers.iter().map(|row| row.metrics["estimated_us"]).sum();
    assert!((predicted / 1e3 - whole.metrics["estimated_ms"]).abs() < 1e-6 * predicted);
    let measured = 2e3 / rate(whole);
    let share = whole.metrics["estimated_ms"] / measured;
    assert!((share / whole.metrics["roofline_share"] - 1.0).abs() < 1e-9);
    let f16 = file.row("matmul-f16").unwrap();
    assert_eq!(f16.status, Status::Skipped);
}
