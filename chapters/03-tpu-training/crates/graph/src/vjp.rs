//! One rule an operation: from the cotangent of its result to those of its operands.
//!
//! VJP stands for vector-Jacobian product. A rule never forms the Jacobian; it
//! says what multiplying by it amounts to. The longer rules have their own files.

pub(crate) mod convolution;
mod layout;
mod matrix;
mod rows;

use crate::{Comparison, Graph, GraphError, Node, Op, Value};

/// Cotangents of `node`'s operands, in order. `None`, or nothing at the end of
/// the list: no cotangent flows there, because the operand is not a float, or
/// because the result does not change with it.
///
/// * `ct`: cotangent of the node's result, of its type
///
/// # Errors
/// [`GraphError::NotDifferentiable`] for operations without a rule.
// ANCHOR: rules
pub(crate) fn cotangents_of_operands(
    g: &mut Graph,
    node: &Node,
    ct: Value,
) -> Result<Vec<Option<Value>>, GraphError> {
    let y = node.result();
    let x = node.operands.first().copied().unwrap_or(y);
    let operand = |index: usize| node.operands[index];
    match &node.op {
        Op::Parameter { .. } | Op::Constant(_) | Op::Iota { .. } => none(),

        // The result is no float, or constant between its jumps.
        Op::Not | Op::And | Op::Or | Op::Xor => none(),
        Op::ShiftLeft | Op::ShiftRightLogical => none(),
        Op::Compare(_) | Op::Sign => none(),

        Op::Neg => one(g.neg(ct)?),
        Op::Exp => one(g.mul(ct, y)?),
        Op::Log => one(g.div(ct, x)?),
        Op::Rsqrt => {
            let cube = product(g, &[y, y, y])?;
            let slope = g.mul_scalar(cube, -0.5)?;
            one(g.mul(ct, slope)?)
        }
        Op::Sqrt => {
            let half = g.mul_scalar(ct, 0.5)?;
            one(g.div(half, y)?)
        }
        // ANCHOR: tanh
        Op::Tanh => {
            let square = g.mul(y, y)?;
            let all = g.full_like(1.0, y)?;
            let slope = g.sub(all, square)?;
            one(g.mul(ct, slope)?)
        }
        // ANCHOR_END: tanh
        Op::Abs => {
            let sign = g.sign(x)?;
            one(g.mul(ct, sign)?)
        }
        Op::Convert => one(g.convert(ct, g.type_of(x).dtype)?),

        // ANCHOR: sums
        Op::Add => both(ct, ct),
        Op::Sub => both(ct, g.neg(ct)?),
        Op::Mul => both(g.mul(ct, operand(1))?, g.mul(ct, x)?),
        // ANCHOR_END: sums
        Op::Div => {
            let by_lhs = g.div(ct, operand(1))?;
            let slope = g.mul(by_lhs, y)?;
            both(by_lhs, g.neg(slope)?)
        }
        Op::Maximum => to_winner(g, ct, Comparison::Gt, y, operand(1)),
        Op::Minimum => to_winner(g, ct, Comparison::Lt, y, operand(1)),
        Op::Pow => power(g, ct, x, operand(1), y),
        Op::Remainder => {
            // y = x - trunc(x / d) * d
            let d = operand(1);
            let whole = g.sub(y, x)?;
            let slope = g.div(whole, d)?;
            both(ct, g.mul(ct, slope)?)
        }
        Op::Select => {
            let zero = g.full_like(0.0, ct)?;
            let on_true = g.select(x, ct, zero)?;
            let on_false = g.select(x, zero, ct)?;
            Ok(vec![None, Some(on_true), Some(on_false)])
        }

        Op::ReduceSum { dims } => one(layout::expand(g, ct, x, dims)?),
        Op::ReduceMax { dims } => {
            let largest = layout::expand(g, y, x, dims)?;
            let is_largest = g.compare(Comparison::Eq, x, largest)?;
            let share = g.convert(is_largest, g.type_of(x).dtype)?;
            let count = g.reduce_sum(share, dims)?;
            let ct = g.div(ct, count)?;
            let ct = layout::expand(g, ct, x, dims)?;
            one(g.mul(ct, share)?)
        }

        Op::Broadcast { mapping } => one(layout::broadcast(g, ct, x, mapping)?),
        Op::Reshape => {
            let dims = g.dims(x).to_vec();
            one(g.reshape(ct, &dims)?)
        }
        Op::Transpose { permutation } => one(g.transpose(ct, &layout::inverse(permutation))?),
        Op::Slice { start, stride, .. } => one(layout::slice(g, ct, x, start, stride)?),
        Op::Pad {
            low,
            high,
            interior,
            ..
        } => one(layout::pad(g, ct, low, high, interior)?),
        Op::Concatenate { dim } => layout::concatenate(g, ct, &node.operands, *dim),
        Op::Reverse { dims } => one(g.reverse(ct, dims)?),

        Op::DynamicSlice { .. } => {
            let zeros = g.full_like(0.0, x)?;
            one(g.dynamic_update_slice(zeros, ct, &node.operands[1..])?)
        }
        Op::DynamicUpdateSlice => {
            let (update, starts) = (operand(1), &node.operands[2..]);
            let zeros = g.full_like(0.0, update)?;
            let around = g.dynamic_update_slice(ct, zeros, starts)?;
            let sizes = g.dims(update).to_vec();
            both(around, g.dynamic_slice(ct, starts, &sizes)?)
        }
        Op::GatherRows => one(rows::gather(g, ct, x, operand(1))?),
        Op::ScatterAddRows => {
            let by_updates = rows::scatter_updates(g, ct, operand(1))?;
            Ok(vec![Some(ct), None, Some(by_updates)])
        }

        // ANCHOR: dot
        Op::DotGeneral(dims) => both(
            matrix::lhs_gradient(g, ct, x, operand(1), dims)?,
            matrix::rhs_gradient(g, ct, x, operand(1), dims)?,
        ),
        // ANCHOR_END: dot
        Op::Convolution(attributes) => both(
            convolution::input_gradient(g, ct, x, operand(1), attributes)?,
            convolution::filter_gradient(g, ct, x, operand(1), attributes)?,
        ),
        Op::MaxPool(pool) => one(g.max_pool_gradient(x, ct, pool)?),

        Op::WithGradient(rule) => rule.cotangents_of_operands(g, node, ct),

        Op::MaxPoolGradient(_) | Op::While { .. } => {
            Err(GraphError::NotDifferentiable { op: node.op.name() })
        }
    }
}
// ANCHOR_END: rules

fn none() -> Result<Vec<Option<Value>>, GraphError> {
    Ok(vec![])
}

fn one(x: Value) -> Result<Vec<Option<Value>>, GraphError> {
    Ok(vec![Some(x)])
}

fn both(lhs: Value, rhs: Value) -> Result<Vec<Option<Value>>, GraphError> {
    Ok(vec![Some(lhs), Some(rhs)])
}

fn product(g: &mut Graph, factors: &[Value]) -> Result<Value, GraphError> {
    let mut result = factors[0];
    for &factor in &factors[1..] {
        result = g.mul(result, factor)?;
    }
    Ok(result)
}

/// The whole cotangent to `lhs` where it won over `rhs`, to `rhs` elsewhere.
///
/// `lhs > rhs` is asked as `y > rhs`: with a relu, `y` is kept for the next
/// layer anyway, and `x` need not be.
fn to_winner(
    g: &mut Graph,
    ct: Value,
    won: Comparison,
    y: Value,
    rhs: Value,
) -> Result<Vec<Option<Value>>, GraphError> {
    let lhs_won = g.compare(won, y, rhs)?;
    let zero = g.full_like(0.0, ct)?;
    both(g.select(lhs_won, ct, zero)?, g.select(lhs_won, zero, ct)?)
}

/// `y = x^p`: by `x` it changes with `p x^(p-1)`, by `p` with `y log(x)`. Both
/// are 0 where they would be 0 times infinity: for `p = 0`, and for `x = 0`.
fn power(
    g: &mut Graph,
    ct: Value,
    x: Value,
    p: Value,
    y: Value,
) -> Result<Vec<Option<Value>>, GraphError> {
    let zero = g.full_like(0.0, x)?;
    let all_one = g.full_like(1.0, x)?;
    let flat = g.compare(Comparison::Eq, p, zero)?;
    let less = g.sub(p, all_one)?;
    let exponent = g.select(flat, all_one, less)?;
    let lower = g.pow(x, exponent)?;
    let by_x = product(g, &[ct, p, lower])?;
    let at_zero = g.compare(Comparison::Eq, x, zero)?;
    let base = g.select(at_zero, all_one, x)?;
    let log = g.log(base)?;
    both(by_x, product(g, &[ct, y, log])?)
}
