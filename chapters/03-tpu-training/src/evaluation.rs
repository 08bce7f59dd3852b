//! Evaluation as a program: loss and right answers over rows of the data set,
//! summed on the device.

use training_graph::{Comparison, DType, Graph, GraphError, Program, TensorType, Value};

use crate::{
    network::{self, Mode, Style},
    training_step::{StepPlan, declare},
};

/// Stands for no row, where the rows do not fill the last batch.
pub const NO_ROW: i32 = -1;

/// The rows, filled up to whole batches with [`NO_ROW`].
pub fn padded(rows: &[i32], batch: usize) -> Vec<i32> {
    let mut rows = rows.to_vec();
    rows.resize(rows.len().next_multiple_of(batch), NO_ROW);
    rows
}

impl StepPlan {
    /// Names and types of an evaluation's carried inputs: the batch's number, i32
    /// `[]`, and two sums, f32 `[]`: losses in nats, and right answers.
    pub fn evaluation_carried() -> Vec<(String, TensorType)> {
        let scalar = |name: &str, dtype| (name.to_owned(), TensorType::new(dtype, []));
        vec![
            scalar("number", DType::I32),
            scalar("loss_sum", DType::F32),
            scalar("right", DType::F32),
        ]
    }

    /// A program that evaluates one batch. Inputs: the carried ones (see
    /// [`StepPlan::evaluation_carried`]), then the arrays of the network's tensors, images,
    /// labels, and `rows`, i32 `[rows]`, whole batches of them.
    ///
    /// An answer is right where the label's logit is the largest, ties included.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn evaluation(&self, rows: usize, batch: usize) -> Result<Program, GraphError> {
        let mut graph = Graph::new();
        let g = &mut graph;
        let carried = declare(g, &Self::evaluation_carried())?;
        let (number, loss_sum, right) = (carried[0], carried[1], carried[2]);
        let tensors: Vec<_> = self.inputs().carried[..self.arrays.len()].to_vec();
        let tensors = declare(g, &tensors)?;
        let images = g.parameter("images", self.images.pixels_type())?;
        let labels = g.parameter("labels", self.images.labels_type())?;
        let rows = g.parameter("rows", TensorType::new(DType::I32, [rows]))?;

        let size = g.scalar(batch as f32, DType::I32)?;
        let start = g.mul(number, size)?;
        let rows = g.dynamic_slice(rows, &[start], &[batch])?;
        let zeros = g.full(0.0, &[batch], DType::I32)?;
        let real = g.compare(Comparison::Ge, rows, zeros)?;
        // A row that is not there computes row 0 and counts nothing.
        let rows = g.maximum(rows, zeros)?;
        let x = self.images.gather(g, images, rows)?;
        let labels = g.gather_rows(labels, rows)?;

        let tensors = self.tensors(g, &tensors)?;
        let by_name = self.by_name(&tensors);
        let style = Style {
            precision: self.precision,
            forms: &self.forms,
        };
        let output = network::forward(g, &self.network, style, Mode::Inference, &by_name, x)?;
        let losses = g.softmax_cross_entropy_of_each(output.logits, labels)?;
        let right_each = self.right(g, output.logits, labels)?;

        let loss_sum = sum_where(g, real, losses, loss_sum)?;
        let right = sum_where(g, real, right_each, right)?;
        let one = g.scalar(1.0, DType::I32)?;
        let number = g.add(number, one)?;
        Ok(Program {
            name: "evaluate".into(),
            outputs: vec![number, loss_sum, right],
            donated: vec![(0, 0), (1, 1), (2, 2)],
            graph,
        })
    }

    /// A program from the arrays of the network's tensors and normalised images, f32 `[batch, side, side,
    /// channels]`, to logits, f32 `[batch, classes]`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn inference(&self, side: usize, batch: usize) -> Result<Program, GraphError> {
        let mut graph = Graph::new();
        let tensors: Vec<_> = self.inputs().carried[..self.arrays.len()].to_vec();
        let tensors = declare(&mut graph, &tensors)?;
        let dims = [batch, side, side, self.network.channels];
        let images = graph.parameter("images", TensorType::new(DType::F32, dims))?;
        let tensors = self.tensors(&mut graph, &tensors)?;
        let by_name = self.by_name(&tensors);
        let style = Style {
            precision: self.precision,
            forms: &self.forms,
        };
        let mode = Mode::Inference;
        let output = network::forward(&mut graph, &self.network, style, mode, &by_name, images)?;
        Ok(Program {
            name: "infer".into(),
            outputs: vec![output.logits],
            donated: vec![],
            graph,
        })
    }

    /// 1 where the label's logit is the largest, else 0: f32 `[batch]`.
    fn right(&self, g: &mut Graph, logits: Value, labels: Value) -> Result<Value, GraphError> {
        let dims = g.dims(logits).to_vec();
        let classes = g.iota(&dims, 1, DType::I32)?;
        let labels = g.broadcast(labels, &dims, &[0])?;
        let hit = g.compare(Comparison::Eq, classes, labels)?;
        let zeros = g.full(0.0, &dims, DType::F32)?;
        let own = g.select(hit, logits, zeros)?;
        let own = g.reduce_sum(own, &[1])?;
        let largest = g.reduce_max(logits, &[1])?;
        let right = g.compare(Comparison::Ge, own, largest)?;
        g.convert(right, DType::F32)
    }
}

/// `sum + ` the elements of `x` where `mask` holds.
fn sum_where(g: &mut Graph, mask: Value, x: Value, sum: Value) -> Result<Value, GraphError> {
    let dims = g.dims(x).to_vec();
    let zeros = g.full(0.0, &dims, DType::F32)?;
    let masked = g.select(mask, x, zeros)?;
    let total = g.reduce_sum(masked, &[0])?;
    g.add(sum, total)
}
