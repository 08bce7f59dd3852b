//! The operands of an operation about to be added: their types, and errors that show them.

use crate::{GraphError, TensorType, Value};

/// Operands under the names that error messages give them.
pub(crate) struct Operands<'g> {
    op: &'static str,
    named: Vec<(&'static str, &'g TensorType)>,
}

impl crate::Graph {
    /// Looks up the types of `named` values.
    ///
    /// # Errors
    /// [`GraphError::UnknownValue`] if one is not of this graph.
    pub(crate) fn operands(
        &self,
        op: &'static str,
        named: &[(&'static str, Value)],
    ) -> Result<Operands<'_>, GraphError> {
        let named = named
            .iter()
            .map(|&(name, value)| Ok((name, self.checked_type(op, value)?)))
            .collect::<Result<_, GraphError>>()?;
        Ok(Operands { op, named })
    }
}

impl<'g> Operands<'g> {
    /// Type of operand number `index`.
    pub(crate) fn ty(&self, index: usize) -> &'g TensorType {
        self.named[index].1
    }

    /// Shape of operand number `index`.
    pub(crate) fn dims(&self, index: usize) -> &'g [usize] {
        &self.ty(index).dims
    }

    /// Refuses operands of different shapes.
    pub(crate) fn equal_shapes(&self) -> Result<(), GraphError> {
        let first = self.dims(0);
        if self.named.iter().any(|(_, ty)| ty.dims != first) {
            return Err(self.shape("shapes must be equal"));
        }
        Ok(())
    }

    /// Refuses operands of different element types.
    pub(crate) fn equal_dtypes(&self) -> Result<(), GraphError> {
        let first = self.ty(0).dtype;
        if self.named.iter().any(|(_, ty)| ty.dtype != first) {
            return Err(self.dtype("element types must be equal; use convert"));
        }
        Ok(())
    }

    /// Refuses operand number `index` unless it has `rank` dimensions.
    pub(crate) fn rank(&self, index: usize, rank: usize) -> Result<(), GraphError> {
        if self.ty(index).rank() != rank {
            let name = self.named[index].0;
            return Err(self.shape(format!("{name} must have {rank} dimensions")));
        }
        Ok(())
    }

    /// Refuses an attribute `name` that has not one entry for each dimension of operand `index`.
    pub(crate) fn one_each(
        &self,
        index: usize,
        name: &str,
        length: usize,
    ) -> Result<(), GraphError> {
        let rank = self.ty(index).rank();
        if length != rank {
            return Err(self.attribute(format!(
                "{name} has {length} entries, expected one for each of {rank} dimensions"
            )));
        }
        Ok(())
    }

    /// Refuses `dims` unless they are different dimensions of operand `index`.
    pub(crate) fn distinct_dims(
        &self,
        index: usize,
        name: &str,
        dims: &[usize],
    ) -> Result<(), GraphError> {
        let rank = self.ty(index).rank();
        let repeated = (1..dims.len()).any(|i| dims[..i].contains(&dims[i]));
        if repeated || dims.iter().any(|&dim| dim >= rank) {
            return Err(self.attribute(format!(
                "{name} {dims:?} must be different and below {rank}"
            )));
        }
        Ok(())
    }

    /// An error about shapes.
    pub(crate) fn shape(&self, rule: impl Into<String>) -> GraphError {
        GraphError::Shape {
            op: self.op,
            operands: self.describe(),
            rule: rule.into(),
        }
    }

    /// An error about element types.
    pub(crate) fn dtype(&self, rule: impl Into<String>) -> GraphError {
        GraphError::ElementType {
            op: self.op,
            operands: self.describe(),
            rule: rule.into(),
        }
    }

    /// An error about an attribute.
    pub(crate) fn attribute(&self, rule: impl Into<String>) -> GraphError {
        GraphError::Attribute {
            op: self.op,
            operands: self.describe(),
            rule: rule.into(),
        }
    }

    fn describe(&self) -> String {
        let each: Vec<String> = self
            .named
            .iter()
            .map(|(name, ty)| format!("{name} {}", ty.short()))
            .collect();
        each.join(", ")
    }
}
