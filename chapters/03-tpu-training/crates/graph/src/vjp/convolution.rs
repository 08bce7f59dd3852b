//! Rules of `convolution`: two more convolutions.
//!
//! A strided convolution keeps one of `strides` outputs. Its gradients put the
//! others back as zeros: the cotangent is dilated by the strides, and the
//! strides take the place of the dilation. All that is left is to choose the
//! padding so that the result has the operand's size, also where the strides do
//! not divide what they step over.
//!
//! Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep
//! learning", chapter 4.

use crate::{ConvDims, Convolution, Graph, GraphError, Value, build::dilated};

/// The cotangent convolved with the filter turned around, channels exchanged.
pub(crate) fn input_gradient(
    g: &mut Graph,
    ct: Value,
    x: Value,
    filter: Value,
    forward: &Convolution,
) -> Result<Value, GraphError> {
    let sizes = Sizes::of(g, ct, x, filter, forward);
    let dims = &forward.dims;
    let gradient = Convolution {
        strides: forward.lhs_dilation,
        lhs_dilation: forward.strides,
        rhs_dilation: forward.rhs_dilation,
        padding: [0, 1].map(|i| {
            // The first input element is seen by the window that starts at
            // the first padded one, at its position `low`.
            let low = sizes.filter[i] - 1 - forward.padding[i][0];
            let needed = sizes.input[i] + sizes.filter[i] - 1;
            [low, needed - sizes.output[i] - low]
        }),
        dims: ConvDims {
            input_batch: dims.output_batch,
            input_feature: dims.output_feature,
            input_spatial: dims.output_spatial,
            filter_input_feature: dims.filter_output_feature,
            filter_output_feature: dims.filter_input_feature,
            filter_spatial: dims.filter_spatial,
            output_batch: dims.input_batch,
            output_feature: dims.input_feature,
            output_spatial: dims.input_spatial,
        },
    };
    let turned = g.reverse(filter, &dims.filter_spatial)?;
    g.convolution(ct, turned, &gradient)
}

/// The input convolved with the cotangent: the sum runs over images, so they
/// take the place of channels, and channels that of images.
pub(crate) fn filter_gradient(
    g: &mut Graph,
    ct: Value,
    x: Value,
    filter: Value,
    forward: &Convolution,
) -> Result<Value, GraphError> {
    let sizes = Sizes::of(g, ct, x, filter, forward);
    let dims = &forward.dims;
    let gradient = Convolution {
        strides: forward.rhs_dilation,
        lhs_dilation: forward.lhs_dilation,
        rhs_dilation: forward.strides,
        padding: [0, 1].map(|i| {
            let low = forward.padding[i][0];
            // What the last window did not reach is taken away: `high` may be negative.
            let needed = sizes.output[i] + sizes.filter[i] - 1;
            [low, needed - sizes.input[i] - low]
        }),
        dims: ConvDims {
            input_batch: dims.input_feature,
            input_feature: dims.input_batch,
            input_spatial: dims.input_spatial,
            filter_input_feature: dims.output_batch,
            filter_output_feature: dims.output_feature,
            filter_spatial: dims.output_spatial,
            output_batch: dims.filter_input_feature,
            output_feature: dims.filter_output_feature,
            output_spatial: dims.filter_spatial,
        },
    };
    g.convolution(x, ct, &gradient)
}

/// Heights and widths, each spread out as the gradients see it.
struct Sizes {
    input: [i64; 2],
    filter: [i64; 2],
    output: [i64; 2],
}

impl Sizes {
    fn of(g: &Graph, ct: Value, x: Value, filter: Value, forward: &Convolution) -> Sizes {
        let spread = |value: Value, spatial: [usize; 2], dilation: [usize; 2]| {
            [0, 1].map(|i| dilated(g.dims(value)[spatial[i]], dilation[i]) as i64)
        };
        let dims = &forward.dims;
        Sizes {
            input: spread(x, dims.input_spatial, forward.lhs_dilation),
            filter: spread(filter, dims.filter_spatial, forward.rhs_dilation),
            output: spread(ct, dims.output_spatial, forward.strides),
        }
    }
}
