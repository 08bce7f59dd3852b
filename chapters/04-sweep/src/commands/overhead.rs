//! `parallel-training overhead`: what a run costs that trains nothing.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use accel::{
    environment::Environment,
    exit, human,
    progress::Progress,
    results::{ResultFile, Row},
    stdout::print_line,
    timing::Samples,
};
use anyhow::Context;
use tokio::sync::watch;
use tpu_training::{cli::Data, config::TrainConfig};

use crate::{
    cli::OverheadArgs,
    display::Display,
    halving::Rungs,
    journal::Journal,
    manifest::{Manifest, Settings, SweepFolder},
    report,
    run::Run,
    scheduler::{Options, Scheduler, Stopping},
    slots::{self, Slots},
    sweep::{Sweep, Waited},
    worker_process::WorkerCommand,
};

/// Runs the command.
///
/// # Errors
/// What failed.
pub fn run(args: &OverheadArgs) -> anyhow::Result<u8> {
    let rounds = if args.quick { 1 } else { args.rounds };
    let progress = Progress::new(Some(rounds as u64), "rounds", args.quiet);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let slots = Slots::on_cpu(slots::cores(), args.slots, None);
    let mut seconds = vec![];
    for _ in 0..rounds {
        let scratch = tempfile::tempdir()?;
        let start = Instant::now();
        runtime.block_on(empty_sweep(scratch.path(), args.runs, slots))?;
        seconds.push(start.elapsed().as_secs_f64());
        progress.inc(1);
    }
    progress.finish();
    let mut file = ResultFile::new("04-sweep", "overhead", Environment::collect());
    file.title = Some("A sweep of runs that train nothing".into());
    file.depends_on = report::depends_on();
    file.rows.push(
        Row::ok("empty-runs", "runs that train nothing")
            .with("runs", args.runs)
            .with("slots", slots.count)
            .with_samples(Samples {
                items_per_sample: args.runs,
                warmup_seconds: vec![],
                seconds: seconds.clone(),
            }),
    );
    report::hand_over(&file, args.out.as_deref(), args.json, || {
        let fastest = seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let slowest = seconds.iter().copied().fold(0.0, f64::max);
        let (fastest, slowest) = (human::duration(fastest), human::duration(slowest));
        Ok(print_line(&format!(
            "{} runs in {fastest} to {slowest}",
            args.runs
        ))?)
    })?;
    Ok(exit::OK)
}

/// A sweep with everything that belongs to one, but for the training.
async fn empty_sweep(folder: &Path, runs: usize, slots: Slots) -> anyhow::Result<()> {
    let (_sender, stopping) = watch::channel(Stopping::No);
    let options = Options {
        command: WorkerCommand {
            program: std::env::current_exe().context("cannot find this program")?,
            arguments: vec!["worker".into(), "--empty".into(), "--with-parent".into()],
            threads: slots.threads,
        },
        slots,
        wished: None,
        silence: Duration::from_secs(60),
    };
    let (mut scheduler, ready) = Scheduler::start(options, stopping.clone()).await?;
    let config = |seed| TrainConfig {
        seed: seed as u64,
        ..TrainConfig::digits()
    };
    let runs = (0..runs).map(|seed| Run::new(Data::Digits, config(seed)));
    let settings = Settings {
        device: ready.device,
        threads: slots.threads,
        rungs: Rungs::single(),
        seeds: 1,
        leaders: 1,
        made_up: false,
    };
    let folder = SweepFolder::open(folder)?;
    let mut sweep = Sweep {
        journal: Journal::open(folder.path())?,
        manifest: Manifest::new(settings, runs.collect()),
        folder,
        display: Display::new(true),
        retries: 0,
        stopping,
        usage: vec![],
        waited: Waited::default(),
    };
    sweep.folder.write(&sweep.manifest)?;
    sweep.conduct(&mut scheduler).await?;
    let (done, runs) = (sweep.manifest.done(), sweep.manifest.runs.len());
    anyhow::ensure!(done == runs, "{done} of {runs} empty runs were done");
    Ok(())
}
