//! Element types of arrays.

use std::{ffi::c_int, fmt};

/// Type of an array's elements.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// A truth value in one byte, 0 or 1.
    Pred,
    /// Signed integer of 8 bits.
    S8,
    /// Signed integer of 16 bits.
    S16,
    /// Signed integer of 32 bits.
    S32,
    /// Signed integer of 64 bits.
    S64,
    /// Unsigned integer of 8 bits.
    U8,
    /// Unsigned integer of 16 bits.
    U16,
    /// Unsigned integer of 32 bits.
    U32,
    /// Unsigned integer of 64 bits.
    U64,
    /// Floating point of 16 bits, IEEE 754 binary16.
    F16,
    /// Floating point of 32 bits.
    F32,
    /// Floating point of 64 bits.
    F64,
    /// Floating point of 16 bits with the exponent of [`F32`](Self::F32): bfloat16.
    Bf16,
}

/// (type, its number among `PJRT_Buffer_Type`, bytes, name in StableHLO)
const TABLE: [(ElementType, c_int, usize, &str); 13] = [
    (ElementType::Pred, 1, 1, "i1"),
    (ElementType::S8, 2, 1, "i8"),
    (ElementType::S16, 3, 2, "i16"),
    (ElementType::S32, 4, 4, "i32"),
    (ElementType::S64, 5, 8, "i64"),
    (ElementType::U8, 6, 1, "ui8"),
    (ElementType::U16, 7, 2, "ui16"),
    (ElementType::U32, 8, 4, "ui32"),
    (ElementType::U64, 9, 8, "ui64"),
    (ElementType::F16, 10, 2, "f16"),
    (ElementType::F32, 11, 4, "f32"),
    (ElementType::F64, 12, 8, "f64"),
    (ElementType::Bf16, 13, 2, "bf16"),
];

impl ElementType {
    /// Bytes of one element.
    pub fn byte_size(self) -> usize {
        TABLE[self as usize].2
    }

    /// The number that PJRT has for it.
    pub(crate) fn number(self) -> c_int {
        TABLE[self as usize].1
    }

    /// The type with that number, if this crate knows it.
    pub(crate) fn from_number(number: c_int) -> Option<Self> {
        let row = TABLE.iter().find(|row| row.1 == number)?;
        Some(row.0)
    }
}

/// The name that StableHLO has for it: `f32`, `ui8`, `i1`.
impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(TABLE[*self as usize].3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_types() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index);
            assert_eq!(ElementType::from_number(row.1), Some(row.0));
        }
        // INVALID, C64 (complex) and TOKEN are not among them.
        for number in [0, 14, 23, -1] {
            assert_eq!(ElementType::from_number(number), None);
        }
    }
}
