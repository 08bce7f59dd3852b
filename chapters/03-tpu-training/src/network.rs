//! ResNet-18 and ResNet-34 as a graph, channels last.

use std::collections::HashMap;

use datasets::resnet::{Arch, Config, Conv, Stem};
use training_graph::{Conv2d, DType, Graph, GraphError, Pool, Value};

use crate::{config::Precision, conv_forms::ConvForms};

/// Added to a variance before its root, as in PyTorch.
const EPSILON: f32 = 1e-5;
/// Share of a batch's statistics in the running ones, as in PyTorch.
const MOMENTUM: f32 = 0.1;

/// Which statistics normalise a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The batch's own.
    Training,
    /// The running ones.
    Inference,
}

/// How the network is written down. Changes speed and last bits, not what it computes.
#[derive(Clone, Copy, Debug)]
pub struct Style<'a> {
    /// Arithmetic of convolutions and activations.
    pub precision: Precision,
    /// How each convolution is expressed.
    pub forms: &'a ConvForms,
}

/// What the network makes of a batch.
#[derive(Clone, Debug)]
pub struct Output {
    /// f32 `[batch, classes]`, unnormalised.
    pub logits: Value,
    /// The batch's own statistics, f32 `[channels]`, by the names of the running ones that
    /// they go into; empty at inference.
    pub statistics: HashMap<String, Value>,
}

/// A ResNet's architecture that training does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} has bottleneck blocks, which are not trained here; expected resnet18 or resnet34")]
pub struct UnsupportedArch(pub Arch);

/// Refuses networks that [`forward`] does not build.
///
/// # Errors
/// [`UnsupportedArch`] for ResNet-50.
pub fn check(config: &Config) -> Result<(), UnsupportedArch> {
    match config.arch {
        Arch::Resnet18 | Arch::Resnet34 => Ok(()),
        Arch::Resnet50 => Err(UnsupportedArch(config.arch)),
    }
}

// ANCHOR: forward
/// Adds the network to a graph.
///
/// * `parameters`: every tensor by torchvision's name, f32, in the device's layout
/// * `images`: f32 `[batch, side, side, channels]`, normalised
///
/// # Errors
/// Of the first operation whose shapes do not fit.
pub fn forward(
    graph: &mut Graph,
    config: &Config,
    style: Style<'_>,
    mode: Mode,
    parameters: &HashMap<String, Value>,
    images: Value,
) -> Result<Output, GraphError> {
    let convs = config.convs();
    let mut net = Net {
        graph,
        style,
        mode,
        parameters,
        convs: convs
            .iter()
            .map(|conv| (conv.name.as_str(), conv))
            .collect(),
        statistics: HashMap::new(),
    };
    let mut x = net.compute_type(images)?;
    x = net.conv_and_norm("conv1", x)?;
    x = net.graph.relu(x)?;
    if config.stem == Stem::Imagenet {
        let pool = Pool {
            window: [3, 3],
            strides: [2, 2],
            padding: [[1, 1], [1, 1]],
        };
        x = net.graph.max_pool(x, &pool)?;
    }
    for (stage, &blocks) in config.arch.blocks().iter().enumerate() {
        for block in 0..blocks {
            x = net.block(&format!("layer{}.{block}", stage + 1), x)?;
        }
    }
    let x = net.graph.convert(x, DType::F32)?;
    let features = net.graph.global_average_pool(x)?;
    let logits = net.linear("fc", features)?;
    Ok(Output {
        logits,
        statistics: net.statistics,
    })
}
// ANCHOR_END: forward

/// Running statistics brought up to date: f32, of one shape.
///
/// # Errors
/// If the shapes differ.
pub fn running_average(graph: &mut Graph, old: Value, batch: Value) -> Result<Value, GraphError> {
    let old = graph.mul_scalar(old, 1.0 - MOMENTUM)?;
    let batch = graph.mul_scalar(batch, MOMENTUM)?;
    graph.add(old, batch)
}

struct Net<'a> {
    graph: &'a mut Graph,
    style: Style<'a>,
    mode: Mode,
    parameters: &'a HashMap<String, Value>,
    convs: HashMap<&'a str, &'a Conv>,
    statistics: HashMap<String, Value>,
}

impl Net<'_> {
    // ANCHOR: block
    /// Two convolutions, and the way around them: the input itself, or its
    /// projection where the shape changes.
    fn block(&mut self, name: &str, input: Value) -> Result<Value, GraphError> {
        let x = self.conv_and_norm(&format!("{name}.conv1"), input)?;
        let x = self.graph.relu(x)?;
        let x = self.conv_and_norm(&format!("{name}.conv2"), x)?;
        let projection = format!("{name}.downsample.0");
        let around = match self.convs.contains_key(projection.as_str()) {
            true => self.conv_and_norm(&projection, input)?,
            false => input,
        };
        let sum = self.graph.add(x, around)?;
        self.graph.relu(sum)
    }
    // ANCHOR_END: block

    fn conv_and_norm(&mut self, name: &str, x: Value) -> Result<Value, GraphError> {
        let conv = self.convs[name];
        let filter = self.parameters[&format!("{name}.weight")];
        let filter = self.compute_type(filter)?;
        let side = self.graph.dims(x)[1];
        let padding = conv.padding() as i64;
        let shape = Conv2d {
            strides: [conv.stride; 2],
            padding: [[padding; 2]; 2],
            forms: self.style.forms.choose(conv, side),
        };
        let x = self.graph.conv2d(x, filter, &shape)?;
        self.batch_norm(&conv.bn, x)
    }

    /// The graph computes it in f32: a variance does not survive bf16.
    fn batch_norm(&mut self, name: &str, x: Value) -> Result<Value, GraphError> {
        let part = |part: &str| self.parameters[&format!("{name}.{part}")];
        let (weight, bias) = (part("weight"), part("bias"));
        let (mean, variance) = (part("running_mean"), part("running_var"));
        match self.mode {
            Mode::Inference => self
                .graph
                .batch_norm_inference(x, weight, bias, mean, variance, EPSILON),
            Mode::Training => {
                let batch = self.graph.batch_norm(x, weight, bias, EPSILON)?;
                // PyTorch normalises by the variance over n and remembers the one over n - 1.
                let dims = self.graph.dims(x);
                let n = dims[..dims.len() - 1].iter().product::<usize>() as f32;
                let unbiased = self.graph.mul_scalar(batch.variance, n / (n - 1.0))?;
                self.statistics
                    .insert(format!("{name}.running_mean"), batch.mean);
                self.statistics
                    .insert(format!("{name}.running_var"), unbiased);
                Ok(batch.y)
            }
        }
    }

    /// `x @ weight^T + bias`, f32.
    fn linear(&mut self, name: &str, x: Value) -> Result<Value, GraphError> {
        let weight = self.parameters[&format!("{name}.weight")];
        let bias = self.parameters[&format!("{name}.bias")];
        let weight = self.graph.transpose(weight, &[1, 0])?;
        let product = self.graph.matmul(x, weight)?;
        let dims = self.graph.dims(product).to_vec();
        let bias = self.graph.broadcast(bias, &dims, &[1])?;
        self.graph.add(product, bias)
    }

    fn compute_type(&mut self, x: Value) -> Result<Value, GraphError> {
        match self.style.precision {
            Precision::F32 => Ok(x),
            Precision::Bf16 => self.graph.convert(x, DType::Bf16),
        }
    }
}
