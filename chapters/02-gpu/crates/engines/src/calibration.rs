//! The range of every value of a network, seen on real batches: what static quantisation needs.
//!
//! 8 bits are 256 steps. How wide a step must be depends on what values there are, so the network
//! runs on some images that it was trained on, in f32, and every value is looked at.

use std::collections::BTreeMap;

use cpu_inference::engine::Batch;
use tch::{Kind, TchError, Tensor};

use crate::{
    folded::Folded,
    plan::{INPUT, OUTPUT, Operation, Step, steps},
};

/// Which of the values seen the range must hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// All of them.
    MinMax,
    /// This share of them: an outlier then costs itself and not everybody's precision.
    /// The shares cut off below and above are equal, `0.5..1.0`.
    Percentile(f64),
}

impl Rule {
    /// In words, for results: `min-max` or `percentile 99.99`.
    pub fn name(self) -> String {
        match self {
            Rule::MinMax => "min-max".into(),
            Rule::Percentile(share) => format!("percentile {}", 100.0 * share),
        }
    }
}

/// Lowest and highest value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Lowest.
    pub low: f32,
    /// Highest.
    pub high: f32,
}

/// Ranges by the names of [`steps`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranges(BTreeMap<String, Range>);

impl Ranges {
    /// The range of a value, if it was seen.
    pub fn get(&self, name: &str) -> Option<Range> {
        self.0.get(name).copied()
    }

    /// Widens the range of a value.
    fn include(&mut self, name: &str, seen: Range) {
        let range = self.0.entry(name.to_owned()).or_insert(seen);
        range.low = range.low.min(seen.low);
        range.high = range.high.max(seen.high);
    }
}

// ANCHOR: observe
/// Runs batches through the network in f32 and notes the range of every value.
///
/// * `batches`: NCHW f32, normalised, of one image size; with the percentile rule the widest
///   batch decides
///
/// # Errors
/// libtorch's, such as no memory.
pub fn observe<'a>(
    folded: &Folded,
    batches: impl IntoIterator<Item = Batch<'a>>,
    rule: Rule,
) -> Result<Ranges, TchError> {
    let _inference = tch::no_grad_guard();
    let steps = steps(&folded.config);
    let mut ranges = Ranges::default();
    for batch in batches {
        let x = Tensor::f_from_slice(batch.pixels)?.f_reshape(batch.shape.map(|n| n as i64))?;
        let logits = forward(folded, &steps, &x, |name, value| {
            ranges.include(name, range(value, rule)?);
            Ok(())
        })?;
        // Their range was noted like the others'.
        drop(logits);
    }
    // The largest of some values is one of them: a pool's steps are those of its input, so that it
    // can choose among integers.
    for step in steps.iter().filter(|s| s.operation == Operation::MaxPool) {
        if let Some(range) = step.inputs.first().and_then(|input| ranges.get(input)) {
            ranges.0.insert(step.output.clone(), range);
        }
    }
    Ok(ranges)
}
// ANCHOR_END: observe

/// Computes every step with libtorch.
///
/// * `x`: f32 `[batch, channels, height, width]`
/// * `seen`: is told each value with its name, the input first
///
/// Returns the logits, f32 `[batch, classes]`.
///
/// # Errors
/// libtorch's, or those of `seen`.
pub fn forward(
    folded: &Folded,
    steps: &[Step],
    x: &Tensor,
    mut seen: impl FnMut(&str, &Tensor) -> Result<(), TchError>,
) -> Result<Tensor, TchError> {
    let mut values = BTreeMap::from([(INPUT, x.shallow_clone())]);
    seen(INPUT, x)?;
    for (index, step) in steps.iter().enumerate() {
        let input = |at: usize| {
            let name = step.inputs.get(at).map_or("", String::as_str);
            let missing = || TchError::Torch(format!("step {} wants {name:?}", step.output));
            values.get(name).ok_or_else(missing)
        };
        let x = input(0)?;
        let y = match &step.operation {
            Operation::Convolution(conv) => {
                let missing = || TchError::Torch(format!("no convolution {}", conv.name));
                let layer = folded.convolutions.get(&conv.name).ok_or_else(missing)?;
                x.f_conv2d(
                    &layer.weight,
                    Some(&layer.bias),
                    [conv.stride as i64; 2],
                    [conv.padding() as i64; 2],
                    [1, 1],
                    1,
                )?
            }
            Operation::Relu => x.f_relu()?,
            Operation::MaxPool => x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?,
            Operation::Add => x.f_add(input(1)?)?,
            Operation::GlobalAveragePool => x.f_adaptive_avg_pool2d([1, 1])?,
            Operation::Flatten => x.f_flatten(1, 3)?,
            Operation::Linear => {
                x.f_linear(&folded.classifier.weight, Some(&folded.classifier.bias))?
            }
        };
        seen(&step.output, &y)?;
        values.insert(&step.output, y);
        // What no later step reads is given back: ResNet-50's values are 0.1 GB an image.
        let later = &steps[index + 1..];
        let read = |name: &str| later.iter().any(|s| s.inputs.iter().any(|i| i == name));
        values.retain(|name, _| *name == OUTPUT || read(name));
    }
    let missing = || TchError::Torch(format!("no step makes {OUTPUT:?}"));
    values.remove(OUTPUT).ok_or_else(missing)
}

fn range(value: &Tensor, rule: Rule) -> Result<Range, TchError> {
    let flat = value.f_reshape([-1])?;
    let number = |t: Tensor| f32::try_from(t);
    match rule {
        Rule::MinMax => Ok(Range {
            low: number(flat.f_min()?)?,
            high: number(flat.f_max()?)?,
        }),
        Rule::Percentile(share) => {
            let count = flat.numel();
            let (sorted, _) = flat.f_to_kind(Kind::Float)?.f_sort(0, false)?;
            // Both indices stay in the tensor: share is below 1, and a value has an element.
            let last = count.saturating_sub(1);
            let high = (share * last as f64).round() as usize;
            let at = |index: usize| number(sorted.f_get(index.min(last) as i64)?);
            Ok(Range {
                low: at(last - high.min(last))?,
                high: at(high)?,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use cpu_inference::resnet::weights::Weights;
    use datasets::resnet::{Arch, Config, Stem, seeded};

    use super::*;

    fn small() -> (Config, Weights) {
        let config = Config {
            stem: Stem::Small,
            width: 8,
            classes: 10,
            ..Config::imagenet(Arch::Resnet50)
        };
        (config, Weights::seeded(&config, 0).unwrap())
    }

    #[test]
    fn the_steps_compute_what_the_network_computes() {
        for (arch, stem, side) in [
            (Arch::Resnet18, Stem::Imagenet, 64),
            (Arch::Resnet50, Stem::Small, 16),
        ] {
            let config = Config {
                stem,
                width: 8,
                classes: 10,
                ..Config::imagenet(arch)
            };
            let weights = Weights::seeded(&config, 0).unwrap();
            let shape = [2, 3, side, side];
            let pixels = seeded::tensor(0, "input", &shape);
            let x = Tensor::from_slice(&pixels).reshape(shape.map(|n| n as i64));
            let network = cpu_inference::resnet::network::Network::new(&config, &weights).unwrap();
            let expected = network.forward(&x, false).unwrap();
            let folded = Folded::new(&config, &weights).unwrap();
            let got = forward(&folded, &steps(&config), &x, |_, _| Ok(())).unwrap();
            let largest = f64::try_from(expected.abs().max()).unwrap();
            let difference = f64::try_from((got - expected).abs().max()).unwrap();
            assert!(
                difference < 1e-4 * largest,
                "{arch}: {difference} of {largest}"
            );
        }
    }

    #[test]
    fn a_range_holds_all_batches_and_a_percentile_drops_the_outlier() {
        let (config, weights) = small();
        let folded = Folded::new(&config, &weights).unwrap();
        let shape = [1, 3, 8, 8];
        let first = seeded::tensor(0, "input", &shape);
        let mut second = seeded::tensor(1, "input", &shape);
        second[5] = 100.0;
        let batches = [&first, &second].map(|pixels| Batch { pixels, shape });
        let all = observe(&folded, batches, Rule::MinMax).unwrap();
        assert_eq!(all.get(INPUT).unwrap().high, 100.0);
        let lowest = first.iter().chain(&second).fold(0f32, |m, v| m.min(*v));
        assert_eq!(all.get(INPUT).unwrap().low, lowest);
        let most = observe(&folded, batches, Rule::Percentile(0.99)).unwrap();
        assert!(most.get(INPUT).unwrap().high < 2.0);
        for step in steps(&config) {
            let range = all.get(&step.output).unwrap();
            assert!(range.low <= range.high, "{}", step.output);
            if step.operation == Operation::Relu {
                assert!(range.low >= 0.0, "{}", step.output);
            }
        }
    }
}
