//! Two-dimensional convolutions, written in the form that is fastest.
//!
//! A convolution is a sum over the taps of its filter. With `S_t(x)` for the
//! input as tap `t` sees it (shifted, strided, zeros where it sees padding) and
//! `W_t` for the tap's matrix of channels,
//!
//! ```text
//! y   = sum over t of S_t(x) W_t
//! x'  = sum over t of S_t^T(y' W_t^T)        S_t^T moves back what S_t moved
//! W_t'= S_t(x)^T y'
//! ```
//!
//! Moving and multiplying can be arranged in several ways, equal but for
//! rounding. Which is fastest depends on the image, the channels and the
//! compiler: measure, then choose. Each way has its file.

mod arrange;
mod columns;
mod dense;
mod mixed;
mod patches;
mod products;
mod taps;

use crate::{Convolution, GradientRule, Graph, GraphError, Value, vjp};
use taps::Geometry;

/// A way to write a convolution, or one of its gradients.
///
/// Said of the convolution; a gradient of the same name is arranged likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConvForm {
    /// XLA's own operation. The right one for GPUs and TPUs.
    Convolution,
    /// One product a tap, over the part of the image that the tap sees, summed.
    Products,
    /// The same over an image padded first, so that every tap sees all of it.
    PaddedProducts,
    /// Move, then multiply: the image as each tap sees it, side by side, then
    /// one product (im2col).
    Patches,
    /// Multiply, then move: one product with all taps side by side, then a sum
    /// of its parts, shifted (col2im).
    Columns,
    /// Move along one dimension, multiply, move along the other.
    Mixed,
    /// One product with a matrix from every input pixel to every output pixel.
    /// For images of a few pixels: its size is the product of both.
    Dense,
}

/// The form of a convolution and of its two gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvForms {
    /// Of the convolution.
    pub forward: ConvForm,
    /// Of the gradient by the input.
    pub input_gradient: ConvForm,
    /// Of the gradient by the filter.
    pub filter_gradient: ConvForm,
}

impl ConvForms {
    /// One form for all three.
    pub fn all(form: ConvForm) -> Self {
        ConvForms {
            forward: form,
            input_gradient: form,
            filter_gradient: form,
        }
    }
}

/// A two-dimensional convolution of NHWC images with an HWIO filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Step between windows, height then width.
    pub strides: [usize; 2],
    /// Zeros added before and after, for height then width.
    pub padding: [[i64; 2]; 2],
    /// How it is written.
    pub forms: ConvForms,
}

impl Conv2d {
    /// Equal strides, equal padding on all sides, as ResNets have them.
    pub fn square(stride: usize, padding: i64, forms: ConvForms) -> Self {
        Conv2d {
            strides: [stride; 2],
            padding: [[padding; 2]; 2],
            forms,
        }
    }

    fn convolution(&self) -> Convolution {
        Convolution {
            strides: self.strides,
            padding: self.padding,
            ..Convolution::default()
        }
    }
}

impl Graph {
    /// A two-dimensional convolution (cross-correlation) of images.
    ///
    /// * `x`: bf16 or f32 `[batch, height, width, input channels]`
    /// * `filter`: `[height, width, input channels, output channels]`, of the
    ///   same element type
    ///
    /// Returns `[batch, output height, output width, output channels]`. All
    /// forms give the same but for rounding; only `Convolution` keeps sums of
    /// bf16 in more than bf16.
    ///
    /// # Errors
    /// [`GraphError`] as [`Graph::convolution`].
    pub fn conv2d(
        &mut self,
        x: Value,
        filter: Value,
        attributes: &Conv2d,
    ) -> Result<Value, GraphError> {
        let convolution = attributes.convolution();
        self.convolution_type("conv2d", x, filter, &convolution)?;
        let forms = attributes.forms;
        if forms == ConvForms::all(ConvForm::Convolution) {
            return self.convolution(x, filter, &convolution);
        }
        let geometry = Geometry::of(self, x, filter, attributes);
        let y = match forms.forward {
            ConvForm::Convolution => self.convolution(x, filter, &convolution),
            ConvForm::Products => products::forward(self, x, filter, &geometry),
            ConvForm::PaddedProducts => {
                let (x, padded) = geometry.padded(self, x)?;
                products::forward(self, x, filter, &padded)
            }
            ConvForm::Patches => patches::forward(self, x, filter, &geometry),
            ConvForm::Columns => columns::forward(self, x, filter, &geometry),
            ConvForm::Mixed => mixed::forward(self, x, filter, &geometry),
            ConvForm::Dense => dense::forward(self, x, filter, &geometry),
        }?;
        self.with_gradient(GradientRule::Conv2d(*attributes), y, &[x, filter])
    }
}

/// Cotangents of `x` and `filter`, each in its form.
pub(crate) fn cotangents(
    g: &mut Graph,
    ct: Value,
    [x, filter]: [Value; 2],
    attributes: &Conv2d,
) -> Result<[Value; 2], GraphError> {
    let convolution = attributes.convolution();
    let geometry = Geometry::of(g, x, filter, attributes);
    let by_x = match attributes.forms.input_gradient {
        ConvForm::Convolution => vjp::convolution::input_gradient(g, ct, x, filter, &convolution),
        ConvForm::Products => products::input_gradient(g, ct, filter, &geometry),
        ConvForm::PaddedProducts => {
            let padded = geometry.without_padding();
            let by_padded = products::input_gradient(g, ct, filter, &padded)?;
            geometry.cropped(g, by_padded)
        }
        ConvForm::Patches => patches::input_gradient(g, ct, filter, &geometry),
        ConvForm::Columns => columns::input_gradient(g, ct, filter, &geometry),
        ConvForm::Mixed => mixed::input_gradient(g, ct, filter, &geometry),
        ConvForm::Dense => dense::input_gradient(g, ct, filter, &geometry),
    }?;
    let by_filter = match attributes.forms.filter_gradient {
        ConvForm::Convolution => vjp::convolution::filter_gradient(g, ct, x, filter, &convolution),
        ConvForm::Products => products::filter_gradient(g, ct, x, &geometry),
        ConvForm::PaddedProducts => {
            let (x, padded) = geometry.padded(g, x)?;
            products::filter_gradient(g, ct, x, &padded)
        }
        ConvForm::Patches => patches::filter_gradient(g, ct, x, &geometry),
        ConvForm::Columns => columns::filter_gradient(g, ct, x, &geometry),
        ConvForm::Mixed => mixed::filter_gradient(g, ct, x, &geometry),
        ConvForm::Dense => dense::filter_gradient(g, ct, x, &geometry),
    }?;
    Ok([by_x, by_filter])
}
