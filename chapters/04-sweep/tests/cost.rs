//! `cost` on the sweep that the book publishes, and on files that are none.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use accel::results::ResultFile;

/// The published sweep.
fn published() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/amd-epyc-2c-24g/sweep-18");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files.pop().unwrap()
}

fn cost(result: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_parallel-training"))
        .arg("cost")
        .arg("--result")
        .arg(result)
        .args(words)
        .output()
        .unwrap()
}

#[test]
fn the_published_sweep_has_a_cost_on_any_number_of_workers() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("cost.json");
    let output = cost(&published(), &["--json", "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let file = ResultFile::parse(&output.stdout).unwrap();
    assert_eq!(file, ResultFile::read(&out).unwrap());
    assert_eq!(file.measurement, "cost-model");
    assert_eq!(file.rows.len(), 8);
    let sweep = ResultFile::read(published()).unwrap();
    assert_eq!(file.environment, sweep.environment, "its machine");
    let figure = |id: &str, name: &str| file.row(id).unwrap().metrics[name];
    // One worker does what was measured, but for what two workers compiled twice.
    let measured = sweep.row("sweep").unwrap().metrics["run_seconds"];
    let one = figure("workers-1", "estimated_worker_seconds");
    assert!(one <= measured && one > 0.8 * measured, "{one} {measured}");
    assert_eq!(figure("workers-1", "estimated_compilations"), 6.0);
    assert_eq!(figure("workers-18", "estimated_compilations"), 18.0);
    // A start is waited for once, and paid by everybody.
    let started = figure("workers-18-start-120", "estimated_wall_seconds");
    assert!((started - 120.0 - figure("workers-18", "estimated_wall_seconds")).abs() < 1e-9);
    assert!(figure("workers-18-start-120", "estimated_worker_seconds") > 18.0 * 120.0);
    assert!(file.notes[0].starts_with("derived, not measured"));

    let priced = cost(
        &published(),
        &[
            "--json",
            "--workers=1",
            "--start-seconds=0",
            "--usd-per-hour=3.6",
            "--price-source=https://example.org",
            "--price-date=2026-11-22",
        ],
    );
    let file = ResultFile::parse(&priced.stdout).unwrap();
    let row = file.row("workers-1").unwrap();
    // A dollar for a thousand seconds: a cent for ten.
    assert!((row.metrics["estimated_cents"] - one / 10.0).abs() < 1e-9);
    assert_eq!(row.workload["price_source"], "https://example.org");

    let table = String::from_utf8(cost(&published(), &[]).stdout).unwrap();
    assert!(table.contains("18 workers, started in 120 s"), "{table}");
}

#[test]
fn what_has_no_cost_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let refused = |result: &Path, words: &[&str], part: &str| {
        let output = cost(result, words);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(part), "{errors}");
    };
    refused(
        Path::new("nowhere.json"),
        &[],
        "give the result.json of a sweep",
    );
    let file = scratch.path().join("x.json");
    fs::write(&file, "{}").unwrap();
    refused(&file, &[], "give the result.json of a sweep");
    let overhead = ResultFile::new(
        "04-sweep",
        "overhead",
        accel::environment::Environment::collect(),
    );
    overhead.write(&file).unwrap();
    refused(&file, &[], "no run with run_seconds");
    refused(&published(), &["--workers", "0"], "a number of workers");
    refused(&published(), &["--start-seconds", "nan"], "seconds from 0");
    refused(&published(), &["--usd-per-hour", "1"], "--price-source");
}
