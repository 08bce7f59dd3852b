//! `cpu-inference run`: classify pictures, and time each stage.

use std::{
    fs::{self, File},
    io::{self, LineWriter, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use accel::{
    exit, human,
    progress::Progress,
    results::{ResultFile, Row},
    timing::{self, Plan, Samples},
};
use anyhow::Context;
use serde_json::json;
use tch::Device;

use crate::{
    cli::RunArgs,
    engine::{Batch, Engine},
    failure::{Refused, print_line},
    memory::Residency,
    model::{Model, Source, Wishes},
    pipeline::{self, Prediction, Report, Settings},
    setting,
    source::{self, DataSet, Pictures},
    tch_engine::TchEngine,
};

/// Warnings about single pictures that are printed; all are in the predictions.
const WARNINGS: usize = 20;
/// Most latencies that are kept in the result file.
const KEPT_LATENCIES: usize = 2_000;

/// What one run measured.
pub struct Outcome {
    /// The counts and the clocks.
    pub report: Report,
    /// Seconds of the bare model on full batches, before and after the stream.
    pub bare: Samples,
    /// Resident memory while it ran.
    pub residency: Residency,
    /// The model's origin.
    pub model: String,
    /// The pictures' origin.
    pub pictures: String,
    /// Entries that were left out of the stream.
    pub left_out: usize,
    /// Allocator, threads and so on, for the result file.
    pub workload: serde_json::Map<String, serde_json::Value>,
}

/// Runs the command.
///
/// # Errors
/// What was refused, or what failed.
pub fn run(args: RunArgs) -> anyhow::Result<u8> {
    let outcome = classify(&args)?;
    let file = result_file("run", &outcome);
    let path = args.out.join("result.json");
    file.write(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let summary = summary(&outcome);
    let path = args.out.join("summary.json");
    fs::write(&path, format!("{summary:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    if args.json {
        print_line(&summary.to_string())?;
    } else {
        for line in lines(&outcome) {
            print_line(&line)?;
        }
        print_line(&format!(
            "predictions: {}",
            args.out.join("predictions.jsonl").display()
        ))?;
    }
    Ok(exit_code(&outcome))
}

/// 130 if interrupted, 1 if a picture was bad, else 0.
pub fn exit_code(outcome: &Outcome) -> u8 {
    if outcome.report.interrupted {
        exit::INTERRUPTED
    } else if outcome.report.failed + outcome.left_out > 0 {
        exit::FAILED
    } else {
        exit::OK
    }
}

/// Opens model and pictures, runs the stream, and measures the bare model
/// before and after it.
///
/// # Errors
/// What was refused before work began, or what failed.
pub fn classify(args: &RunArgs) -> anyhow::Result<Outcome> {
    let progress = Progress::new(None, "images", args.quiet);
    let (threads, malloc) = setting::apply(&args.device, args.quiet)?;
    // Refused before the model is loaded: a full disk shows later.
    check_writable(&args.out)?;
    let model = open_model(args)?;
    let pictures = open_pictures(args, &model)?;
    progress.println(&format!("model: {} ({})", model.origin, model.config.arch));
    progress.println(&format!("pictures: {}", pictures.origin));
    for (name, reason) in &pictures.skipped {
        progress.warn(&format!("{name}: {reason}; left out"));
    }

    let engine = TchEngine::load(
        &model.config,
        &model.weights,
        model.side(),
        args.model.rung,
        args.model.dtype,
        Device::Cpu,
    )?;
    let mut engine: Box<dyn Engine> = Box::new(engine);
    let settings = Settings {
        batch: args.batch,
        max_pixels: args.max_batch_pixels,
        max_wait: Duration::from_millis(args.max_wait_ms),
        decoders: args.decoders.unwrap_or_else(setting::cores),
        top_k: args.top_k,
    };
    let runs = if args.quick || args.dry_run { 1 } else { 3 };
    let mut bare = bare(&mut *engine, args.batch, 1, runs)?;

    // Only now: a run that is refused leaves the results of the last one alone.
    let predictions = create(&args.out)?;
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let bar = Progress::new(Some(pictures.count as u64), "images", args.quiet);
    let residency = Residency::start(pictures.count);
    let sink = sink(predictions, model.labels.clone(), bar, residency.clone());
    let (report, mut engine) = runtime
        .block_on(async {
            tokio::spawn(stop_at_ctrl_c(Arc::clone(&stop)));
            pipeline::run(
                pictures.items,
                model.transform.clone(),
                engine,
                settings,
                stop,
                sink,
            )
            .await
        })
        .with_context(|| format!("the run into {} ended early", args.out.display()))?;
    let after = self::bare(&mut *engine, args.batch, 0, runs)?;
    bare.seconds.extend(after.seconds);

    let mut workload = serde_json::Map::new();
    for (name, value) in [
        ("engine", json!("tch")),
        ("arch", json!(model.config.arch)),
        ("stem", json!(model.config.stem)),
        ("width", json!(model.config.width)),
        ("image", json!(model.side())),
        ("rung", json!(args.model.rung)),
        ("dtype", json!(args.model.dtype)),
        ("batch", json!(args.batch)),
        ("threads", json!(threads)),
        ("allocator", json!(malloc)),
    ] {
        workload.insert(name.into(), value);
    }
    Ok(Outcome {
        report,
        bare,
        residency,
        model: model.origin,
        pictures: pictures.origin,
        left_out: pictures.skipped.len(),
        workload,
    })
}

fn check_writable(out: &Path) -> anyhow::Result<()> {
    let refuse = |error| {
        Refused(format!(
            "--out {}: cannot write there: {error}; give a folder that you may write to",
            out.display()
        ))
    };
    fs::create_dir_all(out).map_err(refuse)?;
    let mut writable = File::options();
    writable.create(true).write(true).truncate(false);
    writable
        .open(out.join("predictions.jsonl"))
        .map_err(refuse)?;
    Ok(())
}

/// Begins the predictions anew. The summary and the result file of an earlier
/// run would not belong to them, and go.
fn create(out: &Path) -> anyhow::Result<LineWriter<File>> {
    for file in ["summary.json", "result.json"].map(|name| out.join(name)) {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot replace {}", file.display()));
            }
            _ => {}
        }
    }
    let path = out.join("predictions.jsonl");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    // A line is written when it is whole: what was done survives whatever comes.
    Ok(LineWriter::new(file))
}

fn open_model(args: &RunArgs) -> anyhow::Result<Model> {
    let data = (!args.dry_run).then_some(args.data);
    let usual = match (&args.images, data) {
        (Some(_), Some(_)) => Source::Imagenet,
        (None, Some(DataSet::Digits)) => Source::Digits,
        _ => Source::Random,
    };
    let source = args.model.weights.clone().unwrap_or(usual);
    let small = data == Some(DataSet::Cifar10) && args.images.is_none();
    let wishes = Wishes {
        arch: args.model.arch,
        stem: args
            .model
            .stem
            .or(small.then_some(crate::resnet::config::Stem::Small)),
        side: args.model.image,
        channels: None,
    };
    Ok(Model::open(&source, wishes, args.quiet)?)
}

fn open_pictures(args: &RunArgs, model: &Model) -> anyhow::Result<Pictures> {
    let side = model.transform.crop;
    let noise = |count| source::synthetic(count, side, model.config.channels, args.seed);
    if args.dry_run {
        return Ok(noise(args.count.unwrap_or(2 * args.batch)));
    }
    let pictures = match (&args.images, args.data) {
        (Some(folder), _) => source::folder(folder, &model.labels, args.repeat.unwrap_or(1))?,
        (None, DataSet::Digits) => source::digits(args.count)?,
        (None, DataSet::Cifar10) => {
            source::cifar10(args.data_dir.as_deref(), args.count, args.quiet)?
        }
        (None, DataSet::Synthetic) => noise(args.count.unwrap_or(10 * args.batch)),
    };
    Ok(pictures)
}

/// Times the model alone on full batches of noise.
fn bare(
    engine: &mut dyn Engine,
    batch: usize,
    warmup: usize,
    runs: usize,
) -> anyhow::Result<Samples> {
    let [channels, height, width] = engine.image_shape();
    let shape = [batch, channels, height, width];
    let pixels = crate::resnet::seeded::tensor(0, "input", &shape);
    let plan = Plan {
        warmup,
        min_samples: runs,
        max_samples: 50,
        // Small images take microseconds: more samples for the same wait.
        min_time: Duration::from_millis(100),
    };
    let run = || {
        engine
            .infer(Batch {
                pixels: &pixels,
                shape,
            })
            .map(drop)
    };
    Ok(timing::measure(&plan, batch, run, || Ok(()))?)
}

fn sink(
    mut predictions: LineWriter<File>,
    labels: Vec<String>,
    bar: Progress,
    residency: Residency,
) -> impl FnMut(&Prediction) -> std::io::Result<()> + Send + 'static {
    let mut bad = 0;
    move |prediction| {
        let mut line = json!({"index": prediction.index, "input": prediction.name});
        if let Some(label) = prediction.label {
            line["label"] = json!(label);
        }
        match &prediction.outcome {
            Ok(scores) => {
                let scores = scores.iter().map(|score| {
                    json!({
                        "class": score.class,
                        "name": labels.get(score.class),
                        "probability": score.probability,
                    })
                });
                line["top"] = scores.collect();
            }
            Err(reason) => {
                line["error"] = json!(reason);
                bad += 1;
                if bad <= WARNINGS {
                    bar.warn(&format!("{}: {reason}; skipped", prediction.name));
                } else if bad == WARNINGS + 1 {
                    bar.warn("more bad pictures are named in predictions.jsonl");
                }
            }
        }
        writeln!(predictions, "{line}")?;
        bar.inc(1);
        residency.count();
        Ok(())
    }
}

/// The first Ctrl-C ends the stream in order, the second ends the process.
async fn stop_at_ctrl_c(stop: Arc<AtomicBool>) {
    if tokio::signal::ctrl_c().await.is_ok() {
        stop.store(true, Ordering::Relaxed);
        if tokio::signal::ctrl_c().await.is_ok() {
            setting::exit_at_once(exit::INTERRUPTED);
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
    json!({
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
    })
}

/// The summary for people.
pub fn lines(outcome: &Outcome) -> Vec<String> {
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
pub fn result_file(measurement: &str, outcome: &Outcome) -> ResultFile {
    let report = &outcome.report;
    let figures = figures(outcome);
    let images = report.predicted + report.failed;
    let mut file = ResultFile::new("01-cpu", measurement, setting::environment());
    file.title = Some(format!("{} by {}", outcome.pictures, outcome.model));
    file.depends_on = super::depends_on();
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
