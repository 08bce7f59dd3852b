//! The graph: an append-only list of nodes.

use std::ops::Range;

use crate::{GraphError, Op, TensorType};

/// A result of a node: an index into the values of one [`Graph`].
///
/// Only the graph that made it can use it. A value of another graph is refused
/// where its index is out of range, and means another tensor where it is not.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Value(pub(crate) u32);

impl Value {
    /// Its position among the values of its graph: 0, 1, 2, .. in the order
    /// they were made.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One operation applied to values made before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// From what, in the order the operation wants.
    pub operands: Vec<Value>,
    results: Range<u32>,
}

impl Node {
    /// Its results: one, but for `while_loop`, which has one a carried value.
    pub fn results(&self) -> impl ExactSizeIterator<Item = Value> + use<> {
        self.results.clone().map(Value)
    }

    /// The operands its result is computed from: all, but for `with_gradient`,
    /// where the others matter to the gradient only.
    pub fn read(&self) -> &[Value] {
        match self.op {
            Op::WithGradient(_) => &self.operands[..1],
            _ => &self.operands,
        }
    }

    /// Its first result, for the operations that have one.
    pub fn result(&self) -> Value {
        Value(self.results.start)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct ValueEntry {
    ty: TensorType,
    node: u32,
}

// ANCHOR: graph
/// Tensor operations in the order they were added.
///
/// A node's operands come before it, so the order of the list is an order of
/// evaluation, and its reverse is an order for differentiation. Shapes are
/// checked before a node is added: a graph that exists is well typed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    values: Vec<ValueEntry>,
    parameters: Vec<Value>,
}
// ANCHOR_END: graph

/// A closed graph used as a part of another: the condition or body of a loop.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Its parameters, in order, stand for the carried values.
    pub graph: Graph,
    /// What it computes.
    pub outputs: Vec<Value>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Graph::default()
    }

    /// The nodes, each after the nodes that made its operands.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Number of values made so far; every [`Value::index`] is below it.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// Position in [`Graph::nodes`] of the node that made `value`.
    ///
    /// # Panics
    /// If `value` belongs to a larger graph.
    pub fn node_index(&self, value: Value) -> usize {
        self.values[value.index()].node as usize
    }

    /// The node that made `value`.
    ///
    /// # Panics
    /// If `value` belongs to a larger graph.
    pub fn node(&self, value: Value) -> &Node {
        &self.nodes[self.node_index(value)]
    }

    /// The parameters, in the order they were declared.
    pub fn parameters(&self) -> &[Value] {
        &self.parameters
    }

    /// Element type and shape of `value`.
    ///
    /// # Panics
    /// If `value` belongs to a larger graph. Builders check first and return
    /// [`GraphError::UnknownValue`].
    pub fn type_of(&self, value: Value) -> &TensorType {
        &self.values[value.index()].ty
    }

    /// Shape of `value`.
    ///
    /// # Panics
    /// As [`Graph::type_of`].
    pub fn dims(&self, value: Value) -> &[usize] {
        &self.type_of(value).dims
    }

    /// The type of `value`, or an error if this graph has no such value.
    pub(crate) fn checked_type(
        &self,
        op: &'static str,
        value: Value,
    ) -> Result<&TensorType, GraphError> {
        match self.values.get(value.index()) {
            Some(entry) => Ok(&entry.ty),
            None => Err(GraphError::UnknownValue {
                op,
                value,
                count: self.values.len(),
            }),
        }
    }

    /// Appends a node with one result. The caller has inferred `ty`.
    pub(crate) fn push(
        &mut self,
        op: Op,
        operands: Vec<Value>,
        ty: TensorType,
    ) -> Result<Value, GraphError> {
        Ok(self.push_many(op, operands, vec![ty])?[0])
    }

    /// Appends a node with one result for each type.
    pub(crate) fn push_many(
        &mut self,
        op: Op,
        operands: Vec<Value>,
        types: Vec<TensorType>,
    ) -> Result<Vec<Value>, GraphError> {
        if let Some(ty) = types.iter().find(|ty| !ty.is_addressable()) {
            return Err(GraphError::TooLarge {
                op: op.name(),
                dtype: ty.dtype,
                dims: ty.dims.clone(),
            });
        }
        let node = index_u32(self.nodes.len());
        let start = index_u32(self.values.len());
        let is_parameter = matches!(op, Op::Parameter { .. });
        self.values
            .extend(types.into_iter().map(|ty| ValueEntry { ty, node }));
        let results = start..index_u32(self.values.len());
        if is_parameter {
            self.parameters.push(Value(start));
        }
        self.nodes.push(Node {
            op,
            operands,
            results: results.clone(),
        });
        Ok(results.map(Value).collect())
    }
}

/// Indices are 32 bits wide: four billion nodes would need hundreds of GB.
fn index_u32(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 nodes fit in memory")
}
