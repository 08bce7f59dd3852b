//! A result file that uses every field, for the tests that need one.

use accel::environment::{Accelerator, Environment};
use accel::results::{ResultFile, Row};
use accel::timing::Samples;

/// A valid file with every field filled.
pub fn full() -> ResultFile {
    let mut environment = Environment::collect();
    environment.accelerator = Some(Accelerator {
        name: "NVIDIA H200".to_owned(),
        memory_bytes: Some(143_771 << 20),
        driver: Some("570.86.15".to_owned()),
    });
    environment
        .libraries
        .insert("libtorch".to_owned(), "2.11.0".to_owned());
    let mut file = ResultFile::new("01-cpu", "ladder", environment);
    file.title = Some("The speed ladder".to_owned());
    file.command = vec!["cpu-inference".to_owned(), "bench".to_owned()];
    file.commit = Some("ae8ca2c0ae8ca2c0ae8ca2c0ae8ca2c0ae8ca2c0".to_owned());
    file.dirty = Some(false);
    file.depends_on = vec!["chapters/01-cpu/src".to_owned(), "Cargo.lock".to_owned()];
    file.notes = vec!["a note".to_owned()];
    file.rows = vec![
        Row::ok("eager-b8", "eager, batch 8")
            .with("engine", "tch")
            .with("batch", 8)
            .with("folded", false)
            .with("weights", serde_json::Value::Null)
            .with_samples(Samples {
                items_per_sample: 8,
                warmup_seconds: vec![0.5],
                seconds: vec![0.1, 0.30000000000000004, 1e-9, 0.0],
            })
            .with_metric("accuracy", 0.9875),
        Row::ok("digits", "accuracy only").with_metric("accuracy_change", -0.01),
        Row::failed("bf16", "bf16", "the CPU has no avx512bf16"),
        Row::skipped("cuda", "CUDA", "no CUDA here"),
    ];
    file
}
