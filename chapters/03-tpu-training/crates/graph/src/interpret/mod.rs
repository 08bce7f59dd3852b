//! A second opinion: programs evaluated by plain loops.
//!
//! Nothing here is fast and nothing here is shared with the text that XLA
//! compiles or with the rules of differentiation. Each operation is written
//! from its definition in the [StableHLO specification], one output element
//! after the other, so that a test can tell which of two answers is wrong.
//!
//! Every element of every type is kept as an `f64`, which represents each
//! `pred`, `u8`, `i32`, `u32`, `bf16` and `f32` exactly. Floating-point
//! operations are computed in f64, sums included, and their results then
//! rounded to the element type. For `+ - * /` and `sqrt` this is what hardware
//! does: f64 has more than twice the digits of f32, and rounding twice is then
//! as good as once (Figueroa, "When is double rounding innocuous?", 1995). A sum
//! of many terms is rounded once, where XLA rounds after each term.
//!
//! | file | operations |
//! | --- | --- |
//! | `elementwise` | arithmetic, comparison, conversion |
//! | `layout` | broadcast, transpose, slice, pad, .. |
//! | `reduction` | sums and maxima over dimensions, pooling |
//! | `contraction` | dot_general, convolution |
//! | `position` | dynamic slices, rows |
//!
//! [StableHLO specification]: https://openxla.org/stablehlo/spec

mod array;
mod contraction;
mod elementwise;
mod layout;
mod position;
mod reduction;

use crate::{Graph, Literal, LiteralError, Node, Op, Program, TensorType, Value};
use array::{Array, Rounding};

/// A program that cannot be evaluated on the given arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterpretError {
    /// Too few or too many arguments.
    #[error("program {program}: expected {expected} arguments, one a parameter, got {got}")]
    ArgumentCount {
        /// Name of the program.
        program: String,
        /// Number of its parameters.
        expected: usize,
        /// Number of arguments.
        got: usize,
    },
    /// An argument of another type than its parameter.
    #[error("program {program}: argument {index} ({name}): expected {}, got {}", .expected.short(), .got.short())]
    ArgumentType {
        /// Name of the program.
        program: String,
        /// Position among the parameters.
        index: usize,
        /// Name of the parameter.
        name: String,
        /// Type of the parameter.
        expected: TensorType,
        /// Type of the argument.
        got: TensorType,
    },
    /// An argument that is not one of its element type's numbers, or too few or many of them.
    #[error("program {program}: argument {index} ({name}): {problem}")]
    ArgumentElements {
        /// Name of the program.
        program: String,
        /// Position among the parameters.
        index: usize,
        /// Name of the parameter.
        name: String,
        /// What was expected and what came.
        problem: String,
    },
    /// An output, or an output of a loop's condition or body, that its graph did not make.
    #[error(
        "value number {} is not in a graph of {count} values; \
         outputs must be values of the program's own graph", .value.index()
    )]
    UnknownOutput {
        /// The output.
        value: Value,
        /// Number of values in the graph.
        count: usize,
    },
    /// A result too large for memory.
    #[error(transparent)]
    Literal(#[from] LiteralError),
}

impl Program {
    /// Evaluates the program by plain loops, with f32 and bf16 rounded after
    /// each operation as they would be stored.
    ///
    /// * `arguments`: one a parameter, in the order of declaration
    ///
    /// Returns the outputs, in their order. A loop that never ends is not noticed.
    ///
    /// # Errors
    /// [`InterpretError`] if the arguments do not fit the parameters.
    pub fn interpret(&self, arguments: &[Literal]) -> Result<Vec<Literal>, InterpretError> {
        let arrays = self.with_parameters(arguments, |index, name, expected, argument| {
            let got = argument.ty();
            if got != expected {
                return Err(InterpretError::ArgumentType {
                    program: self.name.clone(),
                    index,
                    name: name.to_owned(),
                    expected: expected.clone(),
                    got: got.clone(),
                });
            }
            Ok(Array::from_literal(argument)?)
        })?;
        let outputs = evaluate(&self.graph, &self.outputs, &arrays, Rounding::Stored)?;
        outputs.iter().map(|o| Ok(o.to_literal()?)).collect()
    }

    /// Evaluates the program in f64: what is `f32` or `bf16` in the graph is not
    /// rounded. Finite differences taken this way have ten right digits where
    /// f32 would leave three.
    ///
    /// * `arguments`: one a parameter, its elements in row-major order; those of
    ///   integer parameters are whole numbers in range, those of `pred` 0 or 1
    ///
    /// Returns the elements of the outputs, in row-major order.
    ///
    /// # Errors
    /// [`InterpretError`] if the arguments do not fit the parameters.
    pub fn interpret_f64(&self, arguments: &[Vec<f64>]) -> Result<Vec<Vec<f64>>, InterpretError> {
        let arrays = self.with_parameters(arguments, |index, name, expected, argument| {
            Array::from_elements(expected, argument).map_err(|problem| {
                InterpretError::ArgumentElements {
                    program: self.name.clone(),
                    index,
                    name: name.to_owned(),
                    problem,
                }
            })
        })?;
        let outputs = evaluate(&self.graph, &self.outputs, &arrays, Rounding::None)?;
        Ok(outputs.into_iter().map(|o| o.elements).collect())
    }

    /// Pairs each argument with its parameter's index, name and type.
    fn with_parameters<A>(
        &self,
        arguments: &[A],
        convert: impl Fn(usize, &str, &TensorType, &A) -> Result<Array, InterpretError>,
    ) -> Result<Vec<Array>, InterpretError> {
        let parameters = self.graph.parameters();
        if arguments.len() != parameters.len() {
            return Err(InterpretError::ArgumentCount {
                program: self.name.clone(),
                expected: parameters.len(),
                got: arguments.len(),
            });
        }
        let pairs = parameters.iter().zip(arguments).enumerate();
        let arrays = pairs.map(|(index, (parameter, argument))| {
            let name = match &self.graph.node(*parameter).op {
                Op::Parameter { name, .. } => name,
                _ => "",
            };
            convert(index, name, self.graph.type_of(*parameter), argument)
        });
        arrays.collect()
    }
}

/// Evaluates the nodes that `outputs` need, in the graph's order.
///
/// Loops come back here with the graphs of their condition and body.
fn evaluate(
    graph: &Graph,
    outputs: &[Value],
    arguments: &[Array],
    rounding: Rounding,
) -> Result<Vec<Array>, InterpretError> {
    let count = graph.value_count();
    if let Some(value) = outputs.iter().find(|v| v.index() >= count).copied() {
        return Err(InterpretError::UnknownOutput { value, count });
    }
    let needed = needed_nodes(graph, outputs);
    let mut values: Vec<Option<Array>> = vec![None; count];
    let computed = "a node comes after the nodes it needs";
    for (node, _) in graph.nodes().iter().zip(needed).filter(|(_, n)| *n) {
        let operands = node.operands.iter();
        let operands: Vec<&Array> = operands
            .map(|v| values[v.index()].as_ref().expect(computed))
            .collect();
        let results = apply(graph, node, &operands, arguments, rounding)?;
        for (value, result) in node.results().zip(results) {
            values[value.index()] = Some(result);
        }
    }
    let outputs = outputs.iter().map(|v| values[v.index()].clone());
    Ok(outputs.map(|o| o.expect(computed)).collect())
}

/// For each node, whether an output depends on it.
fn needed_nodes(graph: &Graph, outputs: &[Value]) -> Vec<bool> {
    let mut needed = vec![false; graph.nodes().len()];
    for output in outputs {
        needed[graph.node_index(*output)] = true;
    }
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        if needed[index] {
            for operand in &node.operands {
                needed[graph.node_index(*operand)] = true;
            }
        }
    }
    needed
}

/// Computes one node.
fn apply(
    graph: &Graph,
    node: &Node,
    operands: &[&Array],
    arguments: &[Array],
    rounding: Rounding,
) -> Result<Vec<Array>, InterpretError> {
    let ty = graph.type_of(node.result()).clone();
    let elements = match &node.op {
        Op::Parameter { index, .. } => return Ok(vec![arguments[*index].clone()]),
        Op::While { condition, body } => {
            let mut carried: Vec<Array> = operands.iter().map(|o| (*o).clone()).collect();
            loop {
                let go_on = evaluate(&condition.graph, &condition.outputs, &carried, rounding)?;
                if go_on[0].elements[0] == 0.0 {
                    return Ok(carried);
                }
                carried = evaluate(&body.graph, &body.outputs, &carried, rounding)?;
            }
        }
        Op::Constant(literal) => Array::from_literal(literal)?.elements,
        Op::Iota { dim } => layout::iota(&ty, *dim),

        op @ (Op::Neg
        | Op::Exp
        | Op::Log
        | Op::Rsqrt
        | Op::Sqrt
        | Op::Tanh
        | Op::Abs
        | Op::Sign
        | Op::Not) => elementwise::unary(op, operands[0]),
        Op::Convert => elementwise::convert(operands[0], ty.dtype),
        op @ (Op::Add
        | Op::Sub
        | Op::Mul
        | Op::Div
        | Op::Maximum
        | Op::Minimum
        | Op::Pow
        | Op::Remainder
        | Op::And
        | Op::Or
        | Op::Xor
        | Op::ShiftLeft
        | Op::ShiftRightLogical) => elementwise::binary(op, operands[0], operands[1]),
        Op::Compare(comparison) => elementwise::compare(*comparison, operands[0], operands[1]),
        Op::Select => elementwise::select(operands[0], operands[1], operands[2]),

        Op::ReduceSum { dims } => reduction::sum(operands[0], dims, &ty),
        Op::ReduceMax { dims } => reduction::max(operands[0], dims, &ty),

        Op::Broadcast { mapping } => layout::broadcast(operands[0], mapping, &ty),
        Op::Reshape | Op::WithGradient(_) => operands[0].elements.clone(),
        Op::Transpose { permutation } => layout::transpose(operands[0], permutation, &ty),
        Op::Slice { start, stride, .. } => layout::slice(operands[0], start, stride, &ty),
        Op::Pad {
            value,
            low,
            interior,
            ..
        } => layout::pad(operands[0], *value, low, interior, &ty),
        Op::Concatenate { dim } => layout::concatenate(operands, *dim, &ty),
        Op::Reverse { dims } => layout::reverse(operands[0], dims),

        Op::DynamicSlice { sizes } => position::dynamic_slice(operands[0], &operands[1..], sizes),
        Op::DynamicUpdateSlice => {
            position::dynamic_update_slice(operands[0], operands[1], &operands[2..])
        }
        Op::GatherRows => position::gather_rows(operands[0], operands[1], &ty),
        Op::ScatterAddRows => position::scatter_add_rows(operands[0], operands[1], operands[2]),

        Op::DotGeneral(dims) => contraction::dot_general(operands[0], operands[1], dims),
        Op::Convolution(attributes) => {
            contraction::convolution(operands[0], operands[1], attributes, &ty)
        }
        Op::MaxPool(pool) => reduction::max_pool(operands[0], pool, &ty),
        Op::MaxPoolGradient(pool) => reduction::max_pool_gradient(operands[0], operands[1], pool),
    };
    Ok(vec![Array::new(ty, elements, rounding)])
}
