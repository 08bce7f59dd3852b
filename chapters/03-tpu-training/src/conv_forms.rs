//! How each convolution is written down, by shape and device.

use datasets::resnet::Conv;
use training_graph::{ConvForm, ConvForms as Forms};

use crate::config::ConvStyle;

/// The choice for every convolution of a network on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvForms {
    style: ConvStyle,
    cpu: bool,
    in_loop: bool,
}

impl ConvForms {
    /// * `platform`: as the client names it: "cpu", "cuda", "tpu"
    pub fn new(style: ConvStyle, platform: &str) -> Self {
        ConvForms {
            style,
            cpu: matches!(platform.to_ascii_lowercase().as_str(), "cpu" | "host"),
            in_loop: false,
        }
    }

    /// The choice for a program whose steps stand in a `while`.
    #[must_use]
    pub fn in_loop(&self) -> Self {
        ConvForms {
            in_loop: true,
            ..self.clone()
        }
    }

    /// The forms of one convolution.
    ///
    /// * `side`: height and width of its input in pixels
    pub fn choose(&self, conv: &Conv, side: usize) -> Forms {
        match self.style {
            ConvStyle::Convolution => Forms::all(ConvForm::Convolution),
            ConvStyle::Products => Forms::all(ConvForm::Products),
            ConvStyle::Patches => Forms::all(ConvForm::Patches),
            ConvStyle::Columns => Forms::all(ConvForm::Columns),
            ConvStyle::Auto if self.cpu && self.in_loop => in_cpu_loop(conv, on_cpu(conv, side)),
            ConvStyle::Auto if self.cpu => on_cpu(conv, side),
            // GPUs and TPUs have units for convolutions.
            ConvStyle::Auto => Forms::all(ConvForm::Convolution),
        }
    }
}

/// Whether a convolution reads the images themselves: nothing learns from their gradient.
pub fn is_first(conv: &Conv) -> bool {
    conv.name == "conv1"
}

// ANCHOR: choice
/// The fastest forms on XLA's CPU backend, by `tpu-training conv-forms`: forward, then the
/// gradients by input and by filter.
fn on_cpu(conv: &Conv, side: usize) -> Forms {
    use ConvForm::{Columns, Convolution, Dense, Mixed, PaddedProducts, Patches, Products};
    let [forward, input_gradient, filter_gradient] = match (conv.kernel, conv.stride, side) {
        (1, ..) => [Products; 3],
        // The first layer: the input's gradient is never asked for.
        _ if is_first(conv) && side > 8 => [Convolution, Products, Convolution],
        _ if is_first(conv) => [PaddedProducts, Products, Patches],
        (_, 2, 9..) => [Convolution, PaddedProducts, PaddedProducts],
        (_, 2, 5..) if conv.input < 32 => [Convolution, Columns, Products],
        (_, 2, 5..) => [Convolution, Products, Products],
        (_, 2, _) => [Products; 3],
        (_, _, 9..) => [Convolution; 3],
        (_, _, 5..) if conv.input < 32 => [Mixed; 3],
        (_, _, 5..) => [Mixed, Mixed, Convolution],
        (_, _, 3..) if conv.input < 64 => [Convolution, Convolution, Mixed],
        (_, _, 2) if conv.input <= 64 => [Dense; 3],
        _ => [Products; 3],
    };
    Forms {
        forward,
        input_gradient,
        filter_gradient,
    }
}
// ANCHOR_END: choice

// ANCHOR: loop
/// XLA's CPU backend has its fast convolution for the outermost level of a program only.
/// In a loop the next best form takes its place: matrix products are as fast there.
fn in_cpu_loop(conv: &Conv, forms: Forms) -> Forms {
    let replace = |form| match form {
        ConvForm::Convolution if conv.stride == 1 => ConvForm::Mixed,
        ConvForm::Convolution => ConvForm::Products,
        other => other,
    };
    Forms {
        forward: replace(forms.forward),
        input_gradient: replace(forms.input_gradient),
        filter_gradient: replace(forms.filter_gradient),
    }
}
// ANCHOR_END: loop

#[cfg(test)]
mod tests {
    use datasets::resnet::{Arch, Config as Network, Stem};

    use super::is_first;

    #[test]
    fn one_convolution_of_a_narrow_network_is_the_first() {
        let network = Network {
            arch: Arch::Resnet18,
            stem: Stem::Small,
            width: 4,
            channels: 1,
            classes: 10,
        };
        let convs = network.convs();
        let first: Vec<_> = convs.iter().filter(|conv| is_first(conv)).collect();
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].input, 1);
        assert!(convs.iter().filter(|conv| conv.input < 8).count() > 1);
    }
}
