//! Means.

use crate::{Graph, GraphError, Value};

impl Graph {
    /// Mean over `dims`, which are dropped.
    ///
    /// * `x`: bf16 or f32
    ///
    /// # Errors
    /// [`GraphError`] if `x` holds no floats, or `dims` are not different
    /// dimensions of it.
    pub fn mean(&mut self, x: Value, dims: &[usize]) -> Result<Value, GraphError> {
        let args = self.operands("mean", &[("x", x)])?;
        args.distinct_dims(0, "dims", dims)?;
        if !args.ty(0).dtype.is_float() {
            return Err(args.dtype("elements must be bf16 or f32"));
        }
        let count: usize = dims.iter().map(|&dim| args.dims(0)[dim]).product();
        let sum = self.reduce_sum(x, dims)?;
        self.mul_scalar(sum, 1.0 / count as f32)
    }

    /// Mean over the height and width of images.
    ///
    /// * `x`: bf16 or f32 `[batch, height, width, channels]`
    ///
    /// Returns `[batch, channels]`.
    ///
    /// # Errors
    /// [`GraphError`] if `x` is not such.
    pub fn global_average_pool(&mut self, x: Value) -> Result<Value, GraphError> {
        let args = self.operands("global_average_pool", &[("x", x)])?;
        args.rank(0, 4)?;
        self.mean(x, &[1, 2])
    }
}
