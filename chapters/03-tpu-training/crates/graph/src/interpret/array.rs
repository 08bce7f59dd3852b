//! Arrays of f64 with a type, and walks over their positions.

use half::bf16;

use crate::{DType, Literal, LiteralError, TensorType};

/// What happens to the result of a floating-point operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// It is rounded to its element type, as memory would hold it.
    Stored,
    /// It stays f64.
    None,
}

/// The elements of a value, in row-major order. Those of integer types are
/// whole numbers in range; those of `pred` are 0 and 1.
#[derive(Clone, Debug)]
pub struct Array {
    pub ty: TensorType,
    pub elements: Vec<f64>,
}

impl Array {
    /// The result of an operation.
    pub fn new(ty: TensorType, mut elements: Vec<f64>, rounding: Rounding) -> Self {
        debug_assert_eq!(elements.len(), ty.element_count());
        if rounding == Rounding::Stored {
            for element in &mut elements {
                *element = rounded(*element, ty.dtype);
            }
        }
        Array { ty, elements }
    }

    pub fn from_literal(literal: &Literal) -> Result<Self, LiteralError> {
        let elements = match literal.ty().dtype {
            DType::Pred => widened(literal.to_pred_vec()?),
            DType::U8 => widened(literal.to_u8_vec()?),
            DType::I32 => widened(literal.to_i32_vec()?),
            DType::U32 => widened(literal.to_u32_vec()?),
            DType::Bf16 | DType::F32 => widened(literal.to_f32_vec()?),
        };
        let ty = literal.ty().clone();
        Ok(Array { ty, elements })
    }

    pub fn to_literal(&self) -> Result<Literal, LiteralError> {
        // Exact: the elements are numbers of the type.
        let elements = self.elements.iter();
        let bytes: Vec<u8> = match self.ty.dtype {
            DType::Pred | DType::U8 => elements.map(|v| *v as u8).collect(),
            DType::I32 => elements.flat_map(|v| (*v as i32).to_le_bytes()).collect(),
            DType::U32 => elements.flat_map(|v| (*v as u32).to_le_bytes()).collect(),
            DType::Bf16 => elements
                .flat_map(|v| bf16::from_f32(*v as f32).to_le_bytes())
                .collect(),
            DType::F32 => elements.flat_map(|v| (*v as f32).to_le_bytes()).collect(),
        };
        Literal::from_bytes(self.ty.clone(), bytes)
    }

    /// Elements given as f64, or what is wrong with them.
    pub fn from_elements(ty: &TensorType, elements: &[f64]) -> Result<Self, String> {
        let (count, short) = (ty.element_count(), ty.short());
        if elements.len() != count {
            let got = elements.len();
            return Err(format!("{short}: expected {count} elements, got {got}"));
        }
        let wrong = |v: &&f64| !ty.dtype.is_float() && rounded(**v, ty.dtype) != **v;
        if let Some(wrong) = elements.iter().find(wrong) {
            return Err(format!("{short}: {wrong} is not a {}", ty.dtype));
        }
        let (ty, elements) = (ty.clone(), elements.to_vec());
        Ok(Array { ty, elements })
    }

    /// The element at a position.
    pub fn at(&self, position: &[usize]) -> f64 {
        self.elements[offset(&self.ty.dims, position)]
    }

    pub fn dims(&self) -> &[usize] {
        &self.ty.dims
    }

    pub fn dtype(&self) -> DType {
        self.ty.dtype
    }
}

fn widened<T: Into<f64>>(values: Vec<T>) -> Vec<f64> {
    values.into_iter().map(T::into).collect()
}

/// The nearest number of a type; for integers, which operations wrap
/// themselves, the nearest end of the range.
pub fn rounded(value: f64, dtype: DType) -> f64 {
    match dtype {
        DType::Pred => f64::from(u8::from(value != 0.0)),
        DType::U8 => f64::from(value as u8),
        DType::I32 => f64::from(value as i32),
        DType::U32 => f64::from(value as u32),
        DType::Bf16 => f64::from(bf16::from_f32(value as f32)),
        DType::F32 => f64::from(value as f32),
    }
}

/// The index in row-major order of a position.
pub fn offset(dims: &[usize], position: &[usize]) -> usize {
    debug_assert_eq!(dims.len(), position.len());
    let pairs = dims.iter().zip(position);
    pairs.fold(0, |offset, (size, at)| offset * size + at)
}

/// Every position of a shape, in row-major order; one, empty, for a scalar.
pub fn positions(dims: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let dims = dims.to_vec();
    let count: usize = dims.iter().product();
    (0..count).map(move |mut rest| {
        let mut position = vec![0; dims.len()];
        for (at, size) in position.iter_mut().zip(&dims).rev() {
            *at = rest % size;
            rest /= size;
        }
        position
    })
}
