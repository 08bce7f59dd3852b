//! Trains the digits checkpoint that chapter 1 classifies with: a narrow
//! ResNet-18 on the UCI handwritten digits, on one thread, from a seed.
//!
//! ```text
//! cargo run --release -p cpu-inference --bin train-digits -- --out chapters/01-cpu/weights
//! ```

use std::{collections::BTreeMap, fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use cpu_inference::resnet::{
    config::{Arch, Config, Stem},
    network::Network,
    weights::Weights,
};
use datasets::{
    checkpoint::{self, Description, Dtype},
    digits, split,
};
use serde_json::json;
use tch::{Device, Kind, Reduction, Tensor, no_grad};

/// Trains ResNet-18 on the handwritten digits.
#[derive(Parser)]
struct Args {
    /// Folder for digits.safetensors and digits-log.jsonl.
    #[arg(long)]
    out: PathBuf,
    /// Passes over the training rows.
    #[arg(long, default_value_t = 30)]
    epochs: usize,
    /// Channels of the first stage.
    #[arg(long, default_value_t = 16)]
    width: usize,
    /// Seed of weights, order and shifts.
    #[arg(long, default_value_t = 0)]
    seed: i64,
}

const BATCH: i64 = 64;
const PEAK_RATE: f64 = 0.1;
const MOMENTUM: f64 = 0.9;
const DECAY: f64 = 5e-4;

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    // One thread: sums in one order, so that the same seed gives the same weights.
    tch::set_num_threads(1);
    tch::manual_seed(args.seed);
    let config = Config {
        arch: Arch::Resnet18,
        stem: Stem::Small,
        width: args.width,
        channels: 1,
        classes: digits::CLASSES,
    };
    let data = digits::load()?;
    let rows = split::digits();
    let (mean, std) = statistics(&data, &rows.train);
    let pick = |rows: &[usize]| pixels(&data, rows, mean, std);
    let (train_x, train_y) = pick(&rows.train);
    let (validation_x, validation_y) = pick(&rows.validation);
    let (test_x, test_y) = pick(&rows.test);

    let weights = initial(&config);
    let network = Network::new(&config, &weights)?;
    let learned: Vec<(&str, &Tensor)> = weights
        .iter()
        .filter(|(name, _)| !name.contains("running"))
        .collect();
    let mut speeds: Vec<Tensor> = learned.iter().map(|(_, t)| t.zeros_like()).collect();
    let accuracy = |x: &Tensor, y: &Tensor| -> anyhow::Result<f64> {
        let right = no_grad(|| network.forward(x, false))?
            .argmax(1, false)
            .eq_tensor(y);
        Ok(right
            .to_kind(Kind::Double)
            .mean(Kind::Double)
            .double_value(&[]))
    };

    let count = train_y.size()[0];
    let steps = args.epochs as i64 * (count / BATCH);
    let mut log = vec![];
    let mut step = 0;
    for epoch in 1..=args.epochs {
        let order = Tensor::randperm(count, (Kind::Int64, Device::Cpu));
        let mut losses = vec![];
        for start in (0..=count - BATCH).step_by(BATCH as usize) {
            let rows = order.narrow(0, start, BATCH);
            let x = shift(&train_x.index_select(0, &rows));
            let y = train_y.index_select(0, &rows);
            let logits = network.forward(&x, true)?;
            let loss = logits.cross_entropy_loss::<Tensor>(&y, None, Reduction::Mean, -100, 0.0);
            loss.backward();
            losses.push(loss.double_value(&[]));
            anyhow::ensure!(
                losses.iter().all(|l| l.is_finite()),
                "loss is NaN at step {step}"
            );
            // Half a cosine, from the peak to zero.
            let phase = std::f64::consts::PI * step as f64 / steps as f64;
            descend(&learned, &mut speeds, PEAK_RATE * 0.5 * (1.0 + phase.cos()));
            step += 1;
        }
        let line = json!({
            "epoch": epoch,
            "loss": losses.iter().sum::<f64>() / losses.len() as f64,
            "validation_accuracy": accuracy(&validation_x, &validation_y)?,
        });
        eprintln!("{line}");
        log.push(line.to_string());
    }
    let line =
        json!({ "test_accuracy": accuracy(&test_x, &test_y)?, "test_images": rows.test.len() });
    println!("{line}");
    log.push(line.to_string());

    let path = args.out.join("digits.safetensors");
    save(&path, &config, &weights, (mean, std))?;
    let path = args.out.join("digits-log.jsonl");
    fs::write(&path, log.join("\n") + "\n")
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Kaiming's normal initialisation for convolutions; batch norms as identities.
fn initial(config: &Config) -> Weights {
    let mut tensors = BTreeMap::new();
    for spec in config.specs().iter().filter(|s| !s.optional) {
        let shape: Vec<i64> = spec.shape.iter().map(|&n| n as i64).collect();
        let options = (Kind::Float, Device::Cpu);
        let name = &spec.name;
        let tensor = if shape.len() > 1 {
            let fan_in: i64 = shape[1..].iter().product();
            Tensor::randn(&shape, options) * (2.0 / fan_in as f64).sqrt()
        } else if name.ends_with("running_var")
            || (name.ends_with(".weight") && name != "fc.weight")
        {
            Tensor::ones(&shape, options)
        } else {
            Tensor::zeros(&shape, options)
        };
        let tensor = tensor.set_requires_grad(!name.contains("running"));
        tensors.insert(name.clone(), tensor);
    }
    Weights::from_tensors(tensors)
}

/// Mean and deviation of the training pixels, in `0..=1`.
fn statistics(data: &digits::Digits, rows: &[usize]) -> (f64, f64) {
    let values: Vec<f64> = rows
        .iter()
        .flat_map(|&row| data.image(row))
        .map(|&v| f64::from(v) / 16.0)
        .collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, variance.sqrt())
}

/// f32 `[rows, 1, 8, 8]`, normalised, and i64 `[rows]`.
fn pixels(data: &digits::Digits, rows: &[usize], mean: f64, std: f64) -> (Tensor, Tensor) {
    let values: Vec<f32> = rows
        .iter()
        .flat_map(|&row| data.image(row))
        .map(|&v| ((f64::from(v) / 16.0 - mean) / std) as f32)
        .collect();
    let labels: Vec<i64> = rows
        .iter()
        .map(|&row| i64::from(data.labels[row]))
        .collect();
    let side = digits::SIDE as i64;
    (
        Tensor::from_slice(&values).view([-1, 1, side, side]),
        Tensor::from_slice(&labels),
    )
}

/// The batch moved by up to one pixel: handwriting is not always in the middle.
fn shift(x: &Tensor) -> Tensor {
    let side = digits::SIDE as i64;
    let padded = x.replication_pad2d([1, 1, 1, 1]);
    let offset = Tensor::randint(3, [2], (Kind::Int64, Device::Cpu));
    padded
        .narrow(2, offset.int64_value(&[0]), side)
        .narrow(3, offset.int64_value(&[1]), side)
}

/// One step of SGD with momentum and weight decay; clears the gradients.
fn descend(learned: &[(&str, &Tensor)], speeds: &mut [Tensor], rate: f64) {
    no_grad(|| {
        for ((_, weight), speed) in learned.iter().zip(speeds) {
            let mut weight = weight.shallow_clone();
            let mut gradient = weight.grad();
            *speed = &*speed * MOMENTUM + &gradient + &weight * DECAY;
            let _ = weight.g_sub_(&(&*speed * rate));
            let _ = gradient.zero_();
        }
    });
}

fn save(
    path: &std::path::Path,
    config: &Config,
    weights: &Weights,
    (mean, std): (f64, f64),
) -> anyhow::Result<()> {
    let mut tensors = vec![];
    for (name, tensor) in weights.iter() {
        let values = Vec::<f32>::try_from(tensor.detach().reshape([-1]))?;
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensors.push((name.to_owned(), shape, Dtype::F32, bytes));
    }
    let description = Description {
        arch: Some(config.arch.name().into()),
        width: Some(config.width),
        stem: Some(config.stem.name().into()),
        channels: Some(config.channels),
        classes: Some(config.classes),
        mean: Some(vec![mean as f32]),
        std: Some(vec![std as f32]),
        labels: Some((0..10).map(|digit| digit.to_string()).collect()),
    };
    checkpoint::write(path, &tensors, &description, &BTreeMap::new())
        .with_context(|| format!("cannot write {}", path.display()))
}
