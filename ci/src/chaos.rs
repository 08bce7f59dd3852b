//! `cargo x chaos`: kills sweeps at random moments, and sees whether anything is lost.
//!
//! A sweep is run undisturbed. Then the same sweep is killed with SIGKILL, again and again, in
//! turn the whole of it or one of its workers, and resumed. In the end no run may be missing,
//! none may have been trained twice, and figures and models must be those of the first sweep.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use accel::results::ResultFile;
use anyhow::{Context, bail, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Deserialize;

use crate::{cargo, setup};

/// Options of `cargo x chaos`.
#[derive(clap::Args)]
pub struct Args {
    /// How often something is killed.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    kills: u32,
    /// Seed of the moments; the time of day if not given. It is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Longest time from one kill to the next, in seconds; half of what the undisturbed
    /// sweep takes if not given.
    #[arg(long, value_name = "SECONDS")]
    longest: Option<f64>,
    /// Where the sweeps are kept; a temporary folder, removed in the end, if not given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Networks that compile fast; six runs of two programs.
const GRID: &str = r#"
width = 2
conv = "convolution"
arch = "resnet18"
batch = [32, 64]
epochs = 30
learning_rate = [0.1, 0.03, 0.01]
"#;

/// Runs the command: exit code 1 if anything was lost.
///
/// # Errors
/// What was lost, or what could not be run.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    if let Some(longest) = args.longest {
        ensure!(
            longest.is_finite() && longest > 0.0,
            "--longest {longest}: expected a number of seconds over 0"
        );
    }
    setup::ensure(root, &[])?;
    let mut build = cargo::programs("build", ["parallel-training"], root);
    let built = cargo::status(build.arg("--quiet"))?;
    ensure!(built.success(), "{} failed ({built})", cargo::words(&build));

    let scratch = tempfile::tempdir()?;
    let folder = args.out.as_deref().unwrap_or(scratch.path());
    fs::create_dir_all(folder)?;
    let grid = folder.join("grid.toml");
    fs::write(&grid, GRID)?;
    let sweeps = Sweeps {
        program: cargo::program(root, "parallel-training"),
        grid,
    };
    let seed = args.seed.unwrap_or_else(|| rand::rng().random());
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);

    let start = Instant::now();
    let undisturbed = folder.join("undisturbed");
    let ended = sweeps.start(&undisturbed)?.wait()?;
    ensure!(ended.success(), "the undisturbed sweep failed ({ended})");
    let expected = Sweep::read(&undisturbed)?;
    let took = start.elapsed().as_secs_f64();
    println!(
        "undisturbed: {} runs in {took:.0} s",
        expected.figures.len()
    );
    let plan = Plan {
        kills: args.kills,
        longest: args.longest.unwrap_or(took / 2.0),
    };

    let (mut killed, mut number) = (Killed::default(), 0);
    while killed.all() < plan.kills {
        number += 1;
        let out = folder.join(format!("disturbed-{number}"));
        let before = killed;
        sweeps.disturb(&out, &plan, &mut random, &mut killed)?;
        let kills = killed.all() - before.all();
        let got = Sweep::read(&out)?;
        let lost = got.differences(&expected, kills);
        ensure!(
            lost.is_empty(),
            "seed {seed}, {}: {}",
            out.display(),
            lost.join("; ")
        );
        println!(
            "sweep {number}: {kills} kills, {} epochs for {}, every run as undisturbed",
            got.epochs_told, expected.epochs_told
        );
    }
    println!(
        "{} kills ({} of sweeps, {} of workers) in {number} sweeps: no run lost, none trained \
         twice, all results equal; {:.0} s",
        killed.all(),
        killed.sweeps,
        killed.workers,
        start.elapsed().as_secs_f64()
    );
    Ok(ExitCode::SUCCESS)
}

/// How much is killed, and how often.
struct Plan {
    kills: u32,
    /// Seconds from one kill to the next, at most.
    longest: f64,
}

/// How often what was killed.
#[derive(Clone, Copy, Debug, Default)]
struct Killed {
    sweeps: u32,
    workers: u32,
}

impl Killed {
    fn all(self) -> u32 {
        self.sweeps + self.workers
    }
}

struct Sweeps {
    program: PathBuf,
    grid: PathBuf,
}

impl Sweeps {
    /// Begins a sweep, or goes on with it.
    fn start(&self, out: &Path) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(["sweep", "--device", "cpu", "--threads", "1", "--quiet"]);
        // Workers are killed more often than anyone would retry.
        command.args(["--retries", "1000000"]);
        match out.join("manifest.json").is_file() {
            true => command.arg("--resume"),
            false => command.arg("--grid").arg(&self.grid),
        };
        command.arg("--out").arg(out);
        // What it says of killed workers is what is wanted.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
            .spawn()
            .with_context(|| format!("cannot start {}", cargo::words(&command)))
    }

    /// Kills a sweep and its workers until enough was killed, or it is done; then lets it come
    /// to its end.
    fn disturb(
        &self,
        out: &Path,
        plan: &Plan,
        random: &mut StdRng,
        killed: &mut Killed,
    ) -> anyhow::Result<()> {
        let mut sweep = self.start(out)?;
        while killed.all() < plan.kills {
            let pause = Duration::from_secs_f64(random.random_range(0.0..plan.longest));
            if let Some(ended) = wait(&mut sweep, pause)? {
                ensure!(
                    ended.success(),
                    "a sweep failed ({ended}): {}",
                    out.display()
                );
                return Ok(());
            }
            let workers = workers(sweep.id())?;
            let worker = match random.random_bool(0.5) {
                true if !workers.is_empty() => Some(workers[random.random_range(0..workers.len())]),
                _ => None,
            };
            match worker {
                // It may have ended by itself.
                Some(worker) => killed.workers += u32::from(kill(worker)?),
                None => {
                    sweep.kill()?;
                    sweep.wait()?;
                    killed.sweeps += 1;
                    sweep = self.start(out)?;
                }
            }
        }
        let ended = sweep.wait()?;
        ensure!(
            ended.success(),
            "a sweep failed ({ended}): {}",
            out.display()
        );
        Ok(())
    }
}

/// Waits for a child's end, at most so long.
fn wait(child: &mut Child, at_most: Duration) -> anyhow::Result<Option<std::process::ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(ended) = child.try_wait()? {
            return Ok(Some(ended));
        }
        let left = at_most.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        thread::sleep(left.min(Duration::from_millis(20)));
    }
}

/// The children of a process.
fn workers(parent: u32) -> anyhow::Result<Vec<u32>> {
    let output = Command::new("pgrep")
        .args(["-P", &parent.to_string()])
        .output()
        .context("cannot run pgrep, which finds a sweep's workers; install procps")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect())
}

/// Ends a process at once; returns whether it was there.
fn kill(pid: u32) -> anyhow::Result<bool> {
    let output = Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .output()?;
    Ok(output.status.success())
}

/// What is left of a sweep.
struct Sweep {
    /// Of each run its figures, without times.
    figures: BTreeMap<String, Vec<f64>>,
    /// Of each run its model.
    models: BTreeMap<String, Vec<u8>>,
    /// Epochs that the journal tells of.
    epochs_told: usize,
    /// Pairs of run and epoch that it tells of.
    epochs: BTreeSet<(String, usize)>,
    /// Runs of which it tells an epoch after their end.
    trained_again: BTreeSet<String>,
}

/// A line of the journal, as far as it matters here.
#[derive(Deserialize)]
struct Line {
    event: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    epoch: usize,
}

impl Sweep {
    fn read(out: &Path) -> anyhow::Result<Self> {
        let file = ResultFile::read(out.join("result.json"))?;
        let mut sweep = Sweep {
            figures: BTreeMap::new(),
            models: BTreeMap::new(),
            epochs_told: 0,
            epochs: BTreeSet::new(),
            trained_again: BTreeSet::new(),
        };
        for row in file.rows.iter().filter(|row| row.id != "sweep") {
            let names = [
                "validation_accuracy",
                "validation_loss",
                "training_loss",
                "epochs",
            ];
            let figures = names.map(|name| row.metrics.get(name).copied().unwrap_or(f64::NAN));
            sweep.figures.insert(row.id.clone(), figures.to_vec());
            let model = out.join("runs").join(&row.id).join("model.safetensors");
            let model =
                fs::read(&model).with_context(|| format!("cannot read {}", model.display()))?;
            sweep.models.insert(row.id.clone(), model);
        }
        let journal = fs::read_to_string(out.join("journal.jsonl"))?;
        let mut ended = BTreeSet::new();
        for line in journal.lines() {
            let Ok(line) = serde_json::from_str::<Line>(line) else {
                bail!("{}: no line of a journal: {line:?}", out.display());
            };
            match line.event.as_str() {
                "epoch" => {
                    sweep.epochs_told += 1;
                    if ended.contains(&line.id) {
                        sweep.trained_again.insert(line.id.clone());
                    }
                    sweep.epochs.insert((line.id, line.epoch));
                }
                "done" => {
                    ended.insert(line.id);
                }
                _ => {}
            }
        }
        Ok(sweep)
    }

    /// What was lost against an undisturbed sweep.
    ///
    /// * `kills`: each may cost the epoch in flight of every worker
    fn differences(&self, expected: &Sweep, kills: u32) -> Vec<String> {
        let mut lost = vec![];
        for (id, figures) in &expected.figures {
            match self.figures.get(id) {
                None => lost.push(format!("{id} is missing")),
                Some(got) if got != figures => {
                    lost.push(format!("{id} came to {got:?}; undisturbed to {figures:?}"));
                }
                Some(_) if self.models.get(id) != expected.models.get(id) => {
                    lost.push(format!("{id} has another model"));
                }
                Some(_) => {}
            }
        }
        if self.figures.len() > expected.figures.len() {
            lost.push(format!(
                "{} runs; undisturbed {}",
                self.figures.len(),
                expected.figures.len()
            ));
        }
        for id in &self.trained_again {
            lost.push(format!("{id} was trained again after its end"));
        }
        let again = self.epochs_told - self.epochs.len();
        let allowed = kills as usize * WORKERS;
        if again > allowed {
            lost.push(format!(
                "{again} epochs were trained again; {kills} kills explain {allowed}"
            ));
        }
        lost
    }
}

/// More workers than there are runs do not exist.
const WORKERS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(runs: &[(&str, f64)], again: &[&str]) -> Sweep {
        let figures = runs
            .iter()
            .map(|(id, figure)| ((*id).to_owned(), vec![*figure]));
        let models = runs
            .iter()
            .map(|(id, figure)| ((*id).to_owned(), figure.to_le_bytes().to_vec()));
        Sweep {
            figures: figures.collect(),
            models: models.collect(),
            epochs_told: 10,
            epochs: (0..10).map(|epoch| ("a".to_owned(), epoch)).collect(),
            trained_again: again.iter().map(|id| (*id).to_owned()).collect(),
        }
    }

    #[test]
    fn what_was_lost_is_told() {
        let expected = sweep(&[("a", 1.0), ("b", 2.0)], &[]);
        assert!(
            sweep(&[("a", 1.0), ("b", 2.0)], &[])
                .differences(&expected, 0)
                .is_empty()
        );
        let told = |got: Sweep, kills: u32| got.differences(&expected, kills).join("; ");
        assert_eq!(told(sweep(&[("a", 1.0)], &[]), 1), "b is missing");
        assert!(told(sweep(&[("a", 1.0), ("b", 3.0)], &[]), 1).starts_with("b came to [3.0]"));
        assert_eq!(
            told(sweep(&[("a", 1.0), ("b", 2.0), ("c", 0.0)], &[]), 1),
            "3 runs; undisturbed 2"
        );
        let again = sweep(&[("a", 1.0), ("b", 2.0)], &["a"]);
        assert_eq!(told(again, 1), "a was trained again after its end");
        let mut repeated = sweep(&[("a", 1.0), ("b", 2.0)], &[]);
        repeated.epochs_told = 17;
        assert_eq!(
            told(repeated, 1),
            "7 epochs were trained again; 1 kills explain 6"
        );
        let mut other = sweep(&[("a", 1.0), ("b", 2.0)], &[]);
        other.models.insert("b".into(), vec![]);
        assert_eq!(told(other, 1), "b has another model");
    }
}
