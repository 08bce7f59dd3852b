//! What the forms are made of: products, sums, and taps side by side.

use super::taps::{Axis, Geometry, Tap};
use crate::{DType, DotDims, Graph, GraphError, Value};

/// Which dimension of a matrix is summed over.
#[derive(Clone, Copy)]
pub(super) enum By {
    /// `rows * matrix`
    Matrix,
    /// `rows * matrix^T`
    Transposed,
}

/// Multiplies the channels at every place: `[.., k]` by `[k, n]` is `[.., n]`.
///
/// Written as a product of two matrices: XLA's CPU compiler does that best.
pub(super) fn multiply_channels(
    g: &mut Graph,
    x: Value,
    matrix: Value,
    by: By,
) -> Result<Value, GraphError> {
    let (summed, left) = match by {
        By::Matrix => (0, 1),
        By::Transposed => (1, 0),
    };
    let mut dims = g.dims(x).to_vec();
    let rows = flat(g, x)?;
    let product = DotDims {
        lhs_contract: vec![1],
        rhs_contract: vec![summed],
        ..DotDims::default()
    };
    let y = g.dot_general(rows, matrix, &product)?;
    if let Some(last) = dims.last_mut() {
        *last = g.dims(matrix)[left];
    }
    g.reshape(y, &dims)
}

/// Sums over all places: `[.., k]` and `[.., n]` give `[k, n]`.
pub(super) fn sum_of_outer_products(
    g: &mut Graph,
    x: Value,
    y: Value,
) -> Result<Value, GraphError> {
    let (x, y) = (flat(g, x)?, flat(g, y)?);
    let product = DotDims {
        lhs_contract: vec![0],
        rhs_contract: vec![0],
        ..DotDims::default()
    };
    g.dot_general(x, y, &product)
}

/// `[.., k]` as `[places, k]`.
fn flat(g: &mut Graph, x: Value) -> Result<Value, GraphError> {
    let dims = g.dims(x);
    let (channels, places) = dims
        .split_last()
        .map_or((1, &[][..]), |(k, rest)| (*k, rest));
    let rows = places.iter().product();
    g.reshape(x, &[rows, channels])
}

/// The sum of `terms`, or zeros of shape `dims` if there are none.
pub(super) fn sum(
    g: &mut Graph,
    terms: &[Value],
    dims: &[usize],
    dtype: DType,
) -> Result<Value, GraphError> {
    let Some((&first, others)) = terms.split_first() else {
        return g.full(0.0, dims, dtype);
    };
    let mut sum = first;
    for &term in others {
        sum = g.add(sum, term)?;
    }
    Ok(sum)
}

/// Channels `index * size ..` of `[.., channels]`.
fn channels(g: &mut Graph, x: Value, index: usize, size: usize) -> Result<Value, GraphError> {
    let mut limit = g.dims(x).to_vec();
    let mut start = vec![0; limit.len()];
    let stride = vec![1; limit.len()];
    let last = limit.len() - 1;
    start[last] = index * size;
    limit[last] = start[last] + size;
    g.slice(x, &start, &limit, &stride)
}

/// The matrix `[channels in, channels out]` of tap number `index`.
pub(super) fn tap_matrix(
    g: &mut Graph,
    filter: Value,
    index: usize,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let [_, width] = geometry.axes;
    let (row, column) = (index / width.window, index % width.window);
    let (k, n) = (geometry.channels_in, geometry.channels_out);
    let tap = g.slice(
        filter,
        &[row, column, 0, 0],
        &[row + 1, column + 1, k, n],
        &[1; 4],
    )?;
    g.reshape(tap, &[k, n])
}

/// All taps as one matrix, one below the other: `[taps * channels in, channels
/// out]`. The filter as it lies in memory.
pub(super) fn tall_matrix(
    g: &mut Graph,
    filter: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let rows = geometry.tap_count() * geometry.channels_in;
    g.reshape(filter, &[rows, geometry.channels_out])
}

/// All taps as one matrix, side by side: `[channels in, taps * channels out]`.
pub(super) fn wide_matrix(
    g: &mut Graph,
    filter: Value,
    geometry: &Geometry,
) -> Result<Value, GraphError> {
    let filter = g.transpose(filter, &[2, 0, 1, 3])?;
    let columns = geometry.tap_count() * geometry.channels_out;
    g.reshape(filter, &[geometry.channels_in, columns])
}

/// `[S_1(x) S_2(x) ..]`: the input as each tap along `axes` sees it, side by side.
pub(super) fn inputs_of_taps(
    g: &mut Graph,
    x: Value,
    geometry: &Geometry,
    axes: &[Axis],
) -> Result<Value, GraphError> {
    let size = |axis: &Axis| axis.output;
    side_by_side(g, x, geometry, axes, size, Tap::to_outputs)
}

/// `[S_1^T(y) S_2^T(y) ..]`: the output moved back to what each tap along
/// `axes` saw, side by side.
pub(super) fn outputs_of_taps(
    g: &mut Graph,
    y: Value,
    geometry: &Geometry,
    axes: &[Axis],
) -> Result<Value, GraphError> {
    let size = |axis: &Axis| axis.input;
    side_by_side(g, y, geometry, axes, size, Tap::to_inputs)
}

/// `sum of S_t(part t of x)`, for the parts that the taps along `axes` made.
pub(super) fn sum_to_outputs(
    g: &mut Graph,
    x: Value,
    geometry: &Geometry,
    axes: &[Axis],
) -> Result<Value, GraphError> {
    let mut terms = vec![];
    for tap in geometry.taps(axes) {
        let part = channels(g, x, tap.index, geometry.channels_out)?;
        terms.push(tap.to_outputs(g, part)?);
    }
    sum(g, &terms, &geometry.output_dims(), geometry.dtype)
}

/// `sum of S_t^T(part t of y)`, for the parts that the taps along `axes` made.
pub(super) fn sum_to_inputs(
    g: &mut Graph,
    y: Value,
    geometry: &Geometry,
    axes: &[Axis],
) -> Result<Value, GraphError> {
    let mut terms = vec![];
    for tap in geometry.taps(axes) {
        let part = channels(g, y, tap.index, geometry.channels_in)?;
        terms.push(tap.to_inputs(g, part)?);
    }
    sum(g, &terms, &geometry.input_dims(), geometry.dtype)
}

/// What `moved` makes of `x` for each tap along `axes`, side by side along the
/// channels; zeros for taps that see nothing. It has `size` elements along each.
fn side_by_side(
    g: &mut Graph,
    x: Value,
    geometry: &Geometry,
    axes: &[Axis],
    size: impl Fn(&Axis) -> usize,
    moved: impl Fn(&Tap, &mut Graph, Value) -> Result<Value, GraphError>,
) -> Result<Value, GraphError> {
    let mut dims = g.dims(x).to_vec();
    for axis in axes {
        dims[axis.dim] = size(axis);
    }
    let count = axes.iter().map(|axis| axis.window).product();
    let mut parts = vec![None; count];
    for tap in geometry.taps(axes) {
        parts[tap.index] = Some(moved(&tap, g, x)?);
    }
    let parts = parts
        .into_iter()
        .map(|part| part.map_or_else(|| g.full(0.0, &dims, geometry.dtype), Ok))
        .collect::<Result<Vec<_>, _>>()?;
    g.concatenate(&parts, dims.len() - 1)
}
