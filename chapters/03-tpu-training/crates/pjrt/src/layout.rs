//! The order of an array's elements in memory.

use crate::shape::Shape;

/// Minor-to-major order of a row-major array: the last dimension varies fastest.
pub fn row_major(rank: usize) -> Vec<i64> {
    (0..rank as i64).rev().collect()
}

/// Puts an array in row-major order.
///
/// * `bytes`: the array without gaps in the order `minor_to_major`
///
/// `None` if `minor_to_major` does not name each dimension once, or the bytes are not as many
/// as the shape has.
pub fn to_row_major(bytes: &[u8], shape: &Shape, minor_to_major: &[i64]) -> Option<Vec<u8>> {
    let rank = shape.dims.len();
    if minor_to_major.len() != rank || bytes.len() != shape.byte_size() {
        return None;
    }
    let size = shape.element_type.byte_size();
    // Bytes from one element to the next along each dimension, in `bytes`.
    let mut strides = vec![0; rank];
    let mut stride = size;
    for dimension in minor_to_major {
        let dimension = usize::try_from(*dimension).ok()?;
        if *strides.get(dimension)? != 0 {
            return None;
        }
        strides[dimension] = stride;
        stride *= shape.dims[dimension].max(1);
    }
    let mut ordered = Vec::with_capacity(bytes.len());
    let mut index = vec![0; rank];
    let mut at = 0;
    while ordered.len() < bytes.len() {
        ordered.extend_from_slice(bytes.get(at..at + size)?);
        // Counts the index up, the last dimension first, and moves `at` along.
        for dimension in (0..rank).rev() {
            index[dimension] += 1;
            at += strides[dimension];
            if index[dimension] < shape.dims[dimension] {
                break;
            }
            at -= index[dimension] * strides[dimension];
            index[dimension] = 0;
        }
    }
    Some(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element_type::ElementType;

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(ElementType::U16, dims.to_vec()).unwrap()
    }

    #[test]
    fn every_order_of_three_dimensions_is_put_in_order() {
        let dims = [2, 3, 4];
        let shape = shape(&dims);
        // Each element is its row-major index.
        let expected = (0..24_u16).flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut lies = vec![0; 48];
            for (i, j, k) in (0..24).map(|at| (at / 12, at / 4 % 3, at % 4)) {
                let index = [i, j, k];
                let mut at = 0;
                for dimension in order.iter().rev() {
                    at = at * dims[*dimension] + index[*dimension];
                }
                let value = (i * 12 + j * 4 + k) as u16;
                lies[2 * at..2 * at + 2].copy_from_slice(&value.to_le_bytes());
            }
            let order = order.map(|dimension| dimension as i64);
            assert_eq!(
                to_row_major(&lies, &shape, &order),
                Some(expected.clone()),
                "{order:?}"
            );
        }
        assert_eq!(row_major(3), [2, 1, 0]);
    }

    #[test]
    fn scalars_and_empty_arrays_stay_as_they_are() {
        assert_eq!(to_row_major(&[1, 2], &shape(&[]), &[]), Some(vec![1, 2]));
        assert_eq!(to_row_major(&[], &shape(&[2, 0]), &[0, 1]), Some(vec![]));
    }

    #[test]
    fn an_order_of_other_dimensions_is_refused() {
        let bytes = [0; 12];
        for order in [&[0][..], &[0, 0], &[0, 2], &[0, -1], &[0, 1, 2]] {
            assert_eq!(
                to_row_major(&bytes, &shape(&[2, 3]), order),
                None,
                "{order:?}"
            );
        }
        assert_eq!(to_row_major(&bytes[1..], &shape(&[2, 3]), &[0, 1]), None);
    }
}
