//! The loss of a classifier.

use crate::{Comparison, DType, Graph, GraphError, Value};

impl Graph {
    /// Mean softmax cross-entropy over the batch, in nats.
    ///
    /// * `logits`: f32 `[batch, classes]`, unnormalised
    /// * `labels`: i32 `[batch]`, each in `0..classes`; another label counts as
    ///   if its logit were the largest one
    ///
    /// Returns f32 `[]`. Gradient: `(softmax - onehot) / batch`; none for `labels`.
    ///
    /// # Errors
    /// [`GraphError`] if a type is not as above, or the batch sizes differ.
    ///
    /// Source: Goodfellow, Bengio and Courville, "Deep Learning", sections
    /// 6.2.2.3 and 4.1 (the largest logit is subtracted before `exp`).
    pub fn softmax_cross_entropy(
        &mut self,
        logits: Value,
        labels: Value,
    ) -> Result<Value, GraphError> {
        let losses = self.softmax_cross_entropy_of_each(logits, labels)?;
        self.mean(losses, &[0])
    }

    /// Softmax cross-entropy of each image of the batch, in nats: f32 `[batch]`.
    ///
    /// Arguments as for [`Graph::softmax_cross_entropy`].
    ///
    /// # Errors
    /// As [`Graph::softmax_cross_entropy`].
    pub fn softmax_cross_entropy_of_each(
        &mut self,
        logits: Value,
        labels: Value,
    ) -> Result<Value, GraphError> {
        let args = self.operands(
            "softmax_cross_entropy",
            &[("logits", logits), ("labels", labels)],
        )?;
        args.rank(0, 2)?;
        args.rank(1, 1)?;
        if args.ty(0).dtype != DType::F32 || args.ty(1).dtype != DType::I32 {
            return Err(args.dtype("logits must be f32, labels i32"));
        }
        let &[batch, classes] = args.dims(0) else {
            unreachable!("two dimensions were checked")
        };
        if args.dims(1) != [batch] {
            return Err(args.shape("batch sizes must be equal"));
        }
        if batch == 0 || classes == 0 {
            return Err(args.shape("need at least one image and one class"));
        }
        let dims = [batch, classes];

        // Any number may be subtracted from all logits of an image; the largest
        // keeps exp in range. It cancels, so nothing is differentiated by it.
        let largest = self.reduce_max(logits, &[1])?;
        let largest = self.stop_gradient(largest)?;
        let largest = self.broadcast(largest, &dims, &[0])?;
        let shifted = self.sub(logits, largest)?;
        let exp = self.exp(shifted)?;
        let total = self.reduce_sum(exp, &[1])?;
        let log_total = self.log(total)?;

        let class = self.iota(&dims, 1, DType::I32)?;
        let labels = self.broadcast(labels, &dims, &[0])?;
        let is_label = self.compare(Comparison::Eq, class, labels)?;
        let zeros = self.full_like(0.0, shifted)?;
        let picked = self.select(is_label, shifted, zeros)?;
        let of_label = self.reduce_sum(picked, &[1])?;

        self.sub(log_total, of_label)
    }
}
