//! `cargo x peers`: measures other stacks on the work that a chapter does.
//!
//! All contenders of a workload run at the same time as processes and are measured
//! in turn, round by round, so that what slows the machine for a while slows all of
//! them and cancels in the ratios. A Rust rung of the ladder is a contender like any
//! other: it answers the same messages.
//!
//! - [`work`]: what a kind of measurement brings along
//! - [`inference`], [`training`]: the two kinds: workloads and what has to agree
//! - [`beam`]: the same 18 on Apache Beam: what that adds
//! - [`sweep`]: 18 trainings at once, where contenders are whole commands, one after another
//! - [`line_up`]: who takes part in inference
//! - [`contender`]: one process: messages, time limits, last words
//! - [`entrant`]: starting and loading one, and whether it agrees with the reference
//! - [`rounds`]: everybody in turn, round by round; makes the rows
//! - [`comparison`]: ratios with their intervals, and the printed table

mod beam;
mod comparison;
mod contender;
mod entrant;
mod inference;
mod line_up;
mod rounds;
mod sweep;
mod training;
mod whole_commands;
mod work;

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use accel::{
    environment::Environment,
    exit,
    progress::Progress,
    results::{self, ResultFile, Status},
};
use anyhow::{Context, bail};
use clap::Parser;

use crate::{cargo, python_environment::PEERS};
use line_up::Suite;
use work::{Contestant, Work};

/// Measure other stacks (PyTorch, JAX, ONNX Runtime, OpenVINO) on the same work.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// ResNet inference on the CPU, beside the rungs of chapter 1.
    Cpu(InferenceArgs),
    /// ONNX Runtime and OpenVINO from Rust beside the same from Python, and PyTorch, in
    /// f32, bf16 and INT8 on the CPU.
    Engines(InferenceArgs),
    /// ResNet inference on a GPU, beside chapter 2.
    Gpu(InferenceArgs),
    /// Training a ResNet in JAX and PyTorch, beside chapter 3.
    Train(TrainArgs),
    /// 18 small trainings as whole commands: joblib and a loop in PyTorch, beside chapter 4.
    Sweep(SweepArgs),
    /// Chapter 4's sweep on Apache Beam beside the same without it: what Beam adds.
    Beam(BeamArgs),
}

#[derive(Parser)]
struct InferenceArgs {
    /// Safetensors file with torchvision's names, in place of seeded weights; for
    /// workloads of the network it holds (see --only).
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Parser)]
struct TrainArgs {
    /// Where to train; on a GPU with --python, a Python that has JAX and PyTorch for it.
    #[arg(long, value_enum, default_value = "cpu")]
    device: training::Device,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Parser)]
struct SweepArgs {
    /// Epochs of each run.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    epochs: u32,
    /// Channels of the networks' first stage.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=512))]
    width: u32,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Parser)]
struct BeamArgs {
    /// Epochs of each run.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    epochs: u32,
    /// Channels of the networks' first stage.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=512))]
    width: u32,
    #[command(flatten)]
    common: CommonArgs,
}

/// The options of every kind of measurement.
#[derive(clap::Args)]
struct CommonArgs {
    /// One or two workloads, three short rounds: whether it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Print the workloads and contenders, and run nothing.
    #[arg(long)]
    dry_run: bool,
    /// Only measurements whose name has this in it (as --dry-run lists them).
    #[arg(long, value_name = "SUBSTRING")]
    only: Option<String>,
    /// Only contenders whose name has this in it; may be given several times.
    #[arg(long, value_name = "SUBSTRING")]
    contender: Vec<String>,
    /// Rounds [default: 12, of a sweep 3]; under 10 the intervals of the ratios are too narrow.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Longest wait for one answer, in seconds [default: 900, of a whole sweep 7200];
    /// compiling at load takes about a minute.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    time_limit: Option<u64>,
    /// A Python with the peers' packages, in place of the pinned environment.
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// The chapter's program, built, in place of building it.
    #[arg(long, value_name = "FILE")]
    worker: Option<PathBuf>,
    /// Folder for the result files, in place of results-local/.
    #[arg(long, value_name = "DIR", conflicts_with = "publish")]
    out: Option<PathBuf>,
    /// Write among the chapter's published results.
    #[arg(long, conflicts_with = "quick")]
    publish: bool,
    /// Print one JSON object with the result files' paths on stdout, the tables on stderr.
    #[arg(long)]
    json: bool,
    /// No news on stderr but warnings.
    #[arg(long)]
    quiet: bool,
}

/// What belongs to one kind of measurement, whatever the workload.
struct Kind {
    /// The chapter whose work the peers do.
    chapter: &'static str,
    /// The package whose program is ours.
    package: &'static str,
    /// The peers' script, from the root.
    script: &'static str,
    /// Code that a result depends on, besides the peers'.
    depends_on: &'static [&'static str],
    /// How often and how long.
    pace: rounds::Pace,
    /// Whether the time to compile is a result, too.
    times_compilers: bool,
}

/// Runs the command.
///
/// # Errors
/// If the peers' environment cannot be made, the worker cannot be built, or a result
/// file cannot be written. A contender that fails is a failed row and exit code 1; where
/// all are skipped, for want of a GPU for instance, the exit code is 3.
pub fn run(args: Args, root: &Path) -> anyhow::Result<ExitCode> {
    // First of all: the load average should not be our own.
    let environment = Environment::collect();
    match args.command {
        Command::Cpu(args) => run_inference(Suite::Cpu, args, environment, root),
        Command::Engines(args) => run_inference(Suite::Engines, args, environment, root),
        Command::Gpu(args) => run_inference(Suite::Gpu, args, environment, root),
        Command::Train(args) => {
            let kind = Kind {
                chapter: "03-tpu-training",
                package: "tpu-training",
                script: "ci/peers/train_resnet.py",
                depends_on: &[
                    "chapters/03-tpu-training/src",
                    "chapters/03-tpu-training/crates",
                    "ci/native.toml",
                ],
                pace: rounds::Pace::training(),
                times_compilers: true,
            };
            let all = training::all(args.device, environment.cores);
            run_kind(&kind, &all, &args.common, None, environment, root)
        }
        Command::Sweep(args) => sweep::run(&args, environment, root),
        Command::Beam(args) => beam::run(&args, environment, root),
    }
}

fn run_inference(
    suite: Suite,
    args: InferenceArgs,
    environment: Environment,
    root: &Path,
) -> anyhow::Result<ExitCode> {
    if let Some(weights) = args.weights.as_ref().filter(|path| !path.is_file()) {
        return Ok(wrong_usage(&format!(
            "--weights {}: no such file",
            weights.display()
        )));
    }
    let chapter_1 = Kind {
        chapter: "01-cpu",
        package: "cpu-inference",
        script: "ci/peers/infer_resnet.py",
        depends_on: &["chapters/01-cpu/src"],
        pace: rounds::Pace::full(),
        times_compilers: false,
    };
    let kind = match suite {
        Suite::Cpu => chapter_1,
        Suite::Engines | Suite::Gpu => Kind {
            chapter: "02-gpu",
            package: "gpu-inference",
            depends_on: &[
                "chapters/01-cpu/src",
                "chapters/02-gpu/src",
                "chapters/02-gpu/crates",
                "ci/native.toml",
            ],
            ..chapter_1
        },
    };
    let all = inference::all(suite, environment.cores);
    run_kind(&kind, &all, &args.common, args.weights, environment, root)
}

fn wrong_usage(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(exit::USAGE)
}

fn run_kind<W: Work + Clone>(
    kind: &Kind,
    all: &[W],
    args: &CommonArgs,
    weights: Option<PathBuf>,
    environment: Environment,
    root: &Path,
) -> anyhow::Result<ExitCode> {
    let selected = match select(args, all) {
        Ok(selected) => selected,
        Err(error) => return Ok(wrong_usage(&format!("{error:#}"))),
    };
    if args.dry_run {
        print!("{}", plan(&selected));
        return Ok(ExitCode::SUCCESS);
    }
    let (cache, _lock) = cache(root)?;
    let python = match python(args, root) {
        Ok(python) => python,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::from(exit::DEVICE));
        }
    };
    let ours = selected.iter().any(|(work, contestants)| {
        work.export("").is_some() || contestants.iter().any(|contestant| contestant.ours)
    });
    let worker = match ours {
        true => Some(worker(args, kind.package, root)?),
        false => None,
    };
    let setup = entrant::Setup {
        python,
        script: root.join(kind.script),
        worker,
        root: root.to_owned(),
        weights,
        cache,
        times_compilers: kind.times_compilers,
        time_limit: Duration::from_secs(args.time_limit.unwrap_or(900)),
    };
    let pace = match args.quick {
        true => rounds::Pace::quick(),
        false => kind.pace.clone(),
    }
    .with_rounds(args.rounds);

    let progress = Progress::new(Some(selected.len() as u64), "workloads", args.quiet);
    let mut written = Written::default();
    for (work, contestants) in &selected {
        let measurement = work.measurement();
        let mut file = new_file(
            kind.chapter,
            &measurement,
            &environment,
            kind.depends_on,
            args,
        );
        file.title = Some(work.title());
        progress.println(&format!("{measurement}: {} contenders", contestants.len()));
        rounds::measure(&setup, &pace, work, contestants, &mut file, &progress);
        let table = comparison::table(&file, "images");
        written.add(&file, &table, args, root, &progress)?;
        progress.inc(1);
    }
    progress.finish();
    Ok(written.end(args))
}

/// The folder of what is made for the peers, and its lock: held while something is measured.
fn cache(root: &Path) -> anyhow::Result<(PathBuf, File)> {
    let cache = root.join(".native/peers-cache");
    std::fs::create_dir_all(&cache)
        .with_context(|| format!("cannot create {}", cache.display()))?;
    let path = cache.join("lock");
    let lock = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if lock.try_lock().is_err() {
        bail!("another `cargo x peers` is measuring; two at once would measure each other");
    }
    Ok((cache, lock))
}

/// The peers' Python: the user's, or that of the pinned environment.
fn python(args: &CommonArgs, root: &Path) -> anyhow::Result<PathBuf> {
    match &args.python {
        Some(python) => Ok(python.clone()),
        None => PEERS.ready(root, args.quiet),
    }
}

/// The chapter's program: the user's, or built now.
fn worker(args: &CommonArgs, package: &str, root: &Path) -> anyhow::Result<PathBuf> {
    match &args.worker {
        // Contenders run in the root.
        Some(worker) => std::path::absolute(worker).context("--worker"),
        None => build_worker(package, root),
    }
}

/// A result file without rows.
fn new_file(
    chapter: &str,
    measurement: &str,
    environment: &Environment,
    depends_on: &[&str],
    args: &CommonArgs,
) -> ResultFile {
    let mut file = ResultFile::new(chapter, measurement, environment.clone());
    // Each workload begins at its own load, not at that of the first.
    file.environment.load_at_start = comparison::load_average().or(environment.load_at_start);
    let peers = ["ci/peers", "ci/src/peers.rs", "ci/src/peers"];
    file.depends_on = (peers.iter().chain(depends_on))
        .chain(&["Cargo.lock"])
        .map(|path| (*path).to_owned())
        .collect();
    if args.quick {
        file.notes
            .push("quick mode: whether it works, not how fast it is".to_owned());
    }
    file
}

/// The result files of a command, and what became of their rows.
#[derive(Default)]
struct Written {
    files: Vec<String>,
    failed: usize,
    measured: usize,
}

impl Written {
    /// Writes a file and prints its table.
    ///
    /// * `table`: the file as text
    fn add(
        &mut self,
        file: &ResultFile,
        table: &str,
        args: &CommonArgs,
        root: &Path,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let (chapter, measurement) = (&file.chapter, &file.measurement);
        let slug = file.environment.machine_slug();
        let path = match (&args.out, args.publish) {
            (Some(folder), _) => folder.join(format!("{measurement}.json")),
            (None, true) => results::published_dir(root, chapter, &slug, measurement)
                .join(file.published_name()),
            (None, false) => results::local_path(root, chapter, &slug, measurement),
        };
        file.write(&path)
            .with_context(|| format!("the result of {measurement}"))?;
        let count = |status| file.rows.iter().filter(|row| row.status == status).count();
        self.failed += count(Status::Failed);
        self.measured += count(Status::Ok);
        let shown = path.strip_prefix(root).unwrap_or(&path).display();
        match args.json {
            true => progress.println(&format!("{table}written to {shown}\n")),
            false => println!("{table}written to {shown}\n"),
        }
        self.files.push(shown.to_string());
        Ok(())
    }

    /// Tells what there is to tell about all of them; returns the exit code.
    fn end(self, args: &CommonArgs) -> ExitCode {
        let failed = self.failed;
        if args.json {
            println!(
                "{}",
                serde_json::json!({ "schema_version": 1, "files": self.files, "failed_rows": failed })
            );
        }
        if failed > 0 {
            eprintln!("{failed} contenders failed; the reasons are in the tables above");
            return ExitCode::from(exit::FAILED);
        }
        if self.measured == 0 {
            eprintln!("nobody could be measured here; the reasons are in the tables above");
            return ExitCode::from(exit::DEVICE);
        }
        ExitCode::SUCCESS
    }
}

/// The workloads and contenders that the arguments leave.
fn select<W: Work + Clone>(
    args: &CommonArgs,
    all: &[W],
) -> anyhow::Result<Vec<(W, Vec<Contestant>)>> {
    let wanted = |work: &W| match &args.only {
        Some(part) => work.measurement().contains(part),
        None => !args.quick || work.in_quick_mode(),
    };
    let selected: Vec<_> = all
        .iter()
        .filter(|work| wanted(work))
        .map(|work| {
            let mut contestants = work.contestants();
            if !args.contender.is_empty() {
                contestants.retain(|c| args.contender.iter().any(|part| c.id.contains(part)));
            }
            (work.clone(), contestants)
        })
        .filter(|(_, contestants)| !contestants.is_empty())
        .collect();
    if selected.is_empty() {
        let names: Vec<_> = all.iter().map(Work::measurement).collect();
        let contenders: Vec<_> = (all.iter().take(1))
            .flat_map(Work::contestants)
            .map(|contestant| contestant.id)
            .collect();
        bail!(
            "nothing is called so; measurements: {}; contenders: {}",
            names.join(", "),
            contenders.join(", ")
        );
    }
    check_programs(args)?;
    Ok(selected)
}

/// Refuses a program that is not there.
fn check_programs(args: &CommonArgs) -> anyhow::Result<()> {
    for (flag, path) in [("--python", &args.python), ("--worker", &args.worker)] {
        if let Some(path) = path.as_ref().filter(|path| !path.is_file()) {
            bail!("{flag} {}: no such file", path.display());
        }
    }
    Ok(())
}

fn plan(selected: &[(impl Work, Vec<Contestant>)]) -> String {
    let mut text = String::new();
    for (work, contestants) in selected {
        let names: Vec<_> = contestants.iter().map(|c| c.id.as_str()).collect();
        text.push_str(&format!("{}: {}\n", work.measurement(), names.join(", ")));
    }
    text
}

/// Builds the chapter's program and returns its path.
fn build_worker(package: &str, root: &Path) -> anyhow::Result<PathBuf> {
    let mut command = cargo::programs("build", [package], root);
    let status = cargo::status(&mut command)?;
    if !status.success() {
        bail!("`{}` failed ({status})", cargo::words(&command));
    }
    let program = cargo::program(root, package);
    if !program.is_file() {
        bail!(
            "no {} after the build; pass --worker FILE",
            program.display()
        );
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> CommonArgs {
        InferenceArgs::try_parse_from([&["cpu"], words].concat())
            .unwrap()
            .common
    }

    #[test]
    fn selection_by_name() {
        let all = inference::all(Suite::Cpu, 4);
        let one = select(
            &args(&["--only", "resnet50-224-b8-f32", "--contender", "openvino"]),
            &all,
        )
        .unwrap();
        let names: Vec<_> = one.iter().map(|(w, _)| w.measurement()).collect();
        assert_eq!(
            names,
            ["peers-resnet50-224-b8-f32", "peers-resnet50-224-b8-f32-t1"]
        );
        assert!(
            one.iter()
                .all(|(_, c)| c.len() == 1 && c[0].id == "openvino")
        );

        let error = |words| select(&args(words), &all).unwrap_err().to_string();
        let unknown = error(&["--only", "vgg"]);
        assert!(unknown.contains("peers-resnet18-32-b1-f32"), "{unknown}");
        let absent = error(&["--python", "/nowhere/x"]);
        assert!(
            absent.contains("--python /nowhere/x: no such file"),
            "{absent}"
        );
    }

    #[test]
    fn quick_mode_is_little_work_and_is_never_published() {
        for (suite, workloads) in [(Suite::Cpu, 2), (Suite::Engines, 2), (Suite::Gpu, 1)] {
            let inference = select(&args(&["--quick"]), &inference::all(suite, 2)).unwrap();
            assert_eq!(inference.len(), workloads);
        }
        for device in [training::Device::Cpu, training::Device::Cuda] {
            let training = select(&args(&["--quick"]), &training::all(device, 2)).unwrap();
            assert_eq!(training.len(), 1);
        }
        assert!(InferenceArgs::try_parse_from(["cpu", "--quick", "--publish"]).is_err());
        assert!(InferenceArgs::try_parse_from(["cpu", "--rounds", "0"]).is_err());
        assert!(TrainArgs::try_parse_from(["train", "--device", "tpu"]).is_err());
    }
}
