//! `cpu-inference ladder`: the same batch on each rung, in turn.
//!
//! All rungs are loaded first and then measured round by round, so that a
//! machine that slows down for a moment slows all of them.

use std::time::Instant;

use accel::{
    exit, human,
    progress::Progress,
    results::{ResultFile, Row},
    timing::Samples,
};
use anyhow::Context;
use serde_json::json;
use tch::Device;

use crate::{
    cli::LadderArgs,
    engine::{Batch, Engine, Logits},
    failure::print_line,
    model::{Model, Wishes},
    pipeline::top,
    preprocess::Picture,
    resnet::seeded,
    setting,
    source,
    pipeline::Input,
    tch_engine::{Dtype, Rung, TchEngine},
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

/// Measures all rungs in f32, and in bf16 where the CPU has it.
///
/// # Errors
/// What was refused, or what failed.
pub fn measure(args: &LadderArgs, measurement: &str) -> anyhow::Result<ResultFile> {
    let progress = Progress::new(None, "rounds", args.quiet);
    let (threads, malloc) = setting::apply(&args.device, args.quiet)?;
    let wishes = Wishes {
        arch: args.model.arch,
        stem: args.model.stem,
        side: args.model.image,
        channels: None,
    };
    let model = Model::open(&args.model.weights, wishes, args.quiet)?;
    let held_out = held_out(&model)?;
    let environment = setting::environment();
    let bf16 = environment
        .cpu_features
        .iter()
        .any(|feature| feature.contains("bf16"));
    let mut file = ResultFile::new("01-cpu", measurement, environment);
    file.title = Some(format!(
        "{} on {} x {} images, batches of {}, {threads} threads",
        model.config.arch,
        model.side(),
        model.side(),
        args.batch
    ));
    file.depends_on = super::depends_on();
    file.notes.push(format!("weights: {}", model.origin));

    let [channels, side] = [model.config.channels, model.side()];
    let shape = [args.batch, channels, side, side];
    let pixels = seeded::tensor(0, "input", &shape);
    let batch = Batch {
        pixels: &pixels,
        shape,
    };
    let mut reference: Option<Logits> = None;
    let mut running = vec![];
    for dtype in [Dtype::F32, Dtype::Bf16] {
        for rung in Rung::ALL {
            let id = format!("{rung}-{dtype}");
            let row = Row::ok(&id, format!("{rung}, {dtype}"))
                .with("engine", "tch")
                .with("rung", json!(rung))
                .with("dtype", json!(dtype))
                .with("arch", json!(model.config.arch))
                .with("image", side)
                .with("batch", args.batch)
                .with("threads", threads)
                .with("malloc", malloc);
            if dtype == Dtype::Bf16 && !bf16 {
                file.rows.push(Row {
                    status: accel::results::Status::Skipped,
                    reason: Some("this CPU has no bf16 instructions".into()),
                    ..row
                });
                continue;
            }
            progress.println(&format!("loading {id}"));
            let mut engine =
                TchEngine::load(&model.config, &model.weights, side, rung, dtype, Device::Cpu)?;
            let logits = engine.infer(batch)?;
            let mut row = row;
            if let Some(reference) = &reference {
                row = row.with_metric(
                    "logit_max_relative_difference",
                    relative_difference(&logits, reference),
                );
            }
            if let Some((pixels, labels)) = &held_out {
                let accuracy = accuracy(&mut engine, pixels, labels)?;
                row = row.with_metric("accuracy", accuracy);
            }
            reference.get_or_insert(logits);
            let input = engine.prepare(batch)?;
            running.push((engine, input, row, vec![], vec![]));
        }
    }

    let rounds = if args.quick { 3 } else { args.rounds };
    let bar = Progress::new(Some((rounds + 1) as u64), "rounds", args.quiet);
    for round in 0..=rounds {
        for (engine, input, _, warmup, seconds) in &mut running {
            // Small batches repeat until the clock's grain no longer matters.
            let start = Instant::now();
            loop {
                let sample = Instant::now();
                drop(engine.forward(input)?);
                let elapsed = sample.elapsed().as_secs_f64();
                if round == 0 { &mut *warmup } else { &mut *seconds }.push(elapsed);
                if start.elapsed().as_millis() >= 50 {
                    break;
                }
            }
        }
        bar.inc(1);
    }
    bar.finish();
    for (_, _, row, warmup_seconds, seconds) in running {
        file.rows.push(row.with_samples(Samples {
            items_per_sample: args.batch,
            warmup_seconds,
            seconds,
        }));
    }
    Ok(file)
}

/// Largest difference of a logit, over the largest logit.
fn relative_difference(logits: &Logits, reference: &Logits) -> f64 {
    let largest = reference.values.iter().fold(0f32, |m, v| m.max(v.abs()));
    let difference = logits
        .values
        .iter()
        .zip(&reference.values)
        .fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    f64::from(difference / largest)
}

/// The held-out digits, normalised, if the model is one for digits.
fn held_out(model: &Model) -> anyhow::Result<Option<(Vec<f32>, Vec<usize>)>> {
    if model.config.channels != 1 || model.config.classes != 10 {
        return Ok(None);
    }
    let side = model.side();
    let (mut pixels, mut labels) = (vec![], vec![]);
    for item in source::digits(None)?.items {
        let Input::Picture(picture) = item.input else {
            continue;
        };
        pixels.extend(prepared(model, picture, side)?);
        labels.extend(item.label);
    }
    Ok(Some((pixels, labels)))
}

fn prepared(model: &Model, picture: Picture, side: usize) -> anyhow::Result<Vec<f32>> {
    let picture = model.transform.resize(&mut Default::default(), picture)?;
    let mut out = vec![0.0; side * side];
    model.transform.normalise(&picture, &mut out);
    Ok(out)
}

fn accuracy(engine: &mut TchEngine, pixels: &[f32], labels: &[usize]) -> anyhow::Result<f64> {
    let [channels, height, width] = engine.image_shape();
    let logits = engine.infer(Batch {
        pixels,
        shape: [labels.len(), channels, height, width],
    })?;
    let right = logits
        .rows()
        .zip(labels)
        .filter(|(row, label)| top(row, 1).first().is_some_and(|s| s.class == **label))
        .count();
    Ok(right as f64 / labels.len() as f64)
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
            lines.push(format!("  {:<22} not measured: {reason}", row.label));
            continue;
        };
        let rate = samples.items_per_second().unwrap_or_default();
        let accuracy = row
            .metrics
            .get("accuracy")
            .map_or(String::new(), |a| format!("  accuracy {:.2}%", 100.0 * a));
        lines.push(format!(
            "  {:<22} {:>16}  {:>5.2} of the first rung{accuracy}",
            row.label,
            human::rate(rate, "images"),
            rate / first.unwrap_or(rate),
        ));
    }
    lines
}
