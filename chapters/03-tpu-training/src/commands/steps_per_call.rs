//! `tpu-training steps-per-call`: what does a call cost, and what does a loop?

use std::{ops::ControlFlow, path::PathBuf, time::Instant};

use accel::{
    exit, human,
    progress::Progress,
    results::{ResultFile, Row},
    stdout::print_line,
    timing::Samples,
};

use crate::{
    cli::{Data, StepsPerCallArgs},
    commands::train::{depends_on, environment, network, open, workload},
    config::{CompileEffort, LoopStyle, TrainConfig},
    data_set::DataSet,
    failure::Refused,
    trainer::{Driving, Trainer},
};

/// Runs the command.
///
/// # Errors
/// What failed; a row that fails is a row of the result.
pub fn run(args: &StepsPerCallArgs) -> anyhow::Result<u8> {
    let (side, channels) = match args.model.data {
        Data::Digits => (8, 1),
        Data::Cifar10 => (32, 3),
    };
    let rows = rows(&args.steps, args.model.batch, side * side * channels)?;
    // Times do not depend on pixels.
    let data = DataSet::made_up(rows, side, channels, 10);
    let config = TrainConfig {
        network: network(&args.model, &data),
        batch: args.model.batch,
        precision: args.model.precision,
        conv: args.model.conv,
        compile: CompileEffort::Thorough,
        // An epoch for each round and for the warm-up.
        epochs: args.rounds + 1,
        augment: false,
        warmup_steps: 0,
        ..TrainConfig::digits()
    };
    config.check(data.train.len())?;
    let rounds = if args.quick { 3 } else { args.rounds };
    let mut ways = vec![];
    for &steps_per_call in &args.steps {
        for loop_style in [LoopStyle::While, LoopStyle::Unroll] {
            if steps_per_call > 1 || loop_style == LoopStyle::While {
                ways.push(Driving {
                    steps_per_call,
                    loop_style,
                });
            }
        }
    }
    let progress = Progress::new(Some(ways.len() as u64), "programs", args.quiet);
    let opened = open(&args.device, &progress)?;
    let mut file = ResultFile::new("03-tpu-training", "steps-per-call", environment(&opened));
    file.title = Some(format!(
        "Steps in one call, {} on {}",
        config.network.arch, data.name
    ));
    file.depends_on = depends_on();
    if args.quick {
        file.notes
            .push("quick mode: whether it works, not how fast it is".into());
    }

    let mut measured = vec![];
    for driving in ways {
        let mut trainer = Trainer::new(&opened.client, opened.ordinal, &config, &data, driving)?;
        trainer.compile()?;
        let seconds = trainer.compile_time().as_secs_f64();
        progress.println(&format!(
            "{} compiled in {}",
            name(driving),
            human::duration(seconds)
        ));
        progress.inc(1);
        measured.push((driving, trainer, Samples::default()));
    }
    for round in 0..=rounds {
        for (_, trainer, samples) in &mut measured {
            let start = Instant::now();
            let epoch = trainer.train_epoch(|_| ControlFlow::Continue(()))?;
            let seconds = start.elapsed().as_secs_f64();
            samples.items_per_sample = epoch.images;
            match round {
                0 => samples.warmup_seconds.push(seconds),
                _ => samples.seconds.push(seconds),
            }
        }
    }
    progress.finish();
    for (driving, trainer, samples) in measured {
        let rate = samples.items_per_second().unwrap_or_default();
        if !args.json {
            print_line(&format!(
                "{:<12} {}",
                name(driving),
                human::rate(rate, "images")
            ))?;
        }
        let row = workload(
            Row::ok(name(driving), label(driving)),
            &config,
            &data,
            driving,
            &opened,
        )
        .with_metric("compile_seconds", trainer.compile_time().as_secs_f64())
        .with_samples(samples);
        file.rows.push(row);
    }
    finish(&file, args.out.as_ref(), args.json)
}

/// Shortest epoch, in steps.
const EPOCH_STEPS: usize = 16;

/// Most memory for the made-up images, in bytes. They are f32.
const MOST_BYTES: usize = 1_000_000_000;

/// How many made-up rows there are. Half of them train: an epoch is whole calls of every
/// length, so that every way runs the same steps and none is left over.
///
/// * `elements`: of one image
///
/// # Errors
/// [`Refused`] if their images would take too much memory.
fn rows(steps: &[usize], batch: usize, elements: usize) -> Result<usize, Refused> {
    let common = steps.iter().try_fold(1usize, |all, &steps| {
        (all / greatest_common_divisor(all, steps)).checked_mul(steps)
    });
    let rows = common.and_then(|common| {
        let epoch = EPOCH_STEPS.checked_next_multiple_of(common)?;
        epoch.checked_mul(2)?.checked_mul(batch)
    });
    let bytes = |rows: &usize| rows.checked_mul(4 * elements);
    rows.filter(|rows| bytes(rows).is_some_and(|bytes| bytes <= MOST_BYTES))
        .ok_or_else(|| {
            let steps: Vec<_> = steps.iter().map(ToString::to_string).collect();
            Refused(format!(
                "--steps {} with --batch {batch}: the images of an epoch that all of them divide \
                 take more than {}; expected fewer steps, or a smaller batch",
                steps.join(","),
                human::bytes(MOST_BYTES as u64),
            ))
        })
}

fn greatest_common_divisor(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Writes the file where wanted, and prints it where wanted.
///
/// # Errors
/// If either cannot be written.
pub fn finish(file: &ResultFile, out: Option<&PathBuf>, json: bool) -> anyhow::Result<u8> {
    if let Some(path) = out {
        file.write(path)?;
    }
    if json {
        file.validate()?;
        print_line(&serde_json::to_string(file)?)?;
    }
    Ok(exit::OK)
}

fn name(driving: Driving) -> String {
    match driving.steps_per_call {
        1 => "step".into(),
        steps => format!("{}-{steps}", driving.loop_style),
    }
}

fn label(driving: Driving) -> String {
    match (driving.steps_per_call, driving.loop_style) {
        (1, _) => "one step a call".into(),
        (steps, LoopStyle::While) => format!("{steps} steps in a while loop"),
        (steps, LoopStyle::Unroll) => format!("{steps} steps written out"),
    }
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn every_call_divides_the_epoch() {
        for (steps, epoch) in [
            (vec![1, 4, 16], 16),
            (vec![3], 18),
            (vec![1, 5, 10], 20),
            (vec![6, 4], 24),
            (vec![32], 32),
        ] {
            assert_eq!(rows(&steps, 64, 64).unwrap(), 2 * epoch * 64, "{steps:?}");
        }
    }

    #[test]
    fn an_epoch_beyond_all_memory_is_refused() {
        for (steps, batch) in [
            (vec![100_000], 65_536),
            (vec![99_989, 99_991, 99_971, 99_961], 2),
        ] {
            let error = rows(&steps, batch, 64).unwrap_err().to_string();
            assert!(error.contains("more than 1.00 GB"), "{error}");
        }
    }
}
