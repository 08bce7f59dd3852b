//! Move along one dimension, multiply, move along the other.
//!
//! For a 3x3 filter `Patches` copies what goes into the product nine times, and
//! `Columns` what comes out. One dimension each way copies both three times.

use super::arrange::{
    By, inputs_of_taps, multiply_channels, outputs_of_taps, sum_of_outer_products, sum_to_inputs,
    sum_to_outputs,
};
use super::taps::Geometry;
use crate::{Graph, GraphError, Value};

pub(super) fn forward(
    g: &mut Graph,
    x: Value,
    filter: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let [height, width] = geometry.axes;
    let across = inputs_of_taps(g, x, geometry, &[width])?;
    let matrix = filter_matrix(g, filter, geometry)?;
    let product = multiply_channels(g, across, matrix, By::Matrix)?;
    sum_to_outputs(g, product, geometry, &[height])
}

pub(super) fn input_gradient(
    g: &mut Graph,
    ct: Value,
    filter: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let [height, width] = geometry.axes;
    let up_and_down = outputs_of_taps(g, ct, geometry, &[height])?;
    let matrix = filter_matrix(g, filter, geometry)?;
    let product = multiply_channels(g, up_and_down, matrix, By::Transposed)?;
    sum_to_inputs(g, product, geometry, &[width])
}

/// One product of what the two others make on their way.
pub(super) fn filter_gradient(
    g: &mut Graph,
    ct: Value,
    x: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let [height, width] = geometry.axes;
    let across = inputs_of_taps(g, x, geometry, &[width])?;
    let up_and_down = outputs_of_taps(g, ct, geometry, &[height])?;
    let matrix = sum_of_outer_products(g, across, up_and_down)?;
    let [height, width, k, n] = geometry.filter_dims();
    let filter = g.reshape(matrix, &[width, k, height, n])?;
    g.transpose(filter, &[2, 0, 1, 3])
}

/// `[width taps * channels in, height taps * channels out]`
fn filter_matrix(g: &mut Graph, filter: Value, geometry: &Geometry) -> Result<Value, GraphError> {
    let [height, width, k, n] = geometry.filter_dims();
    let filter = g.transpose(filter, &[1, 2, 0, 3])?;
    g.reshape(filter, &[width * k, height * n])
}
