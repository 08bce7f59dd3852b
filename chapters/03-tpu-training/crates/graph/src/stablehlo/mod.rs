//! Programs as StableHLO text.
//!
//! One line a node, in the order of the graph, in the short form that MLIR
//! prints itself where there is one. Types are spelled out on each line, so the
//! text is checked once more by whoever parses it.
//!
//! Source: the StableHLO specification, <https://openxla.org/stablehlo/spec>.

mod constant;
mod form;
mod node;
mod region;

use std::fmt::Write;

use crate::{Graph, Op, Program, TensorType, Value};

/// The module with its one function, `main`.
pub(crate) fn text(program: &Program) -> String {
    let graph = &program.graph;
    let parameters = graph.parameters();
    let mut out = String::new();
    let _ = writeln!(out, "module @{} {{", symbol(&program.name));
    let _ = writeln!(out, "  func.func public @main(");
    for (index, &parameter) in parameters.iter().enumerate() {
        let donated = program.donated.iter().find(|pair| pair.0 == index);
        let aliasing = match donated {
            Some((_, output)) => format!(" {{tf.aliasing_output = {output} : i32}}"),
            None => String::new(),
        };
        let comma = if index + 1 < parameters.len() {
            ","
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "      %arg{index}: {}{aliasing}{comma}{}",
            graph.type_of(parameter),
            comment(graph, parameter)
        );
    }
    let types: Vec<String> = program
        .outputs
        .iter()
        .map(|&output| graph.type_of(output).to_string())
        .collect();
    let _ = writeln!(out, "  ) -> ({}) {{", types.join(", "));
    let names = (0..parameters.len()).map(|i| format!("%arg{i}")).collect();
    let mut body = Lines::new(graph, "%".into(), names, "    ".into());
    body.nodes(&program.outputs);
    body.end("func.return", &program.outputs);
    out.push_str(&body.out);
    out.push_str("  }\n}\n");
    out
}

/// The lines of one graph: of the main function, or of a part of a loop.
struct Lines<'g> {
    graph: &'g Graph,
    /// Starts the names of values: MLIR sees those of a loop and those around
    /// it together, so they must differ.
    prefix: String,
    /// The name of each value that has one by now.
    names: Vec<Option<String>>,
    indent: String,
    out: String,
}

impl<'g> Lines<'g> {
    fn new(graph: &'g Graph, prefix: String, parameters: Vec<String>, indent: String) -> Self {
        let mut names = vec![None; graph.value_count()];
        for (&parameter, name) in graph.parameters().iter().zip(parameters) {
            names[parameter.index()] = Some(name);
        }
        Lines {
            graph,
            prefix,
            names,
            indent,
            out: String::new(),
        }
    }

    fn nodes(&mut self, outputs: &[Value]) {
        let needed = self.graph.needed_for(outputs);
        for (node, _) in self.graph.nodes().iter().zip(needed).filter(|(_, n)| *n) {
            match &node.op {
                Op::Parameter { .. } => {}
                Op::WithGradient(_) => {
                    self.names[node.result().index()] = Some(self.name(node.operands[0]));
                }
                _ => self.node(node),
            }
        }
    }

    fn end(&mut self, word: &str, outputs: &[Value]) {
        let line = match outputs {
            [] => word.to_owned(),
            _ => format!(
                "{word} {} : {}",
                self.names_of(outputs),
                self.types_of(outputs)
            ),
        };
        self.line(&line);
    }

    fn line(&mut self, line: &str) {
        self.out.push_str(&self.indent);
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn name(&self, value: Value) -> String {
        self.names[value.index()]
            .clone()
            .expect("operands are printed before the nodes that read them")
    }

    fn names_of(&self, values: &[Value]) -> String {
        let names: Vec<String> = values.iter().map(|&value| self.name(value)).collect();
        names.join(", ")
    }

    fn types_of(&self, values: &[Value]) -> String {
        let types: Vec<String> = values.iter().map(|&v| self.ty(v).to_string()).collect();
        types.join(", ")
    }

    fn ty(&self, value: Value) -> &'g TensorType {
        self.graph.type_of(value)
    }
}

/// ` // name of the parameter`, on one line whatever the name.
fn comment(graph: &Graph, parameter: Value) -> String {
    match &graph.node(parameter).op {
        Op::Parameter { name, .. } if !name.is_empty() => format!(" // {}", name.escape_default()),
        _ => String::new(),
    }
}

/// A name that MLIR takes without quotes.
fn symbol(name: &str) -> String {
    let mut symbol: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if !symbol.starts_with(|c: char| c.is_ascii_alphabetic()) {
        symbol.insert(0, '_');
    }
    symbol
}
