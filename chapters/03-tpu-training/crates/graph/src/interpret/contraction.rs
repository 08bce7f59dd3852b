//! Sums of products: matrices and convolutions. Sums are kept in f64 and
//! rounded once.

use super::array::{Array, positions};
use crate::{Convolution, DotDims, TensorType};

pub fn dot_general(lhs: &Array, rhs: &Array, dims: &DotDims) -> Vec<f64> {
    let sizes =
        |x: &Array, of: &[usize]| -> Vec<usize> { of.iter().map(|d| x.dims()[*d]).collect() };
    let free = |x: &Array, batch: &[usize], contract: &[usize]| -> Vec<usize> {
        let all = 0..x.dims().len();
        all.filter(|d| !batch.contains(d) && !contract.contains(d))
            .collect()
    };
    let lhs_free = free(lhs, &dims.lhs_batch, &dims.lhs_contract);
    let rhs_free = free(rhs, &dims.rhs_batch, &dims.rhs_contract);

    let mut products = vec![];
    for batch in positions(&sizes(lhs, &dims.lhs_batch)) {
        for row in positions(&sizes(lhs, &lhs_free)) {
            for column in positions(&sizes(rhs, &rhs_free)) {
                let terms = positions(&sizes(lhs, &dims.lhs_contract)).map(|k| {
                    let left = placed(
                        lhs,
                        [
                            (&dims.lhs_batch, &batch),
                            (&lhs_free, &row),
                            (&dims.lhs_contract, &k),
                        ],
                    );
                    let right = placed(
                        rhs,
                        [
                            (&dims.rhs_batch, &batch),
                            (&rhs_free, &column),
                            (&dims.rhs_contract, &k),
                        ],
                    );
                    left * right
                });
                products.push(terms.sum());
            }
        }
    }
    products
}

/// The element whose position has, for each pair, these indices in these dimensions.
fn placed(x: &Array, parts: [(&Vec<usize>, &Vec<usize>); 3]) -> f64 {
    let mut position = vec![0; x.dims().len()];
    for (dims, indices) in parts {
        for (dim, index) in dims.iter().zip(indices) {
            position[*dim] = *index;
        }
    }
    x.at(&position)
}

/// The input is spread out and padded, the filter is spread out, and one slides
/// over the other.
///
/// Nothing is spread out or padded in memory: an index into the padded input is
/// taken back to the element it holds, if it holds one.
pub fn convolution(x: &Array, filter: &Array, c: &Convolution, ty: &TensorType) -> Vec<f64> {
    let d = &c.dims;
    let [height, width] = d.filter_spatial.map(|dim| filter.dims()[dim]);
    let channels = filter.dims()[d.filter_input_feature];

    let input_index = |axis: usize, output_index: usize, tap: usize| {
        let spread = output_index * c.strides[axis] + tap * c.rhs_dilation[axis];
        let spread = usize::try_from(spread as i64 - c.padding[axis][0]).ok()?;
        let index = spread / c.lhs_dilation[axis];
        let is_element = spread % c.lhs_dilation[axis] == 0;
        (is_element && index < x.dims()[d.input_spatial[axis]]).then_some(index)
    };

    let one = |at: Vec<usize>| {
        let mut sum = 0.0;
        for tap_y in 0..height {
            for tap_x in 0..width {
                let [out_y, out_x] = d.output_spatial.map(|dim| at[dim]);
                let (Some(y), Some(x_)) =
                    (input_index(0, out_y, tap_y), input_index(1, out_x, tap_x))
                else {
                    continue;
                };
                for channel in 0..channels {
                    let mut from = [0; 4];
                    from[d.input_batch] = at[d.output_batch];
                    from[d.input_feature] = channel;
                    from[d.input_spatial[0]] = y;
                    from[d.input_spatial[1]] = x_;
                    let mut by = [0; 4];
                    by[d.filter_output_feature] = at[d.output_feature];
                    by[d.filter_input_feature] = channel;
                    by[d.filter_spatial[0]] = tap_y;
                    by[d.filter_spatial[1]] = tap_x;
                    sum += x.at(&from) * filter.at(&by);
                }
            }
        }
        sum
    };
    positions(&ty.dims).map(one).collect()
}
