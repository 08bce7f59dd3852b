//! `parallel-training isolation`: trainings side by side, as threads and as processes.
//!
//! On the CPU, where the trainings share cores, and XLA's pools of threads belong to a process.

use std::{path::Path, time::Instant};

use accel::{
    environment::Environment,
    exit,
    progress::Progress,
    results::{ResultFile, Row},
    stdout::print_line,
    timing::Samples,
};
use anyhow::{Context, bail};

use crate::{
    cli::{GridArgs, IsolationArgs},
    commands::sweep::planned,
    protocol::{Answer, Request, Trained},
    report,
    run::Run,
    slots,
    worker_process::{WorkerCommand, WorkerProcess},
};

/// Who computes, and where.
struct Arrangement {
    id: &'static str,
    label: String,
    processes: usize,
    /// Trainings at the same time in each of them.
    at_once: usize,
    /// Threads that XLA has in each of them.
    threads: usize,
}

/// Runs the command.
///
/// # Errors
/// What failed.
pub fn run(args: &IsolationArgs) -> anyhow::Result<u8> {
    let (rounds, epochs) = match args.quick {
        true => (1, 1),
        false => (args.rounds, args.epochs),
    };
    let cores = slots::cores();
    let slots = args.slots.unwrap_or(cores);
    let arrangements = arrangements(slots, cores);
    let runs = runs(slots, epochs)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let progress = Progress::new(
        Some((rounds * arrangements.len()) as u64),
        "trainings",
        args.quiet,
    );
    let mut seconds = vec![vec![]; arrangements.len()];
    let mut images = vec![0; arrangements.len()];
    for round in 0..rounds {
        for turn in 0..arrangements.len() {
            // Nobody always comes first.
            let at = (turn + round) % arrangements.len();
            let measured = measure(&arrangements[at], &runs);
            let (took, trained) = runtime.block_on(measured)?;
            seconds[at].push(took);
            images[at] = trained;
            progress.inc(1);
        }
    }
    progress.finish();
    let mut file = ResultFile::new("04-sweep", "isolation", Environment::collect());
    file.title = Some("Trainings side by side, as threads and as processes".into());
    file.depends_on = report::depends_on();
    file.notes.push(
        "programs are compiled before the clock starts; one sample is every training of the \
         arrangement, from the request to the last answer, checkpoints included"
            .into(),
    );
    for ((arrangement, seconds), images) in arrangements.iter().zip(seconds).zip(images) {
        let config = &runs[0].config;
        let row = Row::ok(arrangement.id, &arrangement.label)
            .with("engine", "pjrt")
            .with("device", "cpu")
            .with("arch", config.network.arch.name())
            .with("width", config.network.width)
            .with("batch", config.batch)
            .with("epochs", epochs)
            .with("processes", arrangement.processes)
            .with("trainings", arrangement.processes * arrangement.at_once)
            .with("threads", arrangement.threads);
        file.rows.push(row.with_samples(Samples {
            items_per_sample: images,
            warmup_seconds: vec![],
            seconds,
        }));
    }
    report::hand_over(&file, args.out.as_deref(), args.json, || {
        for row in &file.rows {
            let median = row.samples.as_ref().and_then(Samples::items_per_second);
            let rate = median.unwrap_or(f64::NAN);
            print_line(&format!("{:<40} {rate:>8.0} images/s", row.label))?;
        }
        Ok(())
    })?;
    Ok(exit::OK)
}

/// One training alone; then as many as there are slots, in both ways.
fn arrangements(slots: usize, cores: usize) -> [Arrangement; 3] {
    let each = (cores / slots).max(1);
    [
        Arrangement {
            id: "alone",
            label: "one training alone".into(),
            processes: 1,
            at_once: 1,
            threads: each,
        },
        Arrangement {
            id: "processes",
            label: format!("{slots} trainings, a process each"),
            processes: slots,
            at_once: 1,
            threads: each,
        },
        Arrangement {
            id: "threads",
            label: format!("{slots} trainings, threads of one process"),
            processes: 1,
            at_once: slots,
            threads: each * slots,
        },
    ]
}

/// The first of the chapter's 18 runs, with a seed for each slot.
fn runs(slots: usize, epochs: usize) -> anyhow::Result<Vec<Run>> {
    let grid = GridArgs {
        grid: None,
        data: None,
        epochs: Some(epochs),
        width: None,
        seed: None,
        max_runs: 1000,
    };
    let planned = planned(&grid, false, false)?;
    let first = planned.first().context("the grid has no run")?;
    Ok((0..slots as u64)
        .map(|seed| first.with_seed(seed))
        .collect())
}

/// Starts the workers, has them compile, and times the trainings.
///
/// Returns seconds, and images trained in them.
async fn measure(arrangement: &Arrangement, runs: &[Run]) -> anyhow::Result<(f64, usize)> {
    let scratch = tempfile::tempdir()?;
    let mut workers = vec![];
    for _ in 0..arrangement.processes {
        let command = command(arrangement, scratch.path())?;
        let (worker, _) = WorkerProcess::start(&command).await?;
        workers.push(worker);
    }
    let trainings = arrangement.processes * arrangement.at_once;
    let runs = &runs[..trainings];
    let warm: Vec<Run> = (runs.iter())
        // A seed of its own: what is timed finds no checkpoint.
        .map(|run| run.with_seed(run.config.seed + runs.len() as u64))
        .collect();
    all(&mut workers, &warm, Some(1)).await?;
    let start = Instant::now();
    let trained = all(&mut workers, runs, None).await?;
    let seconds = start.elapsed().as_secs_f64();
    let images = (trained.iter())
        .map(|run| run.images_per_epoch * run.epochs)
        .sum();
    Ok((seconds, images))
}

fn command(arrangement: &Arrangement, out: &Path) -> anyhow::Result<WorkerCommand> {
    let at_once = arrangement.at_once.to_string();
    let words = ["worker", "--progress", "--with-parent", "--device", "cpu"];
    let words = words.into_iter().chain(["--at-once", &at_once, "--out"]);
    Ok(WorkerCommand {
        program: std::env::current_exe().context("cannot find this program")?,
        arguments: words.map(Into::into).chain([out.into()]).collect(),
        threads: Some(arrangement.threads),
    })
}

/// Has the workers train the runs, an equal share each, and waits for all of them.
async fn all(
    workers: &mut [WorkerProcess],
    runs: &[Run],
    until: Option<usize>,
) -> anyhow::Result<Vec<Trained>> {
    let share = runs.len() / workers.len();
    for (worker, runs) in workers.iter_mut().zip(runs.chunks(share)) {
        for run in runs {
            let request = Request {
                run: run.clone(),
                until,
                test: false,
            };
            worker.ask(&request).await?;
        }
    }
    let mut trained = vec![];
    for worker in workers {
        let mut left = share;
        while left > 0 {
            match worker.answer().await {
                Some(Answer::Done(run)) => {
                    trained.push(*run);
                    left -= 1;
                }
                Some(Answer::Failed(failed)) => bail!("{}: {}", failed.id, failed.message),
                Some(Answer::Stopped { id }) => bail!("{id}: stopped"),
                Some(Answer::Ready(_) | Answer::Compiled(_) | Answer::Epoch(_)) => {}
                None => bail!("{}", worker.how_it_ended().await),
            }
        }
    }
    Ok(trained)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_have_the_same_cores_and_trainings() {
        for (slots, cores) in [(2, 2), (4, 16), (3, 2)] {
            let [alone, processes, threads] = arrangements(slots, cores);
            let trainings = |a: &Arrangement| a.processes * a.at_once;
            assert_eq!(trainings(&alone), 1);
            assert_eq!(trainings(&processes), slots);
            assert_eq!(trainings(&threads), slots);
            let all_threads = |a: &Arrangement| a.processes * a.threads;
            assert_eq!(all_threads(&processes), all_threads(&threads));
        }
        let runs = runs(3, 2).unwrap();
        assert!(runs.iter().all(Run::is_genuine));
        assert_eq!(runs[2].config.epochs, 2);
        assert!(runs[0].id != runs[2].id);
    }
}
