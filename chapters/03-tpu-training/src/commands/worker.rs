//! `tpu-training worker`: JSON lines in, JSON lines out, for the peers'
//! measurements (`cargo x peers train`).
//!
//! | request | answer |
//! | --- | --- |
//! | `{"load": {...}}` | `{"loaded": {"versions", "seconds", "compile_seconds", "settings"}}` |
//! | `{"run": {"warmup", "samples"}}` | `{"seconds": [...], "loss"}` |
//! | `{"losses": {"steps"}}` | `{"losses": [...], "norms": {"learned", "running"}}` |
//!
//! A failed request is an answer, `{"error": "..."}`, with `"unsupported": true`
//! where this machine lacks what was asked for. The batch of step `s` is rows
//! `s * batch ..` of the data, over and over: no order, no augmentation.

use std::{
    collections::BTreeMap,
    io::{self, BufRead},
    ops::{ControlFlow, RangeInclusive},
    path::{Path, PathBuf},
    time::Instant,
};

use accel::{device::DeviceRequest, exit, stdout::print_line};
use anyhow::{Context, bail, ensure};
use datasets::{
    checkpoint::{Checkpoint, Dtype},
    resnet::{Arch, Config as Network, Stem},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    bridge::floats,
    commands::train::plugin_versions,
    config::{CompileEffort, ConvStyle, LoopStyle, Optimizer, Precision, TrainConfig},
    data_set::{DataSet, Pixels},
    device::{self, OpenError, Opened},
    failure,
    order::Order,
    parameters::Role,
    schedule::Shape,
    trainer::{Driving, Snapshot, Trainer},
};

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Request {
    Load(Box<Load>),
    Run(Run),
    Losses(Losses),
}

#[derive(Deserialize)]
struct Load {
    engine: String,
    arch: Arch,
    stem: Stem,
    width: usize,
    image: usize,
    channels: usize,
    classes: usize,
    batch: usize,
    weights: PathBuf,
    data: PathBuf,
    precision: Precision,
    optimizer: OptimizerRequest,
    steps_per_call: usize,
    #[serde(rename = "loop")]
    loop_style: LoopStyle,
    conv: ConvStyle,
    steps_per_sample: usize,
    device: String,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum OptimizerRequest {
    Sgd {
        learning_rate: f64,
        momentum: f64,
        weight_decay: f64,
    },
}

#[derive(Deserialize)]
struct Run {
    warmup: usize,
    samples: usize,
}

#[derive(Deserialize)]
struct Losses {
    steps: usize,
}

struct Loaded {
    trainer: Trainer,
    start: Snapshot,
    steps_per_sample: usize,
}

/// Answers requests until the input ends.
///
/// # Errors
/// Only if stdin or stdout break; a failed request is an answer.
pub fn run() -> anyhow::Result<u8> {
    let mut loaded = None;
    // By bytes: a line that is not UTF-8 is a bad request, not the end of the input.
    for line in io::stdin().lock().split(b'\n') {
        let line = line.context("cannot read requests from stdin")?;
        let answer = answer(&line, &mut loaded).unwrap_or_else(|error| {
            let mut answer = json!({ "error": failure::text(&error) });
            if error.downcast_ref::<OpenError>().is_some() {
                answer["unsupported"] = json!(true);
            }
            answer
        });
        print_line(&answer.to_string())?;
    }
    Ok(exit::OK)
}

fn answer(line: &[u8], loaded: &mut Option<Loaded>) -> anyhow::Result<Value> {
    match serde_json::from_slice(line).context("expected {\"load\"|\"run\"|\"losses\": {...}}")? {
        Request::Load(request) => {
            let start = Instant::now();
            *loaded = None;
            let (new, opened) = load(&request)?;
            // A loop that does not divide the epoch has the single step beside it: not its time.
            let compile_seconds = new.trainer.first_compile_time().as_secs_f64();
            *loaded = Some(new);
            let versions: BTreeMap<_, _> = plugin_versions(&opened).into_iter().collect();
            Ok(json!({"loaded": {
                "versions": versions,
                "seconds": start.elapsed().as_secs_f64(),
                "compile_seconds": compile_seconds,
                "settings": { "conv": request.conv.name(), "device": opened.device.to_string() },
            }}))
        }
        Request::Run(request) => {
            let loaded = loaded.as_mut().context("load a training first")?;
            check("warmup", request.warmup, 0..=1_000_000)?;
            check("samples", request.samples, 0..=1_000_000)?;
            let (mut seconds, mut loss) = (vec![], None);
            for sample in 0..request.warmup + request.samples {
                let epoch = loaded.epochs(loaded.steps_per_sample)?;
                if sample >= request.warmup {
                    seconds.push(epoch.seconds);
                }
                loss = epoch.losses.last().copied();
            }
            Ok(json!({ "seconds": seconds, "loss": loss }))
        }
        Request::Losses(request) => {
            let loaded = loaded.as_mut().context("load a training first")?;
            loaded.trainer.restore(&loaded.start)?;
            let losses = loaded.epochs(request.steps)?.losses;
            let (learned, running) = norms(&loaded.trainer)?;
            Ok(json!({
                "losses": losses,
                "norms": { "learned": learned, "running": running },
            }))
        }
    }
}

struct Measured {
    seconds: f64,
    losses: Vec<f32>,
}

impl Loaded {
    /// So many steps, over as many epochs as that takes.
    fn epochs(&mut self, steps: usize) -> anyhow::Result<Measured> {
        let mut measured = Measured {
            seconds: 0.0,
            losses: vec![],
        };
        while measured.losses.len() < steps {
            let left = steps - measured.losses.len();
            let first = self.trainer.steps_into_epoch();
            let go_on = |step: usize| match step - first < left {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            };
            let epoch = self.trainer.train_epoch(go_on)?;
            measured.seconds += epoch.seconds;
            measured.losses.extend(&epoch.losses[first..]);
        }
        Ok(measured)
    }
}

/// Refuses a number that no measurement has, before it asks for all memory.
fn check(what: &str, got: usize, expected: RangeInclusive<usize>) -> anyhow::Result<()> {
    ensure!(
        expected.contains(&got),
        "{what}: expected {} to {}, got {got}",
        expected.start(),
        expected.end()
    );
    Ok(())
}

fn load(request: &Load) -> anyhow::Result<(Loaded, Opened)> {
    if request.engine != "pjrt" {
        bail!("expected the engine pjrt, got {:?}", request.engine);
    }
    check("width", request.width, 1..=1024)?;
    check("image", request.image, 1..=1024)?;
    check("batch", request.batch, 2..=65_536)?;
    check("steps_per_call", request.steps_per_call, 1..=100_000)?;
    check("steps_per_sample", request.steps_per_sample, 1..=100_000)?;
    ensure!(
        request
            .steps_per_sample
            .is_multiple_of(request.steps_per_call),
        "steps_per_sample: expected a multiple of steps_per_call"
    );
    let network = Network {
        arch: request.arch,
        stem: request.stem,
        width: request.width,
        channels: request.channels,
        classes: request.classes,
    };
    let data = read_data(&request.data, request)?;
    let OptimizerRequest::Sgd {
        learning_rate,
        momentum,
        weight_decay,
    } = request.optimizer;
    let config = TrainConfig {
        network,
        batch: request.batch,
        epochs: usize::MAX >> 32,
        optimizer: Optimizer::Sgd {
            momentum,
            weight_decay,
        },
        learning_rate,
        schedule: Shape::Constant,
        warmup_steps: 0,
        seed: 0,
        precision: request.precision,
        augment: false,
        conv: request.conv,
        compile: CompileEffort::Thorough,
    };
    let driving = Driving {
        steps_per_call: request.steps_per_call,
        loop_style: request.loop_style,
    };
    let wanted: DeviceRequest = request.device.parse()?;
    let opened = device::open(wanted, None)?;
    let weights = Checkpoint::open(&request.weights)?;
    weights.check(&network.specs())?;
    let mut trainer = Trainer::new(&opened.client, opened.ordinal, &config, &data, driving)?;
    trainer.set_order(Order::AsStored);
    let untrained = trainer.snapshot()?;
    let tensors = trainer.parameters().iter().map(|parameter| {
        let bytes = weights
            .tensor(&parameter.name)
            .map_or(&[][..], |view| view.bytes);
        floats(bytes)
    });
    let start = Snapshot {
        tensors: tensors.collect(),
        ..untrained
    };
    trainer.restore(&start)?;
    trainer.compile()?;
    let loaded = Loaded {
        trainer,
        start,
        steps_per_sample: request.steps_per_sample,
    };
    Ok((loaded, opened))
}

/// `images`, f32 NHWC, and `labels`, i32, of a safetensors file.
fn read_data(path: &Path, request: &Load) -> anyhow::Result<DataSet> {
    let file = Checkpoint::open(path)?;
    let tensor = |name: &str, dtype: Dtype| {
        let view = file
            .tensor(name)
            .with_context(|| format!("no tensor {name:?} in {}", path.display()))?;
        ensure!(
            view.dtype == dtype,
            "tensor {name:?}: expected {dtype:?}, got {:?}",
            view.dtype
        );
        Ok((view.shape.to_vec(), view.bytes))
    };
    let (shape, pixels) = tensor("images", Dtype::F32)?;
    let (_, labels) = tensor("labels", Dtype::I32)?;
    let wanted = [request.image, request.image, request.channels];
    ensure!(
        shape.len() == 4 && shape[1..] == wanted,
        "tensor \"images\": expected [rows, {wanted:?}], got {shape:?}"
    );
    ensure!(
        shape[0].is_multiple_of(request.batch),
        "{} rows: expected a multiple of the batch, {}",
        shape[0],
        request.batch
    );
    let labels = labels.as_chunks::<4>().0.iter();
    let labels: Vec<i32> = labels.map(|label| i32::from_le_bytes(*label)).collect();
    let data = DataSet {
        name: "given".into(),
        side: request.image,
        channels: request.channels,
        pixels: Pixels::F32(floats(pixels)),
        train: (0..labels.len() as i32).collect(),
        labels,
        class_names: (0..request.classes)
            .map(|class| class.to_string())
            .collect(),
        mean: vec![0.0; request.channels],
        std: vec![1.0; request.channels],
        validation: vec![],
        test: vec![],
    };
    data.check()?;
    Ok(data)
}

/// Euclidean norms of the learned and of the running tensors, each as one vector.
fn norms(trainer: &Trainer) -> anyhow::Result<(f64, f64)> {
    let snapshot = trainer.snapshot()?;
    let norm = |role: Role| {
        let tensors = trainer.parameters().iter().zip(&snapshot.tensors);
        let of_role = tensors.filter(|(parameter, _)| parameter.role == role);
        let squares = of_role
            .flat_map(|(_, values)| values)
            .map(|&v| f64::from(v).powi(2));
        squares.sum::<f64>().sqrt()
    };
    Ok((norm(Role::Learned), norm(Role::Running)))
}
