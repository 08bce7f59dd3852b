//! Slices and rows whose position is data.

use super::array::{Array, offset, positions};
use super::elementwise::wrapped;
use crate::TensorType;

pub fn dynamic_slice(x: &Array, starts: &[&Array], sizes: &[usize]) -> Vec<f64> {
    let starts = clamped(x, starts, sizes);
    let source = |position: Vec<usize>| sum(&starts, &position);
    positions(sizes).map(|p| x.at(&source(p))).collect()
}

pub fn dynamic_update_slice(x: &Array, update: &Array, starts: &[&Array]) -> Vec<f64> {
    let starts = clamped(x, starts, update.dims());
    let mut updated = x.elements.clone();
    for (position, element) in positions(update.dims()).zip(&update.elements) {
        updated[offset(x.dims(), &sum(&starts, &position))] = *element;
    }
    updated
}

/// An index outside the table is moved to its nearest row.
pub fn gather_rows(table: &Array, indices: &Array, ty: &TensorType) -> Vec<f64> {
    let last = table.dims()[0] as f64 - 1.0;
    let source = |mut position: Vec<usize>| {
        position[0] = indices.elements[position[0]].clamp(0.0, last) as usize;
        position
    };
    positions(&ty.dims).map(|p| table.at(&source(p))).collect()
}

/// An update whose index is outside the table is lost. Rows named twice get
/// the sum of both, kept in f64 and rounded once.
pub fn scatter_add_rows(table: &Array, indices: &Array, updates: &Array) -> Vec<f64> {
    let mut sums = table.elements.clone();
    for (mut position, update) in positions(updates.dims()).zip(&updates.elements) {
        let row = indices.elements[position[0]];
        if (0.0..table.dims()[0] as f64).contains(&row) {
            position[0] = row as usize;
            let sum = &mut sums[offset(table.dims(), &position)];
            *sum = match table.dtype().is_float() {
                true => *sum + update,
                false => wrapped(*sum as i128 + *update as i128, table.dtype()),
            };
        }
    }
    sums
}

/// Starts moved so that a slice of these sizes fits.
fn clamped(x: &Array, starts: &[&Array], sizes: &[usize]) -> Vec<usize> {
    let room = x.dims().iter().zip(sizes).map(|(whole, part)| whole - part);
    let pairs = starts.iter().zip(room);
    pairs
        .map(|(start, room)| start.elements[0].clamp(0.0, room as f64) as usize)
        .collect()
}

fn sum(start: &[usize], position: &[usize]) -> Vec<usize> {
    start.iter().zip(position).map(|(a, b)| a + b).collect()
}
