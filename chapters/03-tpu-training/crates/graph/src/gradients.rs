//! Reverse-mode differentiation: the graph read backwards.
//!
//! A gradient is more graph. Each node that depends on a wanted value turns the
//! cotangent of its result (how the loss changes with it) into cotangents of
//! its operands; the rules are in `vjp.rs`. What arrives at one value over
//! several paths is added up, latest node first, so that the same program is
//! made every time.
//!
//! Source: Griewank and Walther, "Evaluating Derivatives", chapter 3; the form
//! follows autodidact.

use std::collections::{HashMap, HashSet};

use crate::{DType, Graph, GraphError, Value, vjp};

impl Graph {
    /// Gradients of a loss.
    ///
    /// * `loss`: f32 `[]`
    /// * `wrt`: bf16 or f32, of any shape: parameters or any other values
    ///
    /// Returns for each of `wrt` a value of its type; zeros if the loss does
    /// not depend on it. The new nodes are appended to this graph, and can be
    /// differentiated again.
    ///
    /// # Errors
    /// [`GraphError::GradientType`] if a type is not as above;
    /// [`GraphError::NotDifferentiable`] if the way from a wanted value to the
    /// loss leads through an operation without gradient.
    pub fn gradients(&mut self, loss: Value, wrt: &[Value]) -> Result<Vec<Value>, GraphError> {
        let ty = self.checked_type("gradients", loss)?;
        if ty.dtype != DType::F32 || ty.rank() != 0 {
            return Err(GraphError::GradientType {
                what: "the loss",
                got: ty.clone(),
                expected: "f32[]; reduce it, or use vjp",
            });
        }
        let one = self.scalar(1.0, DType::F32)?;
        self.vjp(loss, one, wrt)
    }

    /// The product of a cotangent with the Jacobian of `output` by each of `wrt`.
    ///
    /// * `output`: bf16 or f32, of any shape
    /// * `cotangent`: of the type of `output`
    /// * `wrt`: as for [`Graph::gradients`]
    ///
    /// # Errors
    /// As [`Graph::gradients`].
    pub fn vjp(
        &mut self,
        output: Value,
        cotangent: Value,
        wrt: &[Value],
    ) -> Result<Vec<Value>, GraphError> {
        let output_type = self.checked_type("gradients", output)?;
        let given = self.checked_type("gradients", cotangent)?;
        if given != output_type {
            return Err(GraphError::GradientType {
                what: "the cotangent",
                got: given.clone(),
                expected: "the type of the output",
            });
        }
        for &value in wrt {
            let ty = self.checked_type("gradients", value)?;
            if !ty.dtype.is_float() {
                return Err(GraphError::GradientType {
                    what: "a value to differentiate by",
                    got: ty.clone(),
                    expected: "bf16 or f32",
                });
            }
        }
        let first = wrt.iter().map(|&value| self.node_index(value)).min();
        self.pull_back(first.unwrap_or(0), output, cotangent, wrt)
    }

    /// [`Graph::vjp`] that looks only at nodes from number `first` on.
    // ANCHOR: backward
    pub(crate) fn pull_back(
        &mut self,
        first: usize,
        output: Value,
        cotangent: Value,
        wrt: &[Value],
    ) -> Result<Vec<Value>, GraphError> {
        let last = self.node_index(output);
        let depending = self.depending_on(wrt, first, last);
        let mut cotangents = HashMap::from([(output, cotangent)]);
        for index in (first..=last).rev() {
            let node = &self.nodes()[index];
            let depends = node.operands.iter().any(|v| depending.contains(v));
            let arrived = node.results().find_map(|v| cotangents.get(&v).copied());
            let (true, Some(cotangent)) = (depends, arrived) else {
                continue;
            };
            let node = node.clone();
            let contributions = vjp::cotangents_of_operands(self, &node, cotangent)?;
            for (operand, contribution) in node.operands.into_iter().zip(contributions) {
                let (true, Some(mut sum)) = (depending.contains(&operand), contribution) else {
                    continue;
                };
                if let Some(&others) = cotangents.get(&operand) {
                    sum = self.add(others, sum)?;
                }
                cotangents.insert(operand, sum);
            }
        }
        wrt.iter()
            .map(|value| match cotangents.get(value) {
                Some(&cotangent) => Ok(cotangent),
                None => self.full_like(0.0, *value),
            })
            .collect()
    }
    // ANCHOR_END: backward

    /// The floats among the results of nodes `first..=last` that depend on `wrt`.
    fn depending_on(&self, wrt: &[Value], first: usize, last: usize) -> HashSet<Value> {
        let mut depending: HashSet<Value> = wrt.iter().copied().collect();
        for node in self.nodes().iter().take(last + 1).skip(first) {
            if node.operands.iter().any(|v| depending.contains(v)) {
                let floats = |v: &Value| self.type_of(*v).dtype.is_float();
                depending.extend(node.results().filter(floats));
            }
        }
        depending
    }
}
