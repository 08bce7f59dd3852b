//! One product from all input pixels to all output pixels.
//!
//! The matrix `[height * width * channels in, output height * output width *
//! channels out]` has the block `W_t` where an output pixel sees an input pixel
//! through tap `t`, and zeros elsewhere. On 2x2 images with a 3x3 filter and
//! padding every pixel sees every other, and there are no zeros.

use super::arrange::{By, multiply_channels, sum, sum_of_outer_products, tap_matrix};
use super::taps::Geometry;
use crate::{Graph, GraphError, Value};

pub(super) fn forward(
    g: &mut Graph,
    x: Value,
    filter: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let rows = rows(g, x, geometry.batch)?;
    let matrix = expanded(g, filter, geometry)?;
    let y = multiply_channels(g, rows, matrix, By::Matrix)?;
    g.reshape(y, &geometry.output_dims())
}

pub(super) fn input_gradient(
    g: &mut Graph,
    ct: Value,
    filter: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let rows = rows(g, ct, geometry.batch)?;
    let matrix = expanded(g, filter, geometry)?;
    let x = multiply_channels(g, rows, matrix, By::Transposed)?;
    g.reshape(x, &geometry.input_dims())
}

/// The gradient of the matrix, with all blocks of a tap summed.
pub(super) fn filter_gradient(
    g: &mut Graph,
    ct: Value,
    x: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let (k, n) = (geometry.channels_in, geometry.channels_out);
    let (x, ct) = (rows(g, x, geometry.batch)?, rows(g, ct, geometry.batch)?);
    let matrix = sum_of_outer_products(g, x, ct)?;
    let mut blocks = vec![vec![]; geometry.tap_count()];
    for (input, outputs) in geometry.seen_through().into_iter().enumerate() {
        for (output, tap) in outputs.into_iter().enumerate() {
            let Some(tap) = tap else { continue };
            let start = [input * k, output * n];
            let block = g.slice(matrix, &start, &[start[0] + k, start[1] + n], &[1, 1])?;
            blocks[tap].push(block);
        }
    }
    let taps = blocks
        .iter()
        .map(|blocks| sum(g, blocks, &[k, n], geometry.dtype))
        .collect::<Result<Vec<_>, _>>()?;
    let filter = g.concatenate(&taps, 0)?;
    g.reshape(filter, &geometry.filter_dims())
}

fn expanded(g: &mut Graph, filter: Value, geometry: &Geometry) -> Result<Value, GraphError> {
    let (k, n) = (geometry.channels_in, geometry.channels_out);
    let zeros = g.full(0.0, &[k, n], geometry.dtype)?;
    let taps = (0..geometry.tap_count())
        .map(|tap| tap_matrix(g, filter, tap, geometry))
        .collect::<Result<Vec<_>, _>>()?;
    let rows = geometry
        .seen_through()
        .into_iter()
        .map(|outputs| {
            let blocks: Vec<Value> = outputs
                .into_iter()
                .map(|tap| tap.map_or(zeros, |tap| taps[tap]))
                .collect();
            g.concatenate(&blocks, 1)
        })
        .collect::<Result<Vec<_>, _>>()?;
    g.concatenate(&rows, 0)
}

/// Each image as one row.
fn rows(g: &mut Graph, x: Value, batch: usize) -> Result<Value, GraphError> {
    let columns = g.dims(x)[1..].iter().product();
    g.reshape(x, &[batch, columns])
}

impl Geometry {
    /// For each input pixel and each output pixel the tap through which the
    /// second sees the first.
    fn seen_through(&self) -> Vec<Vec<Option<usize>>> {
        let [height, width] = self.axes;
        let pixels = |rows: usize, columns: usize| {
            (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)))
        };
        pixels(height.input, width.input)
            .map(|(row, column)| {
                pixels(height.output, width.output)
                    .map(|(to_row, to_column)| {
                        let down = height.tap_between(row, to_row)?;
                        let right = width.tap_between(column, to_column)?;
                        Some(down * width.window + right)
                    })
                    .collect()
            })
            .collect()
    }
}
