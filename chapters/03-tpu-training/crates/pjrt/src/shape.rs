//! Type and dimensions of an array.

use std::{ffi::c_int, fmt};

use crate::{element_type::ElementType, error::Error};

/// Type and dimensions of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Type of the elements.
    pub element_type: ElementType,
    /// Size of each dimension; empty for a scalar.
    pub dims: Vec<usize>,
}

impl Shape {
    /// The shape, if its bytes can be counted.
    pub(crate) fn new(element_type: ElementType, dims: Vec<usize>) -> Option<Self> {
        byte_size(element_type, &dims)?;
        Some(Self { element_type, dims })
    }

    /// A shape that a plugin named.
    ///
    /// # Errors
    /// [`Error::ElementType`] if the type is not one of ours, [`Error::TooLarge`] if its bytes
    /// cannot be counted.
    pub(crate) fn from_plugin(number: c_int, dims: Vec<usize>) -> Result<Self, Error> {
        let element_type = ElementType::from_number(number).ok_or(Error::ElementType { number })?;
        Self::new(element_type, dims.clone()).ok_or(Error::TooLarge { dims })
    }

    /// Bytes of the array in row-major order without gaps.
    pub fn byte_size(&self) -> usize {
        // Counted when the shape was made.
        byte_size(self.element_type, &self.dims).unwrap_or(usize::MAX)
    }
}

/// Bytes of an array; `None` if they do not fit an `isize`, as no Rust slice is longer.
pub(crate) fn byte_size(element_type: ElementType, dims: &[usize]) -> Option<usize> {
    let empty = dims.contains(&0);
    let mut size = element_type.byte_size();
    for dim in dims {
        size = size.checked_mul(if empty { *dim.min(&1) } else { *dim })?;
    }
    isize::try_from(size).is_ok().then_some(size)
}

/// `f32[2,3]`
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<_> = self.dims.iter().map(usize::to_string).collect();
        write!(f, "{}[{}]", self.element_type, dims.join(","))
    }
}
