//! A graph as a listing, for people: `{graph}` shows what it holds.

use std::fmt;

use crate::{Graph, Node, Op};

/// One line a node: `%4 = add(%2, %3) : f32[2,3]`, with attributes as Rust
/// shows them. Nodes that no output needs are listed too; the graph knows no outputs.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in self.nodes() {
            let join = |parts: Vec<String>| parts.join(", ");
            let results = join(node.results().map(|v| format!("%{}", v.index())).collect());
            let operands = join(
                node.operands
                    .iter()
                    .map(|v| format!("%{}", v.index()))
                    .collect(),
            );
            let types = join(node.results().map(|v| self.type_of(v).short()).collect());
            let name = node.op.name();
            let attributes = attributes(node);
            writeln!(f, "{results} = {name}({operands}){attributes} : {types}")?;
        }
        Ok(())
    }
}

fn attributes(node: &Node) -> String {
    match &node.op {
        Op::Parameter { index, name } => format!(" {index} {name:?}"),
        Op::Constant(literal) => {
            // An f32 scalar is most of them; bytes would not help a reader.
            match literal.to_f32_vec().as_deref() {
                Ok([value]) => format!(" {value:?}"),
                _ => String::new(),
            }
        }
        Op::While { condition, body } => format!(
            " condition of {} nodes, body of {}",
            condition.graph.nodes().len(),
            body.graph.nodes().len()
        ),
        // `Slice { start: [0] }` without the variant's name, which was shown.
        op => match format!("{op:?}") {
            text if text.contains([' ', '(']) => {
                let name_end = text.find([' ', '(']).unwrap_or(0);
                format!(" {}", text[name_end..].trim_start())
            }
            _ => String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use crate::{Comparison, DType, Graph, TensorType};

    #[test]
    fn a_line_a_node() {
        let mut g = Graph::new();
        let x = g
            .parameter("pixels", TensorType::new(DType::F32, [2, 3]))
            .unwrap();
        let half = g.scalar(0.5, DType::F32).unwrap();
        let half = g.broadcast(half, &[2, 3], &[]).unwrap();
        let sum = g.add(x, half).unwrap();
        g.compare(Comparison::Lt, sum, half).unwrap();
        g.slice(sum, &[0, 1], &[2, 3], &[1, 1]).unwrap();
        assert_eq!(
            g.to_string(),
            "%0 = parameter() 0 \"pixels\" : f32[2,3]\n\
             %1 = constant() 0.5 : f32[]\n\
             %2 = broadcast(%1) { mapping: [] } : f32[2,3]\n\
             %3 = add(%0, %2) : f32[2,3]\n\
             %4 = compare(%3, %2) (Lt) : pred[2,3]\n\
             %5 = slice(%3) { start: [0, 1], limit: [2, 3], stride: [1, 1] } : f32[2,2]\n"
        );
    }
}
