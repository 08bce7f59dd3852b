//! Multiply, then move: `y = sum of S_t(x W_t)`, all `x W_t` in one product.
//!
//! The mirror image of `Patches`: that copies what goes into the product once
//! for each tap, this what comes out. Known as col2im.

use super::arrange::{
    By, multiply_channels, outputs_of_taps, sum_of_outer_products, sum_to_inputs, sum_to_outputs,
    tall_matrix, wide_matrix,
};
use super::taps::Geometry;
use crate::{Graph, GraphError, Value};

// ANCHOR: forward
pub(super) fn forward(
    g: &mut Graph,
    x: Value,
    filter: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let matrix = wide_matrix(g, filter, geometry)?;
    let product = multiply_channels(g, x, matrix, By::Matrix)?;
    sum_to_outputs(g, product, geometry, &geometry.axes)
}
// ANCHOR_END: forward

/// `x' = sum of S_t^T(y' W_t^T)`
pub(super) fn input_gradient(
    g: &mut Graph,
    ct: Value,
    filter: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let matrix = tall_matrix(g, filter, geometry)?;
    let product = multiply_channels(g, ct, matrix, By::Transposed)?;
    sum_to_inputs(g, product, geometry, &geometry.axes)
}

/// `[W_1' W_2' ..] = x^T [S_1^T(y') S_2^T(y') ..]`. The sum over images leaves
/// nothing to move afterwards, so it is the cotangent that is copied here.
pub(super) fn filter_gradient(
    g: &mut Graph,
    ct: Value,
    x: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let moved = outputs_of_taps(g, ct, geometry, &geometry.axes)?;
    let matrix = sum_of_outer_products(g, x, moved)?;
    let [height, width, k, n] = geometry.filter_dims();
    let filter = g.reshape(matrix, &[k, height, width, n])?;
    g.transpose(filter, &[1, 2, 0, 3])
}
