//! Reductions.

use crate::{Graph, GraphError, Op, Value};

impl Graph {
    /// Sum over `dims`, which are dropped. No dimensions: `x` itself.
    ///
    /// Gradient: the cotangent, broadcast.
    ///
    /// # Errors
    /// [`GraphError`] if `x` holds no numbers, or `dims` are not different
    /// dimensions of it.
    pub fn reduce_sum(&mut self, x: Value, dims: &[usize]) -> Result<Value, GraphError> {
        self.reduce(x, dims, |dims| Op::ReduceSum { dims })
    }

    /// Maximum over `dims`, which are dropped. No dimensions: `x` itself.
    ///
    /// The maximum of no elements is the lowest value of the element type.
    /// Gradient: the cotangent, in equal shares to all the largest elements.
    ///
    /// # Errors
    /// As [`Graph::reduce_sum`].
    pub fn reduce_max(&mut self, x: Value, dims: &[usize]) -> Result<Value, GraphError> {
        self.reduce(x, dims, |dims| Op::ReduceMax { dims })
    }

    fn reduce(
        &mut self,
        x: Value,
        dims: &[usize],
        op: impl FnOnce(Vec<usize>) -> Op,
    ) -> Result<Value, GraphError> {
        let mut dims = dims.to_vec();
        dims.sort_unstable();
        let op = op(dims.clone());
        let args = self.operands(op.name(), &[("x", x)])?;
        args.distinct_dims(0, "dims", &dims)?;
        if !(args.ty(0).dtype.is_float() || args.ty(0).dtype.is_integer()) {
            return Err(args.dtype("elements must be numbers"));
        }
        if dims.is_empty() {
            return Ok(x);
        }
        let kept: Vec<usize> = (0..args.ty(0).rank())
            .filter(|dim| !dims.contains(dim))
            .map(|dim| args.dims(0)[dim])
            .collect();
        let ty = args.ty(0).with_dims(kept);
        self.push(op, vec![x], ty)
    }
}
