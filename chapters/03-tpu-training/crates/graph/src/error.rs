//! What can be wrong with a graph.

use crate::{DType, LiteralError, TensorType, Value};

/// An operation that cannot be added to a graph, a gradient that does not
/// exist, or a program that cannot be printed.
///
/// Messages start with the operation's name and show operands as element type
/// and shape: `add: lhs f32[2,3], rhs f32[3,2]: shapes must be equal`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// Shapes that do not fit the operation or each other.
    #[error("{op}: {operands}: {rule}")]
    Shape {
        /// Name of the operation.
        op: &'static str,
        /// The operands with their types.
        operands: String,
        /// What would be right.
        rule: String,
    },
    /// Element types that do not fit the operation or each other.
    #[error("{op}: {operands}: {rule}")]
    ElementType {
        /// Name of the operation.
        op: &'static str,
        /// The operands with their types.
        operands: String,
        /// What would be right.
        rule: String,
    },
    /// An attribute (dimension number, stride, permutation, ..) out of its range.
    #[error("{op}: {operands}: {rule}")]
    Attribute {
        /// Name of the operation.
        op: &'static str,
        /// The operands with their types.
        operands: String,
        /// The attribute as given, and what would be right.
        rule: String,
    },
    /// An operand this graph did not make.
    #[error(
        "{op}: value number {} is not in this graph of {count} values; \
         a value can only be used in the graph that made it", value.index()
    )]
    UnknownValue {
        /// Name of the operation.
        op: &'static str,
        /// The operand.
        value: Value,
        /// Number of values in the graph.
        count: usize,
    },
    /// A result larger than any address space.
    #[error("{op}: a result {dtype}{dims:?} has more bytes than can be addressed")]
    TooLarge {
        /// Name of the operation.
        op: &'static str,
        /// Element type of the result.
        dtype: DType,
        /// Shape of the result.
        dims: Vec<usize>,
    },
    /// A condition or body that does not fit the carried values of a loop.
    #[error("while_loop: {0}")]
    Region(String),
    /// A gradient is wanted through an operation that has none.
    #[error(
        "gradients: {op} has no gradient, and the loss depends through it \
         on a value that a gradient is wanted of"
    )]
    NotDifferentiable {
        /// Name of the operation.
        op: &'static str,
    },
    /// The loss, the cotangent, or a value to differentiate by has the wrong type.
    #[error("gradients: {what} is {}, expected {expected}", .got.short())]
    GradientType {
        /// Which of them.
        what: &'static str,
        /// Its type.
        got: TensorType,
        /// What would be right.
        expected: &'static str,
    },
    /// A constant's elements do not fit its shape.
    #[error(transparent)]
    Literal(#[from] LiteralError),
    /// A donated input and the output in its place are not of one type, do not
    /// exist, or are paired twice.
    #[error("program {program:?}: parameter {parameter} donated to output {output}: {rule}")]
    Donation {
        /// Name of the program.
        program: String,
        /// Position of the parameter.
        parameter: usize,
        /// Position of the output.
        output: usize,
        /// What would be right.
        rule: String,
    },
}
