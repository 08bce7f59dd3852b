//! `cargo x peers`: measures other stacks on the work that a chapter does.
//!
//! All contenders of a workload run at the same time as processes and are measured
//! in turn, round by round, so that what slows the machine for a while slows all of
//! them and cancels in the ratios. A Rust rung of the ladder is a contender like any
//! other: it answers the same messages.
//!
//! - [`workloads`]: what is measured, and who takes part
//! - [`contender`]: one process: messages, time limits, last words
//! - [`rounds`]: loading, agreement of the logits, rounds; makes the rows
//! - [`comparison`]: ratios with their intervals, and the printed table
//! - [`python_environment`]: the virtual environment that the peers live in

mod comparison;
mod contender;
mod python_environment;
mod rounds;
mod workloads;

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

use crate::cargo;
use workloads::{Contestant, Workload};

/// The chapter whose work the CPU peers do.
const CHAPTER: &str = "01-cpu";

/// Measure other stacks (PyTorch, ONNX Runtime, OpenVINO) on the same work.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// ResNet inference on the CPU, beside the rungs of chapter 1.
    Cpu(CpuArgs),
}

#[derive(Parser)]
struct CpuArgs {
    /// Two workloads, three short rounds: whether it works, not how fast it is.
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
    /// Rounds; under 10 the intervals of the ratios are too narrow.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Longest wait for one answer, in seconds; compiling at load takes about a minute.
    #[arg(long, default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..))]
    time_limit: u64,
    /// Safetensors file with torchvision's names, in place of seeded weights; for
    /// workloads of the network it holds (see --only).
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// A built cpu-inference program, in place of building it.
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

/// Runs the command.
///
/// # Errors
/// If the peers' environment cannot be made, the worker cannot be built, or a result
/// file cannot be written. A contender that fails is a failed row and exit code 1.
pub fn run(args: Args, root: &Path) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Cpu(args) => run_cpu(&args, root),
    }
}

fn run_cpu(args: &CpuArgs, root: &Path) -> anyhow::Result<ExitCode> {
    // First of all: the load average should not be our own.
    let environment = Environment::collect();
    let selected = match select(args, environment.cores) {
        Ok(selected) => selected,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    if args.dry_run {
        print!("{}", plan(&selected));
        return Ok(ExitCode::SUCCESS);
    }
    let cache = root.join(".native/peers-cache");
    std::fs::create_dir_all(&cache)
        .with_context(|| format!("cannot create {}", cache.display()))?;
    let path = cache.join("lock");
    let lock = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if lock.try_lock().is_err() {
        bail!("another `cargo x peers` is measuring; two at once would measure each other");
    }
    let python = match python_environment::ready(root, args.quiet) {
        Ok(python) => python,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::from(exit::DEVICE));
        }
    };
    let ours = selected
        .iter()
        .any(|(_, contestants)| contestants.iter().any(|c| c.ours));
    let worker = match &args.worker {
        Some(worker) => Some(worker.clone()),
        None if ours => Some(build_worker(root)?),
        None => None,
    };
    let setup = rounds::Setup {
        python,
        script: root.join("ci/peers/cpu_inference.py"),
        worker,
        weights: args.weights.clone(),
        cache,
        pace: match args.quick {
            true => rounds::Pace::quick(),
            false => rounds::Pace::full(),
        }
        .with_rounds(args.rounds),
        time_limit: Duration::from_secs(args.time_limit),
    };

    let slug = environment.machine_slug();
    let progress = Progress::new(Some(selected.len() as u64), "workloads", args.quiet);
    let mut files = Vec::new();
    let mut failed = 0;
    for (workload, contestants) in &selected {
        let measurement = workload.measurement();
        let mut file = ResultFile::new(CHAPTER, &measurement, environment.clone());
        // Each workload begins at its own load, not at that of the first.
        file.environment.load_at_start = comparison::load_average().or(environment.load_at_start);
        file.title = Some(workload.title());
        file.depends_on = [
            "ci/peers",
            "ci/src/peers.rs",
            "ci/src/peers",
            "chapters/01-cpu/src",
            "Cargo.lock",
        ]
        .map(str::to_owned)
        .to_vec();
        if args.quick {
            file.notes
                .push("quick mode: whether it works, not how fast it is".to_owned());
        }
        progress.println(&format!("{measurement}: {} contenders", contestants.len()));
        rounds::measure(&setup, workload, contestants, &mut file, &progress);

        let path = match (&args.out, args.publish) {
            (Some(folder), _) => folder.join(format!("{measurement}.json")),
            (None, true) => results::published_dir(root, CHAPTER, &slug, &measurement)
                .join(file.published_name()),
            (None, false) => results::local_path(root, CHAPTER, &slug, &measurement),
        };
        file.write(&path)
            .with_context(|| format!("the result of {measurement}"))?;
        failed += file
            .rows
            .iter()
            .filter(|row| row.status == Status::Failed)
            .count();
        let table = comparison::table(&file);
        let shown = path.strip_prefix(root).unwrap_or(&path).display();
        match args.json {
            true => progress.println(&format!("{table}written to {shown}\n")),
            false => println!("{table}written to {shown}\n"),
        }
        files.push(shown.to_string());
        progress.inc(1);
    }
    progress.finish();
    if args.json {
        println!(
            "{}",
            serde_json::json!({ "schema_version": 1, "files": files, "failed_rows": failed })
        );
    }
    if failed > 0 {
        eprintln!("{failed} contenders failed; the reasons are in the tables above");
        return Ok(ExitCode::from(exit::FAILED));
    }
    Ok(ExitCode::SUCCESS)
}

/// The workloads and contenders that the arguments leave.
fn select(args: &CpuArgs, cores: usize) -> anyhow::Result<Vec<(Workload, Vec<Contestant>)>> {
    let all = workloads::all(cores);
    let wanted = |workload: &Workload| match &args.only {
        Some(part) => workload.measurement().contains(part),
        None => !args.quick || workload.in_quick_mode(),
    };
    let selected: Vec<_> = all
        .iter()
        .filter(|workload| wanted(workload))
        .map(|workload| {
            let mut contestants = workload.contestants();
            if !args.contender.is_empty() {
                contestants.retain(|c| args.contender.iter().any(|part| c.id.contains(part)));
            }
            (workload.clone(), contestants)
        })
        .filter(|(_, contestants)| !contestants.is_empty())
        .collect();
    if selected.is_empty() {
        let names: Vec<_> = all.iter().map(Workload::measurement).collect();
        let contenders: Vec<_> = all[0].contestants().into_iter().map(|c| c.id).collect();
        bail!(
            "nothing is called so; measurements: {}; contenders: {}",
            names.join(", "),
            contenders.join(", ")
        );
    }
    if let Some(weights) = args.weights.as_ref().filter(|path| !path.is_file()) {
        bail!("--weights {}: no such file", weights.display());
    }
    if let Some(worker) = args.worker.as_ref().filter(|path| !path.is_file()) {
        bail!("--worker {}: no such file", worker.display());
    }
    Ok(selected)
}

fn plan(selected: &[(Workload, Vec<Contestant>)]) -> String {
    let mut text = String::new();
    for (workload, contestants) in selected {
        let names: Vec<_> = contestants.iter().map(|c| c.id.as_str()).collect();
        text.push_str(&format!(
            "{}: {}\n",
            workload.measurement(),
            names.join(", ")
        ));
    }
    text
}

/// Builds chapter 1's program and returns its path.
fn build_worker(root: &Path) -> anyhow::Result<PathBuf> {
    let mut command = cargo::command(root);
    command.args(["build", "--release", "--package", "cpu-inference"]);
    let status = cargo::status(&mut command)?;
    if !status.success() {
        bail!("`{}` failed ({status})", cargo::words(&command));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .filter(|folder| !folder.is_empty())
        .map_or_else(|| root.join("target"), |folder| root.join(folder));
    let program = target
        .join("release")
        .join(format!("cpu-inference{}", std::env::consts::EXE_SUFFIX));
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

    fn args(words: &[&str]) -> CpuArgs {
        CpuArgs::try_parse_from([&["cpu"], words].concat()).unwrap()
    }

    #[test]
    fn selection_by_name() {
        let one = select(
            &args(&["--only", "resnet50-224-b8-f32", "--contender", "openvino"]),
            4,
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

        let error = select(&args(&["--only", "vgg"]), 4)
            .unwrap_err()
            .to_string();
        assert!(error.contains("peers-resnet18-32-b1-f32"), "{error}");
        let error = select(&args(&["--weights", "/nowhere/x"]), 4)
            .unwrap_err()
            .to_string();
        assert!(error.contains("no such file"), "{error}");
    }

    #[test]
    fn quick_mode_is_two_workloads_and_is_never_published() {
        assert_eq!(select(&args(&["--quick"]), 2).unwrap().len(), 2);
        assert!(CpuArgs::try_parse_from(["cpu", "--quick", "--publish"]).is_err());
        assert!(CpuArgs::try_parse_from(["cpu", "--rounds", "0"]).is_err());
    }
}
