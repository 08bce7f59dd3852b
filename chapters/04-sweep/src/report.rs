//! What came of a sweep: the result file, and the table on stdout.

use std::{collections::BTreeMap, path::Path};

use accel::{
    environment::Environment,
    exit, human,
    results::{ResultFile, Row},
    stdout::print_line,
    timing::Samples,
};
use anyhow::Context;

use crate::{
    manifest::{Entry, Manifest, State},
    scheduler::Usage,
    selection::{self, Repeated},
    sweep::{Sweep, Waited},
};

/// A sweep that has ended, or was stopped.
pub struct Account {
    /// How far each run is.
    pub manifest: Manifest,
    /// Whether nothing is left to do.
    pub complete: bool,
    /// The result file.
    pub file: ResultFile,
    /// Where it was written.
    pub written: String,
    /// The sweep's folder.
    pub folder: std::path::PathBuf,
}

impl Account {
    /// Writes the result file of a sweep.
    ///
    /// * `seconds`: of this process, start-up and compiling included
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn of(
        sweep: Sweep,
        complete: bool,
        seconds: f64,
        environment: Environment,
    ) -> anyhow::Result<Self> {
        let Sweep {
            folder,
            manifest,
            usage,
            waited,
            ..
        } = sweep;
        let file = result_file(&manifest, complete, seconds, &usage, waited, environment);
        let written = folder.write_file("result.json", &file.to_text()?)?;
        Ok(Account {
            manifest,
            complete,
            file,
            written,
            folder: folder.path().to_owned(),
        })
    }

    /// The program's exit code.
    pub fn code(&self) -> u8 {
        let failed = self
            .manifest
            .runs
            .iter()
            .any(|entry| entry.failure().is_some());
        match (self.complete, failed) {
            (false, _) => exit::INTERRUPTED,
            (true, true) => exit::FAILED,
            (true, false) => exit::OK,
        }
    }
}

/// What the chapter's figures depend on.
pub fn depends_on() -> Vec<String> {
    let paths = [
        "chapters/04-sweep/src",
        "chapters/03-tpu-training/src",
        "chapters/03-tpu-training/crates",
        "Cargo.lock",
    ];
    paths.map(str::to_owned).to_vec()
}

fn result_file(
    manifest: &Manifest,
    complete: bool,
    seconds: f64,
    usage: &[Usage],
    waited: Waited,
    environment: Environment,
) -> ResultFile {
    let mut file = ResultFile::new("04-sweep", "sweep", environment);
    file.title = Some(format!("A sweep over {} runs", manifest.runs.len()));
    file.depends_on = depends_on();
    if !complete {
        file.notes.push("stopped before its end".into());
    }
    file.rows.push(whole(manifest, seconds, usage, waited));
    // The best first, as a reader wants them; a page may sort them otherwise.
    let mut places: Vec<usize> = (0..manifest.runs.len()).collect();
    places.sort_by(|&a, &b| by_result(&manifest.runs[a], &manifest.runs[b]));
    let leaders = selection::leaders(&manifest.runs, manifest.settings.rungs.last());
    for at in places {
        file.rows
            .push(row(manifest, &manifest.runs[at], &leaders, at));
    }
    file
}

/// Those with a result first, the better ones before; then those without.
fn by_result(a: &Entry, b: &Entry) -> std::cmp::Ordering {
    match (&a.trained, &b.trained) {
        (Some(a), Some(b)) => selection::better_first(a, b),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a.run.id.cmp(&b.run.id),
    }
}

fn whole(manifest: &Manifest, seconds: f64, usage: &[Usage], waited: Waited) -> Row {
    let settings = &manifest.settings;
    let trained = || {
        manifest
            .runs
            .iter()
            .filter_map(|entry| entry.trained.as_ref())
    };
    let epochs: usize = trained().map(|run| run.epochs).sum();
    let full: usize = manifest
        .runs
        .iter()
        .map(|entry| entry.run.config.epochs)
        .sum();
    let slots = usage.iter().map(|usage| usage.slots).max().unwrap_or(0);
    let mut row = Row::ok("sweep", "the whole sweep")
        .with("engine", "pjrt")
        .with("device", settings.device.clone())
        .with("slots", slots)
        .with(
            "strategy",
            if settings.rungs.len() > 1 {
                "halving"
            } else {
                "grid"
            },
        )
        .with_metric("runs", manifest.runs.len() as f64)
        .with_metric("wall_seconds", seconds)
        .with_metric("epochs_trained", epochs as f64)
        .with_metric("epochs_of_full_grid", full as f64)
        .with_metric(
            "compile_seconds",
            trained().map(|run| run.compile_seconds).sum(),
        )
        .with_metric("run_seconds", trained().map(|run| run.seconds).sum())
        .with_metric(
            "images",
            trained()
                .map(|run| (run.images_per_epoch * run.epochs) as f64)
                .sum(),
        );
    if let Some(threads) = settings.threads {
        row = row.with("threads", threads);
    }
    if waited.run_seconds > 0.0 {
        // The first run of each worker waits for the sweep to begin, too.
        let share = waited.waited_seconds / (waited.waited_seconds + waited.run_seconds);
        row = row
            .with_metric("scheduling_share", share)
            .with_metric("waited_seconds", waited.waited_seconds);
    }
    // Weighted by time: a rung's tail is short beside the sweep.
    let until: f64 = usage.iter().map(|usage| usage.until_tail).sum();
    if until > 0.0 {
        row = row.with_metric("seconds_until_tail", until);
        let mean = |weighted: Option<f64>| weighted.map(|sum| sum / until);
        let busy = usage
            .iter()
            .map(|usage| Some(usage.busy_share * usage.until_tail));
        let cpu = usage
            .iter()
            .map(|usage| Some(usage.cpu_share? * usage.until_tail));
        if let Some(share) = mean(busy.sum()) {
            row = row.with_metric("busy_share_until_tail", share);
        }
        if let Some(share) = mean(cpu.sum()) {
            row = row.with_metric("cpu_share_until_tail", share);
        }
    }
    if let Some(winner) = &manifest.winner {
        row = row.with("winner", winner.id.clone());
        if let Some(test) = winner.test {
            row = row
                .with_metric("winner_test_accuracy", test.accuracy)
                .with_metric("winner_test_loss", test.loss)
                .with_metric("winner_test_images", test.images as f64);
        }
    }
    row
}

fn row(manifest: &Manifest, entry: &Entry, leaders: &[Repeated], at: usize) -> Row {
    let run = &entry.run;
    let label = label(entry);
    let mut row = match (&entry.state, &entry.trained) {
        (State::Failed { failed }, _) => Row::failed(&run.id, label, &failed.message),
        (State::Waiting | State::Running, None) => {
            Row::skipped(&run.id, label, "the sweep was stopped before this run")
        }
        _ => Row::ok(&run.id, label),
    };
    let config = &run.config;
    row = row
        .with("engine", "pjrt")
        .with("device", manifest.settings.device.clone())
        .with("arch", config.network.arch.name())
        .with("width", config.network.width)
        .with("batch", config.batch)
        .with("dtype", config.precision.name())
        .with("optimizer", config.optimizer.name())
        .with("learning_rate", config.learning_rate)
        .with("seed", config.seed)
        .with("epochs", config.epochs)
        .with("repeats", entry.repeats.clone())
        .with("attempts", entry.attempts);
    let Some(trained) = &entry.trained else {
        return row;
    };
    let metrics = BTreeMap::from([
        ("learning_rate", config.learning_rate),
        ("validation_accuracy", trained.validation.accuracy),
        ("validation_loss", trained.validation.loss),
        ("training_loss", trained.training_loss),
        ("epochs_trained", trained.epochs as f64),
        ("compile_seconds", trained.compile_seconds),
        ("run_seconds", trained.seconds),
        ("training_seconds", trained.epoch_seconds.iter().sum()),
    ]);
    for (name, value) in metrics {
        row = row.with_metric(name, value);
    }
    if let Some(bytes) = trained.device_bytes {
        row = row.with_metric("estimated_device_bytes", bytes as f64);
    }
    let group = leaders
        .iter()
        .find(|group| group.places.first() == Some(&at));
    if let Some((group, deviation)) = group.and_then(|group| Some((group, group.deviation?))) {
        row = row
            .with("leader", true)
            .with_metric("seeds", group.places.len() as f64)
            .with_metric("mean_validation_accuracy", group.mean)
            .with_metric("deviation_of_validation_accuracy", deviation);
    }
    row.with_samples(Samples {
        items_per_sample: trained.images_per_epoch.max(1),
        warmup_seconds: vec![],
        seconds: trained.epoch_seconds.clone(),
    })
}

/// A run in words.
fn label(entry: &Entry) -> String {
    let config = &entry.run.config;
    let seed = match entry.repeats {
        Some(_) => format!(", seed {}", config.seed),
        None => String::new(),
    };
    format!(
        "{}, batch {}, rate {}{seed}",
        config.network.arch.name(),
        config.batch,
        config.learning_rate
    )
}

/// Hands over the result of a measurement: into a file where one is asked for, and on stdout as
/// one JSON object or as `table` prints it.
///
/// # Errors
/// The file cannot be written, or stdout is closed.
pub fn hand_over(
    file: &ResultFile,
    out: Option<&Path>,
    json: bool,
    table: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if let Some(path) = out {
        file.write(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    match json {
        true => Ok(print_line(&serde_json::to_string(file)?)?),
        false => table(),
    }
}

/// Prints the account: a table, or the result file as one JSON object.
///
/// # Errors
/// stdout is closed.
pub fn print(account: &Account, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(print_line(&serde_json::to_string(&account.file)?)?);
    }
    let metric = |row: &Row, name: &str| row.metrics.get(name).copied();
    print_line(&format!(
        "{:<32} {:>10} {:>9} {:>7} {:>9}",
        "run", "validation", "loss", "epochs", "time"
    ))?;
    for row in account.file.rows.iter().filter(|row| row.id != "sweep") {
        let line = match (metric(row, "validation_accuracy"), &row.reason) {
            (_, Some(reason)) => format!("{:<32} {:?}: {reason}", row.id, row.status),
            (Some(accuracy), None) => format!(
                "{:<32} {:>9.2}% {:>9.4} {:>7} {:>9}",
                row.id,
                100.0 * accuracy,
                metric(row, "validation_loss").unwrap_or(f64::NAN),
                metric(row, "epochs_trained").unwrap_or(0.0),
                human::duration(metric(row, "run_seconds").unwrap_or(0.0)),
            ),
            (None, None) => format!("{:<32} no figures", row.id),
        };
        print_line(&line)?;
    }
    for group in selection::leaders(
        &account.manifest.runs,
        account.manifest.settings.rungs.last(),
    ) {
        if let (Some(deviation), Some(&first)) = (group.deviation, group.places.first()) {
            print_line(&format!(
                "{:<32} {:>9.2}% mean of {} seeds, {:.2} points standard deviation",
                account.manifest.runs[first].run.id,
                100.0 * group.mean,
                group.places.len(),
                100.0 * deviation,
            ))?;
        }
    }
    match &account.manifest.winner {
        Some(winner) => {
            let test = winner.test.map_or_else(
                || "its test rows were not evaluated".to_owned(),
                |test| format!("{:.2}% of {} test rows", 100.0 * test.accuracy, test.images),
            );
            print_line(&format!("winner: {}, {test}", winner.id))?;
        }
        None if account.complete => print_line("no winner: every run failed")?,
        None => {}
    }
    if let Some(row) = account.file.row("sweep") {
        let took = human::duration(metric(row, "wall_seconds").unwrap_or(0.0));
        print_line(&format!("{took} in all; {}", account.written))?;
    }
    if !account.complete {
        print_line("stopped; --resume goes on")?;
    }
    Ok(())
}
