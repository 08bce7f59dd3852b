//! The real TPU compiler, on a machine that has no TPU.

#[path = "../crates/pjrt/tests/harness/mod.rs"]
mod harness;

use std::{
    path::Path,
    process::{Command, ExitCode, Output},
};

use accel::results::{ResultFile, Row};
use harness::Need;
use pjrt_runtime::Platform;

fn main() -> ExitCode {
    let need = Need::plugin(Platform::Tpu);
    let tests = tests![
        a_training_step_compiles_for_two_generations,
        an_inference_program_compiles_for_four_chips,
        train_takes_the_flag_too,
        learning_keeps_a_result_under_its_name,
        an_unknown_topology_is_refused_with_those_that_are_known,
    ];
    harness::run(&need, false, tests)
}

fn compile_for(plugin: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tpu-training"))
        .env("PJRT_PLUGIN_LIBRARY_PATH", plugin)
        .args(words)
        .output()
        .unwrap()
}

fn result(output: &Output) -> ResultFile {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "", "libtpu is kept quiet");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn metric(row: &Row, name: &str) -> f64 {
    row.metrics[name]
}

const SMALL: [&str; 7] = ["--width", "4", "--batch", "8", "--data", "digits", "--json"];

fn a_training_step_compiles_for_two_generations(plugin: &Path) {
    let words = [&["compile-for", "v5e:1x1", "v6e:1x1"], &SMALL[..]].concat();
    let file = result(&compile_for(plugin, &words));
    assert_eq!(file.rows.len(), 2);
    for row in &file.rows {
        // The compiler counts without the taps that see only padding, and with everything that
        // is no product.
        let share = metric(row, "estimated_flops") / metric(row, "counted_flops");
        assert!((0.3..3.0).contains(&share), "{}: {share}", row.id);
        assert!(
            metric(row, "estimated_device_bytes") > 50_000.0 * 64.0,
            "the data set lies there"
        );
        assert!(metric(row, "estimated_memory_share") < 0.01);
        assert!(metric(row, "estimated_roofline_ms") > 0.0);
        assert!(metric(row, "estimated_images_per_second") > 0.0);
    }
    let v5e = file.row("v5e-1x1").unwrap();
    // 50,000 images at a price an hour.
    let hours = 50_000.0 / metric(v5e, "estimated_images_per_second") / 3600.0;
    let expected = hours * metric(v5e, "usd_per_hour");
    let got = metric(v5e, "estimated_usd_per_50000_images");
    assert!((got / expected - 1.0).abs() < 1e-9, "{got} and {expected}");
}

fn learning_keeps_a_result_under_its_name(plugin: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("compile-for-digits");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("result.json"), "of an earlier run").unwrap();
    let out = scratch.path().to_str().unwrap();
    let words = [
        "learn",
        "--quick",
        "--only",
        "compile-for-digits",
        "--out",
        out,
    ];
    let output = compile_for(plugin, &words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("$ tpu-training compile-for v5e:1x1"),
        "{said}"
    );
    let own = ResultFile::read(folder.join("result.json")).unwrap();
    let slug = own.environment.machine_slug();
    let kept = scratch.path().join(slug).join("compile-for-digits.json");
    let kept = ResultFile::read(kept).unwrap();
    assert_eq!(kept.measurement, "compile-for-digits");
    assert_eq!(kept.rows, own.rows);
}

fn an_inference_program_compiles_for_four_chips(plugin: &Path) {
    let words = [&["compile-for", "v5e:2x2", "--inference"], &SMALL[..]].concat();
    let file = result(&compile_for(plugin, &words));
    assert_eq!(file.rows[0].workload["chips_in_topology"], 4);
    assert_eq!(file.rows[0].workload["program"], "inference");
}

fn train_takes_the_flag_too(plugin: &Path) {
    let words = ["train", "--compile-for", "v5e:1x1", "--optimizer", "adamw"];
    let words = [&words, &SMALL[..]].concat();
    let file = result(&compile_for(plugin, &words));
    assert_eq!(file.rows[0].workload["program"], "training");
    assert_eq!(file.rows[0].workload["optimizer"], "adamw");
}

fn an_unknown_topology_is_refused_with_those_that_are_known(plugin: &Path) {
    let output = compile_for(plugin, &["compile-for", "v99:1x1"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        message.contains("v99") && message.contains("v5e:1x1"),
        "{message}"
    );
}
