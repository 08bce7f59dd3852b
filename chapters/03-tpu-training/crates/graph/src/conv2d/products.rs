//! One product a tap: `y = sum of S_t(x) W_t`.
//!
//! Only what the tap sees is multiplied. On an image of one pixel, eight of the
//! nine taps of a 3x3 filter see nothing, and cost nothing.

use super::arrange::{By, multiply_channels, sum, sum_of_outer_products, tap_matrix};
use super::taps::Geometry;
use crate::{Graph, GraphError, Value};

// ANCHOR: forward
pub(super) fn forward(
    g: &mut Graph,
    x: Value,
    filter: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let mut terms = vec![];
    for tap in geometry.taps(&geometry.axes) {
        let seen = tap.seen(g, x)?;
        let matrix = tap_matrix(g, filter, tap.index, geometry)?;
        let product = multiply_channels(g, seen, matrix, By::Matrix)?;
        terms.push(tap.at_outputs(g, product)?);
    }
    sum(g, &terms, &geometry.output_dims(), geometry.dtype)
}
// ANCHOR_END: forward

/// `x' = sum of S_t^T(y' W_t^T)`
pub(super) fn input_gradient(
    g: &mut Graph,
    ct: Value,
    filter: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let mut terms = vec![];
    for tap in geometry.taps(&geometry.axes) {
        let seeing = tap.seeing(g, ct)?;
        let matrix = tap_matrix(g, filter, tap.index, geometry)?;
        let product = multiply_channels(g, seeing, matrix, By::Transposed)?;
        terms.push(tap.at_inputs(g, product)?);
    }
    sum(g, &terms, &geometry.input_dims(), geometry.dtype)
}

/// `W_t' = S_t(x)^T y'`
pub(super) fn filter_gradient(
    g: &mut Graph,
    ct: Value,
    x: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let (k, n) = (geometry.channels_in, geometry.channels_out);
    let mut rows = vec![None; geometry.tap_count()];
    for tap in geometry.taps(&geometry.axes) {
        let seen = tap.seen(g, x)?;
        let seeing = tap.seeing(g, ct)?;
        rows[tap.index] = Some(sum_of_outer_products(g, seen, seeing)?);
    }
    let rows = rows
        .into_iter()
        .map(|row| row.map_or_else(|| g.full(0.0, &[k, n], geometry.dtype), Ok))
        .collect::<Result<Vec<_>, _>>()?;
    let rows = g.concatenate(&rows, 0)?;
    g.reshape(rows, &geometry.filter_dims())
}
