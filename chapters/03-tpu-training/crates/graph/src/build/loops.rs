//! Loops inside a program.

use crate::{DType, Graph, GraphError, Op, Region, TensorType, Value};

impl Graph {
    /// Runs `body` on the carried values while `condition` holds.
    ///
    /// * `carried`: the values at the start
    /// * `condition`: a closed graph whose parameters have the carried values'
    ///   types, in order; its one output is a `Pred` scalar
    /// * `body`: a closed graph with such parameters; its outputs are the next
    ///   carried values, of the same types
    ///
    /// Returns the carried values at the end. A closed graph sees nothing of
    /// this one: what the body needs is carried, constants are repeated inside.
    /// No gradient: differentiate inside the body, as a training loop does.
    ///
    /// # Errors
    /// [`GraphError::Region`] if a closed graph's parameters or outputs have
    /// other types.
    pub fn while_loop(
        &mut self,
        carried: &[Value],
        condition: Region,
        body: Region,
    ) -> Result<Vec<Value>, GraphError> {
        let types = carried
            .iter()
            .map(|&value| self.checked_type("while_loop", value).cloned())
            .collect::<Result<Vec<_>, _>>()?;
        if types.is_empty() {
            return Err(GraphError::Region(
                "no carried values; a loop needs one to end".into(),
            ));
        }
        condition.check("condition", &types, &[TensorType::scalar(DType::Pred)])?;
        body.check("body", &types, &types)?;
        let op = Op::While {
            condition: Box::new(condition),
            body: Box::new(body),
        };
        self.push_many(op, carried.to_vec(), types)
    }
}

impl Region {
    fn check(
        &self,
        name: &str,
        parameters: &[TensorType],
        outputs: &[TensorType],
    ) -> Result<(), GraphError> {
        let graph = &self.graph;
        let types = |values: &[Value]| {
            values
                .iter()
                .map(|&value| graph.checked_type("while_loop", value).cloned())
                .collect::<Result<Vec<_>, _>>()
        };
        for (role, got, expected) in [
            ("parameters", types(graph.parameters())?, parameters),
            ("outputs", types(&self.outputs)?, outputs),
        ] {
            if got != expected {
                let position = (0..got.len().max(expected.len()))
                    .find(|&i| got.get(i) != expected.get(i))
                    .unwrap_or(0);
                let show = |types: &[TensorType]| match types.get(position) {
                    Some(ty) => ty.short(),
                    None => "nothing".into(),
                };
                return Err(GraphError::Region(format!(
                    "{name} has {} {role}, expected {}; number {position} is {}, expected {}",
                    got.len(),
                    expected.len(),
                    show(&got),
                    show(expected)
                )));
            }
        }
        Ok(())
    }
}
