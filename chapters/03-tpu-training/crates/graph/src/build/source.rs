//! Nodes without operands.

use crate::{DType, Graph, GraphError, Literal, Op, TensorType, Value};

impl Graph {
    /// Declares the next input of the program.
    ///
    /// * `name`: for people; names need not differ
    /// * `ty`: element type and shape
    ///
    /// The order of these calls is the order of the program's inputs.
    ///
    /// # Errors
    /// [`GraphError::TooLarge`] if no memory holds such a tensor.
    pub fn parameter(&mut self, name: &str, ty: TensorType) -> Result<Value, GraphError> {
        let op = Op::Parameter {
            index: self.parameters().len(),
            name: name.to_owned(),
        };
        self.push(op, vec![], ty)
    }

    /// A value known now.
    ///
    /// It becomes part of the program's text: for large arrays, a parameter is better.
    ///
    /// # Errors
    /// None today; the type is that of every builder.
    pub fn constant(&mut self, literal: Literal) -> Result<Value, GraphError> {
        let ty = literal.ty().clone();
        self.push(Op::Constant(literal), vec![], ty)
    }

    /// One number of element type `dtype`, without dimensions.
    ///
    /// For integers the part after the point is dropped, and what is out of
    /// range becomes the nearest end of it.
    ///
    /// # Errors
    /// None today; the type is that of every builder.
    pub fn scalar(&mut self, value: f32, dtype: DType) -> Result<Value, GraphError> {
        let one = Literal::splat(value, TensorType::scalar(dtype))
            .expect("a scalar is not too large for memory");
        self.constant(one)
    }

    /// One number at every position of `dims`: a scalar, broadcast.
    ///
    /// # Errors
    /// [`GraphError::TooLarge`] if no memory holds such a tensor.
    pub fn full(&mut self, value: f32, dims: &[usize], dtype: DType) -> Result<Value, GraphError> {
        let scalar = self.scalar(value, dtype)?;
        match dims {
            [] => Ok(scalar),
            _ => self.broadcast(scalar, dims, &[]),
        }
    }

    /// Numbers counted along a dimension: each element is its index in `dim`.
    ///
    /// * `dtype`: any but `Pred`
    ///
    /// # Errors
    /// [`GraphError::Attribute`] if there is no such dimension,
    /// [`GraphError::ElementType`] for `Pred`.
    pub fn iota(&mut self, dims: &[usize], dim: usize, dtype: DType) -> Result<Value, GraphError> {
        let ty = TensorType::new(dtype, dims);
        if dim >= dims.len() {
            return Err(GraphError::Attribute {
                op: "iota",
                operands: format!("result {}", ty.short()),
                rule: format!("no dimension {dim}"),
            });
        }
        if dtype == DType::Pred {
            return Err(GraphError::ElementType {
                op: "iota",
                operands: format!("result {}", ty.short()),
                rule: "a truth value cannot count".into(),
            });
        }
        self.push(Op::Iota { dim }, vec![], ty)
    }
}
