//! The command line.

use std::path::PathBuf;

use accel::{arguments::number, device::DeviceRequest};
use clap::{Args, Parser, Subcommand};

use crate::{
    commands,
    model::Source,
    resnet::config::{Arch, Stem},
    setting,
    source::DataSet,
    tch_engine::{Dtype, Rung},
};

/// ResNet inference on the CPU, as a streaming pipeline.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Classify pictures and time each stage.
    Run(RunArgs),
    /// Measure the model on each rung of the speed ladder.
    Ladder(LadderArgs),
    /// The chapter in one go: digits, ladder, photographs, with result files.
    Learn(LearnArgs),
    /// Classify shards of pictures, one JSON object a line, until the input ends.
    Shards(ShardsArgs),
    /// Answer measurement requests, one JSON object a line (see the peers).
    Worker(WorkerArgs),
}

impl Cli {
    /// Runs the command; the exit code is one of [`accel::exit`].
    ///
    /// # Errors
    /// What failed, on what value, what to do next.
    pub fn run(self) -> anyhow::Result<u8> {
        setting::outlive_file_size_limit();
        match self.command {
            Command::Run(args) => commands::run::run(args),
            Command::Ladder(args) => commands::ladder::run(args),
            Command::Learn(args) => commands::learn::run(args),
            Command::Shards(args) => commands::shards::run(args),
            Command::Worker(args) => commands::worker::run(args),
        }
    }
}

/// Where the model computes.
#[derive(Clone, Debug, Args)]
pub struct DeviceArgs {
    /// auto, cpu, cuda, cuda:N or tpu; this chapter has the CPU only.
    #[arg(long, default_value = "auto")]
    pub device: DeviceRequest,
    /// Threads of one operator of the model; all cores if not given.
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
    /// Leave glibc's malloc as it comes, to see what that costs.
    #[arg(long)]
    pub system_malloc: bool,
}

/// Which model, and how far it is prepared.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// resnet18, resnet34 or resnet50.
    #[arg(long)]
    pub arch: Option<Arch>,
    /// digits, imagenet, random, or a safetensors file with torchvision's names.
    #[arg(long)]
    pub weights: Option<Source>,
    /// imagenet (224x224) or small (8x8 to 32x32), where the weights do not say.
    #[arg(long)]
    pub stem: Option<Stem>,
    /// Height and width of the images that the model sees, in pixels.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(8..=1024))]
    pub image: Option<u32>,
    /// eager, folded, channels-last, prepacked, streams, trimmed, or fused (CUDA only).
    #[arg(long, default_value = "channels-last")]
    pub rung: Rung,
    /// f32, bf16 or f16.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
}

/// `cpu-inference run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// What to classify, with which model.
    #[command(flatten)]
    pub work: WorkArgs,
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Folder for predictions.jsonl, summary.json and result.json.
    #[arg(long, value_name = "DIR", default_value = "results-local/01-cpu/run")]
    pub out: PathBuf,
}

/// What to classify, with which model, in which batches: the same in chapter 2.
#[derive(Clone, Debug, Args)]
pub struct WorkArgs {
    /// Folder of JPEG and PNG files; subfolders named like classes are labels.
    #[arg(long, value_name = "DIR", conflicts_with = "data")]
    pub images: Option<PathBuf>,
    /// Data set to classify.
    #[arg(long, value_enum, default_value = "digits")]
    pub data: DataSet,
    /// Folder of CIFAR-10's binary files; fetched into the project if not given.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// How many pictures of the data set (over and over) or of noise.
    #[arg(long, value_parser = count, conflicts_with = "images")]
    pub count: Option<usize>,
    /// Go through the folder so many times.
    #[arg(long, value_parser = count, requires = "images")]
    pub repeat: Option<usize>,
    /// Which model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Folder of published models: serve its current one, and take up a newer one on the way.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["weights", "dry_run"])]
    pub serve_from: Option<PathBuf>,
    /// Time from one look for a newer model to the next, in milliseconds.
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 1000,
        requires = "serve_from",
        value_parser = clap::value_parser!(u64).range(1..=3_600_000)
    )]
    pub refresh_ms: u64,
    /// Most images in a batch.
    #[arg(long, default_value_t = 32, value_parser = batch)]
    pub batch: usize,
    /// Most pixels in a batch, channels counted.
    #[arg(long, value_name = "N")]
    pub max_batch_pixels: Option<usize>,
    /// Split a batch that does not fit into memory, and try again.
    #[arg(long)]
    pub shrink_on_oom: bool,
    /// Longest time that an image waits for its batch to fill, in milliseconds.
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    pub max_wait_ms: u64,
    /// Pictures that are decoded at the same time; all cores if not given.
    #[arg(long, value_parser = threads)]
    pub decoders: Option<usize>,
    /// Classes in a prediction.
    #[arg(long, default_value_t = 5, value_parser = count)]
    pub top_k: usize,
    /// Fewer pictures, shorter measurements.
    #[arg(long)]
    pub quick: bool,
    /// The whole path on noise and random weights; nothing is fetched.
    #[arg(long)]
    pub dry_run: bool,
    /// Seed of the synthetic pictures.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print the summary as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long)]
    pub quiet: bool,
}

/// `cpu-inference ladder`.
#[derive(Clone, Debug, Args)]
pub struct LadderArgs {
    /// Which model.
    #[command(flatten)]
    pub model: LadderModelArgs,
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Rungs to measure, in this order; all if not given.
    #[arg(long, value_delimiter = ',', value_name = "RUNG,...")]
    pub rungs: Vec<Rung>,
    /// Number formats; bf16 is skipped where the CPU lacks it.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "DTYPE,...",
        default_value = "f32,bf16"
    )]
    pub dtypes: Vec<Dtype>,
    /// Images in a batch; several sizes are measured one by one.
    #[arg(long, value_delimiter = ',', value_name = "N,...", default_value = "8", value_parser = batch)]
    pub batch: Vec<usize>,
    /// Numbers of threads to compare, in place of --threads.
    #[arg(long, value_delimiter = ',', value_name = "N,...", value_parser = threads)]
    pub thread_counts: Vec<usize>,
    /// Measure twice: with malloc as it comes, then keeping freed memory.
    #[arg(long, conflicts_with = "system_malloc")]
    pub both_mallocs: bool,
    /// Rounds: in each, every rung is measured once, in turn.
    #[arg(long, default_value_t = 10, value_parser = count)]
    pub rounds: usize,
    /// File for the result.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Three rounds.
    #[arg(long)]
    pub quick: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long)]
    pub quiet: bool,
}

/// The ladder's model: without a rung, since it measures all of them.
#[derive(Clone, Debug, Args)]
pub struct LadderModelArgs {
    /// resnet18, resnet34 or resnet50.
    #[arg(long)]
    pub arch: Option<Arch>,
    /// digits, imagenet, random, or a safetensors file with torchvision's names.
    #[arg(long, default_value = "random")]
    pub weights: Source,
    /// imagenet (224x224) or small (8x8 to 32x32), where the weights do not say.
    #[arg(long)]
    pub stem: Option<Stem>,
    /// Height and width of the images that the model sees, in pixels.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(8..=1024))]
    pub image: Option<u32>,
}

/// `cpu-inference learn`.
#[derive(Clone, Debug, Args)]
pub struct LearnArgs {
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Folder for the result files of this machine.
    #[arg(long, value_name = "DIR", default_value = "results-local/01-cpu")]
    pub out: PathBuf,
    /// Short measurements: for looking, not for publishing.
    #[arg(long)]
    pub quick: bool,
    /// Write the files as the book publishes them, below chapters/01-cpu/results.
    #[arg(long, conflicts_with_all = ["quick", "out"])]
    pub publish: bool,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long)]
    pub quiet: bool,
}

/// `cpu-inference shards`.
#[derive(Clone, Debug, Args)]
pub struct ShardsArgs {
    /// Folder that the paths of a shard lie below; nothing outside of it is read.
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// Which model; ImageNet's if no weights are given.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Most images in a batch.
    #[arg(long, default_value_t = 32, value_parser = batch)]
    pub batch: usize,
    /// Classes in a prediction.
    #[arg(long, default_value_t = 5, value_parser = count)]
    pub top_k: usize,
}

/// `cpu-inference worker`.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// Leave glibc's malloc as it comes.
    #[arg(long)]
    pub system_malloc: bool,
}

/// A number of threads, from a flag.
///
/// # Errors
/// What was expected, and what came.
pub fn threads(s: &str) -> Result<usize, String> {
    number(s, "a number of threads", 1024)
}

/// A batch size, from a flag.
///
/// # Errors
/// What was expected, and what came.
pub fn batch(s: &str) -> Result<usize, String> {
    number(s, "a batch size", 4096)
}

/// A count, from a flag.
///
/// # Errors
/// What was expected, and what came.
pub fn count(s: &str) -> Result<usize, String> {
    number(s, "a count", 1_000_000_000)
}
