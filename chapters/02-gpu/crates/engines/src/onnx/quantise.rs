//! From a range to 8 bits: `q = round(x / scale) + zero`, and back `x = (q - zero) * scale`.
//!
//! Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
//! Integer-Arithmetic-Only Inference", section 2.1; ONNX's QuantizeLinear, version 13.

use crate::calibration::Range;

/// How activations become 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activations {
    /// u8 with a zero point: no step is lost on values that relu never gives. For CPUs, whose
    /// instructions multiply u8 by i8.
    Unsigned,
    /// i8 around zero: what TensorRT takes.
    Signed,
}

/// One step of a value, and the integer that stands for 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Width of a step, above 0.
    pub scale: f32,
    /// The integer of 0: `0..=255`, or 0 for signed ones.
    pub zero: u8,
}

// ANCHOR: activation
/// The scale by which 8 bits hold a range. 0 is always in it, and exact: padding is made of zeros.
pub fn activation(range: Range, activations: Activations) -> Scale {
    let (low, high) = (range.low.min(0.0), range.high.max(0.0));
    match activations {
        Activations::Unsigned => {
            let scale = step((high - low) / 255.0);
            Scale {
                scale,
                // Saturating: in 0..=255 by the line above, but for rounding.
                zero: (-low / scale).round() as u8,
            }
        }
        Activations::Signed => Scale {
            scale: step(high.max(-low) / 127.0),
            zero: 0,
        },
    }
}
// ANCHOR_END: activation

/// A step of no width, or of none that f32 can divide by, is as good as 1: all values are 0 then.
fn step(width: f32) -> f32 {
    if width.is_normal() { width } else { 1.0 }
}

/// Weights as i8, with a scale for each output channel.
///
/// * `values`: `[channels, ...]`, row-major; as many for each channel
///
/// Returns the integers in `-127..=127`, and the scales.
pub fn weights(values: &[f32], channels: usize) -> (Vec<i8>, Vec<f32>) {
    let each = values.len() / channels.max(1);
    let mut scales = Vec::with_capacity(channels);
    let mut integers = Vec::with_capacity(values.len());
    for channel in values.chunks(each.max(1)) {
        let largest = channel.iter().fold(0f32, |m, v| m.max(v.abs()));
        let scale = step(largest / 127.0);
        scales.push(scale);
        // A float becomes an integer by saturation.
        integers.extend(channel.iter().map(|v| (v / scale).round() as i8));
    }
    (integers, scales)
}

/// A bias as i32, in steps of the products that it is added to.
///
/// * `scales`: those of the weights, one a channel
pub fn bias(values: &[f32], input: f32, scales: &[f32]) -> (Vec<i32>, Vec<f32>) {
    let steps: Vec<f32> = scales.iter().map(|scale| step(scale * input)).collect();
    let integers = values.iter().zip(&steps);
    (
        integers.map(|(v, s)| (v / s).round() as i32).collect(),
        steps,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_exact_and_the_ends_fit() {
        for (low, high) in [(0.0, 6.0), (-2.0, 2.0), (-3.0, 0.5), (1.0, 4.0), (0.0, 0.0)] {
            let Scale { scale, zero } = activation(Range { low, high }, Activations::Unsigned);
            let quantised = |x: f32| (x / scale).round() + f32::from(zero);
            assert_eq!(quantised(0.0), f32::from(zero));
            for end in [low, high] {
                assert!((-0.5..=255.5).contains(&quantised(end)), "{low} {high}");
                let back = (quantised(end) - f32::from(zero)) * scale;
                assert!((back - end).abs() <= 0.51 * scale, "{low} {high}: {back}");
            }
        }
        let relu = activation(
            Range {
                low: 0.0,
                high: 51.0,
            },
            Activations::Unsigned,
        );
        assert_eq!(
            relu,
            Scale {
                scale: 0.2,
                zero: 0
            }
        );
        let signed = activation(
            Range {
                low: -12.7,
                high: 3.0,
            },
            Activations::Signed,
        );
        assert!((signed.scale - 0.1).abs() < 1e-6 && signed.zero == 0);
    }

    #[test]
    fn each_channel_uses_all_of_its_steps() {
        let (integers, scales) = weights(&[0.5, -1.0, 100.0, 25.0, 0.0, 0.0], 3);
        assert_eq!(integers, [64, -127, 127, 32, 0, 0]);
        assert_eq!(scales[2], 1.0);
        for (integer, value) in [(integers[0], 0.5), (integers[1], -1.0)] {
            assert!((f32::from(integer) * scales[0] - value).abs() <= 0.5 * scales[0]);
        }
    }

    #[test]
    fn a_bias_is_in_steps_of_the_products() {
        let (integers, steps) = bias(&[1.0, -0.25], 0.5, &[0.25, 0.125]);
        assert_eq!(steps, [0.125, 0.0625]);
        assert_eq!(integers, [8, -4]);
    }
}
