//! The command line.

use std::path::PathBuf;

use accel::{arguments::number, device::DeviceRequest};
use clap::{Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use datasets::resnet::Arch;

use crate::{
    commands,
    config::{CompileEffort, ConvStyle, LoopStyle, Precision},
    schedule::Shape,
    store::Place,
};

/// Train a ResNet through XLA and PJRT on CPU, GPU or TPU.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train, save checkpoints, publish the model.
    Train(TrainArgs),
    /// Loss and accuracy of a trained model; its logits as a file if wanted.
    Evaluate(EvaluateArgs),
    /// Compile the training step for a TPU that need not be there, and report its cost.
    CompileFor(CompileForArgs),
    /// Measure one step a call against many, in a loop and unrolled.
    StepsPerCall(StepsPerCallArgs),
    /// Measure the ways to write a convolution down, shape by shape.
    ConvForms(ConvFormsArgs),
    /// The chapter in one go, with result files.
    Learn(LearnArgs),
    /// Answer measurement requests, one JSON object a line (see the peers).
    Worker,
}

impl Cli {
    /// Runs the command; the exit code is one of [`accel::exit`].
    ///
    /// # Errors
    /// What failed, on what value, what to do next.
    pub fn run(self) -> anyhow::Result<u8> {
        match self.command {
            Command::Train(args) => commands::train::run(&args),
            Command::Evaluate(args) => commands::evaluate::run(&args),
            Command::CompileFor(args) => commands::compile_for::run(&args),
            Command::StepsPerCall(args) => commands::steps_per_call::run(&args),
            Command::ConvForms(args) => commands::conv_forms::run(&args),
            Command::Learn(args) => commands::learn::run(&args),
            Command::Worker => commands::worker::run(),
        }
    }
}

/// What to train on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Data {
    /// 1,797 grey handwritten digits of 8x8, in the repository.
    Digits,
    /// 60,000 colour images of 32x32, fetched and verified on demand.
    Cifar10,
}

/// Which optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OptimizerName {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam with decoupled weight decay.
    Adamw,
}

/// Where it computes.
#[derive(Clone, Debug, Args)]
pub struct DeviceArgs {
    /// auto, cpu, cuda, cuda:N or tpu.
    #[arg(long, default_value = "auto")]
    pub device: DeviceRequest,
    /// The PJRT plugin to load, in place of looking for one.
    #[arg(long, value_name = "FILE")]
    pub plugin: Option<PathBuf>,
}

/// Which network and data.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// What to train on.
    #[arg(long, value_enum, default_value = "digits")]
    pub data: Data,
    /// Folder of CIFAR-10's binary files; fetched into the project if not given.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// resnet18 or resnet34.
    #[arg(long, default_value = "resnet18")]
    pub arch: Arch,
    /// Channels of the first stage.
    #[arg(long, default_value_t = 16, value_parser = width)]
    pub width: usize,
    /// Images in a batch.
    #[arg(long, default_value_t = 64, value_parser = batch)]
    pub batch: usize,
    /// f32 or bf16; bf16 keeps f32 master weights.
    #[arg(long, default_value = "f32")]
    pub precision: Precision,
    /// How convolutions are written down: auto, convolution, products, patches or columns.
    #[arg(long, default_value = "auto")]
    pub conv: ConvStyle,
}

/// How it learns.
#[derive(Clone, Debug, Args)]
pub struct LearningArgs {
    /// Passes over the training rows; 40 for digits, 30 for CIFAR-10 if not given.
    #[arg(long, value_parser = positive)]
    pub epochs: Option<usize>,
    /// The optimiser.
    #[arg(long, value_enum, default_value = "sgd")]
    pub optimizer: OptimizerName,
    /// Peak learning rate; 0.1 for SGD, 0.001 for AdamW if not given.
    #[arg(long = "lr", value_name = "RATE", allow_negative_numbers = true)]
    pub learning_rate: Option<f64>,
    /// SGD's momentum; 0.9 if not given.
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub momentum: Option<f64>,
    /// Weight decay; 5e-4 for SGD, 0.01 for AdamW if not given.
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// Course of the learning rate: constant or cosine.
    #[arg(long, default_value = "cosine")]
    pub schedule: Shape,
    /// Steps over which the learning rate rises from 0; 100, or a tenth of a shorter run, if
    /// not given.
    #[arg(long, value_name = "STEPS")]
    pub warmup_steps: Option<usize>,
    /// Seed of weights, order and augmentation.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Learn from the images as they are: no shifts, no mirror.
    #[arg(long)]
    pub no_augment: bool,
}

/// How the host drives the device.
#[derive(Clone, Debug, Args)]
pub struct DrivingArgs {
    /// Training steps in one execution; 1 on the CPU, 16 elsewhere if not given.
    #[arg(long, value_name = "N", value_parser = steps)]
    pub steps_per_call: Option<usize>,
    /// How much work the compiler puts into a program for the CPU: thorough or fast; fast suits
    /// trainings that take no longer than to compile.
    #[arg(long, default_value = "thorough", value_name = "EFFORT")]
    pub compile: CompileEffort,
    /// How they are put into one program: while or unroll.
    #[arg(long = "loop", default_value = "while", value_name = "STYLE")]
    pub loop_style: LoopStyle,
}

/// `tpu-training train`.
#[derive(Clone, Debug, Args)]
pub struct TrainArgs {
    /// Which network and data.
    #[command(flatten)]
    pub model: ModelArgs,
    /// How it learns.
    #[command(flatten)]
    pub learning: LearningArgs,
    /// How the host drives the device.
    #[command(flatten)]
    pub driving: DrivingArgs,
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Compile for this TPU instead of training, such as v5e:1x1 (see compile-for).
    #[arg(long, value_name = "TOPOLOGY")]
    pub compile_for: Option<String>,
    /// Folder, gs:// or s3:// URL for checkpoints, model and result.json.
    #[arg(
        long,
        value_name = "PLACE",
        default_value = "results-local/03-tpu-training/train"
    )]
    pub out: Place,
    /// Go on from the newest checkpoint in PLACE.
    #[arg(long)]
    pub resume: bool,
    /// Checkpoints that are kept.
    #[arg(long, default_value_t = 2, value_name = "K", value_parser = positive)]
    pub keep: usize,
    /// How the graph reaches XLA: as StableHLO text, or through the crate xla (see the book).
    #[arg(long, value_enum, default_value = "stablehlo")]
    pub lower: Lower,
    /// Three epochs: whether it works, not how good it gets.
    #[arg(long, conflicts_with = "epochs")]
    pub quick: bool,
    /// The whole path on made-up images, in a temporary folder.
    #[arg(long, conflicts_with_all = ["resume", "data_dir"])]
    pub dry_run: bool,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long)]
    pub quiet: bool,
}

impl TrainArgs {
    /// A command line without any flag: what tells a flag that was given from one that was not,
    /// as far as that makes a difference.
    pub fn plain() -> Self {
        let command = TrainArgs::augment_args(clap::Command::new("train"));
        let matches = command.get_matches_from(["train"]);
        TrainArgs::from_arg_matches(&matches).expect("no flag of train is required")
    }
}

/// How the graph reaches XLA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lower {
    /// As StableHLO text, compiled by a PJRT plugin.
    Stablehlo,
    /// Through the XlaBuilder of the crate xla; needs the feature xla-rs.
    XlaRs,
}

/// `tpu-training evaluate`.
#[derive(Clone, Debug, Args)]
pub struct EvaluateArgs {
    /// The model: a safetensors file that train published.
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Data set.
    #[arg(long, value_enum, default_value = "digits")]
    pub data: Data,
    /// Folder of CIFAR-10's binary files; fetched into the project if not given.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Write images (f32 NCHW, normalised), labels and logits of the test rows to this
    /// safetensors file, for other programs to compare with.
    #[arg(long, value_name = "FILE")]
    pub logits: Option<PathBuf>,
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long)]
    pub quiet: bool,
}

/// `tpu-training compile-for`.
#[derive(Clone, Debug, Args)]
pub struct CompileForArgs {
    /// TPUs: v5e:1x1, v5e:2x2, v6e:1x1, ...
    #[arg(required = true, value_name = "TOPOLOGY")]
    pub topologies: Vec<String>,
    /// Which network and data.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Height and width of the images in pixels, in place of the data set's.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(8..=1024))]
    pub image: Option<u32>,
    /// The inference program instead of the training step.
    #[arg(long)]
    pub inference: bool,
    /// Price of one chip for one hour in US dollars, where none is recorded or another holds.
    #[arg(long, value_name = "USD")]
    pub usd_per_hour: Option<f64>,
    /// The TPU's plugin (libtpu.so), in place of looking for it.
    #[arg(long, value_name = "FILE")]
    pub plugin: Option<PathBuf>,
    /// File for the result.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long)]
    pub quiet: bool,
}

/// `tpu-training steps-per-call`.
#[derive(Clone, Debug, Args)]
pub struct StepsPerCallArgs {
    /// Which network and data.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Steps in one execution, each measured in a loop and unrolled.
    #[arg(long, value_delimiter = ',', value_name = "N,...", default_value = "1,4,16", value_parser = steps)]
    pub steps: Vec<usize>,
    /// Rounds: in each, every row is measured once, in turn.
    #[arg(long, default_value_t = 10, value_parser = positive)]
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

/// `tpu-training conv-forms`.
#[derive(Clone, Debug, Args)]
pub struct ConvFormsArgs {
    /// Images in a batch.
    #[arg(long, default_value_t = 64, value_parser = batch)]
    pub batch: usize,
    /// Channels of the first stage.
    #[arg(long, default_value_t = 16, value_parser = width)]
    pub width: usize,
    /// Heights and widths of the images that enter the network, in pixels.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "PIXELS,...",
        default_value = "8,32",
        value_parser = pixels
    )]
    pub images: Vec<usize>,
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Rounds: in each, every row is measured once, in turn.
    #[arg(long, default_value_t = 10, value_parser = positive)]
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

/// `tpu-training learn`.
#[derive(Clone, Debug, Args)]
pub struct LearnArgs {
    /// Where it computes.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Folder for the result files of this machine.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "results-local/03-tpu-training"
    )]
    pub out: PathBuf,
    /// Short measurements: for looking, not for publishing.
    #[arg(long)]
    pub quick: bool,
    /// Write the files as the book publishes them, below chapters/03-tpu-training/results.
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

fn batch(text: &str) -> Result<usize, String> {
    number(text, "a batch size", 65_536)
}

fn pixels(text: &str) -> Result<usize, String> {
    number(text, "a number of pixels", 1024)
}

fn steps(text: &str) -> Result<usize, String> {
    number(text, "a number of steps", 100_000)
}

fn positive(text: &str) -> Result<usize, String> {
    number(text, "a count", 1_000_000)
}
