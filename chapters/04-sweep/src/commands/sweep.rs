//! `parallel-training sweep`.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use accel::{device::DeviceRequest, environment::Environment, exit, stdout::print_line};
use anyhow::Context;
use tokio::{runtime, sync::watch};
use tpu_training::{commands::train::data_set, data_set::DataSet};

use crate::{
    cli::{GridArgs, SweepArgs, WorkArgs},
    display::Display,
    grid::Grid,
    halving::Rungs,
    journal::{self, Journal},
    manifest::{Manifest, ManifestError, Settings, SweepFolder},
    protocol::Ready,
    report::{self, Account},
    run::Run,
    scheduler::{Options, Scheduler, Stopping},
    slots::{self, Slots},
    sweep::{Sweep, Waited},
    worker_process::WorkerCommand,
};

/// One in so many goes on, with `--halving`.
const FACTOR: usize = 3;

/// Runs the command: exit code 1 if a run failed, 130 if it was interrupted and saved.
///
/// # Errors
/// What failed, on what value, what to do next.
pub fn run(args: &SweepArgs) -> anyhow::Result<u8> {
    let (account, _scratch) = conduct(args)?;
    report::print(&account, args.work.json)?;
    Ok(account.code())
}

/// The sweep, with its result file written.
///
/// # Errors
/// What failed; what was done is kept.
pub fn conduct(args: &SweepArgs) -> anyhow::Result<(Account, Option<tempfile::TempDir>)> {
    let scratch = args.work.dry_run.then(tempfile::tempdir).transpose()?;
    let out = scratch
        .as_ref()
        .map_or(args.out.as_path(), |folder| folder.path());
    let begun = Instant::now();
    let folder = SweepFolder::open(out)?;
    let manifest = prepare(args, &folder)?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let account = runtime.block_on(work(args, folder, manifest, begun));
    // A task that waits for a worker must not hold the end up.
    runtime.shutdown_background();
    Ok((account?, scratch))
}

/// The runs of the flags.
///
/// # Errors
/// What is wrong with the grid.
pub fn planned(args: &GridArgs, quick: bool, dry_run: bool) -> anyhow::Result<Vec<Run>> {
    let mut grid = match &args.grid {
        Some(path) => Grid::read(path)?,
        None => Grid::eighteen(),
    };
    if quick || dry_run {
        grid.set("epochs", 2);
        grid.set("width", 4);
        // The form that compiles fastest: most of so short a sweep is compiling.
        grid.set("conv", "convolution");
        grid.set("compile", "fast");
    }
    if dry_run {
        // Six runs of two programs take the whole path.
        grid.set("batch", 16);
    }
    if let Some(data) = args.data {
        let value = clap::ValueEnum::to_possible_value(&data);
        let value = value
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default();
        grid.set("data", value);
    }
    if let Some(epochs) = args.epochs {
        grid.set("epochs", epochs as i64);
    }
    if let Some(width) = args.width {
        grid.set("width", width as i64);
    }
    if let Some(seed) = args.seed {
        grid.set("seed", i64::from(seed));
    }
    let load = |data| match dry_run {
        true => Ok(DataSet::made_up(128, 8, 1, 10)),
        false => data_set(data, None, true),
    };
    Ok(grid.runs(args.max_runs, load)?)
}

/// The sweep that is to be gone on with, or a new one.
fn prepare(args: &SweepArgs, folder: &SweepFolder) -> anyhow::Result<Manifest> {
    let address = folder.path().display().to_string();
    let there = folder.manifest()?;
    let grid = &args.grid;
    let named = grid.grid.is_some()
        || grid.data.is_some()
        || grid.epochs.is_some()
        || grid.width.is_some()
        || grid.seed.is_some()
        || args.work.quick;
    match (there, args.work.resume) {
        (None, true) => Err(ManifestError::None { folder: address }.into()),
        (Some(manifest), false) => Err(ManifestError::Occupied {
            folder: address,
            runs: manifest.runs.len(),
            done: manifest.done(),
        }
        .into()),
        (Some(manifest), true) => {
            if named {
                same_runs(
                    &manifest,
                    &planned(grid, args.work.quick, false)?,
                    address.clone(),
                )?;
            }
            same_settings(&manifest.settings, &args.work, address)?;
            Ok(manifest)
        }
        (None, false) => {
            let runs = planned(grid, args.work.quick, args.work.dry_run)?;
            Ok(Manifest::new(settings(&args.work, &runs), runs))
        }
    }
}

fn settings(args: &WorkArgs, runs: &[Run]) -> Settings {
    let epochs = runs.iter().map(|run| run.config.epochs).max().unwrap_or(1);
    let on_cpu = matches!(args.device.device, DeviceRequest::Auto | DeviceRequest::Cpu);
    let slots = Slots::on_cpu(slots::cores(), args.slots, args.threads);
    Settings {
        // Until a worker says what `auto` is here.
        device: args.device.device.to_string(),
        threads: slots.threads.filter(|_| on_cpu),
        rungs: match args.halving {
            true => Rungs::halving(runs.len(), epochs, FACTOR),
            false => Rungs::single(),
        },
        seeds: args.seeds,
        leaders: args.leaders,
        made_up: args.dry_run,
    }
}

fn same_runs(manifest: &Manifest, planned: &[Run], folder: String) -> Result<(), ManifestError> {
    let there: Vec<&Run> = (manifest.runs.iter())
        .filter(|entry| entry.repeats.is_none())
        .map(|entry| &entry.run)
        .collect();
    match there.len() == planned.len() && there.iter().zip(planned).all(|(a, b)| **a == *b) {
        true => Ok(()),
        false => Err(ManifestError::Other {
            folder,
            what: "runs",
            expected: names(there),
            got: format!("asks for {}", names(planned.iter().collect())),
        }),
    }
}

fn names(runs: Vec<&Run>) -> String {
    let first: Vec<_> = runs.iter().take(3).map(|run| run.id.as_str()).collect();
    let more = runs.len().saturating_sub(first.len());
    match more {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Flags that change results must be those that the sweep began with.
fn same_settings(there: &Settings, args: &WorkArgs, folder: String) -> Result<(), ManifestError> {
    let other = |what, expected: String, got: String| {
        let folder = folder.clone();
        Err(ManifestError::Other {
            folder,
            what,
            expected,
            got,
        })
    };
    let device = args.device.device;
    if device != DeviceRequest::Auto && there.device != device.to_string() {
        return other("device", there.device.clone(), format!("asks for {device}"));
    }
    if let Some(threads) = args.threads
        && there.threads != Some(threads)
    {
        let expected = there
            .threads
            .map_or("none".to_owned(), |threads| threads.to_string());
        return other("threads", expected, format!("asks for {threads}"));
    }
    if args.halving && there.rungs.len() == 1 {
        return other("halving", "no".to_owned(), "asks for it".to_owned());
    }
    if args.seeds > 1 && args.seeds != there.seeds {
        return other(
            "seeds",
            there.seeds.to_string(),
            format!("asks for {}", args.seeds),
        );
    }
    Ok(())
}

async fn work(
    args: &SweepArgs,
    folder: SweepFolder,
    mut manifest: Manifest,
    begun: Instant,
) -> anyhow::Result<Account> {
    let (sender, stopping) = watch::channel(Stopping::No);
    tokio::spawn(watch_for_ctrl_c(sender));
    let wished = args.work.slots;
    let cores = slots::cores();
    let slots = match manifest.settings.threads {
        // As many as leave the cores at one thread each, also after a resume elsewhere.
        Some(threads) => Slots::on_cpu(cores, wished, Some(threads)),
        None => Slots {
            count: wished.unwrap_or(1),
            threads: None,
        },
    };
    let options = Options {
        command: worker_command(args, &manifest, &folder.runs(), slots.threads)?,
        slots,
        wished,
        silence: Duration::from_secs(args.work.silence_limit),
    };
    let mut display = Display::new(args.work.quiet);
    let (mut scheduler, ready) = Scheduler::start(options, stopping.clone()).await?;
    display.println(&format!("device {}", ready.reason));
    let resumed = args.work.resume;
    settle_device(&mut manifest, &ready, resumed, &folder)?;
    display.begin(&manifest);
    let mut journal = Journal::open(folder.path())?;
    let (runs, count) = (manifest.runs.len(), slots.count);
    journal.write(&journal::Event::Sweep {
        runs,
        slots: count,
        resumed,
    })?;
    folder.write(&manifest)?;
    let mut sweep = Sweep {
        folder,
        manifest,
        journal,
        display,
        retries: args.work.retries,
        stopping,
        usage: vec![],
        waited: Waited::default(),
    };
    let complete = sweep.conduct(&mut scheduler).await?;
    sweep.display.finish();
    let mut environment = Environment::collect();
    environment.libraries.extend(ready.versions);
    let account = Account::of(sweep, complete, begun.elapsed().as_secs_f64(), environment)?;
    Ok(account)
}

/// The device is what the first worker opened; a sweep that is resumed stays on its own.
fn settle_device(
    manifest: &mut Manifest,
    ready: &Ready,
    resumed: bool,
    folder: &SweepFolder,
) -> Result<(), ManifestError> {
    if resumed && manifest.settings.device != ready.device {
        return Err(ManifestError::Other {
            folder: folder.path().display().to_string(),
            what: "device",
            expected: manifest.settings.device.clone(),
            got: format!("finds {}", ready.device),
        });
    }
    manifest.settings.device.clone_from(&ready.device);
    Ok(())
}

fn worker_command(
    args: &SweepArgs,
    manifest: &Manifest,
    runs: &Path,
    threads: Option<usize>,
) -> anyhow::Result<WorkerCommand> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut arguments = vec!["worker".into(), "--progress".into(), "--with-parent".into()];
    let device = match args.work.resume {
        true => manifest.settings.device.clone(),
        false => args.work.device.device.to_string(),
    };
    arguments.extend(["--device".into(), device.into()]);
    if let Some(plugin) = &args.work.device.plugin {
        arguments.extend(["--plugin".into(), plugin.into()]);
    }
    if manifest.settings.made_up {
        arguments.push("--made-up".into());
    }
    arguments.extend(["--out".into(), runs.into()]);
    Ok(WorkerCommand {
        program,
        arguments,
        threads,
    })
}

/// The first Ctrl-C saves what is in progress, the second ends everything.
async fn watch_for_ctrl_c(stopping: watch::Sender<Stopping>) {
    for step in [Stopping::Saving, Stopping::Now] {
        if interrupted().await.is_err() {
            return;
        }
        stopping.send_replace(step);
    }
}

/// Waits for Ctrl-C, or for the signal that asks a process to end.
async fn interrupted() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut end = signal(SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = end.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

/// Prints a line where the user wants words.
///
/// # Errors
/// stdout is closed.
pub fn say(args: &WorkArgs, line: &str) -> anyhow::Result<u8> {
    if !args.json {
        print_line(line)?;
    }
    Ok(exit::OK)
}
