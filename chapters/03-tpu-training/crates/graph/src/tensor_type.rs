//! Element type and shape together.

use std::fmt;

use crate::DType;

/// The type of a tensor: what its elements are, and how many along each dimension.
///
/// Shapes are static: XLA compiles for exact sizes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Size of each dimension, outermost first; empty for a scalar.
    pub dims: Vec<usize>,
}

impl TensorType {
    /// A type of element type `dtype` and shape `dims`.
    pub fn new(dtype: DType, dims: impl Into<Vec<usize>>) -> Self {
        TensorType {
            dtype,
            dims: dims.into(),
        }
    }

    /// The type of one number: no dimensions.
    pub fn scalar(dtype: DType) -> Self {
        TensorType::new(dtype, [])
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Number of elements; 1 for a scalar.
    pub fn element_count(&self) -> usize {
        self.dims.iter().product()
    }

    /// Bytes of a dense tensor of this type in host memory.
    pub fn byte_size(&self) -> usize {
        self.element_count() * self.dtype.byte_size()
    }

    /// Whether the size in bytes is one that memory can have. The graph makes
    /// no value that fails this, so [`TensorType::byte_size`] does not overflow
    /// on the types it returns.
    pub fn is_addressable(&self) -> bool {
        self.dims
            .iter()
            .try_fold(self.dtype.byte_size(), |bytes, &dim| bytes.checked_mul(dim))
            .is_some_and(|bytes| bytes <= isize::MAX as usize)
    }

    /// The same shape with another element type.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        TensorType::new(dtype, self.dims.clone())
    }

    /// The same element type with another shape.
    pub fn with_dims(&self, dims: impl Into<Vec<usize>>) -> Self {
        TensorType::new(self.dtype, dims)
    }

    /// The short form used in error messages and listings: `f32[2,3]`.
    pub fn short(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(usize::to_string).collect();
        format!("{}[{}]", self.dtype, dims.join(","))
    }
}

/// The form used in StableHLO text: `tensor<64x8x8x1xf32>`, `tensor<f32>`.
impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensor<")?;
        for dim in &self.dims {
            write!(f, "{dim}x")?;
        }
        write!(f, "{}>", self.dtype.text())
    }
}
