//! `cpu-inference ladder`: the same batch on each rung, in turn.
//!
//! All rungs are loaded first and then measured round by round, so that a
//! machine that slows down for a moment slows all of them.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use accel::{
    exit, human,
    progress::Progress,
    results::{ResultFile, Row, Status},
    timing::Samples,
};
use anyhow::Context;
use serde_json::json;
use tch::{Device, TchError};

use crate::{
    cli::{DeviceArgs, LadderArgs},
    comparison::{accuracy, held_out, noise, relative_difference},
    engine::{Batch, Engine, Logits},
    failure::print_line,
    model::{Model, Wishes},
    setting,
    tch_engine::{Dtype, LoadError, Prepared, Rung, TchEngine, set_threads},
};

/// Runs the command.
///
/// # Errors
/// What was refused, or what failed.
pub fn run(args: LadderArgs) -> anyhow::Result<u8> {
    let file = measure(&args, "ladder")?;
    if let Some(path) = &args.out {
        file.write(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.json {
        print_line(&serde_json::to_string(&file)?)?;
    } else {
        for line in table(&file) {
            print_line(&line)?;
        }
    }
    Ok(exit::OK)
}

/// One row under way: the engine, its batch, and what was measured.
struct Contender {
    engine: Rc<TchEngine>,
    input: Prepared,
    threads: usize,
    row: Row,
    samples: Samples,
}

/// Measures every rung, dtype, batch size and number of threads asked for.
///
/// # Errors
/// What was refused, or what failed.
pub fn measure(args: &LadderArgs, measurement: &str) -> anyhow::Result<ResultFile> {
    let wishes = Wishes {
        arch: args.model.arch,
        stem: args.model.stem,
        side: args.model.image,
        channels: None,
    };
    let model = Model::open(&args.model.weights, wishes, args.quiet)?;
    let mut file = super::CHAPTER.result_file(measurement);
    file.title = Some(format!(
        "{} on {side} x {side} images",
        model.config.arch,
        side = model.side(),
    ));
    file.notes.push(format!("weights: {}", model.origin));
    // What malloc keeps cannot be taken back: as it comes must come first.
    let mallocs: &[bool] = match (args.both_mallocs, args.device.system_malloc) {
        (true, _) => &[true, false],
        (false, system) => &[system],
    };
    for &system_malloc in mallocs {
        let device = DeviceArgs {
            system_malloc,
            ..args.device.clone()
        };
        let setting = setting::apply(&device, args.quiet)?;
        let threads = match args.thread_counts.as_slice() {
            [] => &[setting.threads],
            counts => counts,
        };
        measure_rows(args, &model, threads, setting.malloc, &mut file)?;
    }
    Ok(file)
}

fn measure_rows(
    args: &LadderArgs,
    model: &Model,
    threads: &[usize],
    malloc: &str,
    file: &mut ResultFile,
) -> anyhow::Result<()> {
    let progress = Progress::new(None, "rounds", args.quiet);
    let rungs = match args.rungs.as_slice() {
        [] => &Rung::CPU,
        rungs => rungs,
    };
    let bf16 = file
        .environment
        .cpu_features
        .iter()
        .any(|feature| feature.contains("bf16"));
    let held_out = held_out(model)?;
    let mut running = vec![];
    for &threads in threads {
        set_threads(threads);
        let mut reference: Option<Logits> = None;
        for &dtype in &args.dtypes {
            for &rung in rungs {
                let mut id = format!("{rung}-{dtype}");
                if args.thread_counts.len() > 1 {
                    id += &format!("-t{threads}");
                }
                if args.both_mallocs {
                    id += if malloc == "system" {
                        "-system"
                    } else {
                        "-tuned"
                    };
                }
                let row = |batch: usize| {
                    Row::ok(format!("{id}-b{batch}"), format!("{rung}, {dtype}"))
                        .with("engine", "tch")
                        .with("rung", json!(rung))
                        .with("dtype", json!(dtype))
                        .with("arch", json!(model.config.arch))
                        .with("image", model.side())
                        .with("batch", batch)
                        .with("threads", threads)
                        .with("allocator", malloc)
                };
                if dtype == Dtype::Bf16 && !bf16 {
                    file.rows.extend(args.batch.iter().map(|&batch| Row {
                        status: Status::Skipped,
                        reason: Some("this CPU has no bf16 instructions".into()),
                        ..row(batch)
                    }));
                    continue;
                }
                progress.println(&format!("loading {id}"));
                let engine = TchEngine::load(
                    &model.config,
                    &model.weights,
                    model.side(),
                    rung,
                    dtype,
                    Device::Cpu,
                );
                let mut engine = match engine {
                    Err(error @ LoadError::Unsupported { .. }) => {
                        file.rows.extend(args.batch.iter().map(|&batch| Row {
                            status: Status::Skipped,
                            reason: Some(error.to_string()),
                            ..row(batch)
                        }));
                        continue;
                    }
                    engine => engine?,
                };
                let mut metrics = vec![];
                let (pixels, shape) = noise(model, args.batch[0]);
                let logits = engine.infer(Batch {
                    pixels: &pixels,
                    shape,
                })?;
                if let Some(reference) = &reference {
                    let difference = relative_difference(&logits, reference);
                    metrics.push(("logit_max_relative_difference", difference));
                }
                reference.get_or_insert(logits);
                if let Some((pixels, labels)) = &held_out {
                    metrics.push(("accuracy", accuracy(&mut engine, pixels, labels)?));
                }
                let engine = Rc::new(engine);
                for &batch in &args.batch {
                    let (pixels, shape) = noise(model, batch);
                    let input = engine.prepare(Batch {
                        pixels: &pixels,
                        shape,
                    })?;
                    let mut row = row(batch);
                    for &(name, value) in &metrics {
                        row = row.with_metric(name, value);
                    }
                    running.push(Contender {
                        engine: Rc::clone(&engine),
                        input,
                        threads,
                        row,
                        samples: Samples {
                            items_per_sample: batch,
                            ..Samples::default()
                        },
                    });
                }
            }
        }
    }

    let rounds = if args.quick { 3 } else { args.rounds };
    let bar = Progress::new(Some((rounds + 1) as u64), "rounds", args.quiet);
    for round in 0..=rounds {
        for contender in &mut running {
            contender.turn(round == 0)?;
        }
        bar.inc(1);
    }
    bar.finish();
    file.rows
        .extend(running.into_iter().map(|c| c.row.with_samples(c.samples)));
    Ok(())
}

impl Contender {
    /// One turn: one batch, or, where a batch is short, 50 ms of them.
    fn turn(&mut self, warmup: bool) -> Result<(), TchError> {
        set_threads(self.threads);
        if !warmup {
            // The others have emptied the caches.
            drop(self.engine.forward(&self.input)?);
        }
        let start = Instant::now();
        loop {
            let sample = Instant::now();
            drop(self.engine.forward(&self.input)?);
            let seconds = sample.elapsed().as_secs_f64();
            match warmup {
                true => self.samples.warmup_seconds.push(seconds),
                false => self.samples.seconds.push(seconds),
            }
            if start.elapsed() >= Duration::from_millis(50) {
                return Ok(());
            }
        }
    }
}

/// The rows for people.
pub fn table(file: &ResultFile) -> Vec<String> {
    let first = file
        .rows
        .iter()
        .find_map(|row| row.samples.as_ref()?.items_per_second());
    let mut lines = file.title.iter().cloned().collect::<Vec<_>>();
    for row in &file.rows {
        let Some(samples) = &row.samples else {
            let reason = row.reason.as_deref().unwrap_or_default();
            lines.push(format!("  {:<28} not measured: {reason}", row.id));
            continue;
        };
        let rate = samples.items_per_second().unwrap_or_default();
        let accuracy = row
            .metrics
            .get("accuracy")
            .map_or(String::new(), |a| format!("  accuracy {:.2}%", 100.0 * a));
        lines.push(format!(
            "  {:<28} {:>16}  {:>6.2} times the first row{accuracy}",
            row.id,
            human::rate(rate, "images"),
            rate / first.unwrap_or(rate),
        ));
    }
    lines
}
