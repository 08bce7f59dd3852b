//! Products of matrices.

use crate::{DotDims, Graph, GraphError, Op, Value};

impl Graph {
    /// Products of matrices: `dims` says which dimensions are paired.
    ///
    /// The result has the batch dimensions, then the remaining ones of `lhs`,
    /// then those of `rhs`. Gradient: two more such products.
    ///
    /// # Errors
    /// [`GraphError`] unless both are of one float type, and paired dimensions
    /// are equal in number and size.
    pub fn dot_general(
        &mut self,
        lhs: Value,
        rhs: Value,
        dims: &DotDims,
    ) -> Result<Value, GraphError> {
        let args = self.operands("dot_general", &[("lhs", lhs), ("rhs", rhs)])?;
        args.equal_dtypes()?;
        if !args.ty(0).dtype.is_float() {
            return Err(args.dtype("elements must be bf16 or f32"));
        }
        let lhs_paired = [&dims.lhs_batch[..], &dims.lhs_contract].concat();
        let rhs_paired = [&dims.rhs_batch[..], &dims.rhs_contract].concat();
        args.distinct_dims(0, "paired dimensions of lhs", &lhs_paired)?;
        args.distinct_dims(1, "paired dimensions of rhs", &rhs_paired)?;
        if dims.lhs_batch.len() != dims.rhs_batch.len() || lhs_paired.len() != rhs_paired.len() {
            return Err(args.attribute(format!(
                "batch {:?} with {:?}, contracted {:?} with {:?}: must be equal in number",
                dims.lhs_batch, dims.rhs_batch, dims.lhs_contract, dims.rhs_contract
            )));
        }
        for (&l, &r) in lhs_paired.iter().zip(&rhs_paired) {
            if args.dims(0)[l] != args.dims(1)[r] {
                return Err(
                    args.shape(format!("dimension {l} of lhs and {r} of rhs must be equal"))
                );
            }
        }
        let batch = dims.lhs_batch.iter().map(|&dim| args.dims(0)[dim]);
        let result: Vec<usize> = batch
            .chain(rest(args.dims(0), &lhs_paired))
            .chain(rest(args.dims(1), &rhs_paired))
            .collect();
        let ty = args.ty(0).with_dims(result);
        self.push(Op::DotGeneral(dims.clone()), vec![lhs, rhs], ty)
    }

    /// The product of two matrices: `[m, k]` by `[k, n]` is `[m, n]`.
    ///
    /// # Errors
    /// [`GraphError`] unless both are matrices of one float type that fit.
    pub fn matmul(&mut self, lhs: Value, rhs: Value) -> Result<Value, GraphError> {
        let args = self.operands("matmul", &[("lhs", lhs), ("rhs", rhs)])?;
        args.rank(0, 2)?;
        args.rank(1, 2)?;
        if args.dims(0)[1] != args.dims(1)[0] {
            return Err(args.shape("columns of lhs and rows of rhs must be equal in number"));
        }
        let dims = DotDims {
            lhs_contract: vec![1],
            rhs_contract: vec![0],
            ..DotDims::default()
        };
        self.dot_general(lhs, rhs, &dims)
    }
}

fn rest<'a>(dims: &'a [usize], paired: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
    (0..dims.len())
        .filter(|dim| !paired.contains(dim))
        .map(|dim| dims[dim])
}
