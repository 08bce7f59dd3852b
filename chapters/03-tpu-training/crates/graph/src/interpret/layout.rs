//! Which element goes where.

use super::array::{Array, offset, positions, rounded};
use crate::TensorType;

pub fn iota(ty: &TensorType, dim: usize) -> Vec<f64> {
    let at = positions(&ty.dims).map(|position| position[dim]);
    at.map(|i| rounded(i as f64, ty.dtype)).collect()
}

pub fn broadcast(x: &Array, mapping: &[usize], ty: &TensorType) -> Vec<f64> {
    let source = |position: Vec<usize>| -> Vec<usize> {
        let pairs = mapping.iter().zip(x.dims());
        pairs
            .map(|(to, size)| if *size == 1 { 0 } else { position[*to] })
            .collect()
    };
    positions(&ty.dims).map(|p| x.at(&source(p))).collect()
}

pub fn transpose(x: &Array, permutation: &[usize], ty: &TensorType) -> Vec<f64> {
    let source = |position: Vec<usize>| {
        let mut source = vec![0; position.len()];
        for (from, at) in permutation.iter().zip(position) {
            source[*from] = at;
        }
        source
    };
    positions(&ty.dims).map(|p| x.at(&source(p))).collect()
}

pub fn slice(x: &Array, start: &[usize], stride: &[usize], ty: &TensorType) -> Vec<f64> {
    let source = |position: Vec<usize>| -> Vec<usize> {
        let steps = start.iter().zip(stride).zip(position);
        steps
            .map(|((start, stride), at)| start + at * stride)
            .collect()
    };
    positions(&ty.dims).map(|p| x.at(&source(p))).collect()
}

/// Every element is written to where it goes; those that fall outside are lost.
pub fn pad(x: &Array, value: f32, low: &[i64], interior: &[usize], ty: &TensorType) -> Vec<f64> {
    let mut padded = vec![rounded(f64::from(value), ty.dtype); ty.element_count()];
    for (position, element) in positions(x.dims()).zip(&x.elements) {
        let steps = position.iter().zip(low).zip(interior);
        let target = steps
            .map(|((at, low), interior)| i128::from(*low) + *at as i128 * (*interior as i128 + 1));
        let inside = target.zip(&ty.dims).map(|(at, size)| {
            let at = usize::try_from(at).ok()?;
            (at < *size).then_some(at)
        });
        if let Some(target) = inside.collect::<Option<Vec<usize>>>() {
            padded[offset(&ty.dims, &target)] = *element;
        }
    }
    padded
}

pub fn concatenate(operands: &[&Array], dim: usize, ty: &TensorType) -> Vec<f64> {
    let source = |mut position: Vec<usize>| {
        for operand in operands {
            let size = operand.dims()[dim];
            if position[dim] < size {
                return operand.at(&position);
            }
            position[dim] -= size;
        }
        unreachable!("the result is as long as its parts")
    };
    positions(&ty.dims).map(source).collect()
}

pub fn reverse(x: &Array, dims: &[usize]) -> Vec<f64> {
    let source = |mut position: Vec<usize>| {
        for dim in dims {
            position[*dim] = x.dims()[*dim] - 1 - position[*dim];
        }
        position
    };
    positions(x.dims()).map(|p| x.at(&source(p))).collect()
}
