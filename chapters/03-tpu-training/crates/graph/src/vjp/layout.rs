//! Rules of operations that move elements, and reductions.

use crate::{Graph, GraphError, Value};

/// `reduced` at every place of `x` that was reduced to it.
pub(super) fn expand(
    g: &mut Graph,
    reduced: Value,
    x: Value,
    dims: &[usize],
) -> Result<Value, GraphError> {
    let out = g.dims(x).to_vec();
    let kept: Vec<usize> = (0..out.len()).filter(|dim| !dims.contains(dim)).collect();
    g.broadcast(reduced, &out, &kept)
}

/// Sums over what was repeated.
pub(super) fn broadcast(
    g: &mut Graph,
    ct: Value,
    x: Value,
    mapping: &[usize],
) -> Result<Value, GraphError> {
    let out = g.dims(ct).to_vec();
    let dims = g.dims(x).to_vec();
    let repeated: Vec<usize> = (0..out.len())
        .filter(|dim| match mapping.iter().position(|to| to == dim) {
            Some(from) => dims[from] != out[*dim],
            None => true,
        })
        .collect();
    let sum = g.reduce_sum(ct, &repeated)?;
    g.reshape(sum, &dims)
}

/// The permutation that undoes `permutation`.
pub(super) fn inverse(permutation: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; permutation.len()];
    for (to, &from) in permutation.iter().enumerate() {
        inverse[from] = to;
    }
    inverse
}

/// Zeros where nothing was taken.
pub(super) fn slice(
    g: &mut Graph,
    ct: Value,
    x: Value,
    start: &[usize],
    stride: &[usize],
) -> Result<Value, GraphError> {
    let sizes = g.dims(x).to_vec();
    let taken = g.dims(ct).to_vec();
    let interior: Vec<usize> = stride.iter().map(|step| step - 1).collect();
    let low: Vec<i64> = start.iter().map(|&n| n as i64).collect();
    let high: Vec<i64> = (0..sizes.len())
        .map(|dim| {
            let spread = taken[dim] + interior[dim] * taken[dim].saturating_sub(1);
            sizes[dim] as i64 - start[dim] as i64 - spread as i64
        })
        .collect();
    g.pad(ct, 0.0, &low, &high, &interior)
}

/// Undoes the outer padding, then steps over the inner one.
pub(super) fn pad(
    g: &mut Graph,
    ct: Value,
    low: &[i64],
    high: &[i64],
    interior: &[usize],
) -> Result<Value, GraphError> {
    let opposite = |counts: &[i64]| counts.iter().map(|n| -n).collect::<Vec<_>>();
    let no_interior = vec![0; interior.len()];
    let ct = g.pad(ct, 0.0, &opposite(low), &opposite(high), &no_interior)?;
    let limit = g.dims(ct).to_vec();
    let stride: Vec<usize> = interior.iter().map(|n| n + 1).collect();
    g.slice(ct, &vec![0; limit.len()], &limit, &stride)
}

/// To each part its own.
pub(super) fn concatenate(
    g: &mut Graph,
    ct: Value,
    parts: &[Value],
    dim: usize,
) -> Result<Vec<Option<Value>>, GraphError> {
    let mut limit = g.dims(ct).to_vec();
    let mut start = vec![0; limit.len()];
    let stride = vec![1; limit.len()];
    parts
        .iter()
        .map(|&part| {
            limit[dim] = start[dim] + g.dims(part)[dim];
            let own = g.slice(ct, &start, &limit, &stride)?;
            start[dim] = limit[dim];
            Ok(Some(own))
        })
        .collect()
}
