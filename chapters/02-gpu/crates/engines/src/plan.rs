//! A ResNet as a list of steps between named values, in an order in which they can be computed.
//!
//! The ONNX writer prints it and the calibration runs it, so both mean the same network.

use datasets::resnet::{Config, Conv, Stem};

/// The image that goes in: f32 `[batch, channels, height, width]`.
pub const INPUT: &str = "input";
/// What comes out: f32 `[batch, classes]`.
pub const OUTPUT: &str = "logits";

/// What a step computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A convolution with its bias; batch norms are folded.
    Convolution(Conv),
    /// `max(x, 0)`.
    Relu,
    /// 3x3, stride 2, one pixel of padding.
    MaxPool,
    /// The sum of the main path and the shortcut.
    Add,
    /// The mean over height and width.
    GlobalAveragePool,
    /// `[batch, channels, 1, 1]` to `[batch, channels]`.
    Flatten,
    /// The classifier.
    Linear,
}

/// One operation, with the names of what goes in and what comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is computed.
    pub operation: Operation,
    /// Names of values that earlier steps made, or [`INPUT`].
    pub inputs: Vec<String>,
    /// Name of the new value.
    pub output: String,
}

// ANCHOR: steps
/// The steps of a ResNet; the last one makes [`OUTPUT`].
pub fn steps(config: &Config) -> Vec<Step> {
    let mut plan = Plan {
        steps: vec![],
        at: INPUT.to_owned(),
    };
    let mut convs = config.convs().into_iter().peekable();
    if let Some(stem) = convs.next() {
        plan.convolution(stem);
        plan.step(Operation::Relu, "relu");
    }
    if config.stem == Stem::Imagenet {
        plan.step(Operation::MaxPool, "maxpool");
    }
    while let Some(first) = convs.next() {
        let entry = plan.at.clone();
        let block = block_name(&first).to_owned();
        let in_block = |conv: &Conv| block_name(conv) == block;
        let mut path = vec![first];
        let mut projection = None;
        while let Some(conv) = convs.next_if(in_block) {
            match conv.name.contains("downsample") {
                true => projection = Some(conv),
                false => path.push(conv),
            }
        }
        let last = path.len() - 1;
        for (index, conv) in path.into_iter().enumerate() {
            let relu = format!("{}.relu", conv.name);
            plan.convolution(conv);
            if index != last {
                plan.step(Operation::Relu, &relu);
            }
        }
        let main = plan.at.clone();
        let shortcut = match projection {
            Some(conv) => {
                plan.at = entry;
                plan.convolution(conv);
                plan.at.clone()
            }
            None => entry,
        };
        let sum = format!("{block}.add");
        plan.join(Operation::Add, vec![main, shortcut], sum);
        plan.step(Operation::Relu, &format!("{block}.relu"));
    }
    plan.step(Operation::GlobalAveragePool, "avgpool");
    plan.step(Operation::Flatten, "flatten");
    plan.step(Operation::Linear, OUTPUT);
    plan.steps
}
// ANCHOR_END: steps

/// `layer2.0` of `layer2.0.downsample.0`.
fn block_name(conv: &Conv) -> &str {
    let dots = conv.name.match_indices('.').nth(1);
    dots.map_or(&conv.name, |(at, _)| &conv.name[..at])
}

/// Steps so far, and the value that the next one starts from.
struct Plan {
    steps: Vec<Step>,
    at: String,
}

impl Plan {
    fn convolution(&mut self, conv: Conv) {
        let name = conv.name.clone();
        self.step(Operation::Convolution(conv), &name);
    }

    fn step(&mut self, operation: Operation, output: &str) {
        self.join(operation, vec![self.at.clone()], output.to_owned());
    }

    fn join(&mut self, operation: Operation, inputs: Vec<String>, output: String) {
        self.at.clone_from(&output);
        self.steps.push(Step {
            operation,
            inputs,
            output,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use datasets::resnet::Arch;

    use super::*;

    fn count(steps: &[Step], wanted: impl Fn(&Operation) -> bool) -> usize {
        steps.iter().filter(|s| wanted(&s.operation)).count()
    }

    #[test]
    fn every_value_is_made_once_and_before_its_use() {
        for arch in [Arch::Resnet18, Arch::Resnet34, Arch::Resnet50] {
            for stem in [Stem::Imagenet, Stem::Small] {
                let config = Config {
                    stem,
                    ..Config::imagenet(arch)
                };
                let steps = steps(&config);
                let mut made = BTreeSet::from([INPUT.to_owned()]);
                for step in &steps {
                    for input in &step.inputs {
                        assert!(made.contains(input), "{input} in {step:?}");
                    }
                    assert!(made.insert(step.output.clone()), "{}", step.output);
                }
                assert_eq!(steps.last().unwrap().output, OUTPUT);
                let convs = count(&steps, |o| matches!(o, Operation::Convolution(_)));
                assert_eq!(convs, config.convs().len());
                let blocks = config.arch.blocks().iter().sum::<usize>();
                assert_eq!(count(&steps, |o| *o == Operation::Add), blocks);
                // As many relus as convolutions that no sum follows, and one a sum.
                let all = config.convs();
                let projections = all.iter().filter(|c| c.name.contains("downsample"));
                let projections = projections.count();
                let relus = count(&steps, |o| *o == Operation::Relu);
                assert_eq!(relus, convs - projections);
            }
        }
    }

    #[test]
    fn a_projection_starts_from_what_entered_its_block() {
        let steps = steps(&Config::imagenet(Arch::Resnet18));
        let inputs = |output: &str| {
            let step = steps.iter().find(|s| s.output == output).unwrap();
            step.inputs.clone()
        };
        assert_eq!(inputs("layer2.0.downsample.0"), inputs("layer2.0.conv1"));
        assert_eq!(
            inputs("layer2.0.add"),
            ["layer2.0.conv2", "layer2.0.downsample.0"]
        );
        assert_eq!(inputs("layer2.1.add"), ["layer2.1.conv2", "layer2.0.relu"]);
    }
}
