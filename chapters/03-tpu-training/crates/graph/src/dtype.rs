//! Element types.

use std::fmt;

/// The element type of a tensor.
///
/// Six are enough for training image models: pixels are `U8`, labels and
/// indices `I32`, random bits `U32`, masks `Pred`, everything else `Bf16` or
/// `F32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// Truth value, one byte in host memory (0 or 1).
    Pred,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 32-bit integer.
    U32,
    /// bfloat16: the upper 16 bits of an `F32`.
    Bf16,
    /// IEEE 754 single precision.
    F32,
}

impl DType {
    /// Every element type, narrowest first.
    pub const ALL: [DType; 6] = [
        DType::Pred,
        DType::U8,
        DType::Bf16,
        DType::I32,
        DType::U32,
        DType::F32,
    ];

    /// The name in StableHLO text: `i1`, `ui8`, `i32`, `ui32`, `bf16`, `f32`.
    pub fn text(self) -> &'static str {
        match self {
            DType::Pred => "i1",
            DType::U8 => "ui8",
            DType::I32 => "i32",
            DType::U32 => "ui32",
            DType::Bf16 => "bf16",
            DType::F32 => "f32",
        }
    }

    /// Bytes of one element in host memory.
    pub fn byte_size(self) -> usize {
        match self {
            DType::Pred | DType::U8 => 1,
            DType::Bf16 => 2,
            DType::I32 | DType::U32 | DType::F32 => 4,
        }
    }

    /// Whether gradients flow through values of this type.
    pub fn is_float(self) -> bool {
        matches!(self, DType::Bf16 | DType::F32)
    }

    /// Whether it is an integer type (`Pred` is not).
    pub fn is_integer(self) -> bool {
        matches!(self, DType::U8 | DType::I32 | DType::U32)
    }
}

/// The name as Rust programmers write it: `pred`, `u8`, `i32`, `u32`, `bf16`, `f32`.
impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::Pred => "pred",
            DType::U8 => "u8",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::Bf16 => "bf16",
            DType::F32 => "f32",
        })
    }
}
