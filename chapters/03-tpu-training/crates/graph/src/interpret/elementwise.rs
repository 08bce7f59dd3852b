//! Arithmetic, comparison and conversion: each element by itself.

use super::array::{Array, rounded};
use crate::{Comparison, DType, Op};

/// One operand.
pub fn unary(op: &Op, x: &Array) -> Vec<f64> {
    let dtype = x.dtype();
    let of_float = |v: f64| match op {
        Op::Neg => -v,
        Op::Exp => v.exp(),
        Op::Log => v.ln(),
        Op::Rsqrt => 1.0 / v.sqrt(),
        Op::Sqrt => v.sqrt(),
        // ANCHOR: tanh
        Op::Tanh => v.tanh(),
        // ANCHOR_END: tanh
        Op::Abs => v.abs(),
        // signum(0.0) is 1.0.
        Op::Sign if v == 0.0 => v,
        Op::Sign => v.signum(),
        _ => undefined(op, dtype),
    };
    let of_integer = |v: i128| match op {
        Op::Neg => -v,
        Op::Abs => v.abs(),
        Op::Sign => v.signum(),
        Op::Not if dtype == DType::Pred => 1 - v,
        Op::Not => !v,
        _ => undefined(op, dtype),
    };
    let elements = x.elements.iter();
    match dtype.is_float() {
        true => elements.map(|v| of_float(*v)).collect(),
        false => elements
            .map(|v| wrapped(of_integer(*v as i128), dtype))
            .collect(),
    }
}

/// Two operands of one type.
pub fn binary(op: &Op, lhs: &Array, rhs: &Array) -> Vec<f64> {
    let dtype = lhs.dtype();
    let of_float = |a: f64, b: f64| match op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Div => a / b,
        Op::Maximum => larger(a, b),
        Op::Minimum => -larger(-a, -b),
        Op::Pow => a.powf(b),
        // Rust's % rounds towards zero, as StableHLO's remainder.
        Op::Remainder => a % b,
        _ => undefined(op, dtype),
    };
    let bits = 8 * dtype.byte_size() as i128;
    let of_integer = |a: i128, b: i128| match op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        // XLA's choice where division is not defined: all bits set, and the
        // whole of `lhs` left over.
        Op::Div if b == 0 => -1,
        Op::Remainder if b == 0 => a,
        Op::Div => a / b,
        Op::Remainder => a % b,
        Op::Maximum => a.max(b),
        Op::Minimum => a.min(b),
        Op::And => a & b,
        Op::Or => a | b,
        Op::Xor => a ^ b,
        // A negative shift is a large unsigned one.
        Op::ShiftLeft | Op::ShiftRightLogical if !(0..bits).contains(&b) => 0,
        Op::ShiftLeft => a << b,
        Op::ShiftRightLogical => a.rem_euclid(1 << bits) >> b,
        _ => undefined(op, dtype),
    };
    let pairs = lhs.elements.iter().zip(&rhs.elements);
    match dtype.is_float() {
        true => pairs.map(|(a, b)| of_float(*a, *b)).collect(),
        false => pairs
            .map(|(a, b)| wrapped(of_integer(*a as i128, *b as i128), dtype))
            .collect(),
    }
}

pub fn compare(comparison: Comparison, lhs: &Array, rhs: &Array) -> Vec<f64> {
    // f64's operators are IEEE 754's: with a NaN all are false, but `!=`.
    let holds = |a: f64, b: f64| match comparison {
        Comparison::Eq => a == b,
        Comparison::Ne => a != b,
        Comparison::Lt => a < b,
        Comparison::Le => a <= b,
        Comparison::Gt => a > b,
        Comparison::Ge => a >= b,
    };
    let pairs = lhs.elements.iter().zip(&rhs.elements);
    pairs.map(|(a, b)| f64::from(holds(*a, *b))).collect()
}

pub fn select(predicate: &Array, on_true: &Array, on_false: &Array) -> Vec<f64> {
    let pairs = on_true.elements.iter().zip(&on_false.elements);
    let choices = predicate.elements.iter().zip(pairs);
    choices
        .map(|(p, (a, b))| if *p != 0.0 { *a } else { *b })
        .collect()
}

/// Integers keep their low bits on the way to a narrower type. A float loses
/// what is after the point on the way to an integer; out of range it becomes
/// the nearest end, and NaN becomes 0: XLA's choice where StableHLO has none.
pub fn convert(x: &Array, to: DType) -> Vec<f64> {
    let convert = |v: f64| match (x.dtype().is_float(), to.is_float()) {
        (_, true) => v,
        (true, false) => rounded(v, to),
        (false, false) if to == DType::Pred => f64::from(v != 0.0),
        (false, false) => wrapped(v as i128, to),
    };
    x.elements.iter().map(|v| convert(*v)).collect()
}

/// The larger of two; NaN if either is.
pub fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a > b {
        a
    } else {
        b
    }
}

/// The number of an integer type with the same low bits.
pub fn wrapped(value: i128, dtype: DType) -> f64 {
    match dtype {
        // The operations that `pred` has leave 0 or 1 in the lowest bit.
        DType::Pred => (value & 1) as f64,
        DType::U8 => f64::from(value as u8),
        DType::I32 => f64::from(value as i32),
        DType::U32 => f64::from(value as u32),
        DType::Bf16 | DType::F32 => value as f64,
    }
}

fn undefined(op: &Op, dtype: DType) -> ! {
    unreachable!("the graph refuses {} of {dtype}", op.name())
}
