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
use datasets::serving::{Published, ServingFolder};
use serde_json::json;

use crate::{
    chapter::Chapter,
    cli::WorkArgs,
    engine::{Batch, Engine},
    failure::Refused,
    memory::Residency,
    model::{Model, ModelError, Source, Wishes},
    outcome::Outcome,
    pipeline::{self, Prediction, Settings},
    refresh::{self, News, RefreshError, Refreshing, Served, Signature, Version},
    resnet::{config::Stem, seeded},
    setting::{self, Setting},
    shrink::{Fits, Shrinking},
    source::{self, DataSet, Pictures},
    tch_engine::{TchEngine, set_threads},
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
    serving: Option<Serving>,
    pictures: Pictures,
}

/// Where the model came from, and newer ones will.
struct Serving {
    folder: ServingFolder,
    /// The version that was opened.
    version: Version,
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
        let (model, serving) = open_model(&work)?;
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
            serving,
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
            serving,
            pictures,
        } = self;
        let fits = work.shrink_on_oom.then(Fits::default);
        let mut engine = shrinking(Box::new(engine), fits.as_ref(), work.quiet);
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
        let (mut served, mut watcher) = (None, None);
        let first = serving.as_ref().map(|serving| serving.version.clone());
        if let Some(Serving { folder, version }) = serving {
            let refreshing = Refreshing::new(engine, version);
            let load = newer(Signature::of(&model), work.clone(), *setting, fits.clone());
            let every = Duration::from_millis(work.refresh_ms);
            let started = refreshing.watch(folder, every, load, tell(bar.clone()));
            watcher = Some(started.context("cannot start the thread that looks for models")?);
            served = Some(refreshing.served());
            engine = Box::new(refreshing);
        }
        let residency = Residency::start(pictures.count);
        let sink = sink(
            predictions,
            model.labels.clone(),
            served.clone(),
            bar,
            residency.clone(),
        );
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
        // What is measured now is to be one model.
        drop(watcher);
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
        if let Some(version) = first {
            workload.insert("model_version".into(), json!(&*version));
        }
        Ok(Outcome {
            chapter,
            out,
            json: work.json,
            report,
            bare,
            residency,
            model: model.origin,
            versions: served.map(|served| served.images()),
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

fn open_model(args: &WorkArgs) -> anyhow::Result<(Model, Option<Serving>)> {
    if let Some(path) = &args.serve_from {
        let folder = ServingFolder::new(path);
        let published = folder.current()?.ok_or_else(|| {
            Refused(format!(
                "--serve-from {}: expected a file \"current\" that names a published model, got \
                 none; publish a model there first",
                path.display()
            ))
        })?;
        let model = open_published(&published, args)?;
        let version = published.version.as_str().into();
        return Ok((model, Some(Serving { folder, version })));
    }
    let data = (!args.dry_run).then_some(args.data);
    let usual = match (&args.images, data) {
        (Some(_), Some(_)) => Source::Imagenet,
        (None, Some(DataSet::Digits)) => Source::Digits,
        _ => Source::Random,
    };
    let source = args.model.weights.clone().unwrap_or(usual);
    Ok((Model::open(&source, wishes(args), args.quiet)?, None))
}

fn open_published(published: &Published, args: &WorkArgs) -> Result<Model, ModelError> {
    let source = Source::File(published.model.clone());
    let mut model = Model::open(&source, wishes(args), args.quiet)?;
    // Every published file has the same name.
    model.origin = format!("version {}", published.version);
    Ok(model)
}

fn wishes(args: &WorkArgs) -> Wishes {
    let small = args.data == DataSet::Cifar10 && !args.dry_run && args.images.is_none();
    Wishes {
        arch: args.model.arch,
        stem: args.model.stem.or(small.then_some(Stem::Small)),
        side: args.model.image,
        channels: None,
    }
}

/// The engine, with `--shrink-on-oom` as asked for.
fn shrinking(engine: Box<dyn Engine>, fits: Option<&Fits>, quiet: bool) -> Box<dyn Engine> {
    let Some(fits) = fits else { return engine };
    let progress = Progress::new(None, "images", quiet);
    let engine = Shrinking::new(engine, move |refused, next| {
        progress.warn(&format!(
            "no memory for {refused} images at once; trying {next} from here on"
        ));
    });
    Box::new(engine.sharing(fits))
}

/// How a newer model is read, checked and built, as the first one was.
fn newer(
    served: Signature,
    work: WorkArgs,
    setting: Setting,
    fits: Option<Fits>,
) -> impl FnMut(&Published) -> Result<Box<dyn Engine>, RefreshError> + Send {
    move |published| {
        let model = open_published(published, &work).map_err(Box::new)?;
        served.check(&model)?;
        // A new thread takes the number that libtorch was given last, and a stream gives 1.
        set_threads(setting.threads);
        let engine = TchEngine::load(
            &model.config,
            &model.weights,
            model.side(),
            work.model.rung,
            work.model.dtype,
            setting.device,
        )?;
        let mut engine = shrinking(Box::new(engine), fits.as_ref(), work.quiet);
        refresh::try_one(&mut *engine, model.config.classes)?;
        Ok(engine)
    }
}

fn tell(bar: Progress) -> impl FnMut(News) + Send {
    move |news| match news {
        News::TakenUp { version } => bar.println(&format!("model: version {version} from here on")),
        News::Refused { version, error } => bar.warn(&format!(
            "version {version} is not taken up: {error}; the model stays as it is"
        )),
        News::Unclear { reason } => bar.warn(&format!("{reason}; the model stays as it is")),
    }
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
    served: Option<Served>,
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
                if let Some(version) = served.as_ref().and_then(Served::count) {
                    line["model"] = json!(&*version);
                }
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
