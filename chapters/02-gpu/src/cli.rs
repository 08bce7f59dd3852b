//! The command line.

use std::path::PathBuf;

use accel::{arguments::number, device::DeviceRequest};
use clap::{Args, Parser, Subcommand};
use cpu_inference::{
    cli::{LadderModelArgs, WorkArgs, batch, count, threads},
    tch_engine::{Dtype, Rung},
};
use datasets::resnet::Arch;

use crate::{
    commands::{self, engines::Contestant},
    contender::Format,
};
use inference_engines::onnx::Quantisation;

/// ResNet inference on a GPU, and with other engines.
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
    /// Measure what feeds a GPU, step by step.
    Ladder(LadderArgs),
    /// Throughput and latency over batch sizes, until memory is out.
    Tune(TuneArgs),
    /// Predict the time of each layer from the device's peaks, then measure.
    Roofline(RooflineArgs),
    /// Compare libtorch, ONNX Runtime, OpenVINO and TensorRT on one model.
    Engines(EnginesArgs),
    /// Write a model as an ONNX file.
    Export(ExportArgs),
    /// The chapter in one go, with result files.
    Learn(LearnArgs),
    /// Answer measurement requests, one JSON object a line (see the peers).
    Worker(WorkerArgs),
}

impl Cli {
    /// Runs the command; the exit code is one of [`accel::exit`].
    ///
    /// # Errors
    /// What failed, on what value, what to do next.
    pub fn run(self) -> anyhow::Result<u8> {
        cpu_inference::setting::outlive_file_size_limit();
        match self.command {
            Command::Run(args) => commands::run::run(args),
            Command::Ladder(args) => commands::ladder::run(&args),
            Command::Tune(args) => commands::tune::run(&args),
            Command::Roofline(args) => commands::roofline::run(&args),
            Command::Engines(args) => commands::engines::run(&args),
            Command::Export(args) => commands::export::run(&args),
            Command::Learn(args) => commands::learn::run(&args),
            Command::Worker(args) => commands::worker::run(&args),
        }
    }
}

/// Where the model computes.
#[derive(Clone, Debug, Args)]
pub struct DeviceArgs {
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: DeviceRequest,
    /// Where that device does not work: warn, and take the best one that does.
    #[arg(long)]
    pub fallback: bool,
    /// Threads of one operator on the CPU; all cores if not given.
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
    /// Leave glibc's malloc as it comes, to see what that costs.
    #[arg(long)]
    pub system_malloc: bool,
}

/// `gpu-inference run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// What to classify, with which model.
    #[command(flatten)]
    pub work: WorkArgs,
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Folder for predictions.jsonl, summary.json and result.json.
    #[arg(long, value_name = "DIR", default_value = "results-local/02-gpu/run")]
    pub out: PathBuf,
}

/// `gpu-inference ladder`.
#[derive(Clone, Debug, Args)]
pub struct LadderArgs {
    /// Which model.
    #[command(flatten)]
    pub model: LadderModelArgs,
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Images in a batch; 8 on the CPU and 128 on a GPU if not given.
    #[arg(long, value_parser = batch)]
    pub batch: Option<usize>,
    /// Only the steps whose name has this in it.
    #[arg(long, value_name = "SUBSTRING")]
    pub only: Option<String>,
    /// Rounds: in each, every step is measured once, in turn.
    #[arg(long, default_value_t = 10, value_parser = count)]
    pub rounds: usize,
    /// Where the result goes, and what is said.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `gpu-inference tune`.
#[derive(Clone, Debug, Args)]
pub struct TuneArgs {
    /// Which model.
    #[command(flatten)]
    pub model: LadderModelArgs,
    /// How far it is prepared; fused on a GPU and channels-last on the CPU if not given.
    #[arg(long)]
    pub rung: Option<Rung>,
    /// f32, bf16 or f16; bf16 on a GPU and f32 on the CPU if not given.
    #[arg(long)]
    pub dtype: Option<Dtype>,
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Largest batch to try; 32 on the CPU and 65,536 on a GPU if not given.
    #[arg(long, value_name = "N", value_parser = large_batch)]
    pub max_batch: Option<usize>,
    /// Throughput, as a share of the best, that the knee must reach.
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, value_parser = share)]
    pub knee: f64,
    /// Where the result goes, and what is said.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `gpu-inference roofline`.
#[derive(Clone, Debug, Args)]
pub struct RooflineArgs {
    /// Networks to count and measure.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "ARCH,...",
        default_value = "resnet18,resnet34,resnet50"
    )]
    pub archs: Vec<Arch>,
    /// Number formats; bf16 is skipped on a CPU that lacks it.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "DTYPE,...",
        default_value = "f32,bf16"
    )]
    pub dtypes: Vec<Dtype>,
    /// Height and width of the images, in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = clap::value_parser!(u32).range(32..=1024))]
    pub image: u32,
    /// Images in a batch; 8 on the CPU and 128 on a GPU if not given.
    #[arg(long, value_parser = batch)]
    pub batch: Option<usize>,
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Where the result goes, and what is said.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `gpu-inference engines`.
#[derive(Clone, Debug, Args)]
pub struct EnginesArgs {
    /// Which model.
    #[command(flatten)]
    pub model: LadderModelArgs,
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Engines to measure, by name: tch-prepacked, tch-streams, tch-channels-last, tch-fused,
    /// onnxruntime, openvino, openvino-streams, tensorrt; all if not given.
    #[arg(long, value_delimiter = ',', value_name = "ENGINE,...")]
    pub engines: Vec<Contestant>,
    /// Number formats: f32, bf16, f16 (on a GPU) and int8.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "DTYPE,...",
        default_value = "f32,bf16,f16,int8"
    )]
    pub dtypes: Vec<Format>,
    /// An ONNX file of this very model, in place of those that are made here.
    #[arg(long, value_name = "FILE")]
    pub onnx: Option<PathBuf>,
    /// Images in a batch; several sizes are measured one by one, the last alone with --quick.
    /// 1 and 8 if not given, and 64 as well on a GPU.
    #[arg(long, value_delimiter = ',', value_name = "N,...", value_parser = batch)]
    pub batch: Vec<usize>,
    /// Rounds: in each, every engine is measured once, in turn.
    #[arg(long, default_value_t = 10, value_parser = count)]
    pub rounds: usize,
    /// Where the result goes, and what is said.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `gpu-inference export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// Which model.
    #[command(flatten)]
    pub model: LadderModelArgs,
    /// f32, bf16, f16 or int8.
    #[arg(long, default_value = "f32", conflicts_with = "int8")]
    pub dtype: Format,
    /// Short for --dtype int8.
    #[arg(long)]
    pub int8: bool,
    /// How values are marked as 8 bits: cpu (ONNX Runtime, OpenVINO) or tensorrt.
    #[arg(long, value_name = "FOR", default_value = "cpu")]
    pub marks: Quantisation,
    /// The ONNX file.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Print what was written as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long)]
    pub quiet: bool,
}

/// `gpu-inference learn`.
#[derive(Clone, Debug, Args)]
pub struct LearnArgs {
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Folder for the result files of this machine.
    #[arg(long, value_name = "DIR", default_value = "results-local/02-gpu")]
    pub out: PathBuf,
    /// Short measurements: for looking, not for publishing.
    #[arg(long)]
    pub quick: bool,
    /// Write the files as the book publishes them, below chapters/02-gpu/results.
    #[arg(long, conflicts_with_all = ["quick", "out"])]
    pub publish: bool,
    /// Only the measurement of this name, or those whose name has it in it.
    #[arg(long, value_name = "SUBSTRING")]
    pub only: Option<String>,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long)]
    pub quiet: bool,
}

/// `gpu-inference worker`.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// Leave glibc's malloc as it comes.
    #[arg(long)]
    pub system_malloc: bool,
}

/// Where a measurement's result goes, and what is said.
#[derive(Clone, Debug, Args)]
pub struct OutputArgs {
    /// File for the result.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Short measurements: for looking, not for publishing.
    #[arg(long)]
    pub quick: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long)]
    pub quiet: bool,
}

fn large_batch(s: &str) -> Result<usize, String> {
    number(s, "a batch size", 1 << 20)
}

fn share(s: &str) -> Result<f64, String> {
    match s.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("expected a share from 0 to 1, got {s:?}")),
    }
}
