//! A classification, from its flags to its outcome: what is opened before work
//! begins, and the stream with the bare model before and after it.

use std::{
    fs::{self, File},
    io::{self, LineWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use accel::{
    exit,
    progress::Progress,
    timing::{self, Plan, Samples},
};
use anyhow::Context;
use serde_json::json;

use crate::{
    chapter::Chapter,
    cli::WorkArgs,
    engine::{Batch, Engine},
    failure::Refused,
    memory::Residency,
    model::{Model, Source, Wishes},
    outcome::Outcome,
    pipeline::{self, Prediction, Settings},
    resnet::{config::Stem, seeded},
    setting::{self, Setting},
    shrink::Shrinking,
    source::{self, DataSet, Pictures},
};

/// Warnings about single pictures that are printed; all are in the predictions.
const WARNINGS: usize = 20;

/// Everything that a classification needs but the engine.
pub struct Job {
    chapter: Chapter,
    work: WorkArgs,
    out: PathBuf,
    /// The model, read and checked.
    pub model: Model,
    pictures: Pictures,
}

impl Job {
    /// Opens the model and the pictures, and checks that the results can be written.
    ///
    /// * `chapter`: whose results they will be
    /// * `out`: folder for them
    ///
    /// # Errors
    /// What was refused; nothing was run yet.
    pub fn open(chapter: Chapter, work: WorkArgs, out: PathBuf) -> anyhow::Result<Self> {
        let progress = Progress::new(None, "images", work.quiet);
        // Refused before the model is loaded: a full disk shows later.
        check_writable(&out)?;
        let model = open_model(&work)?;
        let pictures = open_pictures(&work, &model)?;
        progress.println(&format!("model: {} ({})", model.origin, model.config.arch));
        progress.println(&format!("pictures: {}", pictures.origin));
        for (name, reason) in &pictures.skipped {
            progress.warn(&format!("{name}: {reason}; left out"));
        }
        Ok(Job {
            chapter,
            work,
            out,
            model,
            pictures,
        })
    }

    /// Runs the stream, and measures the bare model before and after it.
    ///
    /// * `engine`: loaded with the job's model
    ///
    /// # Errors
    /// What failed; predictions that were written stay.
    pub fn stream(
        self,
        engine: impl Engine + 'static,
        setting: &Setting,
    ) -> anyhow::Result<Outcome> {
        let Job {
            chapter,
            work,
            out,
            model,
            pictures,
        } = self;
        let (mut engine, fits) = match work.shrink_on_oom {
            false => (Box::new(engine) as Box<dyn Engine>, None),
            true => {
                let progress = Progress::new(None, "images", work.quiet);
                let engine = Shrinking::new(Box::new(engine), move |refused, next| {
                    progress.warn(&format!(
                        "no memory for {refused} images at once; trying {next} from here on"
                    ));
                });
                let fits = engine.fits();
                (Box::new(engine) as Box<dyn Engine>, Some(fits))
            }
        };
        let settings = Settings {
            batch: work.batch,
            max_pixels: work.max_batch_pixels,
            max_wait: Duration::from_millis(work.max_wait_ms),
            decoders: work.decoders.unwrap_or_else(setting::cores),
            top_k: work.top_k,
        };
        let runs = if work.quick || work.dry_run { 1 } else { 3 };
        let mut bare = bare(&mut *engine, work.batch, 1, runs)?;

        // Only now: a run that is refused leaves the results of the last one alone.
        let predictions = create(&out)?;
        let stop = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let bar = Progress::new(Some(pictures.count as u64), "images", work.quiet);
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
            .with_context(|| format!("the run into {} ended early", out.display()))?;
        let after = self::bare(&mut *engine, work.batch, 0, runs)?;
        bare.seconds.extend(after.seconds);

        let mut workload = serde_json::Map::new();
        for (name, value) in [
            ("engine", json!("tch")),
            ("device", json!(setting.device_name())),
            ("arch", json!(model.config.arch)),
            ("stem", json!(model.config.stem)),
            ("width", json!(model.config.width)),
            ("image", json!(model.side())),
            ("rung", json!(work.model.rung)),
            ("dtype", json!(work.model.dtype)),
            ("batch", json!(work.batch)),
            ("threads", json!(setting.threads)),
            ("allocator", json!(setting.malloc)),
        ] {
            workload.insert(name.into(), value);
        }
        if let Some(images) = fits.map(|fits| fits.images())
            && images < work.batch
        {
            workload.insert("batch_that_fits".into(), json!(images));
        }
        Ok(Outcome {
            chapter,
            out,
            json: work.json,
            report,
            bare,
            residency,
            model: model.origin,
            pictures: pictures.origin,
            left_out: pictures.skipped.len(),
            workload,
        })
    }
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

fn open_model(args: &WorkArgs) -> anyhow::Result<Model> {
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
        stem: args.model.stem.or(small.then_some(Stem::Small)),
        side: args.model.image,
        channels: None,
    };
    Ok(Model::open(&source, wishes, args.quiet)?)
}

fn open_pictures(args: &WorkArgs, model: &Model) -> anyhow::Result<Pictures> {
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
    let pixels = seeded::tensor(0, "input", &shape);
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
