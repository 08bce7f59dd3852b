//! The command line.

use std::{ops::RangeInclusive, path::PathBuf};

use accel::arguments::number;
use clap::{Args, Parser, Subcommand};
use tpu_training::{
    cli::{Data, DeviceArgs},
    store::Place,
};

use crate::commands;

/// Many trainings side by side; the best one deployed and served.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train, choose, deploy, and classify with the winner: all in one command.
    Run(RunArgs),
    /// Train all runs of a grid and choose the best.
    Sweep(SweepArgs),
    /// Publish the winner of a sweep into a serving folder.
    Deploy(DeployArgs),
    /// Print the runs of a grid, one JSON object a line, as `worker` takes them.
    Plan(PlanArgs),
    /// Train what stdin says, one JSON object a line; answers on stdout.
    Worker(WorkerArgs),
    /// Measure what a run costs that trains nothing.
    Overhead(OverheadArgs),
    /// Measure trainings side by side, as threads of one process and as processes.
    Isolation(IsolationArgs),
    /// Compute what a measured sweep would take and cost on several workers.
    Cost(CostArgs),
    /// The chapter in one go, with result files.
    Learn(LearnArgs),
}

impl Cli {
    /// Runs the command; the exit code is one of [`accel::exit`].
    ///
    /// # Errors
    /// What failed, on what value, what to do next.
    pub fn run(self) -> anyhow::Result<u8> {
        match self.command {
            Command::Run(args) => commands::run::run(&args),
            Command::Sweep(args) => commands::sweep::run(&args),
            Command::Deploy(args) => commands::deploy::run(&args),
            Command::Plan(args) => commands::plan::run(&args),
            Command::Worker(args) => crate::worker::run(&args),
            Command::Overhead(args) => commands::overhead::run(&args),
            Command::Isolation(args) => commands::isolation::run(&args),
            Command::Cost(args) => commands::cost::run(&args),
            Command::Learn(args) => commands::learn::run(&args),
        }
    }
}

/// Which runs.
#[derive(Clone, Debug, Args)]
pub struct GridArgs {
    /// TOML or JSON file with the values of each setting; the chapter's 18 runs if not given.
    #[arg(long, value_name = "FILE")]
    pub grid: Option<PathBuf>,
    /// Data set, in place of the grid's.
    #[arg(long, value_enum)]
    pub data: Option<Data>,
    /// Passes over the training rows, in place of the grid's.
    #[arg(long, value_parser = positive)]
    pub epochs: Option<usize>,
    /// Channels of the first stage, in place of the grid's.
    #[arg(long, value_parser = width)]
    pub width: Option<usize>,
    /// Seed of the runs, in place of the grid's.
    #[arg(long)]
    pub seed: Option<u32>,
    /// Refuse a grid of more runs.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = positive)]
    pub max_runs: usize,
}

/// How a grid is worked through.
#[derive(Clone, Debug, Args)]
pub struct WorkArgs {
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Workers at the same time; one a core, or as many as fit into a GPU, if not given.
    #[arg(long, value_name = "N", value_parser = slots)]
    pub slots: Option<usize>,
    /// Threads of each worker on the CPU; the cores are shared out if not given.
    #[arg(long, value_name = "N", value_parser = slots)]
    pub threads: Option<usize>,
    /// More attempts at a run that failed, unless it would fail again.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub retries: u32,
    /// End a worker that says nothing for so long.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub silence_limit: u64,
    /// Successive halving: only the better third goes on, twice.
    #[arg(long)]
    pub halving: bool,
    /// Trainings of each leader, with different seeds.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = seeds)]
    pub seeds: usize,
    /// Runs that are repeated with other seeds.
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = positive)]
    pub leaders: usize,
    /// Go on with the sweep in DIR.
    #[arg(long)]
    pub resume: bool,
    /// Two epochs of narrow networks: whether it works, not how good they get.
    #[arg(long, conflicts_with_all = ["grid", "epochs", "width"])]
    pub quick: bool,
    /// The whole path on made-up images, in a temporary folder.
    #[arg(long, conflicts_with_all = ["grid", "resume", "data"])]
    pub dry_run: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long)]
    pub quiet: bool,
}

/// `parallel-training sweep`.
#[derive(Clone, Debug, Args)]
pub struct SweepArgs {
    /// Which runs.
    #[command(flatten)]
    pub grid: GridArgs,
    /// How they are worked through.
    #[command(flatten)]
    pub work: WorkArgs,
    /// Folder for manifest, checkpoints, models and result.json.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "results-local/04-sweep/sweep"
    )]
    pub out: PathBuf,
}

/// `parallel-training run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The sweep.
    #[command(flatten)]
    pub sweep: SweepArgs,
    /// Serving folder that the winner is published into.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "results-local/04-sweep/serving"
    )]
    pub serve: PathBuf,
    /// Digits that are classified with the winner, over and over; the held-out ones if not given.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub classify: Option<usize>,
}

/// `parallel-training deploy`.
#[derive(Clone, Debug, Args)]
pub struct DeployArgs {
    /// Folder of a sweep that has ended.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "results-local/04-sweep/sweep"
    )]
    pub out: PathBuf,
    /// Serving folder that the winner is published into.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "results-local/04-sweep/serving"
    )]
    pub serve: PathBuf,
}

/// `parallel-training plan`.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// Which runs.
    #[command(flatten)]
    pub grid: GridArgs,
}

/// `parallel-training worker`.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Folder, gs:// or s3:// URL; each run has a folder of its name there.
    #[arg(
        long,
        value_name = "PLACE",
        default_value = "results-local/04-sweep/worker"
    )]
    pub out: Place,
    /// Checkpoints of each run that are kept.
    #[arg(long, default_value_t = 1, value_name = "K", value_parser = positive)]
    pub keep: usize,
    /// Tell of epochs, too.
    #[arg(long)]
    pub progress: bool,
    /// End when the process that started this one ends.
    #[arg(long)]
    pub with_parent: bool,
    /// Learn from made-up images.
    #[arg(long)]
    pub made_up: bool,
    /// Answer at once, without training: for measuring what a request costs.
    #[arg(long, conflicts_with_all = ["made_up", "progress"])]
    pub empty: bool,
    /// Runs at the same time, as threads of this process: for the comparison with processes.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = slots)]
    pub at_once: usize,
}

/// `parallel-training overhead`.
#[derive(Clone, Debug, Args)]
pub struct OverheadArgs {
    /// Runs that train nothing.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = positive)]
    pub runs: usize,
    /// How often the whole is measured.
    #[arg(long, default_value_t = 5, value_parser = positive)]
    pub rounds: usize,
    /// Workers at the same time; one a core if not given.
    #[arg(long, value_name = "N", value_parser = slots)]
    pub slots: Option<usize>,
    /// File for the result.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// One round.
    #[arg(long)]
    pub quick: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long)]
    pub quiet: bool,
}

/// `parallel-training isolation`.
#[derive(Clone, Debug, Args)]
pub struct IsolationArgs {
    /// Trainings at the same time; one a core if not given.
    #[arg(long, value_name = "N", value_parser = slots)]
    pub slots: Option<usize>,
    /// Passes of each training over its rows.
    #[arg(long, default_value_t = 10, value_parser = positive)]
    pub epochs: usize,
    /// How often each arrangement is measured.
    #[arg(long, default_value_t = 5, value_parser = positive)]
    pub rounds: usize,
    /// File for the result.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// One round of one epoch.
    #[arg(long)]
    pub quick: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long)]
    pub quiet: bool,
}

/// `parallel-training cost`.
#[derive(Clone, Debug, Args)]
pub struct CostArgs {
    /// The result.json of a sweep that has ended.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "results-local/04-sweep/sweep-18/result.json"
    )]
    pub result: PathBuf,
    /// Numbers of workers to compute it for.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,6,18", value_parser = fleet)]
    pub workers: Vec<usize>,
    /// From the wish for a worker to its first run, in seconds: assumptions, computed one by one.
    #[arg(long, value_name = "S,...", value_delimiter = ',', default_value = "0,120", value_parser = seconds)]
    pub start_seconds: Vec<f64>,
    /// US dollars for an hour of one worker; what Dataflow takes for one vCPU with 4 GB if not
    /// given.
    #[arg(long, value_name = "USD", value_parser = dollars, requires_all = ["price_source", "price_date"])]
    pub usd_per_hour: Option<f64>,
    /// Where the price is from: an https address.
    #[arg(long, value_name = "URL", requires = "usd_per_hour")]
    pub price_source: Option<String>,
    /// When it was read: 2026-11-22.
    #[arg(long, value_name = "DATE", requires = "usd_per_hour")]
    pub price_date: Option<String>,
    /// File for the result.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `parallel-training learn`.
#[derive(Clone, Debug, Args)]
pub struct LearnArgs {
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Folder for the result files of this machine.
    #[arg(long, value_name = "DIR", default_value = "results-local/04-sweep")]
    pub out: PathBuf,
    /// Short measurements: for looking, not for publishing.
    #[arg(long)]
    pub quick: bool,
    /// Write the files as the book publishes them, below chapters/04-sweep/results.
    #[arg(long, conflicts_with_all = ["quick", "out"])]
    pub publish: bool,
    /// Only the measurement of this name, or those whose name has it in it.
    #[arg(long, value_name = "SUBSTRING")]
    pub only: Option<String>,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long)]
    pub quiet: bool,
}

fn width(text: &str) -> Result<usize, String> {
    number(text, "a width", 1024)
}

fn slots(text: &str) -> Result<usize, String> {
    number(text, "a number of workers or threads", 256)
}

fn fleet(text: &str) -> Result<usize, String> {
    number(text, "a number of workers", 100_000)
}

fn seconds(text: &str) -> Result<f64, String> {
    within(text, "seconds from 0 to 86400", 0.0..=86_400.0)
}

fn dollars(text: &str) -> Result<f64, String> {
    within(text, "US dollars from 0.0001 to 1000", 0.0001..=1000.0)
}

fn within(text: &str, expected: &str, range: RangeInclusive<f64>) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("expected {expected}"))
}

fn seeds(text: &str) -> Result<usize, String> {
    number(text, "a number of seeds", 1000)
}

fn positive(text: &str) -> Result<usize, String> {
    number(text, "a count", 1_000_000)
}
