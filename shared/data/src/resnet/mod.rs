//! What a ResNet is made of: depth, width, stem, and from these the name and
//! shape of every tensor of its checkpoint. Every chapter builds its network
//! from this, in the way of its own engine.

pub mod seeded;

use std::{fmt, str::FromStr};

use crate::checkpoint::{Dtype, Spec};
use serde::{Deserialize, Serialize};

/// The depth of a ResNet, under torchvision's names.
///
/// Source: He et al., "Deep Residual Learning for Image Recognition", table 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// Basic blocks, 2-2-2-2.
    Resnet18,
    /// Basic blocks, 3-4-6-3.
    Resnet34,
    /// Bottleneck blocks, 3-4-6-3.
    Resnet50,
}

impl Arch {
    /// Blocks in each of the four stages.
    pub fn blocks(self) -> [usize; 4] {
        match self {
            Arch::Resnet18 => [2, 2, 2, 2],
            Arch::Resnet34 | Arch::Resnet50 => [3, 4, 6, 3],
        }
    }

    /// Output channels of a block over its inner width: 1 for basic, 4 for bottleneck.
    pub fn expansion(self) -> usize {
        match self {
            Arch::Resnet18 | Arch::Resnet34 => 1,
            Arch::Resnet50 => 4,
        }
    }

    /// torchvision's name: `resnet18`, `resnet34`, `resnet50`.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Resnet18 => "resnet18",
            Arch::Resnet34 => "resnet34",
            Arch::Resnet50 => "resnet50",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Arch {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "resnet18" | "18" => Ok(Arch::Resnet18),
            "resnet34" | "34" => Ok(Arch::Resnet34),
            "resnet50" | "50" => Ok(Arch::Resnet50),
            _ => Err(format!(
                "expected resnet18, resnet34 or resnet50, got {s:?}"
            )),
        }
    }
}

/// How the first layers shrink the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stem {
    /// A 7x7 convolution of stride 2 and a 3x3 max-pool of stride 2: for 224x224.
    Imagenet,
    /// A 3x3 convolution of stride 1 and no pooling: for 8x8 to 32x32.
    Small,
}

impl Stem {
    /// `imagenet` or `small`.
    pub fn name(self) -> &'static str {
        match self {
            Stem::Imagenet => "imagenet",
            Stem::Small => "small",
        }
    }
}

impl fmt::Display for Stem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Stem {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "imagenet" => Ok(Stem::Imagenet),
            "small" => Ok(Stem::Small),
            _ => Err(format!("expected imagenet or small, got {s:?}")),
        }
    }
}

/// Everything that fixes the tensors of a ResNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Config {
    /// Depth.
    pub arch: Arch,
    /// First layers.
    pub stem: Stem,
    /// Channels of the first stage; 64 in the paper, fewer for small data.
    pub width: usize,
    /// Channels of the image: 3 for colour, 1 for grey.
    pub channels: usize,
    /// Number of labels.
    pub classes: usize,
}

impl Config {
    /// The network of the paper: colour images at 224x224, 1000 labels.
    pub fn imagenet(arch: Arch) -> Self {
        Config {
            arch,
            stem: Stem::Imagenet,
            width: 64,
            channels: 3,
            classes: 1000,
        }
    }

    /// Every convolution of the network, in the order in which it is declared
    /// by torchvision.
    pub fn convs(&self) -> Vec<Conv> {
        let mut convs = vec![match self.stem {
            Stem::Imagenet => Conv::new("conv1", "bn1", self.channels, self.width, 7, 2),
            Stem::Small => Conv::new("conv1", "bn1", self.channels, self.width, 3, 1),
        }];
        let expansion = self.arch.expansion();
        let mut input = self.width;
        for (stage, &blocks) in self.arch.blocks().iter().enumerate() {
            let inner = self.width << stage;
            let output = inner * expansion;
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let at = |layer: &str| format!("layer{}.{block}.{layer}", stage + 1);
                let conv = |n: usize, input, output, kernel, stride| {
                    Conv::new(
                        at(&format!("conv{n}")),
                        at(&format!("bn{n}")),
                        input,
                        output,
                        kernel,
                        stride,
                    )
                };
                if expansion == 1 {
                    convs.push(conv(1, input, inner, 3, stride));
                    convs.push(conv(2, inner, output, 3, 1));
                } else {
                    convs.push(conv(1, input, inner, 1, 1));
                    convs.push(conv(2, inner, inner, 3, stride));
                    convs.push(conv(3, inner, output, 1, 1));
                }
                if stride != 1 || input != output {
                    convs.push(Conv::new(
                        at("downsample.0"),
                        at("downsample.1"),
                        input,
                        output,
                        1,
                        stride,
                    ));
                }
                input = output;
            }
        }
        convs
    }

    /// Features that enter the classifier.
    pub fn features(&self) -> usize {
        self.width * 8 * self.arch.expansion()
    }

    /// Name, shape and dtype of every tensor of a checkpoint, under
    /// torchvision's names. `num_batches_tracked` is a counter that inference
    /// does not read, so it is optional.
    pub fn specs(&self) -> Vec<Spec> {
        let f32 = |name: String, shape: Vec<usize>| Spec {
            name,
            shape,
            dtype: Dtype::F32,
            optional: false,
        };
        let mut specs = vec![];
        for conv in self.convs() {
            specs.push(f32(format!("{}.weight", conv.name), conv.weight_shape()));
            for part in ["weight", "bias", "running_mean", "running_var"] {
                specs.push(f32(format!("{}.{part}", conv.bn), vec![conv.output]));
            }
            specs.push(Spec {
                name: format!("{}.num_batches_tracked", conv.bn),
                shape: vec![],
                dtype: Dtype::I64,
                optional: true,
            });
        }
        specs.push(f32("fc.weight".into(), vec![self.classes, self.features()]));
        specs.push(f32("fc.bias".into(), vec![self.classes]));
        specs
    }

    /// Every convolution with the sizes of its images, for a network that sees `side` x
    /// `side` pixels.
    pub fn placed(&self, side: usize) -> Vec<Placed> {
        // Of what the next layer sees, and of what its block saw.
        let (mut side, mut entry) = (side, side);
        let place = |conv: Conv| {
            if conv.name.ends_with(".conv1") {
                entry = side;
            }
            let input = match conv.name.contains("downsample") {
                true => entry,
                false => side,
            };
            let output = input.div_ceil(conv.stride);
            side = match (conv.name.as_str(), self.stem) {
                ("conv1", Stem::Imagenet) => output.div_ceil(2),
                _ => output,
            };
            Placed {
                conv,
                input,
                output,
            }
        };
        self.convs().into_iter().map(place).collect()
    }

    /// Multiply-accumulates of one image of `side` x `side` pixels:
    /// convolutions and classifier, as papers count them. One is two FLOPs.
    pub fn macs(&self, side: usize) -> u64 {
        let convs: u64 = self.placed(side).iter().map(Placed::macs).sum();
        convs + (self.features() * self.classes) as u64
    }
}

/// A convolution with the sizes of its images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The convolution.
    pub conv: Conv,
    /// Height and width of its input, in pixels.
    pub input: usize,
    /// Height and width of its output, in pixels.
    pub output: usize,
}

impl Placed {
    /// Multiply-accumulates of one image.
    pub fn macs(&self) -> u64 {
        self.conv.macs(self.output)
    }
}

/// One convolution and the batch norm behind it. Padding keeps the size but
/// for the stride; there is no bias, because the batch norm has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// torchvision's name, such as `layer2.0.conv1`.
    pub name: String,
    /// The batch norm's name, such as `layer2.0.bn1`.
    pub bn: String,
    /// Channels in.
    pub input: usize,
    /// Channels out.
    pub output: usize,
    /// Side of the kernel in pixels.
    pub kernel: usize,
    /// Stride in pixels.
    pub stride: usize,
}

impl Conv {
    fn new(
        name: impl Into<String>,
        bn: impl Into<String>,
        input: usize,
        output: usize,
        kernel: usize,
        stride: usize,
    ) -> Self {
        Conv {
            name: name.into(),
            bn: bn.into(),
            input,
            output,
            kernel,
            stride,
        }
    }

    /// Zero padding on each side, in pixels.
    pub fn padding(&self) -> usize {
        self.kernel / 2
    }

    /// `[output, input, kernel, kernel]`.
    pub fn weight_shape(&self) -> Vec<usize> {
        vec![self.output, self.input, self.kernel, self.kernel]
    }

    fn macs(&self, side: usize) -> u64 {
        (self.output * self.input * self.kernel * self.kernel * side * side) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_counts_are_those_of_the_published_networks() {
        // torchvision's documentation: 11,689,512; 21,797,672; 25,557,032.
        for (arch, published) in [
            (Arch::Resnet18, 11_689_512),
            (Arch::Resnet34, 21_797_672),
            (Arch::Resnet50, 25_557_032),
        ] {
            let learned: usize = Config::imagenet(arch)
                .specs()
                .iter()
                .filter(|s| !s.name.contains("running") && !s.optional)
                .map(|s| s.shape.iter().product::<usize>())
                .sum();
            assert_eq!(learned, published, "{arch}");
        }
    }

    #[test]
    fn macs_are_those_of_the_published_networks() {
        // torchvision's documentation gives GFLOPS (multiply-accumulates):
        // 1.81, 3.66 and 4.09.
        for (arch, published) in [
            (Arch::Resnet18, 1.81),
            (Arch::Resnet34, 3.66),
            (Arch::Resnet50, 4.09),
        ] {
            let counted = Config::imagenet(arch).macs(224) as f64 / 1e9;
            assert!((counted - published).abs() < 0.01, "{arch}: {counted}");
        }
    }

    #[test]
    fn sizes_follow_the_strides_and_a_projection_sees_what_its_block_saw() {
        let config = Config::imagenet(Arch::Resnet50);
        let placed = config.placed(224);
        let sizes = |name: &str| {
            let layer = placed.iter().find(|p| p.conv.name == name).unwrap();
            (layer.input, layer.output)
        };
        assert_eq!(sizes("conv1"), (224, 112));
        assert_eq!(sizes("layer1.0.conv1"), (56, 56));
        assert_eq!(sizes("layer1.0.downsample.0"), (56, 56));
        assert_eq!(sizes("layer2.0.conv1"), (56, 56));
        assert_eq!(sizes("layer2.0.conv2"), (56, 28));
        assert_eq!(sizes("layer2.0.downsample.0"), (56, 28));
        assert_eq!(sizes("layer4.2.conv3"), (7, 7));
        let small = Config {
            stem: Stem::Small,
            ..config
        };
        let placed = small.placed(32);
        assert_eq!((placed[0].input, placed[0].output), (32, 32));
        assert_eq!(placed.last().map(|p| p.output), Some(4));
    }
}
