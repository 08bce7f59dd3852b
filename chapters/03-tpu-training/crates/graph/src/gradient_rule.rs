//! Gradients that are better written by hand than put together from parts.

use crate::{Conv2d, Graph, GraphError, Node, Op, Value, composite, conv2d};

/// How an [`Op::WithGradient`] is differentiated, and what its operands are
/// after the value it stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum GradientRule {
    /// No cotangent flows. No more operands.
    Stop,
    /// Of [`Graph::conv2d`]. Operands `x`, `filter`.
    Conv2d(Conv2d),
    /// Of [`Graph::batch_norm`]. Operands `x`, `scale`, `offset`, `mean`,
    /// and 1 / root of the variance.
    BatchNorm,
}

impl Graph {
    /// `x`, through which no gradient flows.
    ///
    /// # Errors
    /// [`GraphError::UnknownValue`].
    pub fn stop_gradient(&mut self, x: Value) -> Result<Value, GraphError> {
        self.with_gradient(GradientRule::Stop, x, &[])
    }

    /// `y`, whose cotangent flows by `rule` to `inputs` and not by its parts.
    pub(crate) fn with_gradient(
        &mut self,
        rule: GradientRule,
        y: Value,
        inputs: &[Value],
    ) -> Result<Value, GraphError> {
        let ty = self.checked_type("with_gradient", y)?.clone();
        let operands = [&[y], inputs].concat();
        self.push(Op::WithGradient(rule), operands, ty)
    }
}

impl GradientRule {
    /// As the rules in `vjp.rs`.
    pub(crate) fn cotangents_of_operands(
        &self,
        g: &mut Graph,
        node: &Node,
        ct: Value,
    ) -> Result<Vec<Option<Value>>, GraphError> {
        let input = |index: usize| node.operands[1 + index];
        let by_inputs = match self {
            GradientRule::Stop => vec![],
            GradientRule::Conv2d(attributes) => {
                conv2d::cotangents(g, ct, [input(0), input(1)], attributes)?.to_vec()
            }
            GradientRule::BatchNorm => {
                let [x, scale, mean, inverse] = [0, 1, 3, 4].map(input);
                composite::batch_norm_cotangents(g, ct, [x, scale, mean, inverse])?.to_vec()
            }
        };
        let nothing_to_y = [None].into_iter();
        Ok(nothing_to_y
            .chain(by_inputs.into_iter().map(Some))
            .collect())
    }
}
