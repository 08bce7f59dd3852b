//! The operations: one variant each, with its attributes.

use crate::{Literal, Region, convolution::Convolution, gradient_rule::GradientRule};

/// What a node computes from its operands.
///
/// A variant names the StableHLO operation it is printed as, unless it says
/// otherwise. Operands are not in here: they are values of the graph, kept by
/// the node. Shapes and element types of results are not in here either: the
/// graph infers them when the node is added.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    // Sources: no operands.
    /// Input number `index` of the program.
    Parameter {
        /// Position among the program's inputs.
        index: usize,
        /// A name for people and error messages.
        name: String,
    },
    /// A value known when the graph is built.
    Constant(Literal),
    /// Each element is its own position along `dim`.
    Iota {
        /// The counted dimension.
        dim: usize,
    },

    // Element-wise, one operand.
    /// `-x`
    Neg,
    /// `e^x`
    Exp,
    /// Natural logarithm.
    Log,
    /// `1 / sqrt(x)`
    Rsqrt,
    /// Square root.
    Sqrt,
    // ANCHOR: tanh
    /// Hyperbolic tangent.
    Tanh,
    // ANCHOR_END: tanh
    /// `|x|`
    Abs,
    /// -1, 0 or 1; NaN stays NaN.
    Sign,
    /// Logical not of `pred`, bitwise not of integers.
    Not,
    /// The same value in another element type: the type of the result.
    Convert,

    // Element-wise, two operands of one type.
    /// `lhs + rhs`
    Add,
    /// `lhs - rhs`
    Sub,
    /// `lhs * rhs`
    Mul,
    /// `lhs / rhs`
    Div,
    /// The larger; NaN if either is.
    Maximum,
    /// The smaller; NaN if either is.
    Minimum,
    /// `lhs` to the power `rhs`.
    Pow,
    /// What is left of `lhs / rhs` rounded towards zero; the sign is that of `lhs`.
    Remainder,
    /// Logical and of `pred`, bitwise and of integers.
    And,
    /// Logical or, bitwise or.
    Or,
    /// Logical exclusive or, bitwise exclusive or.
    Xor,
    /// `lhs << rhs`; 0 where `rhs` is not below the bit width.
    ShiftLeft,
    /// `lhs >> rhs`, zeros shifted in; 0 where `rhs` is not below the bit width.
    ShiftRightLogical,
    /// Result is `pred`.
    Compare(Comparison),
    /// Operands `predicate`, `on_true`, `on_false`, all of one shape.
    Select,

    // Reductions. The reduced dimensions are dropped.
    /// Sum over `dims`.
    ReduceSum {
        /// Reduced dimensions, ascending.
        dims: Vec<usize>,
    },
    /// Maximum over `dims`.
    ReduceMax {
        /// Reduced dimensions, ascending.
        dims: Vec<usize>,
    },

    // Layout: which element goes where.
    /// `broadcast_in_dim`: operand dimension `i` becomes result dimension
    /// `mapping[i]`; a size of 1 is repeated.
    Broadcast {
        /// Result dimension of each operand dimension, strictly ascending.
        mapping: Vec<usize>,
    },
    /// The same elements in row-major order, another shape.
    Reshape,
    /// Result dimension `i` is operand dimension `permutation[i]`.
    Transpose {
        /// Operand dimension of each result dimension.
        permutation: Vec<usize>,
    },
    /// Elements `start, start + stride, ..` below `limit` in each dimension.
    Slice {
        /// First index.
        start: Vec<usize>,
        /// One past the last index.
        limit: Vec<usize>,
        /// Step, at least 1.
        stride: Vec<usize>,
    },
    /// Elements added around and between; negative `low` and `high` remove some.
    Pad {
        /// The added elements.
        value: f32,
        /// Elements added before the first.
        low: Vec<i64>,
        /// Elements added after the last.
        high: Vec<i64>,
        /// Elements added between neighbours.
        interior: Vec<usize>,
    },
    /// Operands one after the other along `dim`.
    Concatenate {
        /// The dimension that grows.
        dim: usize,
    },
    /// Order of elements turned around along `dims`.
    Reverse {
        /// Reversed dimensions, ascending.
        dims: Vec<usize>,
    },

    // Positions known only when the program runs. Starts are i32 scalars and
    // are clamped so that the slice fits.
    /// Operands `x`, then one start for each dimension.
    DynamicSlice {
        /// Size of the slice in each dimension.
        sizes: Vec<usize>,
    },
    /// Operands `x`, `update`, then one start for each dimension.
    DynamicUpdateSlice,
    /// Operands `table` `[n, ..]` and `indices` i32 `[b]`: rows of the table,
    /// `[b, ..]`. Printed as `gather`. Indices are clamped into `0..n`.
    GatherRows,
    /// Operands `table` `[n, ..]`, `indices` i32 `[b]` and `updates` `[b, ..]`:
    /// the table with each update added to its row. Printed as `scatter`.
    /// An index outside `0..n` is skipped.
    ScatterAddRows,

    // Products and windows.
    /// Products of matrices, in any number of batch and contracted dimensions.
    DotGeneral(DotDims),
    /// Operands `x` and `filter`.
    Convolution(Convolution),
    /// Largest of each window of NHWC `x`. Printed as `reduce_window`.
    MaxPool(Pool),
    /// Operands `x` and `cotangent` of its pooled form: each cotangent goes to
    /// the first largest element of its window. Printed as `select_and_scatter`.
    MaxPoolGradient(Pool),

    // Structure.
    /// Operands are the carried values; so are the results. `condition` maps
    /// them to one `pred`, `body` to the next ones.
    While {
        /// Closed graph: carried values to a `pred` scalar.
        condition: Box<Region>,
        /// Closed graph: carried values to carried values.
        body: Box<Region>,
    },
    /// Operand 0, unchanged; its gradient flows by `rule` to the other
    /// operands, and not to operand 0. Prints nothing.
    WithGradient(GradientRule),
}

/// How two numbers are compared. Floats compare as IEEE 754 says: anything
/// compared with NaN is false, but for `Ne`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

/// Which dimensions of a [`Op::DotGeneral`] are paired.
///
/// The result's dimensions are the batch ones, then what is left of `lhs`, then
/// what is left of `rhs`, each in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DotDims {
    /// Dimensions of `lhs` that go in step with `rhs_batch`.
    pub lhs_batch: Vec<usize>,
    /// Dimensions of `rhs` that go in step with `lhs_batch`.
    pub rhs_batch: Vec<usize>,
    /// Dimensions of `lhs` multiplied and summed with `rhs_contract`.
    pub lhs_contract: Vec<usize>,
    /// Dimensions of `rhs` multiplied and summed with `lhs_contract`.
    pub rhs_contract: Vec<usize>,
}

/// The windows of a pooling over the two middle dimensions of NHWC.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Height and width of a window.
    pub window: [usize; 2],
    /// Step between windows.
    pub strides: [usize; 2],
    /// Rows and columns added before and after; they never win.
    pub padding: [[i64; 2]; 2],
}

impl Op {
    /// The name of the builder that makes this operation, as errors and
    /// listings show it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Parameter { .. } => "parameter",
            Op::Constant(_) => "constant",
            Op::Iota { .. } => "iota",
            Op::Neg => "neg",
            Op::Exp => "exp",
            Op::Log => "log",
            Op::Rsqrt => "rsqrt",
            Op::Sqrt => "sqrt",
            Op::Tanh => "tanh",
            Op::Abs => "abs",
            Op::Sign => "sign",
            Op::Not => "not",
            Op::Convert => "convert",
            Op::Add => "add",
            Op::Sub => "sub",
            Op::Mul => "mul",
            Op::Div => "div",
            Op::Maximum => "maximum",
            Op::Minimum => "minimum",
            Op::Pow => "pow",
            Op::Remainder => "remainder",
            Op::And => "and",
            Op::Or => "or",
            Op::Xor => "xor",
            Op::ShiftLeft => "shift_left",
            Op::ShiftRightLogical => "shift_right_logical",
            Op::Compare(_) => "compare",
            Op::Select => "select",
            Op::ReduceSum { .. } => "reduce_sum",
            Op::ReduceMax { .. } => "reduce_max",
            Op::Broadcast { .. } => "broadcast",
            Op::Reshape => "reshape",
            Op::Transpose { .. } => "transpose",
            Op::Slice { .. } => "slice",
            Op::Pad { .. } => "pad",
            Op::Concatenate { .. } => "concatenate",
            Op::Reverse { .. } => "reverse",
            Op::DynamicSlice { .. } => "dynamic_slice",
            Op::DynamicUpdateSlice => "dynamic_update_slice",
            Op::GatherRows => "gather_rows",
            Op::ScatterAddRows => "scatter_add_rows",
            Op::DotGeneral(_) => "dot_general",
            Op::Convolution(_) => "convolution",
            Op::MaxPool(_) => "max_pool",
            Op::MaxPoolGradient(_) => "max_pool_gradient",
            Op::While { .. } => "while_loop",
            Op::WithGradient(_) => "with_gradient",
        }
    }
}
