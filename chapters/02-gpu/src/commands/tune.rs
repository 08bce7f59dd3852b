//! `gpu-inference tune`: throughput and latency over batch sizes, until memory is out.

use std::time::Instant;

use accel::{
    human,
    progress::Progress,
    results::{ResultFile, Row},
};
use cpu_inference::{
    engine::EngineError,
    model::{Model, Wishes},
    setting::Setting,
    tch_engine::{Dtype, LoadError, Prepared, Rung, TchEngine, refused},
};
use serde_json::json;
use tch::{Device, TchError};

use crate::{
    cli::TuneArgs,
    device,
    knee::{self, Point},
    meter::{self, Gauge},
    output,
    sweep::{self, End, Measured, Pace, Subject},
};

/// Largest batch to try on the CPU, if nothing else is said: a system that runs out of
/// memory ends programs, and not always this one.
const CPU_MOST: usize = 32;
/// Largest batch to try on a GPU, if nothing else is said.
const GPU_MOST: usize = 65_536;

/// Runs the command.
///
/// # Errors
/// What was refused, or what failed before the first batch.
pub fn run(args: &TuneArgs) -> anyhow::Result<u8> {
    let setting = device::apply(&args.device, args.output.quiet)?;
    let file = measure(args, &setting)?;
    output::finish(file, &args.output, table)
}

/// Largest batch for which cuDNN tries its kernels. It tries ten for each layer: above
/// this, that would take longer than the measurement.
const TUNED: usize = 512;

/// libtorch with a batch of noise.
struct Tch {
    engine: TchEngine,
    input: Option<Prepared>,
    batch: usize,
    cuda: bool,
}

impl Subject for Tch {
    fn prepare(&mut self, batch: usize) -> Result<(), EngineError> {
        // The old input's memory is free before the new one asks for some.
        self.input = None;
        self.batch = batch;
        tch::Cuda::cudnn_set_benchmark(self.cuda && batch <= TUNED);
        let input = self.engine.made_on_device(batch);
        self.input = Some(input.map_err(|error| refused(error, batch))?);
        Ok(())
    }

    fn run(&mut self) -> Result<f64, EngineError> {
        let start = Instant::now();
        let mut ordered = 0.0;
        let mut sample = || -> Result<(), TchError> {
            if let Some(input) = &self.input {
                let logits = self.engine.forward(input)?;
                ordered = start.elapsed().as_secs_f64();
                drop(logits.f_to_device(Device::Cpu)?);
            }
            Ok(())
        };
        sample().map_err(|error| refused(error, self.batch))?;
        Ok(ordered)
    }
}

/// Loads the rung that was asked for, or the highest that works: on a GPU `fused`, where
/// cuDNN has its kernels.
fn load(
    args: &TuneArgs,
    model: &Model,
    setting: &Setting,
) -> Result<(TchEngine, Rung, Dtype), LoadError> {
    let cuda = setting.device.is_cuda();
    let dtype = args.dtype.unwrap_or(match cuda {
        true => Dtype::Bf16,
        false => Dtype::F32,
    });
    let load = |rung| {
        TchEngine::load(
            &model.config,
            &model.weights,
            model.side(),
            rung,
            dtype,
            setting.device,
        )
        .map(|engine| (engine, rung, dtype))
    };
    match args.rung {
        Some(rung) => load(rung),
        None if cuda => match load(Rung::Fused) {
            Err(LoadError::Unsupported { .. }) => load(Rung::ChannelsLast),
            loaded => loaded,
        },
        None => load(Rung::ChannelsLast),
    }
}

fn measure(args: &TuneArgs, setting: &Setting) -> anyhow::Result<ResultFile> {
    let quiet = args.output.quiet;
    let wishes = Wishes {
        arch: args.model.arch,
        stem: args.model.stem,
        side: args.model.image,
        channels: None,
    };
    let model = Model::open(&args.model.weights, wishes, quiet)?;
    let cuda = setting.device.is_cuda();
    let (engine, rung, dtype) = load(args, &model, setting)?;
    let most = args
        .max_batch
        .unwrap_or(if cuda { GPU_MOST } else { CPU_MOST });
    let pace = match args.output.quick {
        true => Pace::quick(),
        false => Pace::full(),
    };
    let mut file = output::new_file("tune", setting);
    file.title = Some(format!(
        "{} on {side} x {side} images, {rung}, {dtype}, on {}",
        model.config.arch,
        setting.device_name(),
        side = model.side(),
    ));
    file.notes.push(format!("weights: {}", model.origin));
    if cuda {
        file.notes.push(format!(
            "cuDNN's autotuner is on up to batch {TUNED}; above, its heuristics choose"
        ));
    }
    let row = |id: String, label: String, kind: &str, batch: usize| {
        Row::ok(id, label)
            .with("kind", kind)
            .with("engine", "tch")
            .with("device", setting.device_name())
            .with("rung", json!(rung))
            .with("dtype", json!(dtype))
            .with("arch", json!(model.config.arch))
            .with("image", model.side())
            .with("batch", batch)
            .with("threads", setting.threads)
    };

    let progress = Progress::new(None, "batch sizes", quiet);
    let gauge = meter::open(setting.device, quiet);
    let gauge = gauge.as_ref().map(|gauge| gauge as &dyn Gauge);
    let mut subject = Tch {
        engine,
        input: None,
        batch: 0,
        cuda,
    };
    let mut points = vec![];
    let mut rows = vec![];
    let end = sweep::sweep(&mut subject, most, &pace, gauge, |measured| {
        let Measured {
            batch,
            samples,
            host_seconds,
            spent,
        } = measured;
        let rate = samples.items_per_second().unwrap_or(f64::NAN);
        progress.println(&format!("batch {batch}: {}", human::rate(rate, "images")));
        points.push(Point { batch, rate });
        let images = batch * (samples.seconds.len() + samples.warmup_seconds.len());
        let mut row = row(format!("b{batch}"), format!("Batch {batch}"), "size", batch);
        if let Some(summary) = samples.summary() {
            row = row
                .with_metric("latency_p50_ms", 1e3 * summary.p50)
                .with_metric("latency_p99_ms", 1e3 * summary.p99);
            if cuda {
                // Where the host gives orders as long as the device computes, it is the host
                // that is waited for.
                row = row
                    .with_metric("host_ms", 1e3 * host_seconds)
                    .with_metric("host_share", host_seconds / summary.median);
            }
        }
        rows.push(spent.tell(row, images).with_samples(samples));
    });
    if let Some(knee) = knee::knee(&points, args.knee) {
        let label = format!(
            "The knee: the smallest batch with {:.0}% of the best throughput",
            100.0 * args.knee
        );
        rows.push(
            row("knee".into(), label, "knee", knee.batch)
                .with("share_of_best", args.knee)
                .with_metric("knee_batch", knee.batch as f64)
                .with_metric("knee_images_per_second", knee.rate),
        );
    }
    match end {
        End::Reached => {}
        End::OutOfMemory { batch, message } => {
            let label = format!("No memory for {batch} images at once");
            rows.push(
                row("out-of-memory".into(), label, "limit", batch)
                    .with("said", message)
                    .with_metric("out_of_memory_batch", batch as f64),
            );
        }
        End::Failed { batch, error } if rows.is_empty() => {
            return Err(anyhow::Error::from(error).context(format!("a batch of {batch} failed")));
        }
        End::Failed { batch, error } => {
            let failed = Row::failed(
                format!("b{batch}"),
                format!("Batch {batch}"),
                error.to_string(),
            );
            rows.push(Row {
                workload: row(String::new(), String::new(), "size", batch).workload,
                ..failed
            });
        }
    }
    file.rows = rows;
    Ok(file)
}

/// The rows for people.
fn table(file: &ResultFile) -> Vec<String> {
    let mut lines: Vec<String> = file.title.iter().cloned().collect();
    for row in &file.rows {
        let metric = |name: &str| row.metrics.get(name).copied().unwrap_or_default();
        lines.push(match &row.samples {
            Some(samples) => format!(
                "  batch {:<7} {:>18}  p50 {:>9}  p99 {:>9}",
                samples.items_per_sample,
                human::rate(samples.items_per_second().unwrap_or_default(), "images"),
                human::duration(metric("latency_p50_ms") / 1e3),
                human::duration(metric("latency_p99_ms") / 1e3),
            ),
            None => match &row.reason {
                Some(reason) => format!("  {}: {reason}", row.label),
                None if row.id == "knee" => format!("  {}: {}", row.label, metric("knee_batch")),
                None => format!("  {}", row.label),
            },
        });
    }
    lines
}
