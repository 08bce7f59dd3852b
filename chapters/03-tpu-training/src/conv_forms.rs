//! How each convolution is written down, by shape and device.

use datasets::resnet::Conv;
use training_graph::{ConvForm, ConvForms as Forms};

use crate::config::ConvStyle;

/// The choice for every convolution of a network on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvForms {
    style: ConvStyle,
    cpu: bool,
}

impl ConvForms {
    /// * `platform`: as the client names it: "cpu", "cuda", "tpu"
    pub fn new(style: ConvStyle, platform: &str) -> Self {
        ConvForms {
            style,
            cpu: matches!(platform.to_ascii_lowercase().as_str(), "cpu" | "host"),
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
            ConvStyle::Auto if self.cpu => on_cpu(conv, side),
            // GPUs and TPUs have units for convolutions.
            ConvStyle::Auto => Forms::all(ConvForm::Convolution),
        }
    }
}

// ANCHOR: choice
/// The fastest forms on XLA's CPU backend, by `tpu-training conv-forms`.
fn on_cpu(conv: &Conv, side: usize) -> Forms {
    match (conv.kernel, conv.stride, side) {
        // Few input channels: a product over them alone is too thin.
        (3.., 1, _) if conv.input < 8 => Forms {
            forward: ConvForm::PaddedProducts,
            input_gradient: ConvForm::Products,
            filter_gradient: ConvForm::Convolution,
        },
        (3.., 1, 5..=8) => Forms {
            forward: ConvForm::Columns,
            input_gradient: ConvForm::Columns,
            filter_gradient: ConvForm::Mixed,
        },
        (_, _, 0..=8) | (1, _, _) => Forms::all(ConvForm::Products),
        _ => Forms {
            forward: ConvForm::Convolution,
            input_gradient: ConvForm::Convolution,
            filter_gradient: ConvForm::Products,
        },
    }
}
// ANCHOR_END: choice
