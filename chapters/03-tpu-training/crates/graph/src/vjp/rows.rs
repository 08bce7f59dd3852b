//! Rules of row look-up. `gather` moves an index out of range to the nearest
//! row, `scatter` skips it: each rule has to do what the other operation does.

use crate::{Comparison, Graph, GraphError, Literal, Value};

/// To each row of `table` the sum of the cotangents of the rows taken from it.
pub(super) fn gather(
    g: &mut Graph,
    ct: Value,
    table: Value,
    indices: Value,
) -> Result<Value, GraphError> {
    let (first, last) = bounds(g, table, indices)?;
    let below = g.minimum(indices, last)?;
    let nearest = g.maximum(below, first)?;
    let zeros = g.full_like(0.0, table)?;
    g.scatter_add_rows(zeros, nearest, ct)
}

/// To each update the cotangent of its row, and zeros where it was skipped.
pub(super) fn scatter_updates(
    g: &mut Graph,
    ct: Value,
    indices: Value,
) -> Result<Value, GraphError> {
    let rows = g.gather_rows(ct, indices)?;
    let (first, last) = bounds(g, ct, indices)?;
    let not_below = g.compare(Comparison::Ge, indices, first)?;
    let not_above = g.compare(Comparison::Le, indices, last)?;
    let hit = g.and(not_below, not_above)?;
    let dims = g.dims(rows).to_vec();
    let hit = g.broadcast(hit, &dims, &[0])?;
    let zeros = g.full_like(0.0, rows)?;
    g.select(hit, rows, zeros)
}

/// The first and the last row number of `table`, in the shape of `indices`.
fn bounds(g: &mut Graph, table: Value, indices: Value) -> Result<(Value, Value), GraphError> {
    let dims = g.dims(indices).to_vec();
    // More rows than i32 counts cannot be named by an index.
    let last = i32::try_from(g.dims(table)[0].saturating_sub(1)).unwrap_or(i32::MAX);
    let literal = Literal::from_i32(&[last], []).expect("one element fills a scalar");
    let last = g.constant(literal)?;
    let last = g.broadcast(last, &dims, &[])?;
    Ok((g.full_like(0.0, indices)?, last))
}
