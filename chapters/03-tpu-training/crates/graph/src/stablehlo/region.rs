//! Windows, rows and loops: operations with many attributes, or with code of
//! their own inside.

use super::Lines;
use super::constant;
use crate::{ConvDims, Convolution, Node, Pool, Region, TensorType};

impl Lines<'_> {
    pub(super) fn convolution(&mut self, node: &Node, attributes: &Convolution) {
        let operands = self.names_of(&node.operands);
        let types = self.function_type(&node.operands, node.result());
        let dims = dim_numbers(&attributes.dims);
        let Convolution {
            strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            ..
        } = attributes;
        self.assign(
            node.result(),
            &format!(
                "stablehlo.convolution({operands}) dim_numbers = {dims}, \
                 window = {{stride = {strides:?}, pad = {padding:?}, \
                 lhs_dilate = {lhs_dilation:?}, rhs_dilate = {rhs_dilation:?}}} \
                 {{batch_group_count = 1 : i64, feature_group_count = 1 : i64}} : {types}"
            ),
        );
    }

    pub(super) fn max_pool(&mut self, node: &Node, pool: &Pool) {
        let (x, result) = (node.operands[0], node.result());
        let scalar = TensorType::scalar(self.ty(x).dtype);
        let lowest = constant::number(f32::NEG_INFINITY, scalar.dtype);
        let init = self.extra(result, "init", &lowest, &scalar);
        let (name, from, to) = (self.name(x), self.ty(x), self.ty(result));
        let window = window(pool);
        self.assign(
            result,
            &format!("\"stablehlo.reduce_window\"({name}, {init}) <{{{window}}}> ({{"),
        );
        self.function_of_two(
            &scalar,
            &format!("stablehlo.maximum %a, %b : {scalar}"),
            &scalar,
        );
        self.line(&format!("}}) : ({from}, {scalar}) -> {to}"));
    }

    pub(super) fn max_pool_gradient(&mut self, node: &Node, pool: &Pool) {
        let result = node.result();
        let scalar = TensorType::scalar(self.ty(result).dtype);
        let zero = constant::number(0.0, scalar.dtype);
        let init = self.extra(result, "init", &zero, &scalar);
        let operands = self.names_of(&node.operands);
        let types = self.types_of(&node.operands);
        let to = self.ty(result);
        let window = window(pool);
        let pred = TensorType::scalar(crate::DType::Pred);
        self.assign(
            result,
            &format!("\"stablehlo.select_and_scatter\"({operands}, {init}) <{{{window}}}> ({{"),
        );
        // "Not below": of equal elements the first is kept.
        let keep = format!("stablehlo.compare GE, %a, %b, FLOAT : ({scalar}, {scalar}) -> {pred}");
        self.function_of_two(&scalar, &keep, &pred);
        self.line("}, {");
        self.function_of_two(
            &scalar,
            &format!("stablehlo.add %a, %b : {scalar}"),
            &scalar,
        );
        self.line(&format!("}}) : ({types}, {scalar}) -> {to}"));
    }

    pub(super) fn gather_rows(&mut self, node: &Node) {
        let (table, result) = (self.ty(node.operands[0]), node.result());
        let operands = self.names_of(&node.operands);
        let types = self.function_type(&node.operands, result);
        let offsets: Vec<usize> = (1..table.rank()).collect();
        let mut sizes = table.dims.clone();
        sizes[0] = 1;
        self.assign(
            result,
            &format!(
                "\"stablehlo.gather\"({operands}) <{{dimension_numbers = \
                 #stablehlo.gather<offset_dims = {offsets:?}, collapsed_slice_dims = [0], \
                 start_index_map = [0], index_vector_dim = 1>, \
                 slice_sizes = {}}}> : {types}",
                array(&sizes)
            ),
        );
    }

    pub(super) fn scatter_add_rows(&mut self, node: &Node) {
        let (table, result) = (self.ty(node.operands[0]), node.result());
        let operands = self.names_of(&node.operands);
        let types = self.function_type(&node.operands, result);
        let scalar = TensorType::scalar(table.dtype);
        let windows: Vec<usize> = (1..table.rank()).collect();
        self.assign(
            result,
            &format!(
                "\"stablehlo.scatter\"({operands}) <{{scatter_dimension_numbers = \
                 #stablehlo.scatter<update_window_dims = {windows:?}, inserted_window_dims = [0], \
                 scatter_dims_to_operand_dims = [0], index_vector_dim = 1>}}> ({{"
            ),
        );
        self.function_of_two(
            &scalar,
            &format!("stablehlo.add %a, %b : {scalar}"),
            &scalar,
        );
        self.line(&format!("}}) : {types}"));
    }

    /// A function of two scalars `%a` and `%b` of type `of`, inside an operation.
    fn function_of_two(&mut self, of: &TensorType, expression: &str, returns: &TensorType) {
        self.line(&format!("  ^bb0(%a: {of}, %b: {of}):"));
        self.line(&format!("    %c = {expression}"));
        self.line(&format!("    stablehlo.return %c : {returns}"));
    }

    pub(super) fn while_loop(&mut self, node: &Node, condition: &Region, body: &Region) {
        let count = node.operands.len();
        let id = format!("{}{}", self.prefix.replace('%', "w"), node.result().index());
        let carried: Vec<String> = (0..count).map(|i| format!("%{id}_arg{i}")).collect();
        let starts: Vec<String> = carried
            .iter()
            .zip(&node.operands)
            .map(|(name, &start)| format!("{name} = {}", self.name(start)))
            .collect();
        let types = self.types_of(&node.operands);
        let name = format!("{}{}", self.prefix, node.result().index());
        for (index, result) in node.results().enumerate() {
            self.names[result.index()] = Some(match count {
                1 => name.clone(),
                _ => format!("{name}#{index}"),
            });
        }
        let results = match count {
            1 => name,
            _ => format!("{name}:{count}"),
        };
        self.line(&format!(
            "{results} = stablehlo.while({}) : {types}",
            starts.join(", ")
        ));
        self.line("cond {");
        self.region(condition, format!("%{id}_cond_"), carried.clone());
        self.line("} do {");
        self.region(body, format!("%{id}_body_"), carried);
        self.line("}");
    }

    fn region(&mut self, region: &Region, prefix: String, parameters: Vec<String>) {
        let indent = format!("{}  ", self.indent);
        let mut lines = Lines::new(&region.graph, prefix, parameters, indent);
        lines.nodes(&region.outputs);
        lines.end("stablehlo.return", &region.outputs);
        self.out.push_str(&lines.out);
    }
}

/// `[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]`
fn dim_numbers(dims: &ConvDims) -> String {
    let order = |first: (usize, &str), second: (usize, &str), spatial: [usize; 2]| {
        let mut names = [""; 4];
        names[first.0] = first.1;
        names[second.0] = second.1;
        names[spatial[0]] = "0";
        names[spatial[1]] = "1";
        format!("[{}]", names.join(", "))
    };
    format!(
        "{}x{}->{}",
        order(
            (dims.input_batch, "b"),
            (dims.input_feature, "f"),
            dims.input_spatial
        ),
        order(
            (dims.filter_input_feature, "i"),
            (dims.filter_output_feature, "o"),
            dims.filter_spatial
        ),
        order(
            (dims.output_batch, "b"),
            (dims.output_feature, "f"),
            dims.output_spatial
        ),
    )
}

/// The attributes of a window over the middle dimensions of NHWC.
fn window(pool: &Pool) -> String {
    let Pool {
        window: [height, width],
        strides: [down, right],
        padding: [rows, columns],
    } = pool;
    format!(
        "padding = dense<[[0, 0], {rows:?}, {columns:?}, [0, 0]]> : tensor<4x2xi64>, \
         window_dimensions = {}, window_strides = {}",
        array(&[1, *height, *width, 1]),
        array(&[1, *down, *right, 1])
    )
}

/// `array<i64: 1, 2>`
fn array(numbers: &[usize]) -> String {
    let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
    format!("array<i64: {}>", numbers.join(", "))
}
