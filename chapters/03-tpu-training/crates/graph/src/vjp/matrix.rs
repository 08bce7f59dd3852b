//! Rules of `dot_general`: two more products.
//!
//! With `y = x w`, the matrix rules are `dx = dy w^T` and `dw = x^T dy`. Instead
//! of transposing, the products contract other dimensions; a transpose is left
//! only where the order of an operand's dimensions is not the natural one.

use super::layout::inverse;
use crate::{DotDims, Graph, GraphError, Value};

/// `dy` by `rhs`, contracting what the result has of `rhs` alone.
pub(super) fn lhs_gradient(
    g: &mut Graph,
    ct: Value,
    lhs: Value,
    rhs: Value,
    dims: &DotDims,
) -> Result<Value, GraphError> {
    let lhs_free = free(g.dims(lhs).len(), &dims.lhs_batch, &dims.lhs_contract);
    let rhs_free = free(g.dims(rhs).len(), &dims.rhs_batch, &dims.rhs_contract);
    let batch = dims.lhs_batch.len();
    let product = DotDims {
        lhs_batch: (0..batch).collect(),
        rhs_batch: dims.rhs_batch.clone(),
        lhs_contract: (batch + lhs_free.len()..g.dims(ct).len()).collect(),
        rhs_contract: rhs_free,
    };
    let product = g.dot_general(ct, rhs, &product)?;
    // What was contracted now stands last, in the order it has in `rhs`.
    let contracted = paired_with_sorted(&dims.rhs_contract, &dims.lhs_contract);
    let order = [dims.lhs_batch.clone(), lhs_free, contracted].concat();
    g.transpose(product, &inverse(&order))
}

/// `lhs` by `dy`, contracting what the result has of `lhs` alone.
pub(super) fn rhs_gradient(
    g: &mut Graph,
    ct: Value,
    lhs: Value,
    rhs: Value,
    dims: &DotDims,
) -> Result<Value, GraphError> {
    let lhs_free = free(g.dims(lhs).len(), &dims.lhs_batch, &dims.lhs_contract);
    let rhs_free = free(g.dims(rhs).len(), &dims.rhs_batch, &dims.rhs_contract);
    let batch = dims.lhs_batch.len();
    let product = DotDims {
        lhs_batch: dims.lhs_batch.clone(),
        rhs_batch: (0..batch).collect(),
        rhs_contract: (batch..batch + lhs_free.len()).collect(),
        lhs_contract: lhs_free,
    };
    let product = g.dot_general(lhs, ct, &product)?;
    let contracted = paired_with_sorted(&dims.lhs_contract, &dims.rhs_contract);
    let order = [dims.rhs_batch.clone(), contracted, rhs_free].concat();
    g.transpose(product, &inverse(&order))
}

/// Dimensions below `rank` that are neither in `batch` nor in `contract`.
fn free(rank: usize, batch: &[usize], contract: &[usize]) -> Vec<usize> {
    (0..rank)
        .filter(|dim| !batch.contains(dim) && !contract.contains(dim))
        .collect()
}

/// `values` in the order that sorts `keys`.
fn paired_with_sorted(keys: &[usize], values: &[usize]) -> Vec<usize> {
    let mut pairs: Vec<(usize, usize)> = keys.iter().copied().zip(values.iter().copied()).collect();
    pairs.sort_unstable();
    pairs.into_iter().map(|(_, value)| value).collect()
}
