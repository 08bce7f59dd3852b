//! The optimisers as graph operations, one parameter at a time.
//!
//! What changes from step to step and does not depend on the gradients (the
//! learning rate, AdamW's bias corrections) is computed on the host for a whole
//! epoch and lies on the device as a table: one row a step, one column a factor.

use training_graph::{Graph, GraphError, Value};

use crate::config::Optimizer;

impl Optimizer {
    /// Columns of the table of factors.
    pub fn factors(&self) -> usize {
        match self {
            Optimizer::Sgd { .. } => 1,
            Optimizer::AdamW { .. } => 3,
        }
    }

    /// One row of the table.
    ///
    /// * `step`: steps taken before this one, over all epochs
    /// * `rate`: the learning rate of this step
    pub fn factors_of_step(&self, step: u64, rate: f64) -> Vec<f32> {
        match *self {
            Optimizer::Sgd { .. } => vec![rate as f32],
            Optimizer::AdamW { beta1, beta2, .. } => {
                // Moments start at 0; dividing by these takes the bias away (Kingma and Ba
                // 2015, "Adam", section 3).
                let time = (step + 1) as f64;
                vec![
                    rate as f32,
                    (1.0 / (1.0 - beta1.powf(time))) as f32,
                    (1.0 / (1.0 - beta2.powf(time))) as f32,
                ]
            }
        }
    }
}

// ANCHOR: update
/// The parameter and its slots after one step.
///
/// * `factors`: this step's row of the table, each f32 `[]`
/// * `parameter`, `gradient`: f32, of one shape
/// * `slots`: what the optimiser keeps, in the order of [`Optimizer::slots`], of the same shape
///
/// Source: PyTorch's documentation of `SGD` and `AdamW`.
///
/// # Errors
/// If shapes differ.
pub fn update(
    graph: &mut Graph,
    optimizer: &Optimizer,
    factors: &[Value],
    parameter: Value,
    gradient: Value,
    slots: &[Value],
) -> Result<(Value, Vec<Value>), GraphError> {
    let dims = graph.dims(parameter).to_vec();
    let mut g = Terms { graph, dims };
    match *optimizer {
        Optimizer::Sgd {
            momentum,
            weight_decay,
        } => {
            let decay = g.scaled(parameter, weight_decay)?;
            let gradient = g.graph.add(gradient, decay)?;
            let kept = g.scaled(slots[0], momentum)?;
            let velocity = g.graph.add(kept, gradient)?;
            let step = g.times(velocity, factors[0])?;
            Ok((g.graph.sub(parameter, step)?, vec![velocity]))
        }
        Optimizer::AdamW {
            beta1,
            beta2,
            epsilon,
            weight_decay,
        } => {
            let first = g.average(slots[0], gradient, beta1)?;
            let square = g.graph.mul(gradient, gradient)?;
            let second = g.average(slots[1], square, beta2)?;
            let mean = g.times(first, factors[1])?;
            let variance = g.times(second, factors[2])?;
            let root = g.graph.sqrt(variance)?;
            let root = g.graph.add_scalar(root, epsilon as f32)?;
            let direction = g.graph.div(mean, root)?;
            let decay = g.scaled(parameter, weight_decay)?;
            let direction = g.graph.add(direction, decay)?;
            let step = g.times(direction, factors[0])?;
            Ok((g.graph.sub(parameter, step)?, vec![first, second]))
        }
    }
}
// ANCHOR_END: update

/// Arithmetic on tensors of one shape with numbers that are known, or scalars that are not.
struct Terms<'a> {
    graph: &'a mut Graph,
    dims: Vec<usize>,
}

impl Terms<'_> {
    fn scaled(&mut self, x: Value, factor: f64) -> Result<Value, GraphError> {
        self.graph.mul_scalar(x, factor as f32)
    }

    fn times(&mut self, x: Value, scalar: Value) -> Result<Value, GraphError> {
        let scalar = self.graph.broadcast(scalar, &self.dims, &[])?;
        self.graph.mul(x, scalar)
    }

    /// `beta * old + (1 - beta) * new`
    fn average(&mut self, old: Value, new: Value, beta: f64) -> Result<Value, GraphError> {
        let old = self.scaled(old, beta)?;
        let new = self.scaled(new, 1.0 - beta)?;
        self.graph.add(old, new)
    }
}
