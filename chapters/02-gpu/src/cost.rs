//! What each layer costs, counted from its shape: operations, and bytes that must move.

use datasets::resnet::{Config, Stem};

/// The cost of one layer for a whole batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// torchvision's name of the layer.
    pub name: String,
    /// Floating-point operations; a multiply-accumulate counts as two.
    pub flops: f64,
    /// Bytes read and written, each tensor once: a layer with its bias, its relu and what
    /// the shortcut adds is one pass over memory.
    pub bytes: f64,
}

/// The peaks that a device reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roof {
    /// Floating-point operations a second, by a matrix product.
    pub flops_per_second: f64,
    /// Bytes a second read and written, by a copy.
    pub bytes_per_second: f64,
}

// ANCHOR: roofline
impl Roof {
    /// The least seconds that a layer takes: computing and moving may overlap, so that
    /// the longer of the two counts.
    pub fn seconds(&self, cost: &Cost) -> f64 {
        let computing = cost.flops / self.flops_per_second;
        let moving = cost.bytes / self.bytes_per_second;
        computing.max(moving)
    }
    // ANCHOR_END: roofline

    /// Whether moving its bytes takes longer than computing.
    pub fn bound_by_memory(&self, cost: &Cost) -> bool {
        cost.bytes / self.bytes_per_second > cost.flops / self.flops_per_second
    }
}

/// Every layer of a network, in the order of its passes.
///
/// * `side`: height and width of the images, in pixels
/// * `batch`: images
/// * `width`: bytes of one number
pub fn layers(config: &Config, side: usize, batch: usize, width: usize) -> Vec<Cost> {
    let bytes = |numbers: usize| (numbers * width) as f64;
    let pixels = |channels: usize, side: usize| batch * channels * side * side;
    let mut layers = vec![];
    for placed in config.placed(side) {
        let conv = &placed.conv;
        let input = pixels(conv.input, placed.input);
        let output = pixels(conv.output, placed.output);
        let weights = conv.weight_shape().iter().product::<usize>() + conv.output;
        // The last layer of a block reads the shortcut, too.
        let last = match config.arch.expansion() {
            1 => ".conv2",
            _ => ".conv3",
        };
        let shortcut = if conv.name.ends_with(last) { output } else { 0 };
        layers.push(Cost {
            flops: 2.0 * (placed.macs() * batch as u64) as f64,
            bytes: bytes(input + weights + shortcut + output),
            name: conv.name.clone(),
        });
        if conv.name == "conv1" && config.stem == Stem::Imagenet {
            let pooled = pixels(conv.output, placed.output.div_ceil(2));
            layers.push(Cost {
                name: "maxpool".into(),
                flops: 0.0,
                bytes: bytes(output + pooled),
            });
        }
    }
    let features = batch * config.features();
    let last = config.placed(side).last().map_or(0, |placed| placed.output);
    layers.push(Cost {
        name: "avgpool".into(),
        flops: 0.0,
        bytes: bytes(pixels(config.features(), last) + features),
    });
    let weights = (config.features() + 1) * config.classes;
    layers.push(Cost {
        name: "fc".into(),
        flops: 2.0 * (features * config.classes) as f64,
        bytes: bytes(features + weights + batch * config.classes),
    });
    layers
}

#[cfg(test)]
mod tests {
    use datasets::resnet::Arch;

    use super::*;

    #[test]
    fn the_flops_are_those_of_the_published_networks() {
        for arch in [Arch::Resnet18, Arch::Resnet34, Arch::Resnet50] {
            for batch in [1, 8] {
                let config = Config::imagenet(arch);
                let total: f64 = layers(&config, 224, batch, 4).iter().map(|c| c.flops).sum();
                assert_eq!(
                    total,
                    (2 * config.macs(224) * batch as u64) as f64,
                    "{arch}"
                );
            }
        }
    }

    #[test]
    fn the_bytes_of_a_layer_are_those_on_paper() {
        let all = layers(&Config::imagenet(Arch::Resnet50), 224, 2, 2);
        let bytes = |name: &str| all.iter().find(|cost| cost.name == name).unwrap().bytes;
        // Two images of 3 x 224 x 224, 64 kernels of 3 x 7 x 7 and their biases, two
        // outputs of 64 x 112 x 112; two bytes each.
        let numbers = 2 * 3 * 224 * 224 + (64 * 3 * 49 + 64) + 2 * 64 * 112 * 112;
        assert_eq!(bytes("conv1"), 2.0 * numbers as f64);
        // 64 channels in, 256 out, and 256 of the shortcut, at 56 x 56.
        let numbers = 2 * (64 + 256 + 256) * 56 * 56 + 64 * 256 + 256;
        assert_eq!(bytes("layer1.0.conv3"), 2.0 * numbers as f64);
        assert_eq!(bytes("fc"), 2.0 * (2 * 2048 + 2049 * 1000 + 2000) as f64);
    }

    #[test]
    fn the_longer_of_the_two_counts() {
        let roof = Roof {
            flops_per_second: 100.0,
            bytes_per_second: 10.0,
        };
        let cost = |flops, bytes| Cost {
            name: String::new(),
            flops,
            bytes,
        };
        assert_eq!(roof.seconds(&cost(1000.0, 10.0)), 10.0);
        assert_eq!(roof.seconds(&cost(10.0, 1000.0)), 100.0);
        assert!(!roof.bound_by_memory(&cost(1000.0, 10.0)));
        assert!(roof.bound_by_memory(&cost(10.0, 1000.0)));
    }
}
