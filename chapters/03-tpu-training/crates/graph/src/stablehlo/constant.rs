//! Constants as MLIR writes them: `dense<1.0>`, `dense<[1, 2]>`, `dense<"0x..">`.

use half::bf16;

use crate::{DType, Literal};

/// Above this many elements, bytes as a hexadecimal string: compact and exact.
const LISTED_ELEMENTS: usize = 16;

/// `dense<..>`, without the type.
pub(super) fn dense(literal: &Literal) -> String {
    let ty = literal.ty();
    let bytes = literal.as_bytes();
    let mut elements = bytes.chunks_exact(ty.dtype.byte_size());
    let count = ty.element_count();
    if count == 0 {
        return "dense<>".into();
    }
    let first = elements.next().unwrap_or_default();
    if elements.all(|element| element == first) {
        return format!("dense<{}>", element(ty.dtype, first));
    }
    // How MLIR packs truth values in a string has changed between versions.
    if count <= LISTED_ELEMENTS || ty.dtype == DType::Pred {
        return format!("dense<{}>", list(ty.dtype, &ty.dims, bytes));
    }
    let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("dense<\"0x{digits}\">")
}

/// One number, spelled for a type: `1.0`, `-3`, `true`, `0x7F800000`.
pub(super) fn number(value: f32, dtype: DType) -> String {
    let literal = Literal::splat(value, crate::TensorType::scalar(dtype))
        .expect("a scalar is not too large for memory");
    element(dtype, literal.as_bytes())
}

fn list(dtype: DType, dims: &[usize], bytes: &[u8]) -> String {
    let Some((&size, inner)) = dims.split_first() else {
        return element(dtype, bytes);
    };
    let parts: Vec<String> = bytes
        .chunks_exact(bytes.len() / size)
        .map(|part| list(dtype, inner, part))
        .collect();
    format!("[{}]", parts.join(", "))
}

fn element(dtype: DType, bytes: &[u8]) -> String {
    let word = |bytes: &[u8]| bytes.try_into().expect("four bytes an element");
    match dtype {
        DType::Pred => (bytes[0] != 0).to_string(),
        DType::U8 => bytes[0].to_string(),
        DType::I32 => i32::from_le_bytes(word(bytes)).to_string(),
        DType::U32 => u32::from_le_bytes(word(bytes)).to_string(),
        DType::Bf16 => {
            let value = bf16::from_le_bytes([bytes[0], bytes[1]]);
            decimal(value.to_f32())
                .filter(|text| text.parse().map(bf16::from_f64) == Ok(value))
                .unwrap_or_else(|| format!("0x{:04X}", value.to_bits()))
        }
        DType::F32 => {
            let value = f32::from_le_bytes(word(bytes));
            // MLIR reads a double and rounds it: twice rounded need not be once.
            decimal(value)
                .filter(|text| text.parse::<f64>().map(|double| double as f32) == Ok(value))
                .unwrap_or_else(|| format!("0x{:08X}", value.to_bits()))
        }
    }
}

/// The shortest decimal of a finite number; MLIR wants a point in it.
fn decimal(value: f32) -> Option<String> {
    if !value.is_finite() {
        return None;
    }
    let text = match value.abs() {
        0.0 | 1e-4..1e6 => return Some(format!("{value:?}")),
        _ => format!("{value:e}"),
    };
    Some(match text.split_once('e') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0e{exponent}"),
        _ => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_has_a_point_and_keeps_its_value() {
        for (value, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e-5, "1.0e-5"),
            (1.5e-7, "1.5e-7"),
            (3e38, "3.0e38"),
            (f32::MAX, "3.4028235e38"),
            (f32::INFINITY, "0x7F800000"),
            (f32::NAN, "0x7FC00000"),
        ] {
            assert_eq!(number(value, DType::F32), text);
        }
        assert_eq!(number(0.1, DType::Bf16), "0.100097656");
        assert_eq!(number(f32::NEG_INFINITY, DType::Bf16), "0xFF80");
    }

    #[test]
    fn small_arrays_are_lists_and_large_ones_bytes() {
        let small = Literal::from_i32(&[1, -2, 3, 4], [2, 2]).unwrap();
        assert_eq!(dense(&small), "dense<[[1, -2], [3, 4]]>");
        let same = Literal::from_i32(&[7; 100], [100]).unwrap();
        assert_eq!(dense(&same), "dense<7>");
        let bytes: Vec<u8> = (0..20).collect();
        let large = Literal::from_u8(&bytes, [20]).unwrap();
        assert_eq!(
            dense(&large),
            "dense<\"0x000102030405060708090A0B0C0D0E0F10111213\">"
        );
        let none = Literal::from_f32(&[], [0, 3]).unwrap();
        assert_eq!(dense(&none), "dense<>");
    }

    #[test]
    fn truth_values_are_always_a_list() {
        let alternating: Vec<bool> = (0..40).map(|i| i % 2 == 0).collect();
        let text = dense(&Literal::from_pred(&alternating, [40]).unwrap());
        assert!(text.starts_with("dense<[true, false, true,"), "{text}");
    }
}
