//! Move, then multiply: `y = [S_1(x) S_2(x) ..] W`, known as im2col.
//!
//! One large product, after copying what goes into it once for each tap.

use super::arrange::{
    By, inputs_of_taps, multiply_channels, outputs_of_taps, sum_of_outer_products, tall_matrix,
    wide_matrix,
};
use super::taps::Geometry;
use crate::{Graph, GraphError, Value};

pub(super) fn forward(
    g: &mut Graph,
    x: Value,
    filter: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let patches = patches(g, x, geometry)?;
    let matrix = tall_matrix(g, filter, geometry)?;
    multiply_channels(g, patches, matrix, By::Matrix)
}

/// `x' = [S_1^T(y') S_2^T(y') ..] [W_1 W_2 ..]^T`
pub(super) fn input_gradient(
    g: &mut Graph,
    ct: Value,
    filter: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let moved = outputs_of_taps(g, ct, geometry, &geometry.axes)?;
    let matrix = wide_matrix(g, filter, geometry)?;
    multiply_channels(g, moved, matrix, By::Transposed)
}

/// `W' = [S_1(x) S_2(x) ..]^T y'`
pub(super) fn filter_gradient(
    g: &mut Graph,
    ct: Value,
    x: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let patches = patches(g, x, geometry)?;
    let matrix = sum_of_outer_products(g, patches, ct)?;
    g.reshape(matrix, &geometry.filter_dims())
}

/// `[batch, output height, output width, taps * channels in]`. The image is
/// padded once, and then every tap only takes a slice of it.
fn patches(g: &mut Graph, x: Value, geometry: &Geometry) -> Result<Value, GraphError> {
    let (x, padded) = geometry.padded(g, x)?;
    inputs_of_taps(g, x, &padded, &padded.axes)
}
