//! A graph with its outputs chosen: what gets compiled or interpreted.

use std::collections::HashSet;

use crate::{Graph, GraphError, Op, Value, stablehlo};

/// A graph, the values wanted from it, and the inputs it may overwrite.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name of the module in StableHLO text, and of the executable in profiles.
    pub name: String,
    /// The operations.
    pub graph: Graph,
    /// What an execution returns, in this order.
    pub outputs: Vec<Value>,
    /// Pairs (parameter, output) that may share memory: the caller gives the
    /// input up and gets the output in its place. Types must be equal.
    pub donated: Vec<(usize, usize)>,
}

impl Program {
    /// The program as StableHLO text, for any XLA compiler.
    ///
    /// All parameters are printed, and of the other nodes those the outputs
    /// need. The same program gives the same text. A donated parameter carries
    /// the attribute `tf.aliasing_output`.
    ///
    /// # Errors
    /// [`GraphError::UnknownValue`] if an output is not of the graph;
    /// [`GraphError::Donation`] if a donated pair does not exist, differs in
    /// type, or shares a member with another.
    pub fn stablehlo(&self) -> Result<String, GraphError> {
        for &output in &self.outputs {
            self.graph.checked_type("output", output)?;
        }
        self.check_donated()?;
        Ok(stablehlo::text(self))
    }

    /// Floating-point operations of the matrix products and convolutions of one
    /// execution: 2 for each multiply and add. Products with padding count; the
    /// rest of the program, which is little beside them, does not. A loop counts
    /// once, as nobody knows how often it runs.
    pub fn flops(&self) -> u64 {
        graph_flops(&self.graph, &self.outputs)
    }

    fn check_donated(&self) -> Result<(), GraphError> {
        let (mut parameters, mut outputs) = (HashSet::new(), HashSet::new());
        for &(parameter, output) in &self.donated {
            let types = (
                self.graph.parameters().get(parameter),
                self.outputs.get(output),
            );
            let rule = match types {
                (None, _) => format!("there are {} parameters", self.graph.parameters().len()),
                (_, None) => format!("there are {} outputs", self.outputs.len()),
                (Some(&from), Some(&to)) => {
                    let (from, to) = (self.graph.type_of(from), self.graph.type_of(to));
                    if from != to {
                        format!("types {} and {} must be equal", from.short(), to.short())
                    } else if !parameters.insert(parameter) || !outputs.insert(output) {
                        "each can be donated once".into()
                    } else {
                        continue;
                    }
                }
            };
            return Err(GraphError::Donation {
                program: self.name.clone(),
                parameter,
                output,
                rule,
            });
        }
        Ok(())
    }
}

impl Graph {
    /// For each node whether computing `outputs` needs it.
    pub(crate) fn needed_for(&self, outputs: &[Value]) -> Vec<bool> {
        let mut needed = vec![false; self.nodes().len()];
        for &output in outputs {
            needed[self.node_index(output)] = true;
        }
        // Operands come before the node: one walk backwards meets them all.
        for (index, node) in self.nodes().iter().enumerate().rev() {
            if needed[index] {
                for &operand in node.read() {
                    needed[self.node_index(operand)] = true;
                }
            }
        }
        needed
    }
}

fn graph_flops(graph: &Graph, outputs: &[Value]) -> u64 {
    let needed = graph.needed_for(outputs);
    let nodes = graph.nodes().iter().zip(needed);
    nodes
        .filter(|(_, needed)| *needed)
        .map(|(node, _)| {
            let result = graph.type_of(node.result()).element_count() as u64;
            let summed = match &node.op {
                Op::DotGeneral(dims) => {
                    let lhs = graph.dims(node.operands[0]);
                    dims.lhs_contract.iter().map(|&dim| lhs[dim]).product()
                }
                Op::Convolution(attributes) => {
                    let dims = &attributes.dims;
                    let filter = graph.dims(node.operands[1]);
                    filter[dims.filter_input_feature]
                        * dims
                            .filter_spatial
                            .map(|dim| filter[dim])
                            .iter()
                            .product::<usize>()
                }
                Op::While { condition, body } => {
                    return graph_flops(&condition.graph, &condition.outputs)
                        + graph_flops(&body.graph, &body.outputs);
                }
                _ => return 0,
            };
            2 * result * summed as u64
        })
        .sum()
}
