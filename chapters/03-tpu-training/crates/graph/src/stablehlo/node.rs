//! One node, one operation: how each is written.

use super::{Lines, constant};
use crate::{Comparison, DType, Node, Op, TensorType};

impl Lines<'_> {
    /// Appends the line, or the lines, of `node`.
    pub(super) fn node(&mut self, node: &Node) {
        let result = node.result();
        let all = &node.operands[..];
        match &node.op {
            Op::Parameter { .. } | Op::WithGradient(_) => {}
            Op::Constant(literal) => {
                let dense = constant::dense(literal);
                let ty = self.ty(result);
                self.assign(result, &format!("stablehlo.constant {dense} : {ty}"));
            }
            Op::Iota { dim } => {
                let ty = self.ty(result);
                self.assign(result, &format!("stablehlo.iota dim = {dim} : {ty}"));
            }

            Op::Neg => self.same("negate", node),
            Op::Exp => self.same("exponential", node),
            Op::Log => self.same("log", node),
            Op::Rsqrt => self.same("rsqrt", node),
            Op::Sqrt => self.same("sqrt", node),
            // ANCHOR: tanh
            Op::Tanh => self.same("tanh", node),
            // ANCHOR_END: tanh
            Op::Abs => self.same("abs", node),
            Op::Sign => self.same("sign", node),
            Op::Not => self.same("not", node),
            Op::Convert => self.mapped("convert", node, ""),

            Op::Add => self.same("add", node),
            Op::Sub => self.same("subtract", node),
            Op::Mul => self.same("multiply", node),
            Op::Div => self.same("divide", node),
            Op::Maximum => self.same("maximum", node),
            Op::Minimum => self.same("minimum", node),
            Op::Pow => self.same("power", node),
            Op::Remainder => self.same("remainder", node),
            Op::And => self.same("and", node),
            Op::Or => self.same("or", node),
            Op::Xor => self.same("xor", node),
            Op::ShiftLeft => self.same("shift_left", node),
            Op::ShiftRightLogical => self.same("shift_right_logical", node),
            Op::Compare(comparison) => {
                let direction = direction(*comparison);
                let kind = match self.ty(all[0]).dtype {
                    DType::Bf16 | DType::F32 => "FLOAT",
                    DType::I32 => "SIGNED",
                    DType::Pred | DType::U8 | DType::U32 => "UNSIGNED",
                };
                let names = self.names_of(all);
                let types = self.function_type(all, result);
                self.assign(
                    result,
                    &format!("stablehlo.compare {direction}, {names}, {kind} : {types}"),
                );
            }
            Op::Select => {
                let names = self.names_of(all);
                let types = format!("{}, {}", self.ty(all[0]), self.ty(result));
                self.assign(result, &format!("stablehlo.select {names} : {types}"));
            }

            Op::ReduceSum { dims } => self.reduce("add", 0.0, node, dims),
            Op::ReduceMax { dims } => {
                self.reduce("maximum", f32::NEG_INFINITY, node, dims);
            }

            Op::Broadcast { mapping } => {
                self.mapped("broadcast_in_dim", node, &format!(", dims = {mapping:?}"));
            }
            Op::Reshape => self.mapped("reshape", node, ""),
            Op::Transpose { permutation } => {
                self.mapped("transpose", node, &format!(", dims = {permutation:?}"));
            }
            Op::Slice {
                start,
                limit,
                stride,
            } => {
                let ranges: Vec<String> = (0..start.len())
                    .map(|dim| match stride[dim] {
                        1 => format!("{}:{}", start[dim], limit[dim]),
                        step => format!("{}:{}:{step}", start[dim], limit[dim]),
                    })
                    .collect();
                self.mapped("slice", node, &format!(" [{}]", ranges.join(", ")));
            }
            Op::Pad {
                value,
                low,
                high,
                interior,
            } => {
                let dtype = self.ty(result).dtype;
                let scalar = TensorType::scalar(dtype);
                let fill = self.extra(result, "fill", &constant::number(*value, dtype), &scalar);
                let (x, from, to) = (self.name(all[0]), self.ty(all[0]), self.ty(result));
                self.assign(
                    result,
                    &format!(
                        "stablehlo.pad {x}, {fill}, low = {low:?}, high = {high:?}, \
                         interior = {interior:?} : ({from}, {scalar}) -> {to}"
                    ),
                );
            }
            Op::Concatenate { dim } => {
                self.mapped("concatenate", node, &format!(", dim = {dim}"));
            }
            Op::Reverse { dims } => {
                let (x, ty) = (self.name(all[0]), self.ty(result));
                self.assign(
                    result,
                    &format!("stablehlo.reverse {x}, dims = {dims:?} : {ty}"),
                );
            }

            Op::DynamicSlice { sizes } => {
                self.mapped("dynamic_slice", node, &format!(", sizes = {sizes:?}"));
            }
            Op::DynamicUpdateSlice => self.mapped("dynamic_update_slice", node, ""),
            Op::GatherRows => self.gather_rows(node),
            Op::ScatterAddRows => self.scatter_add_rows(node),

            Op::DotGeneral(dims) => {
                let batching = match &dims.lhs_batch[..] {
                    [] => String::new(),
                    lhs => format!(", batching_dims = {lhs:?} x {:?}", dims.rhs_batch),
                };
                let attributes = format!(
                    "{batching}, contracting_dims = {:?} x {:?}",
                    dims.lhs_contract, dims.rhs_contract
                );
                self.mapped("dot_general", node, &attributes);
            }
            Op::Convolution(attributes) => self.convolution(node, attributes),
            Op::MaxPool(pool) => self.max_pool(node, pool),
            Op::MaxPoolGradient(pool) => self.max_pool_gradient(node, pool),
            Op::While { condition, body } => self.while_loop(node, condition, body),
        }
    }
}

fn direction(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Eq => "EQ",
        Comparison::Ne => "NE",
        Comparison::Lt => "LT",
        Comparison::Le => "LE",
        Comparison::Gt => "GT",
        Comparison::Ge => "GE",
    }
}
