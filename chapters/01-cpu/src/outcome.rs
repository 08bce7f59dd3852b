//! What came of a classification: for people, as a summary, as a result file.

use std::{fs, path::PathBuf};

use accel::{
    exit, human,
    results::{ResultFile, Row},
    timing::{self, Samples},
};
use anyhow::Context;
use serde_json::json;

use crate::{
    chapter::Chapter, failure::print_line, memory::Residency, pipeline::Report, refresh::Version,
};

/// Most latencies that are kept in the result file.
const KEPT_LATENCIES: usize = 2_000;

/// What one run measured.
pub struct Outcome {
    /// Whose result it is.
    pub chapter: Chapter,
    /// Where the predictions are, and the rest goes.
    pub out: PathBuf,
    /// Whether stdout gets one JSON object in place of lines.
    pub json: bool,
    /// The counts and the clocks.
    pub report: Report,
    /// Seconds of the bare model on full batches, before and after the stream.
    pub bare: Samples,
    /// Resident memory while it ran.
    pub residency: Residency,
    /// The model's origin.
    pub model: String,
    /// Images by version of the model, in the order of first use; `None` for weights
    /// that stay.
    pub versions: Option<Vec<(Version, usize)>>,
    /// The pictures' origin.
    pub pictures: String,
    /// Entries that were left out of the stream.
    pub left_out: usize,
    /// Allocator, threads and so on, for the result file.
    pub workload: serde_json::Map<String, serde_json::Value>,
}

impl Outcome {
    /// Writes the result file and the summary, and prints what there is to say.
    ///
    /// Returns the exit code: 130 if interrupted, 1 if a picture was bad, else 0.
    ///
    /// # Errors
    /// What could not be written.
    pub fn tell(&self) -> anyhow::Result<u8> {
        let file = result_file("run", self);
        let path = self.out.join("result.json");
        file.write(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let summary = summary(self);
        let path = self.out.join("summary.json");
        fs::write(&path, format!("{summary:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
        if self.json {
            print_line(&summary.to_string())?;
        } else {
            for line in lines(self) {
                print_line(&line)?;
            }
            print_line(&format!(
                "predictions: {}",
                self.out.join("predictions.jsonl").display()
            ))?;
        }
        Ok(self.exit_code())
    }

    fn exit_code(&self) -> u8 {
        if self.report.interrupted {
            exit::INTERRUPTED
        } else if self.report.failed + self.left_out > 0 {
            exit::FAILED
        } else {
            exit::OK
        }
    }
}

struct Figures {
    images_per_second: f64,
    bare_per_second: f64,
    added: f64,
    accuracy: Option<f64>,
    latency: [f64; 3],
}

fn figures(outcome: &Outcome) -> Figures {
    let report = &outcome.report;
    let done = report.predicted + report.failed;
    let images_per_second = done as f64 / report.seconds.max(f64::MIN_POSITIVE);
    let bare_per_second = outcome.bare.items_per_second().unwrap_or_default();
    let mut latencies = report.latencies.clone();
    latencies.sort_by(f64::total_cmp);
    Figures {
        images_per_second,
        bare_per_second,
        added: 1.0 - images_per_second / bare_per_second,
        accuracy: (report.labelled > 0).then(|| report.correct as f64 / report.labelled as f64),
        latency: match latencies.is_empty() {
            true => [0.0; 3],
            false => [0.5, 0.95, 0.99].map(|q| timing::percentile(&latencies, q)),
        },
    }
}

fn summary(outcome: &Outcome) -> serde_json::Value {
    let report = &outcome.report;
    let figures = figures(outcome);
    let busy: f64 = report.stages.stages().iter().map(|(_, s)| s).sum();
    let stages: serde_json::Map<_, _> = report
        .stages
        .stages()
        .into_iter()
        .map(|(name, seconds)| {
            let share = seconds / busy.max(f64::MIN_POSITIVE);
            (name.to_owned(), json!({"seconds": seconds, "share": share}))
        })
        .collect();
    let mut summary = json!({
        "schema_version": 1,
        "model": outcome.model,
        "pictures": outcome.pictures,
        "images_in": report.read,
        "images_predicted": report.predicted,
        "images_failed": report.failed,
        "left_out": outcome.left_out,
        "interrupted": report.interrupted,
        "batches": report.batches,
        "seconds": report.seconds,
        "images_per_second": figures.images_per_second,
        "bare_model_images_per_second": figures.bare_per_second,
        "share_added_by_pipeline": figures.added,
        "accuracy": figures.accuracy,
        "labelled": report.labelled,
        "latency_seconds": {
            "p50": figures.latency[0],
            "p95": figures.latency[1],
            "p99": figures.latency[2],
        },
        "stages": stages,
        "resident_bytes": outcome.residency.samples().iter()
            .map(|(images, bytes)| json!({"images": images, "bytes": bytes}))
            .collect::<Vec<_>>(),
    });
    if let Some(versions) = &outcome.versions {
        summary["versions"] = versions
            .iter()
            .map(|(version, images)| json!({"version": &**version, "images": images}))
            .collect();
    }
    summary
}

/// The summary for people.
fn lines(outcome: &Outcome) -> Vec<String> {
    let report = &outcome.report;
    let figures = figures(outcome);
    let mut lines = vec![format!(
        "{} images in, {} predicted, {} failed, in {}: {}",
        report.read,
        report.predicted,
        report.failed,
        human::duration(report.seconds),
        human::rate(figures.images_per_second, "images"),
    )];
    for (version, images) in outcome.versions.iter().flatten() {
        lines.push(format!("model {version}: {images} images"));
    }
    if let Some(accuracy) = figures.accuracy {
        lines.push(format!(
            "accuracy {:.2}% ({} of {})",
            100.0 * accuracy,
            report.correct,
            report.labelled
        ));
    }
    lines.push(format!(
        "bare model {}; the pipeline adds {:.1}%",
        human::rate(figures.bare_per_second, "images"),
        100.0 * figures.added
    ));
    let [p50, p95, p99] = figures.latency.map(human::duration);
    lines.push(format!("latency p50 {p50}, p95 {p95}, p99 {p99}"));
    let busy: f64 = report.stages.stages().iter().map(|(_, s)| s).sum();
    let images = (report.predicted + report.failed).max(1) as f64;
    for (name, seconds) in report.stages.stages() {
        lines.push(format!(
            "  {name:<10} {:>10} an image {:>6.1}% of the work",
            human::duration(seconds / images),
            100.0 * seconds / busy.max(f64::MIN_POSITIVE),
        ));
    }
    lines
}

/// The result file of a run: the stream, the bare model, each stage.
fn result_file(measurement: &str, outcome: &Outcome) -> ResultFile {
    let report = &outcome.report;
    let figures = figures(outcome);
    let images = report.predicted + report.failed;
    let mut file = outcome.chapter.result_file(measurement);
    file.title = Some(format!("{} by {}", outcome.pictures, outcome.model));
    let with_workload = |mut row: Row| {
        row.workload = outcome.workload.clone();
        row
    };

    let mut stream = with_workload(Row::ok("pipeline", "The whole pipeline"))
        .with_metric("images", images as f64)
        .with_metric("images_failed", report.failed as f64)
        .with_metric("images_per_second", figures.images_per_second)
        .with_metric("added_share", figures.added)
        .with_metric("latency_p50_seconds", figures.latency[0])
        .with_metric("latency_p95_seconds", figures.latency[1])
        .with_metric("latency_p99_seconds", figures.latency[2]);
    if images > 0 {
        stream = stream.with_samples(Samples {
            items_per_sample: images,
            warmup_seconds: vec![],
            seconds: vec![report.seconds],
        });
    }
    if let Some(accuracy) = figures.accuracy {
        stream = stream
            .with_metric("accuracy", accuracy)
            .with_metric("labelled_images", report.labelled as f64);
    }
    file.rows.push(stream);
    file.rows.push(
        with_workload(Row::ok("bare-model", "The bare model")).with_samples(outcome.bare.clone()),
    );
    if !report.batch_seconds.is_empty() {
        let batch = outcome.workload.get("batch").and_then(|n| n.as_u64());
        file.rows.push(
            with_workload(Row::ok("steady-state", "The pipeline, from batch to batch"))
                .with_samples(Samples {
                    items_per_sample: batch.map_or(1, |n| n as usize),
                    warmup_seconds: vec![],
                    seconds: report.batch_seconds.clone(),
                }),
        );
    }
    if !report.latencies.is_empty() && report.latencies.len() <= KEPT_LATENCIES {
        file.rows.push(
            with_workload(Row::ok("latency", "From entering to written")).with_samples(Samples {
                items_per_sample: 1,
                warmup_seconds: vec![],
                seconds: report.latencies.clone(),
            }),
        );
    }
    let busy: f64 = report.stages.stages().iter().map(|(_, s)| s).sum();
    for (name, seconds) in report.stages.stages() {
        file.rows.push(
            Row::ok(format!("stage-{name}"), name)
                .with_metric("stage_seconds", seconds)
                .with_metric(
                    "milliseconds_per_image",
                    1e3 * seconds / images.max(1) as f64,
                )
                .with_metric("stage_share", seconds / busy.max(f64::MIN_POSITIVE)),
        );
    }
    for (images, bytes) in outcome.residency.samples() {
        file.rows.push(
            Row::ok(
                format!("resident-after-{images}"),
                format!("Resident memory after {images} images"),
            )
            .with("images", images)
            .with_metric("resident_bytes", bytes as f64),
        );
    }
    file
}
