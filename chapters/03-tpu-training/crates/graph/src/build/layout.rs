//! Operations that move elements and compute nothing.

use super::window::is_padding;
use crate::{Graph, GraphError, Op, Value};

impl Graph {
    /// Repeats `x` along new dimensions, or along dimensions of size 1.
    ///
    /// * `out_dims`: shape of the result
    /// * `mapping`: for each dimension of `x`, the dimension of the result it
    ///   becomes, strictly ascending; sizes are equal, or 1 in `x`
    ///
    /// A bias over the last of four dimensions: `broadcast(bias, dims, &[3])`.
    /// Gradient: the sum over what was repeated.
    ///
    /// # Errors
    /// [`GraphError`] if the mapping or a size does not fit.
    pub fn broadcast(
        &mut self,
        x: Value,
        out_dims: &[usize],
        mapping: &[usize],
    ) -> Result<Value, GraphError> {
        let args = self.operands("broadcast", &[("x", x)])?;
        args.one_each(0, "mapping", mapping.len())?;
        let ascending = mapping.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || mapping.iter().any(|&dim| dim >= out_dims.len()) {
            return Err(args.attribute(format!(
                "mapping {mapping:?} must be strictly ascending and below {}",
                out_dims.len()
            )));
        }
        for (&size, &dim) in args.dims(0).iter().zip(mapping) {
            if size != 1 && size != out_dims[dim] {
                return Err(args.shape(format!(
                    "size {size} must be 1 or that of dimension {dim} of {out_dims:?}"
                )));
            }
        }
        if args.dims(0) == out_dims {
            return Ok(x);
        }
        let ty = args.ty(0).with_dims(out_dims);
        let op = Op::Broadcast {
            mapping: mapping.to_vec(),
        };
        self.push(op, vec![x], ty)
    }

    /// The same elements in row-major order under another shape. The shape it
    /// has already: `x` itself.
    ///
    /// # Errors
    /// [`GraphError::Shape`] if the numbers of elements differ.
    pub fn reshape(&mut self, x: Value, dims: &[usize]) -> Result<Value, GraphError> {
        let args = self.operands("reshape", &[("x", x)])?;
        let ty = args.ty(0).with_dims(dims);
        if !ty.is_addressable() || ty.element_count() != args.ty(0).element_count() {
            return Err(args.shape(format!(
                "{} elements do not fill {dims:?}",
                args.ty(0).element_count()
            )));
        }
        if args.dims(0) == dims {
            return Ok(x);
        }
        self.push(Op::Reshape, vec![x], ty)
    }

    /// Dimensions in another order: result dimension `i` is dimension
    /// `permutation[i]` of `x`. The order it has already: `x` itself.
    ///
    /// # Errors
    /// [`GraphError::Attribute`] if `permutation` is not one.
    pub fn transpose(&mut self, x: Value, permutation: &[usize]) -> Result<Value, GraphError> {
        let args = self.operands("transpose", &[("x", x)])?;
        args.one_each(0, "permutation", permutation.len())?;
        args.distinct_dims(0, "permutation", permutation)?;
        if permutation.is_sorted() {
            return Ok(x);
        }
        let dims: Vec<usize> = permutation.iter().map(|&dim| args.dims(0)[dim]).collect();
        let ty = args.ty(0).with_dims(dims);
        let op = Op::Transpose {
            permutation: permutation.to_vec(),
        };
        self.push(op, vec![x], ty)
    }

    /// Elements `start, start + stride, ..` below `limit` in each dimension.
    /// All of them: `x` itself.
    ///
    /// Gradient: the cotangent, padded with zeros.
    ///
    /// # Errors
    /// [`GraphError::Attribute`] unless `start <= limit <= size` and
    /// `stride >= 1` in each dimension.
    pub fn slice(
        &mut self,
        x: Value,
        start: &[usize],
        limit: &[usize],
        stride: &[usize],
    ) -> Result<Value, GraphError> {
        let args = self.operands("slice", &[("x", x)])?;
        args.one_each(0, "start", start.len())?;
        args.one_each(0, "limit", limit.len())?;
        args.one_each(0, "stride", stride.len())?;
        let mut dims = vec![];
        for (dim, &size) in args.dims(0).iter().enumerate() {
            let (start, limit, stride) = (start[dim], limit[dim], stride[dim]);
            if start > limit || limit > size || stride == 0 {
                return Err(args.attribute(format!(
                    "dimension {dim} from {start} to {limit} by {stride}: \
                     need from <= to <= {size} and a step of at least 1"
                )));
            }
            dims.push((limit - start).div_ceil(stride));
        }
        if args.dims(0) == dims {
            return Ok(x);
        }
        let ty = args.ty(0).with_dims(dims);
        let op = Op::Slice {
            start: start.to_vec(),
            limit: limit.to_vec(),
            stride: stride.to_vec(),
        };
        self.push(op, vec![x], ty)
    }

    /// Adds elements before, after and between; negative counts remove.
    ///
    /// * `value`: the added elements, in the element type of `x`
    /// * `low`, `high`: how many before the first and after the last, in each
    ///   dimension; negative ones take elements away, after `interior` was added
    /// * `interior`: how many between neighbours
    ///
    /// Nothing added or removed: `x` itself. Gradient: the cotangent at the
    /// places of `x`'s elements.
    ///
    /// # Errors
    /// [`GraphError`] if there is not one entry for each dimension, or more is
    /// removed than is there.
    pub fn pad(
        &mut self,
        x: Value,
        value: f32,
        low: &[i64],
        high: &[i64],
        interior: &[usize],
    ) -> Result<Value, GraphError> {
        let args = self.operands("pad", &[("x", x)])?;
        args.one_each(0, "low", low.len())?;
        args.one_each(0, "high", high.len())?;
        args.one_each(0, "interior", interior.len())?;
        if !low.iter().chain(high).all(|&n| is_padding(n)) {
            return Err(args.attribute(format!("low {low:?}, high {high:?} are beyond any size")));
        }
        let mut dims = vec![];
        for (dim, &size) in args.dims(0).iter().enumerate() {
            let spread = size as i128 + interior[dim] as i128 * size.saturating_sub(1) as i128;
            let padded = spread + i128::from(low[dim]) + i128::from(high[dim]);
            dims.push(usize::try_from(padded).map_err(|_| {
                args.attribute(format!(
                    "dimension {dim} of {spread} elements, low {}, high {}: \
                     {padded} would be left",
                    low[dim], high[dim]
                ))
            })?);
        }
        let unchanged = low.iter().chain(high).all(|&n| n == 0) && interior.iter().all(|&n| n == 0);
        if unchanged {
            return Ok(x);
        }
        let ty = args.ty(0).with_dims(dims);
        let op = Op::Pad {
            value,
            low: low.to_vec(),
            high: high.to_vec(),
            interior: interior.to_vec(),
        };
        self.push(op, vec![x], ty)
    }

    /// `parts` one after the other along `dim`. One part: that part itself.
    ///
    /// # Errors
    /// [`GraphError`] if there are no parts, no such dimension, or the parts
    /// differ in element type or in another dimension.
    pub fn concatenate(&mut self, parts: &[Value], dim: usize) -> Result<Value, GraphError> {
        let named: Vec<(&'static str, Value)> = parts.iter().map(|&part| ("part", part)).collect();
        let args = self.operands("concatenate", &named)?;
        if parts.is_empty() {
            return Err(args.attribute("no parts; need at least one"));
        }
        args.distinct_dims(0, "dimension", &[dim])?;
        args.equal_dtypes()?;
        let mut dims = args.dims(0).to_vec();
        dims[dim] = 0;
        for part in 0..parts.len() {
            let mut expected = dims.clone();
            let Some(&size) = args.dims(part).get(dim) else {
                return Err(args.shape("parts must have the same number of dimensions"));
            };
            expected[dim] = size;
            if args.dims(part) != expected {
                return Err(args.shape(format!("shapes must be equal but for dimension {dim}")));
            }
            dims[dim] += size;
        }
        if parts.len() == 1 {
            return Ok(parts[0]);
        }
        let ty = args.ty(0).with_dims(dims);
        self.push(Op::Concatenate { dim }, parts.to_vec(), ty)
    }

    /// Elements in the opposite order along `dims`. None: `x` itself.
    ///
    /// # Errors
    /// [`GraphError::Attribute`] if `dims` are not different dimensions of `x`.
    pub fn reverse(&mut self, x: Value, dims: &[usize]) -> Result<Value, GraphError> {
        let args = self.operands("reverse", &[("x", x)])?;
        args.distinct_dims(0, "dims", dims)?;
        if dims.is_empty() {
            return Ok(x);
        }
        let ty = args.ty(0).clone();
        let mut dims = dims.to_vec();
        dims.sort_unstable();
        self.push(Op::Reverse { dims }, vec![x], ty)
    }
}
