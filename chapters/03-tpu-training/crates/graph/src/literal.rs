//! Arrays in host memory.

use half::bf16;

use crate::{DType, TensorType};

/// An array in host memory: a type, and the elements as bytes.
///
/// Elements are little-endian and in row-major order (the last dimension
/// varies fastest), one byte each for `Pred` and `U8`: the form in which PJRT
/// takes arrays from the host and gives them back, and safetensors stores them.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    ty: TensorType,
    bytes: Vec<u8>,
}

/// Elements that do not make the array that was asked for, or an array that
/// does not hold the elements that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LiteralError {
    /// Too few or too many elements for the shape.
    #[error("literal {}: expected {} elements, got {got}", .ty.short(), .ty.element_count())]
    ElementCount {
        /// The type that was asked for.
        ty: TensorType,
        /// Number of elements given.
        got: usize,
    },
    /// Too few or too many bytes for the type.
    #[error("literal {}: expected {} bytes, got {got}", .ty.short(), .ty.byte_size())]
    ByteCount {
        /// The type that was asked for.
        ty: TensorType,
        /// Number of bytes given.
        got: usize,
    },
    /// A truth value that is neither 0 nor 1.
    #[error("literal {}: element {index} has byte {byte}; a pred is 0 or 1", .ty.short())]
    NotATruthValue {
        /// The type that was asked for.
        ty: TensorType,
        /// Position of the first such element, in row-major order.
        index: usize,
        /// Its byte.
        byte: u8,
    },
    /// A shape whose size in bytes no computer can address.
    #[error("literal {dtype}{dims:?}: no memory holds so many elements")]
    TooLarge {
        /// Element type.
        dtype: DType,
        /// Shape.
        dims: Vec<usize>,
    },
    /// The elements are of another type than was asked for.
    #[error("literal {}: elements are {}, not {wanted}; convert in the graph, or read them as {}", .ty.short(), .ty.dtype, .ty.dtype)]
    ElementType {
        /// The literal's type.
        ty: TensorType,
        /// The element type that was asked for.
        wanted: DType,
    },
}

impl Literal {
    /// An array of f32.
    ///
    /// * `values`: in row-major order
    /// * `dims`: shape; empty for a scalar
    ///
    /// # Errors
    /// [`LiteralError`] if there are not as many values as the shape has elements.
    pub fn from_f32(values: &[f32], dims: impl Into<Vec<usize>>) -> Result<Self, LiteralError> {
        Self::of(DType::F32, values, dims, |v| v.to_le_bytes())
    }

    /// An array of bf16. Otherwise as [`Literal::from_f32`].
    ///
    /// # Errors
    /// As [`Literal::from_f32`].
    pub fn from_bf16(values: &[bf16], dims: impl Into<Vec<usize>>) -> Result<Self, LiteralError> {
        Self::of(DType::Bf16, values, dims, |v| v.to_le_bytes())
    }

    /// An array of i32. Otherwise as [`Literal::from_f32`].
    ///
    /// # Errors
    /// As [`Literal::from_f32`].
    pub fn from_i32(values: &[i32], dims: impl Into<Vec<usize>>) -> Result<Self, LiteralError> {
        Self::of(DType::I32, values, dims, |v| v.to_le_bytes())
    }

    /// An array of u32. Otherwise as [`Literal::from_f32`].
    ///
    /// # Errors
    /// As [`Literal::from_f32`].
    pub fn from_u32(values: &[u32], dims: impl Into<Vec<usize>>) -> Result<Self, LiteralError> {
        Self::of(DType::U32, values, dims, |v| v.to_le_bytes())
    }

    /// An array of u8. Otherwise as [`Literal::from_f32`].
    ///
    /// # Errors
    /// As [`Literal::from_f32`].
    pub fn from_u8(values: &[u8], dims: impl Into<Vec<usize>>) -> Result<Self, LiteralError> {
        Self::of(DType::U8, values, dims, |v| [v])
    }

    /// An array of truth values. Otherwise as [`Literal::from_f32`].
    ///
    /// # Errors
    /// As [`Literal::from_f32`].
    pub fn from_pred(values: &[bool], dims: impl Into<Vec<usize>>) -> Result<Self, LiteralError> {
        Self::of(DType::Pred, values, dims, |v| [u8::from(v)])
    }

    /// An array of any type from its bytes, little-endian and row-major.
    ///
    /// # Errors
    /// [`LiteralError`] if there are not as many bytes as the type has, or a
    /// `Pred` is neither 0 nor 1.
    pub fn from_bytes(ty: TensorType, bytes: Vec<u8>) -> Result<Self, LiteralError> {
        if checked_byte_size(&ty)? != bytes.len() {
            let got = bytes.len();
            return Err(LiteralError::ByteCount { ty, got });
        }
        if ty.dtype == DType::Pred
            && let Some(index) = bytes.iter().position(|byte| *byte > 1)
        {
            let byte = bytes[index];
            return Err(LiteralError::NotATruthValue { ty, index, byte });
        }
        Ok(Literal { ty, bytes })
    }

    /// One value everywhere.
    ///
    /// * `value`: rounded to the nearest bf16 for `Bf16`; for integers the part
    ///   after the point is dropped and what is out of range becomes the
    ///   nearest end of it; for `Pred`, whether it is other than 0
    ///
    /// # Errors
    /// [`LiteralError::TooLarge`] if no memory holds such an array.
    pub fn splat(value: f32, ty: TensorType) -> Result<Self, LiteralError> {
        checked_byte_size(&ty)?;
        let element: &[u8] = match ty.dtype {
            DType::Pred => &[u8::from(value != 0.0)],
            DType::U8 => &[value as u8],
            DType::I32 => &(value as i32).to_le_bytes(),
            DType::U32 => &(value as u32).to_le_bytes(),
            DType::Bf16 => &bf16::from_f32(value).to_le_bytes(),
            DType::F32 => &value.to_le_bytes(),
        };
        let bytes = element.repeat(ty.element_count());
        Ok(Literal { ty, bytes })
    }

    /// Element type and shape.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// The elements, little-endian and row-major.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The elements, little-endian and row-major, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The elements of an `F32` array; those of a `Bf16` array too, which f32
    /// represents exactly.
    ///
    /// # Errors
    /// [`LiteralError::ElementType`] for any other array.
    pub fn to_f32_vec(&self) -> Result<Vec<f32>, LiteralError> {
        if self.ty.dtype == DType::Bf16 {
            return Ok(self.to_bf16_vec()?.iter().map(|v| v.to_f32()).collect());
        }
        self.elements(DType::F32, f32::from_le_bytes)
    }

    /// The elements of a `Bf16` array.
    ///
    /// # Errors
    /// [`LiteralError::ElementType`] for any other array.
    pub fn to_bf16_vec(&self) -> Result<Vec<bf16>, LiteralError> {
        self.elements(DType::Bf16, bf16::from_le_bytes)
    }

    /// The elements of an `I32` array.
    ///
    /// # Errors
    /// [`LiteralError::ElementType`] for any other array.
    pub fn to_i32_vec(&self) -> Result<Vec<i32>, LiteralError> {
        self.elements(DType::I32, i32::from_le_bytes)
    }

    /// The elements of a `U32` array.
    ///
    /// # Errors
    /// [`LiteralError::ElementType`] for any other array.
    pub fn to_u32_vec(&self) -> Result<Vec<u32>, LiteralError> {
        self.elements(DType::U32, u32::from_le_bytes)
    }

    /// The elements of a `U8` array.
    ///
    /// # Errors
    /// [`LiteralError::ElementType`] for any other array.
    pub fn to_u8_vec(&self) -> Result<Vec<u8>, LiteralError> {
        self.elements(DType::U8, |[byte]| byte)
    }

    /// The elements of a `Pred` array.
    ///
    /// # Errors
    /// [`LiteralError::ElementType`] for any other array.
    pub fn to_pred_vec(&self) -> Result<Vec<bool>, LiteralError> {
        self.elements(DType::Pred, |[byte]| byte != 0)
    }

    fn of<T: Copy, const N: usize>(
        dtype: DType,
        values: &[T],
        dims: impl Into<Vec<usize>>,
        to_bytes: impl Fn(T) -> [u8; N],
    ) -> Result<Self, LiteralError> {
        let ty = TensorType::new(dtype, dims);
        checked_byte_size(&ty)?;
        if ty.element_count() != values.len() {
            let got = values.len();
            return Err(LiteralError::ElementCount { ty, got });
        }
        let bytes = values.iter().flat_map(|v| to_bytes(*v)).collect();
        Ok(Literal { ty, bytes })
    }

    fn elements<T, const N: usize>(
        &self,
        wanted: DType,
        from_bytes: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, LiteralError> {
        if self.ty.dtype != wanted {
            let ty = self.ty.clone();
            return Err(LiteralError::ElementType { ty, wanted });
        }
        let (chunks, _) = self.bytes.as_chunks::<N>();
        Ok(chunks.iter().map(|chunk| from_bytes(*chunk)).collect())
    }
}

/// Scalars: arrays without dimensions, which cannot have too many elements.
macro_rules! scalars {
    ($($number:ty, $dtype:ident;)+) => {
        $(
            impl From<$number> for Literal {
                fn from(value: $number) -> Self {
                    Literal {
                        ty: TensorType::scalar(DType::$dtype),
                        bytes: value.to_le_bytes().to_vec(),
                    }
                }
            }
        )+
    };
}

scalars! {
    u8, U8;
    i32, I32;
    u32, U32;
    bf16, Bf16;
    f32, F32;
}

/// Bytes of an array of this type, at most `isize::MAX` as Rust's allocations are.
fn checked_byte_size(ty: &TensorType) -> Result<usize, LiteralError> {
    let mut sizes = ty.dims.iter().copied();
    sizes
        .try_fold(ty.dtype.byte_size(), usize::checked_mul)
        .filter(|bytes| isize::try_from(*bytes).is_ok())
        .ok_or_else(|| LiteralError::TooLarge {
            dtype: ty.dtype,
            dims: ty.dims.clone(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_as_they_went_in() {
        let f32s = [1.5, -0.0, f32::INFINITY, 1e-45];
        let literal = Literal::from_f32(&f32s, [2, 2]).unwrap();
        assert_eq!(literal.to_f32_vec().unwrap(), f32s);
        assert_eq!(literal.as_bytes()[..4], [0, 0, 0xc0, 0x3f]);

        let bf16s = [bf16::from_f32(1.5), bf16::MAX];
        let literal = Literal::from_bf16(&bf16s, [2]).unwrap();
        assert_eq!(literal.to_bf16_vec().unwrap(), bf16s);
        assert_eq!(literal.to_f32_vec().unwrap(), [1.5, 3.3895314e38]);

        let literal = Literal::from_i32(&[-2, i32::MAX], [1, 2]).unwrap();
        assert_eq!(literal.to_i32_vec().unwrap(), [-2, i32::MAX]);
        let literal = Literal::from_u32(&[u32::MAX], []).unwrap();
        assert_eq!(literal.to_u32_vec().unwrap(), [u32::MAX]);
        assert_eq!(literal, Literal::from(u32::MAX));
        let literal = Literal::from_u8(&[0, 255], [2]).unwrap();
        assert_eq!(literal.to_u8_vec().unwrap(), [0, 255]);
        let literal = Literal::from_pred(&[true, false], [2]).unwrap();
        assert_eq!(literal.to_pred_vec().unwrap(), [true, false]);

        let again = Literal::from_bytes(literal.ty().clone(), literal.as_bytes().to_vec());
        assert_eq!(again.unwrap(), literal);
    }

    #[test]
    fn a_splat_takes_the_nearest_value_of_its_type() {
        let bytes = |value, dtype| {
            let literal = Literal::splat(value, TensorType::new(dtype, [2])).unwrap();
            literal.into_bytes()
        };
        assert_eq!(bytes(1.0, DType::F32), [0, 0, 0x80, 0x3f, 0, 0, 0x80, 0x3f]);
        // Half-way between two bf16s: to the even one.
        assert_eq!(
            bytes(1.0 + 1.0 / 256.0, DType::Bf16),
            [0x80, 0x3f, 0x80, 0x3f]
        );
        assert_eq!(bytes(-1.9, DType::I32)[..4], [0xff; 4]);
        assert_eq!(bytes(-1.0, DType::U32), [0; 8]);
        assert_eq!(bytes(300.0, DType::U8), [255; 2]);
        assert_eq!(bytes(0.5, DType::Pred), [1, 1]);
    }

    #[test]
    fn errors_say_what_was_expected() {
        let error = Literal::from_f32(&[0.0; 5], [2, 3]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "literal f32[2,3]: expected 6 elements, got 5"
        );
        let ty = TensorType::new(DType::Bf16, [3]);
        let error = Literal::from_bytes(ty, vec![0; 5]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "literal bf16[3]: expected 6 bytes, got 5"
        );
        let ty = TensorType::new(DType::Pred, [2]);
        let error = Literal::from_bytes(ty, vec![1, 2]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "literal pred[2]: element 1 has byte 2; a pred is 0 or 1"
        );
        let error = Literal::from_i32(&[1], []).unwrap().to_f32_vec();
        assert_eq!(
            error.unwrap_err().to_string(),
            "literal i32[]: elements are i32, not f32; convert in the graph, or read them as i32"
        );
        let ty = TensorType::new(DType::F32, [1 << 40, 1 << 40]);
        let error = Literal::splat(0.0, ty).unwrap_err();
        assert!(matches!(error, LiteralError::TooLarge { .. }), "{error}");
    }
}
