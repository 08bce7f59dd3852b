//! Positions that are known only when the program runs.

use crate::{DType, Graph, GraphError, Op, Value};

impl Graph {
    /// A slice of fixed size at a position computed by the program.
    ///
    /// * `starts`: one i32 scalar for each dimension of `x`; each is clamped so
    ///   that the slice fits
    /// * `sizes`: size of the slice in each dimension
    ///
    /// Gradient: the cotangent at that position among zeros; none for `starts`.
    ///
    /// # Errors
    /// [`GraphError`] if a start is not an i32 scalar, or the slice is larger than `x`.
    pub fn dynamic_slice(
        &mut self,
        x: Value,
        starts: &[Value],
        sizes: &[usize],
    ) -> Result<Value, GraphError> {
        self.check_starts("dynamic_slice", x, starts)?;
        let args = self.operands("dynamic_slice", &[("x", x)])?;
        args.one_each(0, "sizes", sizes.len())?;
        if sizes.iter().zip(args.dims(0)).any(|(size, dim)| size > dim) {
            return Err(args.shape(format!("sizes {sizes:?} must not be larger than x")));
        }
        let ty = args.ty(0).with_dims(sizes);
        let op = Op::DynamicSlice {
            sizes: sizes.to_vec(),
        };
        let operands = [&[x], starts].concat();
        self.push(op, operands, ty)
    }

    /// `x` with a part of it replaced, at a position computed by the program.
    ///
    /// * `update`: the new part, in the element type of `x`
    /// * `starts`: as for [`Graph::dynamic_slice`]
    ///
    /// Gradient: to `x` the cotangent with zeros in that part, to `update` the
    /// cotangent of that part; none for `starts`.
    ///
    /// # Errors
    /// [`GraphError`] if a start is not an i32 scalar, or `update` does not fit into `x`.
    pub fn dynamic_update_slice(
        &mut self,
        x: Value,
        update: Value,
        starts: &[Value],
    ) -> Result<Value, GraphError> {
        self.check_starts("dynamic_update_slice", x, starts)?;
        let args = self.operands("dynamic_update_slice", &[("x", x), ("update", update)])?;
        args.equal_dtypes()?;
        let fits = args.ty(0).rank() == args.ty(1).rank()
            && (args.dims(1).iter().zip(args.dims(0))).all(|(size, dim)| size <= dim);
        if !fits {
            return Err(args.shape("update must fit into x"));
        }
        let ty = args.ty(0).clone();
        let operands = [&[x, update], starts].concat();
        self.push(Op::DynamicUpdateSlice, operands, ty)
    }

    fn check_starts(&self, op: &'static str, x: Value, starts: &[Value]) -> Result<(), GraphError> {
        let named: Vec<(&'static str, Value)> = [("x", x)]
            .into_iter()
            .chain(starts.iter().map(|&start| ("start", start)))
            .collect();
        let args = self.operands(op, &named)?;
        args.one_each(0, "starts", starts.len())?;
        for index in 1..=starts.len() {
            args.rank(index, 0)?;
            if args.ty(index).dtype != DType::I32 {
                return Err(args.dtype("starts must be i32"));
            }
        }
        Ok(())
    }

    /// Rows of a table: result row `i` is row `indices[i]` of `table`.
    ///
    /// * `table`: `[n, ..]`, any element type
    /// * `indices`: i32 `[b]`; each is clamped into `0..n`
    ///
    /// Returns `[b, ..]`. Gradient: cotangent rows added up by index
    /// ([`Graph::scatter_add_rows`]); none for `indices`.
    ///
    /// # Errors
    /// [`GraphError`] if `table` has no rows, or `indices` are not i32 `[b]`.
    pub fn gather_rows(&mut self, table: Value, indices: Value) -> Result<Value, GraphError> {
        let args = self.operands("gather_rows", &[("table", table), ("indices", indices)])?;
        args.rank(1, 1)?;
        if args.ty(1).dtype != DType::I32 {
            return Err(args.dtype("indices must be i32"));
        }
        if args.dims(0).first().is_none_or(|&rows| rows == 0) {
            return Err(args.shape("table must have at least one row"));
        }
        let mut dims = args.dims(0).to_vec();
        dims[0] = args.dims(1)[0];
        let ty = args.ty(0).with_dims(dims);
        self.push(Op::GatherRows, vec![table, indices], ty)
    }

    /// A table with rows added: row `updates[i]` is added to row `indices[i]`.
    ///
    /// * `table`: `[n, ..]`, numbers
    /// * `indices`: i32 `[b]`; may repeat; one outside `0..n` is skipped
    /// * `updates`: `[b, ..]`, of `table`'s element type
    ///
    /// Gradient: to `table` the cotangent, to `updates` its rows; none for `indices`.
    ///
    /// # Errors
    /// [`GraphError`] if a type does not fit.
    pub fn scatter_add_rows(
        &mut self,
        table: Value,
        indices: Value,
        updates: Value,
    ) -> Result<Value, GraphError> {
        let args = self.operands(
            "scatter_add_rows",
            &[("table", table), ("indices", indices), ("updates", updates)],
        )?;
        args.rank(1, 1)?;
        if args.ty(1).dtype != DType::I32 {
            return Err(args.dtype("indices must be i32"));
        }
        let dtype = args.ty(0).dtype;
        if args.ty(2).dtype != dtype || dtype == DType::Pred {
            return Err(args.dtype("table and updates must be numbers of one element type"));
        }
        let mut expected = args.dims(0).to_vec();
        let Some(rows) = expected.first_mut() else {
            return Err(args.shape("table must have at least one dimension"));
        };
        *rows = args.dims(1)[0];
        if args.dims(2) != expected {
            return Err(args.shape(format!("updates must be of shape {expected:?}")));
        }
        let ty = args.ty(0).clone();
        self.push(Op::ScatterAddRows, vec![table, indices, updates], ty)
    }
}
