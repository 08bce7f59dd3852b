//! Arrays between host and device.

use std::path::Path;

use pjrt_runtime::{Argument, ElementType, Error, HostArray};

use crate::{CLIENT, compile, harness::Floats, read};

pub fn arrays_of_every_type_come_back(_: &Path) {
    use ElementType::*;
    for element_type in [
        Pred, S8, S16, S32, S64, U8, U16, U32, U64, F16, F32, F64, Bf16,
    ] {
        for dims in [&[][..], &[7], &[2, 3, 5], &[1, 1], &[0], &[4, 0, 2]] {
            let length = dims.iter().product::<usize>() * element_type.byte_size();
            // Truth values have one byte each, 0 or 1.
            let values = if element_type == Pred { 2 } else { 251 };
            // Begins at an odd address: no alignment is asked for.
            let bytes = (0..=length)
                .map(|at| (at % values) as u8)
                .collect::<Vec<_>>();
            let array = HostArray {
                element_type,
                dims,
                bytes: &bytes[1..],
            };
            let buffer = CLIENT.buffer_from_host(array, 0).unwrap();
            assert_eq!(buffer.element_type(), element_type);
            assert_eq!(buffer.dims(), dims);
            assert_eq!(buffer.byte_size(), length);
            assert_eq!(buffer.to_host().unwrap(), array.bytes, "{buffer:?}");
        }
    }
}

pub fn host_memory_is_free_after_the_call(_: &Path) {
    let mut bytes = vec![7_u8; 1 << 20];
    let array = |bytes| HostArray {
        element_type: ElementType::U8,
        dims: &[1 << 20],
        bytes,
    };
    let buffer = CLIENT.buffer_from_host(array(&bytes), 0).unwrap();
    bytes.fill(9);
    drop(bytes);
    assert!(buffer.to_host().unwrap().iter().all(|byte| *byte == 7));
}

pub fn arrays_that_do_not_fit_their_bytes_are_refused(_: &Path) {
    let make = |dims: &[usize], bytes: &[u8]| {
        let array = HostArray {
            element_type: ElementType::F32,
            dims,
            bytes,
        };
        CLIENT.buffer_from_host(array, 0).map(drop).unwrap_err()
    };
    let error = make(&[2, 3], &[0; 23]);
    assert_eq!(
        error.to_string(),
        "host array f32[2,3] needs 24 bytes, got 23"
    );
    assert!(matches!(
        make(&[], &[]),
        Error::HostArray { expected: 4, .. }
    ));
    assert!(matches!(
        make(&[3, 0], &[0]),
        Error::HostArray { expected: 0, .. }
    ));
    for dims in [&[usize::MAX, 2][..], &[1 << 62], &[0, usize::MAX]] {
        let error = make(dims, &[]);
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
}

pub fn arrays_are_row_major_whatever_their_layout_on_the_device(_: &Path) {
    // The output's layout is column-major, and the plugin copies it as it lies.
    let program = compile(
        "module {
           func.func public @main(%a: tensor<2x3xf32>)
               -> (tensor<2x3xf32> {mhlo.layout_mode = \"{0,1}\"}) {
             %0 = stablehlo.add %a, %a : tensor<2x3xf32>
             return %0 : tensor<2x3xf32>
           }
         }",
    )
    .unwrap();
    let values = Floats::vector(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let array = HostArray {
        dims: &[2, 3],
        ..values.array()
    };
    let a = CLIENT.buffer_from_host(array, 0).unwrap();
    let outputs = program.execute(vec![Argument::Keep(&a)]).unwrap();
    assert_eq!(read(&outputs[0]), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
}
