//! A graph as calls to the `XlaBuilder` of the crate `xla`.
//!
//! Read it beside `crates/graph/src/stablehlo/node.rs`: one match over the same
//! operations, text there, calls here. What a line of text says in its types, XLA's
//! builder infers once more from the operands.

use training_graph::{
    Comparison, Convolution, DType, Graph, Literal, Node, Op, Program, Region, TensorType, Value,
};
use xla::{ElementType, Shape, XlaBuilder, XlaComputation, XlaOp};

/// Why a program does not reach XLA this way, or does not run.
#[derive(Debug, thiserror::Error)]
pub enum XlaRsError {
    /// The crate has no call for an operation.
    #[error("{op}: the crate xla has no {missing}; --lower stablehlo has")]
    Unsupported {
        /// The graph's operation.
        op: &'static str,
        /// What XLA calls that which is missing.
        missing: &'static str,
    },
    /// XLA refused a call, or failed in it.
    #[error("the crate xla: {}", words(.0))]
    Xla(#[from] xla::Error),
}

/// XLA's message without the backtrace that the crate adds to it.
pub(super) fn words(error: &xla::Error) -> String {
    match error {
        xla::Error::XlaError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

// ANCHOR: lower
/// The program as a computation: numbered parameters in, one tuple out.
///
/// A donated parameter is an alias that XLA may use: an execution then takes the
/// buffer's memory for the output, and the buffer is no more.
///
/// # Errors
/// [`XlaRsError::Unsupported`] for what the crate does not bind, XLA's own errors.
pub fn lower(program: &Program) -> Result<XlaComputation, XlaRsError> {
    let builder = XlaBuilder::new(&program.name);
    let graph = &program.graph;
    let mut inputs = vec![];
    for (number, &value) in graph.parameters().iter().enumerate() {
        let TensorType { dtype, dims } = graph.type_of(value);
        let name = format!("arg{number}");
        let number = number as i64;
        inputs.push(builder.parameter(number, element_type(*dtype), &signed(dims), &name)?);
    }
    let outputs = outputs(&builder, graph, &inputs, &program.outputs)?;
    let root = builder.tuple(&outputs)?;
    for &(parameter, output) in &program.donated {
        builder.setup_alias(output as i64, parameter as i64);
    }
    Ok(builder.build(&root)?)
}
// ANCHOR_END: lower

/// A region of a loop: XLA gives it the carried values as one tuple.
///
/// * `as_tuple`: whether it returns a tuple, as a body does, or its only output
fn region(region: &Region, name: &str, as_tuple: bool) -> Result<XlaComputation, XlaRsError> {
    let builder = XlaBuilder::new(name);
    let graph = &region.graph;
    let shape = |ty: &TensorType| Shape::array_with_type(element_type(ty.dtype), signed(&ty.dims));
    let shapes = graph
        .parameters()
        .iter()
        .map(|&value| shape(graph.type_of(value)))
        .collect();
    let carried = builder.parameter_s(0, &Shape::tuple(shapes), "carried")?;
    let inputs = elements(&carried, graph.parameters().len())?;
    let outputs = outputs(&builder, graph, &inputs, &region.outputs)?;
    Ok(match as_tuple {
        true => builder.build(&builder.tuple(&outputs)?)?,
        false => builder.build(&outputs[0])?,
    })
}

fn elements(tuple: &XlaOp, count: usize) -> Result<Vec<XlaOp>, xla::Error> {
    (0..count as i64)
        .map(|index| tuple.get_tuple_element(index))
        .collect()
}

/// The wanted values. All of the graph is lowered; what they do not need, XLA drops.
fn outputs(
    builder: &XlaBuilder,
    graph: &Graph,
    inputs: &[XlaOp],
    wanted: &[Value],
) -> Result<Vec<XlaOp>, XlaRsError> {
    // Values are numbered in the order in which nodes make them.
    let mut values: Vec<XlaOp> = vec![];
    for node in graph.nodes() {
        let operands: Vec<_> = node
            .operands
            .iter()
            .map(|operand| &values[operand.index()])
            .collect();
        let results = match &node.op {
            Op::Parameter { index, .. } => vec![inputs[*index].clone()],
            Op::While { condition, body } => {
                let condition = region(condition, "condition", false)?;
                let body = region(body, "body", true)?;
                let carried = builder.tuple(&operands)?;
                elements(&XlaOp::while_(condition, body, carried)?, operands.len())?
            }
            _ => vec![result(builder, graph, node, &operands)?],
        };
        values.extend(results);
    }
    Ok(wanted
        .iter()
        .map(|value| values[value.index()].clone())
        .collect())
}

// ANCHOR: result
/// The result of a node that has one.
///
/// * `x`: its operands
fn result(
    builder: &XlaBuilder,
    graph: &Graph,
    node: &Node,
    x: &[&XlaOp],
) -> Result<XlaOp, XlaRsError> {
    let TensorType { dtype, dims } = graph.type_of(node.result());
    let (ty, out) = (element_type(*dtype), signed(dims));
    let lacks = |missing| {
        Err(XlaRsError::Unsupported {
            op: node.op.name(),
            missing,
        })
    };
    Ok(match &node.op {
        Op::Parameter { .. } | Op::While { .. } => unreachable!("outputs() makes these"),
        Op::Constant(literal) => constant(builder, literal)?,
        Op::Iota { dim } => builder.iota(ty, &out, *dim as i64)?,

        Op::Neg => x[0].neg()?,
        Op::Exp => x[0].exp()?,
        Op::Log => x[0].log()?,
        Op::Rsqrt => x[0].rsqrt()?,
        Op::Sqrt => x[0].sqrt()?,
        Op::Tanh => x[0].tanh()?,
        Op::Abs => x[0].abs()?,
        Op::Sign => x[0].sign()?,
        Op::Not => x[0].not()?,
        Op::Convert => x[0].convert(ty.primitive_type())?,

        Op::Add => x[0].add_(x[1])?,
        Op::Sub => x[0].sub_(x[1])?,
        Op::Mul => x[0].mul_(x[1])?,
        Op::Div => x[0].div_(x[1])?,
        Op::Maximum => x[0].max(x[1])?,
        Op::Minimum => x[0].min(x[1])?,
        Op::Pow => x[0].pow(x[1])?,
        Op::Remainder => x[0].rem_(x[1])?,
        Op::And => x[0].and(x[1])?,
        Op::Or => x[0].or(x[1])?,
        Op::Xor => x[0].xor(x[1])?,
        // The crate binds no shifts. By a known number of bits they are a product and a
        // quotient of unsigned numbers, which the compiler turns into shifts again.
        Op::ShiftLeft => match power_of_two(graph, node) {
            Some(power) => x[0].mul_(&builder.c0(power)?)?,
            None => return lacks("ShiftLeft"),
        },
        Op::ShiftRightLogical => match power_of_two(graph, node) {
            Some(power) => x[0].div_(&builder.c0(power)?)?,
            None => return lacks("ShiftRightLogical"),
        },
        Op::Compare(Comparison::Eq) => x[0].eq(x[1])?,
        Op::Compare(Comparison::Ne) => x[0].ne(x[1])?,
        Op::Compare(Comparison::Lt) => x[0].lt(x[1])?,
        Op::Compare(Comparison::Le) => x[0].le(x[1])?,
        Op::Compare(Comparison::Gt) => x[0].gt(x[1])?,
        Op::Compare(Comparison::Ge) => x[0].ge(x[1])?,
        Op::Select => x[0].select(x[1], x[2])?,

        Op::ReduceSum { dims } => x[0].reduce_sum(&signed(dims), false)?,
        Op::ReduceMax { dims } => x[0].reduce_max(&signed(dims), false)?,

        Op::Broadcast { mapping } => x[0].broadcast_in_dim(&out, &signed(mapping))?,
        Op::Reshape => x[0].reshape(&out)?,
        Op::Transpose { permutation } => x[0].transpose(&signed(permutation))?,
        Op::Slice {
            start,
            limit,
            stride,
        } => {
            // One dimension a call: the crate does not bind XLA's Slice over all at once.
            let mut part = x[0].clone();
            for (dim, &size) in graph.dims(node.operands[0]).iter().enumerate() {
                if (start[dim], limit[dim], stride[dim]) != (0, size, 1) {
                    let [from, to, step] = [start, limit, stride].map(|list| list[dim] as i64);
                    part = part.slice_in_dim(from, to, step, dim as i64)?;
                }
            }
            part
        }
        Op::Pad {
            value,
            low,
            high,
            interior,
        } => {
            let fill = match Literal::splat(*value, TensorType::scalar(*dtype)) {
                Ok(fill) => constant(builder, &fill)?,
                Err(_) => unreachable!("a scalar is not too large for memory"),
            };
            let edges = low.iter().zip(high).zip(interior);
            let edges: Vec<_> = edges
                .map(|((&low, &high), &between)| (low, high, between as i64))
                .collect();
            x[0].pad(&fill, &edges)?
        }
        Op::Concatenate { dim } => x[0].concat_in_dim(&x[1..], *dim as i64)?,
        Op::Reverse { dims } => x[0].rev(&signed(dims))?,

        Op::DynamicSlice { sizes } => x[0].dynamic_slice(&x[1..], &signed(sizes))?,
        Op::DynamicUpdateSlice => x[0].dynamic_update_slice(x[1], &x[2..])?,
        Op::GatherRows => {
            let table = graph.dims(node.operands[0]);
            let row: Vec<i64> = (1..table.len() as i64).collect();
            let mut sizes = signed(table);
            sizes[0] = 1;
            x[0].gather(x[1], &row, &[0], &[0], Some(1), &sizes)?
        }
        Op::ScatterAddRows => {
            let row: Vec<i64> = (1..dims.len() as i64).collect();
            x[0].scatter(x[1], x[2], &sum(ty)?, &row, &[0], &[0], 1)?
        }

        Op::DotGeneral(pairs) => x[0].dot_general(
            x[1],
            &signed(&pairs.lhs_contract),
            &signed(&pairs.rhs_contract),
            &signed(&pairs.lhs_batch),
            &signed(&pairs.rhs_batch),
        )?,
        Op::Convolution(attributes) => convolution(x[0], x[1], attributes)?,
        Op::MaxPool(_) => return lacks("ReduceWindow"),
        Op::MaxPoolGradient(_) => return lacks("SelectAndScatter"),
        Op::WithGradient(_) => x[0].clone(),
    })
}
// ANCHOR_END: result

fn convolution(x: &XlaOp, filter: &XlaOp, window: &Convolution) -> Result<XlaOp, xla::Error> {
    let dims = &window.dims;
    x.conv_general_dilated(
        filter,
        &signed(&window.strides),
        &window.padding.map(|[low, high]| (low, high)),
        &signed(&window.lhs_dilation),
        &signed(&window.rhs_dilation),
        dims.input_batch as i64,
        dims.input_feature as i64,
        &signed(&dims.input_spatial),
        dims.output_batch as i64,
        dims.output_feature as i64,
        &signed(&dims.output_spatial),
        dims.filter_input_feature as i64,
        dims.filter_output_feature as i64,
        &signed(&dims.filter_spatial),
        1,
        1,
        false,
    )
}

fn constant(builder: &XlaBuilder, literal: &Literal) -> Result<XlaOp, xla::Error> {
    let TensorType { dtype, dims } = literal.ty();
    let bytes = literal.as_bytes();
    let literal =
        xla::Literal::create_from_shape_and_untyped_data(element_type(*dtype), dims, bytes)?;
    builder.constant_literal(&literal)
}

/// Two to the power of a shift's second operand, where that is one number known now,
/// and the shift is of u32.
fn power_of_two(graph: &Graph, shift: &Node) -> Option<u32> {
    let mut bits = graph.node(shift.operands[1]);
    while let Op::Broadcast { .. } = bits.op {
        bits = graph.node(bits.operands[0]);
    }
    match &bits.op {
        Op::Constant(literal) if *literal.ty() == TensorType::scalar(DType::U32) => {
            1u32.checked_shl(literal.to_u32_vec().ok()?[0])
        }
        _ => None,
    }
}

/// The function of two scalars that adds them.
fn sum(ty: ElementType) -> Result<XlaComputation, xla::Error> {
    let builder = XlaBuilder::new("sum");
    let lhs = builder.parameter(0, ty, &[], "lhs")?;
    let rhs = builder.parameter(1, ty, &[], "rhs")?;
    lhs.add_(&rhs)?.build()
}

/// The crate's name of a graph's element type.
pub fn element_type(dtype: DType) -> ElementType {
    match dtype {
        DType::Pred => ElementType::Pred,
        DType::U8 => ElementType::U8,
        DType::I32 => ElementType::S32,
        DType::U32 => ElementType::U32,
        DType::Bf16 => ElementType::Bf16,
        DType::F32 => ElementType::F32,
    }
}

/// Sizes and positions as XLA's builder takes them.
fn signed(numbers: &[usize]) -> Vec<i64> {
    numbers.iter().map(|&number| number as i64).collect()
}
