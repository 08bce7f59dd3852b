//! The forward pass. One topology serves every rung of the ladder: a rung
//! differs in how its layers were prepared, never in how they are joined.

use tch::{Device, Kind, TchError, Tensor};

use super::config::{Config, Conv, Stem};
use super::weights::{Weights, WeightsError};

/// Added to the variance before the root, as torchvision trains with.
const BATCH_NORM_EPSILON: f64 = 1e-5;
/// Share of a new batch in the running statistics, torchvision's default.
const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// A ResNet with its tensors.
#[derive(Debug)]
pub struct Network {
    stem: Layer,
    pool: bool,
    blocks: Vec<Block>,
    classifier: (Tensor, Tensor),
}

/// A residual block: the convolutions of the main path, and a projection
/// where the shortcut changes shape.
#[derive(Debug)]
struct Block {
    path: Vec<Layer>,
    projection: Option<Layer>,
}

/// A convolution with what follows it: a batch norm, or, once that is folded,
/// a bias.
#[derive(Debug)]
pub struct Layer {
    conv: Conv,
    weight: Tensor,
    bias: Option<Tensor>,
    norm: Option<BatchNorm>,
    /// Zeros on each side of the input, in pixels.
    padding: i64,
    /// Whether one kernel of cuDNN's does what follows, too.
    fused: bool,
}

#[derive(Debug)]
struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
}

impl Network {
    /// Joins named tensors into a network. Nothing is copied.
    ///
    /// # Errors
    /// [`WeightsError`] if a tensor is missing or has another shape.
    pub fn new(config: &Config, weights: &Weights) -> Result<Self, WeightsError> {
        let mut layers = config.convs().into_iter().map(|conv| {
            let get = |name: String, shape: &[usize]| weights.get(&name, shape);
            let bn = |part: &str| get(format!("{}.{part}", conv.bn), &[conv.output]);
            Ok::<_, WeightsError>(Layer {
                padding: conv.padding() as i64,
                fused: false,
                weight: get(format!("{}.weight", conv.name), &conv.weight_shape())?,
                bias: None,
                norm: Some(BatchNorm {
                    weight: bn("weight")?,
                    bias: bn("bias")?,
                    mean: bn("running_mean")?,
                    variance: bn("running_var")?,
                }),
                conv,
            })
        });
        let stem = layers.next().expect("every ResNet has a stem")?;
        let mut blocks: Vec<Block> = vec![];
        for layer in layers {
            let layer = layer?;
            if layer.conv.name.ends_with("conv1") {
                blocks.push(Block {
                    path: vec![],
                    projection: None,
                });
            }
            let block = blocks.last_mut().expect("a block starts with conv1");
            if layer.conv.name.contains("downsample") {
                block.projection = Some(layer);
            } else {
                block.path.push(layer);
            }
        }
        Ok(Network {
            stem,
            pool: config.stem == Stem::Imagenet,
            blocks,
            classifier: (
                weights.get("fc.weight", &[config.classes, config.features()])?,
                weights.get("fc.bias", &[config.classes])?,
            ),
        })
    }

    // ANCHOR: forward
    /// Logits of a batch.
    ///
    /// * `x`: `[batch, channels, height, width]`, in the dtype and layout that
    ///   the layers were prepared for
    /// * `train`: batch statistics instead of running ones, which are updated;
    ///   only before folding
    ///
    /// Returns `[batch, classes]`, unnormalised.
    ///
    /// # Errors
    /// libtorch's, such as a shape that does not fit or no memory.
    pub fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let mut x = self.stem.activated(x, None, train)?;
        if self.pool {
            x = x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
        }
        for block in &self.blocks {
            x = block.forward(&x, train)?;
        }
        let mut x = x.f_adaptive_avg_pool2d([1, 1])?;
        if x.is_mkldnn() {
            x = x.f_to_dense(None, false)?;
        }
        let (weight, bias) = &self.classifier;
        x.f_flatten(1, 3)?.f_linear(weight, Some(bias))
    }
    // ANCHOR_END: forward

    // ANCHOR: fold
    /// Folds each batch norm into the convolution before it.
    ///
    /// At inference a batch norm is `y = (x - mean) * scale + bias` with
    /// `scale = weight / sqrt(variance + epsilon)`: one factor and one addend a
    /// channel, which the convolution's own weight and bias can carry.
    pub fn fold(&mut self) {
        for layer in self.layers_mut() {
            if let Some(norm) = layer.norm.take() {
                let scale = &norm.weight / (&norm.variance + BATCH_NORM_EPSILON).sqrt();
                layer.weight = &layer.weight * scale.view([-1, 1, 1, 1]);
                layer.bias = Some(&norm.bias - &norm.mean * &scale);
            }
        }
    }
    // ANCHOR_END: fold

    /// The same tensors once more, for another thread: storage is shared, and
    /// inference only reads it.
    pub fn share(&self) -> Self {
        Network {
            stem: self.stem.share(),
            pool: self.pool,
            blocks: self
                .blocks
                .iter()
                .map(|block| Block {
                    path: block.path.iter().map(Layer::share).collect(),
                    projection: block.projection.as_ref().map(Layer::share),
                })
                .collect(),
            classifier: (
                self.classifier.0.shallow_clone(),
                self.classifier.1.shallow_clone(),
            ),
        }
    }

    /// Converts every tensor to `kind`; fold first, since a batch norm's
    /// variance does not survive bf16.
    pub fn to_kind(&mut self, kind: Kind) {
        for layer in self.layers_mut() {
            layer.weight = layer.weight.to_kind(kind);
            layer.bias = layer.bias.as_ref().map(|b| b.to_kind(kind));
        }
        let (weight, bias) = &self.classifier;
        self.classifier = (weight.to_kind(kind), bias.to_kind(kind));
    }

    /// Moves every tensor to `device`.
    ///
    /// # Errors
    /// libtorch's, such as no memory there.
    pub fn to_device(&mut self, device: Device) -> Result<(), TchError> {
        if device == Device::Cpu {
            // They are made there, and oneDNN's layout cannot be moved.
            return Ok(());
        }
        for layer in self.layers_mut() {
            let norm = layer.norm.iter_mut();
            let norm =
                norm.flat_map(|n| [&mut n.weight, &mut n.bias, &mut n.mean, &mut n.variance]);
            for tensor in norm.chain([&mut layer.weight]).chain(&mut layer.bias) {
                *tensor = tensor.f_to_device(device)?;
            }
        }
        let (weight, bias) = &self.classifier;
        self.classifier = (weight.f_to_device(device)?, bias.f_to_device(device)?);
        Ok(())
    }

    // ANCHOR: fuse
    /// Has each convolution, its bias, what the shortcut adds and relu computed by
    /// one kernel of cuDNN's, which writes its output to memory once. Fold first.
    ///
    /// A projection has no relu of its own and stays a convolution; its bias has joined
    /// another, so that it needs no pass of its own.
    pub fn fuse(&mut self) {
        self.join_biases();
        for layer in self.blocks.iter_mut().flat_map(|block| &mut block.path) {
            layer.fused = true;
        }
        self.stem.fused = true;
    }

    /// Moves the bias of each projection to the layer that its output is added to.
    pub fn join_biases(&mut self) {
        for block in &mut self.blocks {
            let moved = block.projection.as_mut().and_then(|p| p.bias.take());
            if let (Some(moved), Some(last)) = (moved, block.path.last_mut()) {
                last.bias = last.bias.take().map(|bias| bias + moved);
            }
        }
    }
    // ANCHOR_END: fuse

    /// Lays weights out as NHWC; the input must be laid out so, too.
    pub fn to_channels_last(&mut self) {
        for layer in self.layers_mut() {
            layer.weight = channels_last(&layer.weight);
        }
    }

    // ANCHOR: prepack
    /// Reorders weights, once, into a blocked layout of oneDNN's; the input
    /// must be a oneDNN tensor, too, and activations then stay blocked from
    /// layer to layer.
    ///
    /// # Errors
    /// libtorch's, where it has no oneDNN, or where oneDNN wants instructions
    /// for bf16 that this CPU lacks.
    pub fn prepack(&mut self) -> Result<(), TchError> {
        for layer in self.layers_mut() {
            let weight = layer.weight.contiguous().f_to_mkldnn(None::<Kind>)?;
            layer.weight = weight.f_mkldnn_reorder_conv2d_weight(
                [layer.padding; 2],
                [layer.conv.stride as i64; 2],
                [1, 1],
                1,
                None::<&[i64]>,
            )?;
            if let Some(bias) = &mut layer.bias {
                *bias = bias.f_to_mkldnn(None::<Kind>)?;
            }
        }
        Ok(())
    }
    // ANCHOR_END: prepack

    // ANCHOR: trim
    /// Cuts off the rows and columns of each kernel that only ever meet
    /// padding when the image is `side` pixels wide. The result is the same to
    /// the last bit of the products: only multiplications by zero are left out.
    ///
    /// A 3x3 kernel on a 1x1 image uses its centre alone: one weight in nine.
    pub fn trim(&mut self, side: usize) {
        let pool = self.pool;
        let (mut side, mut entry) = (side, side);
        for layer in self.layers_mut() {
            let conv = &layer.conv;
            if conv.name.ends_with(".conv1") {
                entry = side;
            }
            let input = if conv.name.contains("downsample") {
                entry
            } else {
                side
            };
            side = input.div_ceil(conv.stride);
            let padding = layer.padding;
            let meets_pixel = |tap: &i64| {
                (0..side as i64).any(|output| {
                    let pixel = output * conv.stride as i64 + tap - padding;
                    (0..input as i64).contains(&pixel)
                })
            };
            let taps: Vec<i64> = (0..conv.kernel as i64).filter(meets_pixel).collect();
            if let (Some(&first), Some(&last)) = (taps.first(), taps.last()) {
                let length = last - first + 1;
                let one_sided = (side as i64 - 1) * conv.stride as i64 + last - padding
                    <= input as i64 - 1 + padding - first;
                if length < conv.kernel as i64 && one_sided {
                    layer.weight = layer
                        .weight
                        .narrow(2, first, length)
                        .narrow(3, first, length)
                        .contiguous();
                    layer.padding = padding - first;
                }
            }
            if conv.name == "conv1" && pool {
                side = side.div_ceil(2);
            }
        }
    }
    // ANCHOR_END: trim

    /// How many numbers its tensors hold, running statistics counted: what
    /// folding and trimming save.
    pub fn parameters(&self) -> usize {
        let layers = std::iter::once(&self.stem).chain(
            self.blocks
                .iter()
                .flat_map(|b| b.path.iter().chain(&b.projection)),
        );
        let (weight, bias) = &self.classifier;
        weight.numel() + bias.numel() + layers.map(Layer::parameters).sum::<usize>()
    }

    /// Every convolution with its weight and, once the batch norms are folded, its bias: the stem,
    /// then block by block the main path and the projection.
    pub fn convolutions(&self) -> impl Iterator<Item = (&Conv, &Tensor, Option<&Tensor>)> {
        std::iter::once(&self.stem)
            .chain(
                self.blocks
                    .iter()
                    .flat_map(|b| b.path.iter().chain(&b.projection)),
            )
            .map(|layer| (&layer.conv, &layer.weight, layer.bias.as_ref()))
    }

    /// Weight `[classes, features]` and bias `[classes]` of the last layer.
    pub fn classifier(&self) -> (&Tensor, &Tensor) {
        (&self.classifier.0, &self.classifier.1)
    }

    fn layers_mut(&mut self) -> impl Iterator<Item = &mut Layer> {
        std::iter::once(&mut self.stem).chain(
            self.blocks
                .iter_mut()
                .flat_map(|b| b.path.iter_mut().chain(&mut b.projection)),
        )
    }
}

// ANCHOR: block
impl Block {
    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let shortcut = match &self.projection {
            Some(projection) => projection.forward(x, train)?,
            None => x.shallow_clone(),
        };
        let (last, first) = self.path.split_last().expect("a block has a path");
        let mut y = x.shallow_clone();
        for layer in first {
            y = layer.activated(&y, None, train)?;
        }
        last.activated(&y, Some(&shortcut), train)
    }
}
// ANCHOR_END: block

impl Layer {
    fn share(&self) -> Self {
        Layer {
            conv: self.conv.clone(),
            weight: self.weight.shallow_clone(),
            bias: self.bias.as_ref().map(Tensor::shallow_clone),
            norm: self.norm.as_ref().map(|norm| BatchNorm {
                weight: norm.weight.shallow_clone(),
                bias: norm.bias.shallow_clone(),
                mean: norm.mean.shallow_clone(),
                variance: norm.variance.shallow_clone(),
            }),
            padding: self.padding,
            fused: self.fused,
        }
    }

    fn parameters(&self) -> usize {
        let norm = self.norm.as_ref();
        norm.map(|n| [&n.weight, &n.bias, &n.mean, &n.variance])
            .into_iter()
            .flatten()
            .chain([&self.weight])
            .chain(&self.bias)
            .map(Tensor::numel)
            .sum()
    }

    /// The layer, what the shortcut adds, and relu.
    fn activated(
        &self,
        x: &Tensor,
        shortcut: Option<&Tensor>,
        train: bool,
    ) -> Result<Tensor, TchError> {
        if self.fused {
            return self.by_one_kernel(x, shortcut);
        }
        let mut y = self.forward(x, train)?;
        if let Some(shortcut) = shortcut {
            y = y.f_add_(shortcut)?;
        }
        y.f_relu_()
    }

    fn by_one_kernel(&self, x: &Tensor, shortcut: Option<&Tensor>) -> Result<Tensor, TchError> {
        let bias = self.bias.as_ref();
        let (stride, padding) = ([self.conv.stride as i64; 2], [self.padding; 2]);
        match shortcut {
            None => x.f_cudnn_convolution_relu(&self.weight, bias, stride, padding, [1, 1], 1),
            Some(shortcut) => x.f_cudnn_convolution_add_relu(
                &self.weight,
                shortcut,
                1.0,
                bias,
                stride,
                padding,
                [1, 1],
                1,
            ),
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, TchError> {
        let y = x.f_conv2d(
            &self.weight,
            self.bias.as_ref(),
            [self.conv.stride as i64; 2],
            [self.padding; 2],
            [1, 1],
            1,
        )?;
        match &self.norm {
            Some(norm) => y.f_batch_norm(
                Some(&norm.weight),
                Some(&norm.bias),
                Some(&norm.mean),
                Some(&norm.variance),
                train,
                BATCH_NORM_MOMENTUM,
                BATCH_NORM_EPSILON,
                false,
            ),
            None => Ok(y),
        }
    }
}

/// The same tensor `[n, c, h, w]`, stored with the channel fastest (NHWC).
///
/// tch's `contiguous` takes no memory format, hence the detour.
pub fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// [`channels_last`], for a batch, which may be too large for the memory.
///
/// # Errors
/// libtorch's.
pub fn f_channels_last(x: &Tensor) -> Result<Tensor, TchError> {
    x.f_permute([0, 2, 3, 1])?
        .f_contiguous()?
        .f_permute([0, 3, 1, 2])
}
