//! Random functions: operations applied to the results of operations.
//!
//! A recipe is a list of steps. Each step picks an operation and takes its
//! operands from what earlier steps made, so that any list of numbers is a
//! graph: short lists are simple graphs, and a failing one can be shortened.
//! Values are kept near 1, shapes below [`LARGEST`] elements.

use training_graph::{Comparison, Convolution, DType, Graph, GraphError, Literal, Pool, Value};

/// One step: which operation, and three numbers to choose operands and
/// attributes by.
pub type Step = (u8, [u8; 3]);

/// No value has more elements.
const LARGEST: usize = 24;

/// Follows a recipe.
///
/// * `inputs`: f32 values to begin with
///
/// Returns the last value made, which depends on some of the inputs or on none.
pub fn compose(g: &mut Graph, inputs: &[Value], recipe: &[Step]) -> Result<Value, GraphError> {
    let mut made = inputs.to_vec();
    for step in recipe {
        let value = apply(g, &made, *step)?;
        let dims = g.dims(value);
        if (1..=LARGEST).contains(&dims.iter().product()) && dims.len() <= 4 {
            made.push(value);
        }
    }
    Ok(made[made.len() - 1])
}

fn apply(g: &mut Graph, made: &[Value], (op, numbers): Step) -> Result<Value, GraphError> {
    let [first, second, choice] = numbers.map(usize::from);
    // Late values are chosen more often: graphs grow deep rather than wide.
    let back = |n: usize| made[made.len() - 1 - (n % made.len()).min(n % 3)];
    let x = back(first);
    let dims = g.dims(x).to_vec();
    let (rank, count) = (dims.len(), dims.iter().product::<usize>());
    let dim = choice % rank.max(1);
    let y = like(g, made[second % made.len()], &dims)?;
    match op % 28 {
        0 => g.add(x, y),
        1 => g.sub(x, y),
        2 => {
            let product = g.mul(x, y)?;
            g.tanh(product)
        }
        3 => {
            let positive = one_and_square(g, y)?;
            g.div(x, positive)
        }
        4 => g.neg(x),
        5 => g.tanh(x),
        6 => {
            let bounded = g.tanh(x)?;
            g.exp(bounded)
        }
        7 => {
            let positive = one_and_square(g, x)?;
            g.log(positive)
        }
        8 => {
            let positive = one_and_square(g, x)?;
            g.rsqrt(positive)
        }
        9 => {
            let positive = one_and_square(g, x)?;
            g.sqrt(positive)
        }
        10 => g.maximum(x, y),
        11 => g.minimum(x, y),
        12 => g.relu(x),
        13 => g.abs(x),
        14 => {
            let less = g.compare(Comparison::Lt, x, y)?;
            let negative = g.neg(y)?;
            g.select(less, x, negative)
        }
        15 => {
            let base = one_and_square(g, x)?;
            let exponent = g.tanh(y)?;
            g.pow(base, exponent)
        }
        16 if rank > 0 => g.reduce_sum(x, &[dim]),
        17 if rank > 0 => g.reduce_max(x, &[dim]),
        18 => {
            let mut wider = dims.clone();
            wider.insert(dim, 2);
            let mapping: Vec<usize> = (0..=rank).filter(|to| *to != dim).collect();
            g.broadcast(x, &wider, &mapping)
        }
        19 => {
            let rows = (1..=count).filter(|n| count.is_multiple_of(*n));
            let rows: Vec<usize> = rows.collect();
            let rows = rows[choice % rows.len()];
            g.reshape(x, &[rows, count / rows])
        }
        20 => {
            let mut order: Vec<usize> = (0..rank).collect();
            order.rotate_left(dim);
            g.transpose(x, &order)
        }
        21 if rank > 0 => g.reverse(x, &[dim]),
        22 if rank > 0 => {
            let (mut start, mut stride) = (vec![0; rank], vec![1; rank]);
            start[dim] = second % dims[dim];
            stride[dim] = 1 + first % 2;
            g.slice(x, &start, &dims, &stride)
        }
        23 if rank > 0 => {
            let (mut low, mut high, mut interior) = (vec![0; rank], vec![0; rank], vec![0; rank]);
            low[dim] = second as i64 % 3 - 1;
            high[dim] = 1;
            interior[dim] = first % 2;
            g.pad(x, 0.5, &low, &high, &interior)
        }
        24 if rank > 0 => g.concatenate(&[x, y], dim),
        25 if rank > 0 => {
            let rows = [choice % dims[0], 0, second % dims[0]].map(|row| row as i32);
            let rows = Literal::from_i32(&rows, [3]).expect("three rows");
            let rows = g.constant(rows)?;
            match first % 2 {
                0 => g.gather_rows(x, rows),
                _ => {
                    let updates = g.gather_rows(y, rows)?;
                    g.scatter_add_rows(x, rows, updates)
                }
            }
        }
        26 => {
            let rows = g.reshape(x, &[1, count])?;
            let columns = g.reshape(y, &[count, 1])?;
            let product = match choice % 2 {
                0 => g.matmul(rows, columns)?,
                _ => g.matmul(columns, rows)?,
            };
            g.tanh(product)
        }
        27 => {
            let image = g.reshape(x, &[1, count, 1, 1])?;
            let filter = g.reshape(y, &[count, 1, 1, 1])?;
            let taps = count.min(3);
            let filter = g.slice(filter, &[0; 4], &[taps, 1, 1, 1], &[1; 4])?;
            if choice % 2 == 0 {
                let pool = Pool {
                    window: [taps, 1],
                    strides: [1 + first % 2, 1],
                    padding: [[taps as i64 - 1, 0], [0, 0]],
                };
                return g.max_pool(image, &pool);
            }
            let attributes = Convolution {
                strides: [1 + first % 2, 1],
                padding: [[1, 1], [0, 0]],
                ..Convolution::default()
            };
            let sum = g.convolution(image, filter, &attributes)?;
            g.tanh(sum)
        }
        // A scalar has no dimension to work on.
        _ => g.mul_scalar(x, 0.75),
    }
}

/// `1 + x^2`
fn one_and_square(g: &mut Graph, x: Value) -> Result<Value, GraphError> {
    let square = g.mul(x, x)?;
    g.add_scalar(square, 1.0)
}

/// `value` in another shape: its elements over and over, or only the first ones.
fn like(g: &mut Graph, value: Value, dims: &[usize]) -> Result<Value, GraphError> {
    if g.dims(value) == dims {
        return Ok(value);
    }
    let have: usize = g.dims(value).iter().product();
    let want: usize = dims.iter().product();
    let flat = g.reshape(value, &[have])?;
    let copies = want.div_ceil(have);
    let repeated = g.broadcast(flat, &[copies, have], &[1])?;
    let repeated = g.reshape(repeated, &[copies * have])?;
    let enough = g.slice(repeated, &[0], &[want], &[1])?;
    debug_assert_eq!(g.type_of(enough).dtype, DType::F32);
    g.reshape(enough, dims)
}
