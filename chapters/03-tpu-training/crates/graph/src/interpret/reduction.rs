//! Sums and maxima: over whole dimensions, and over windows.

use super::array::{Array, offset, positions};
use super::elementwise::{larger, wrapped};
use crate::{DType, Pool, TensorType};

/// In f64 and rounded once; integers wrap around.
pub fn sum(x: &Array, dims: &[usize], ty: &TensorType) -> Vec<f64> {
    if ty.dtype.is_float() {
        return reduce(x, dims, ty, 0.0, |a, b| a + b);
    }
    let add = |a: f64, b: f64| wrapped(a as i128 + b as i128, ty.dtype);
    reduce(x, dims, ty, 0.0, add)
}

/// NaN if any element is.
pub fn max(x: &Array, dims: &[usize], ty: &TensorType) -> Vec<f64> {
    let smallest = match ty.dtype {
        DType::Pred | DType::U8 | DType::U32 => 0.0,
        DType::I32 => f64::from(i32::MIN),
        DType::Bf16 | DType::F32 => f64::NEG_INFINITY,
    };
    reduce(x, dims, ty, smallest, larger)
}

fn reduce(
    x: &Array,
    dims: &[usize],
    ty: &TensorType,
    start: f64,
    combine: impl Fn(f64, f64) -> f64,
) -> Vec<f64> {
    let mut reduced = vec![start; ty.element_count()];
    for (position, element) in positions(x.dims()).zip(&x.elements) {
        let kept = (0..position.len()).filter(|dim| !dims.contains(dim));
        let target: Vec<usize> = kept.map(|dim| position[dim]).collect();
        let into = &mut reduced[offset(&ty.dims, &target)];
        *into = combine(*into, *element);
    }
    reduced
}

/// The largest element of each window; minus infinity where a window holds
/// nothing but padding.
pub fn max_pool(x: &Array, pool: &Pool, ty: &TensorType) -> Vec<f64> {
    let largest = |at: Vec<usize>| {
        let elements = window(x, pool, &at).map(|position| x.at(&position));
        elements.fold(f64::NEG_INFINITY, larger)
    };
    positions(&ty.dims).map(largest).collect()
}

/// Each cotangent goes to one element of its window: the scan keeps the element
/// it has as long as that is at least as large as the next one.
pub fn max_pool_gradient(x: &Array, cotangent: &Array, pool: &Pool) -> Vec<f64> {
    let mut gradient = vec![0.0; x.elements.len()];
    for (at, cotangent) in positions(cotangent.dims()).zip(&cotangent.elements) {
        let winner = window(x, pool, &at).reduce(|held, next| {
            if x.at(&held) >= x.at(&next) {
                held
            } else {
                next
            }
        });
        if let Some(winner) = winner {
            gradient[offset(x.dims(), &winner)] += cotangent;
        }
    }
    gradient
}

/// Positions of NHWC `x` in the window of one output position, rows first.
fn window(x: &Array, pool: &Pool, at: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let (batch, channel) = (at[0], at[3]);
    let inside = |axis: usize| {
        let first = (at[axis + 1] * pool.strides[axis]) as i64 - pool.padding[axis][0];
        let window = first..first + pool.window[axis] as i64;
        let size = x.dims()[axis + 1];
        window.filter_map(move |i| usize::try_from(i).ok().filter(|i| *i < size))
    };
    let columns: Vec<usize> = inside(1).collect();
    inside(0).flat_map(move |y| {
        let columns = columns.clone();
        columns.into_iter().map(move |x| vec![batch, y, x, channel])
    })
}
