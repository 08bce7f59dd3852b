//! Operations on windows that slide over two spatial dimensions.

use crate::{Convolution, Graph, GraphError, Op, Pool, TensorType, Value};

/// A row of `size` elements with `dilation - 1` more between neighbours.
pub(crate) fn dilated(size: usize, dilation: usize) -> usize {
    match size {
        0 => 0,
        _ => (size - 1).saturating_mul(dilation).saturating_add(1),
    }
}

/// How many windows of `window` elements, `stride` apart, fit in `size`
/// elements with `padding` added. `None` if not one does.
pub(crate) fn windows(
    size: usize,
    window: usize,
    stride: usize,
    padding: [i64; 2],
) -> Option<usize> {
    let padded = size as i128 + i128::from(padding[0]) + i128::from(padding[1]);
    let room = usize::try_from(padded).ok()?.checked_sub(window)?;
    Some(room / stride + 1)
}

/// Whether a count of added or removed elements leaves room to compute with it.
pub(crate) fn is_padding(count: i64) -> bool {
    count.unsigned_abs() <= u64::from(u32::MAX)
}

impl Graph {
    /// A two-dimensional convolution. [`Graph::conv2d`] is the short form.
    ///
    /// * `x`: images, `[batch, height, width, input channels]` in the order
    ///   that `attributes.dims` says
    /// * `filter`: `[height, width, input channels, output channels]`, likewise
    ///
    /// Gradients: two convolutions.
    ///
    /// # Errors
    /// [`GraphError`] unless both are of one float type with four dimensions
    /// that fit, and at least one window fits.
    pub fn convolution(
        &mut self,
        x: Value,
        filter: Value,
        attributes: &Convolution,
    ) -> Result<Value, GraphError> {
        let ty = self.convolution_type("convolution", x, filter, attributes)?;
        self.push(Op::Convolution(attributes.clone()), vec![x, filter], ty)
    }

    /// The type of a convolution's result.
    pub(crate) fn convolution_type(
        &self,
        op: &'static str,
        x: Value,
        filter: Value,
        attributes: &Convolution,
    ) -> Result<TensorType, GraphError> {
        let args = self.operands(op, &[("x", x), ("filter", filter)])?;
        let dims = &attributes.dims;
        args.rank(0, 4)?;
        args.rank(1, 4)?;
        args.equal_dtypes()?;
        if !args.ty(0).dtype.is_float() {
            return Err(args.dtype("elements must be bf16 or f32"));
        }
        for (name, order) in dims.orders() {
            args.distinct_dims(0, name, &order)?;
        }
        let steps = [
            attributes.strides,
            attributes.lhs_dilation,
            attributes.rhs_dilation,
        ];
        if steps.as_flattened().contains(&0) {
            return Err(args.attribute("strides and dilations must be at least 1"));
        }
        if !(attributes.padding.as_flattened().iter()).all(|&n| is_padding(n)) {
            return Err(args.attribute(format!(
                "padding {:?} is beyond any size",
                attributes.padding
            )));
        }
        if args.dims(0)[dims.input_feature] != args.dims(1)[dims.filter_input_feature] {
            return Err(args.shape("x and filter must have equally many input channels"));
        }
        let mut result = vec![0; 4];
        result[dims.output_batch] = args.dims(0)[dims.input_batch];
        result[dims.output_feature] = args.dims(1)[dims.filter_output_feature];
        for i in 0..2 {
            let size = args.dims(0)[dims.input_spatial[i]];
            let window = args.dims(1)[dims.filter_spatial[i]];
            let size = dilated(size, attributes.lhs_dilation[i]);
            let window = dilated(window, attributes.rhs_dilation[i]);
            let padding = attributes.padding[i];
            let count = match window {
                0 => None,
                _ => windows(size, window, attributes.strides[i], padding),
            };
            result[dims.output_spatial[i]] = count.ok_or_else(|| {
                args.shape(format!(
                    "a window of {window} does not fit in {size} elements with padding {padding:?}"
                ))
            })?;
        }
        Ok(args.ty(0).with_dims(result))
    }

    /// The largest element of each window.
    ///
    /// * `x`: float `[batch, height, width, channels]`
    ///
    /// Gradient: each cotangent to the first largest element of its window.
    ///
    /// # Errors
    /// [`GraphError`] if `x` is not such, or no window fits.
    ///
    /// Source: reduce_window and select_and_scatter in the StableHLO specification.
    pub fn max_pool(&mut self, x: Value, pool: &Pool) -> Result<Value, GraphError> {
        let ty = self.pooled("max_pool", x, pool)?;
        self.push(Op::MaxPool(pool.clone()), vec![x], ty)
    }

    /// The gradient of [`Graph::max_pool`] with respect to `x`.
    ///
    /// * `cotangent`: of the pooled type
    ///
    /// # Errors
    /// As [`Graph::max_pool`], or if `cotangent` has another type.
    pub fn max_pool_gradient(
        &mut self,
        x: Value,
        cotangent: Value,
        pool: &Pool,
    ) -> Result<Value, GraphError> {
        let pooled = self.pooled("max_pool_gradient", x, pool)?;
        let args = self.operands("max_pool_gradient", &[("x", x), ("cotangent", cotangent)])?;
        if *args.ty(1) != pooled {
            return Err(args.shape(format!("cotangent must be {}", pooled.short())));
        }
        let ty = args.ty(0).clone();
        self.push(Op::MaxPoolGradient(pool.clone()), vec![x, cotangent], ty)
    }

    fn pooled(&self, op: &'static str, x: Value, pool: &Pool) -> Result<TensorType, GraphError> {
        let args = self.operands(op, &[("x", x)])?;
        args.rank(0, 4)?;
        if !args.ty(0).dtype.is_float() {
            return Err(args.dtype("elements must be bf16 or f32"));
        }
        if pool.strides.contains(&0) || pool.window.contains(&0) {
            return Err(args.attribute("window and strides must be at least 1"));
        }
        let mut result = args.dims(0).to_vec();
        for i in 0..2 {
            let (window, padding) = (pool.window[i], pool.padding[i]);
            // A window that sees only padding would have no largest element.
            if padding.iter().any(|&n| n < 0 || n >= window as i64) {
                return Err(args.attribute(format!(
                    "padding {padding:?} must be from 0 to below the window of {window}"
                )));
            }
            let count = windows(result[i + 1], window, pool.strides[i], padding);
            result[i + 1] = count.ok_or_else(|| {
                args.shape(format!(
                    "a window of {window} does not fit in {} elements with padding {padding:?}",
                    args.dims(0)[i + 1]
                ))
            })?;
        }
        Ok(args.ty(0).with_dims(result))
    }
}
