//! Types of a program's parameters, read out of the program that the compiler gives back.
//!
//! PJRT has a call for the types of outputs and none for those of parameters. It matters: the
//! CPU's plugin compares only the number of arguments and their sizes in bytes, so that i32
//! bits where f32 are expected would be computed with. The optimized program names the types,
//! as an `xla.HloModuleProto` (`xla/service/hlo.proto`, `xla/xla_data.proto`).

use crate::{
    element_type::ElementType,
    protobuf::{Field, Fields, varint},
    shape::Shape,
};

/// Field numbers.
mod field {
    // HloModuleProtoWithConfig
    pub const HLO_MODULE: u64 = 1;
    // HloModuleProto
    pub const HOST_PROGRAM_SHAPE: u64 = 4;
    // ProgramShapeProto
    pub const PARAMETERS: u64 = 1;
    // ShapeProto
    pub const ELEMENT_TYPE: u64 = 2;
    pub const DIMENSIONS: u64 = 3;
}

/// Types and dimensions of a program's parameters.
///
/// * `format`: what the plugin says that `program` is: `hlo` or `hlo_with_config`
///
/// `None` if it is something else, or a parameter is not an array of one of our types: then
/// nothing is known, and the plugin's own checks must do.
pub fn parameters(format: &str, program: &[u8]) -> Option<Vec<Shape>> {
    let module = match format {
        "hlo" => program,
        "hlo_with_config" => last(program, field::HLO_MODULE)?,
        _ => return None,
    };
    let signature = last(module, field::HOST_PROGRAM_SHAPE)?;
    let mut shapes = Vec::new();
    for field in Fields::new(signature) {
        let (number, value) = field?;
        if number == field::PARAMETERS {
            shapes.push(shape(value.bytes()?)?);
        }
    }
    Some(shapes)
}

/// The message in the last field of that number.
fn last(message: &[u8], number: u64) -> Option<&[u8]> {
    let mut found = None;
    for field in Fields::new(message) {
        let (its_number, value) = field?;
        if its_number == number {
            found = value.bytes();
        }
    }
    found
}

/// A `xla.ShapeProto` that is an array.
fn shape(message: &[u8]) -> Option<Shape> {
    let mut element_type = None;
    let mut dims = Vec::new();
    for field in Fields::new(message) {
        match field? {
            (field::ELEMENT_TYPE, Field::Int(number)) => {
                element_type = Some(primitive_type(number)?);
            }
            (field::DIMENSIONS, Field::Int(dim)) => dims.push(usize::try_from(dim).ok()?),
            (field::DIMENSIONS, Field::Bytes(mut list)) => {
                while !list.is_empty() {
                    dims.push(usize::try_from(varint(&mut list)?).ok()?);
                }
            }
            _ => {}
        }
    }
    Shape::new(element_type?, dims)
}

/// The type with that number in `xla.PrimitiveType`: its numbers are those of PJRT up to f64.
fn primitive_type(number: u64) -> Option<ElementType> {
    match number {
        16 => Some(ElementType::Bf16),
        1..=12 => ElementType::from_number(i32::try_from(number).ok()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protobuf::Message;

    fn module(parameters: &[(i64, &[i64])]) -> Vec<u8> {
        let mut signature = Message::default();
        for (element_type, dims) in parameters {
            let mut shape = Message::default();
            shape.int(2, *element_type);
            shape.packed(3, dims);
            signature.message(1, &shape);
        }
        let mut module = Message::default();
        module.bytes(1, b"name");
        module.message(4, &signature);
        module.into_bytes()
    }

    #[test]
    fn parameters_are_read_from_both_formats() {
        let module = module(&[(11, &[2, 300]), (16, &[]), (1, &[0])]);
        let expected = ["f32[2,300]", "bf16[]", "i1[0]"];
        let text = |shapes: Vec<Shape>| shapes.iter().map(Shape::to_string).collect::<Vec<_>>();
        assert_eq!(text(parameters("hlo", &module).unwrap()), expected);
        let mut with_config = Message::default();
        with_config.bytes(1, &module);
        let with_config = with_config.into_bytes();
        let shapes = parameters("hlo_with_config", &with_config).unwrap();
        assert_eq!(text(shapes), expected);
        assert_eq!(parameters("mlir", &module), None);
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        // A tuple (13), a complex number (15), a negative dimension.
        for parameter in [(13, &[][..]), (15, &[1]), (11, &[-1])] {
            assert_eq!(parameters("hlo", &module(&[parameter])), None);
        }
        let module = module(&[(11, &[2, 3])]);
        for length in 0..module.len() {
            assert_eq!(parameters("hlo", &module[..length]), None, "{length}");
        }
    }
}
