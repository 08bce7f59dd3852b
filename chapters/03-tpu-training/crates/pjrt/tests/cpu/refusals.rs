//! What is refused, and how.

use std::path::Path;

use pjrt_runtime::{
    Argument, Client, Code, CompileOptions, ElementType, Error, HostArray, OptionValue, Plugin,
    Topology,
};

use crate::{ADD, CLIENT, compile, harness::Floats, read, upload};

pub fn a_device_that_is_not_there_is_refused(_: &Path) {
    let expected = Error::Device {
        index: 2,
        devices: 2,
    };
    let values = Floats::vector(&[1.0]);
    let error = CLIENT.buffer_from_host(values.array(), 2).unwrap_err();
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "no device 2: the client has 2, counted from 0"
    );
    let options = CompileOptions::default().on_device(2);
    assert_eq!(
        CLIENT.compile(ADD, &options).map(drop),
        Err(expected.clone())
    );
    assert_eq!(CLIENT.device_memory(2), Err(expected));
}

pub fn a_donation_of_another_size_fails_the_compilation(_: &Path) {
    let error = compile(
        "module {
           func.func public @main(%a: tensor<3xf32> {tf.aliasing_output = 0 : i32})
               -> tensor<2xf32> {
             %0 = stablehlo.slice %a [0:2] : (tensor<3xf32>) -> tensor<2xf32>
             return %0 : tensor<2xf32>
           }
         }",
    )
    .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Pjrt {
                call: "PJRT_Client_Compile",
                ..
            }
        ),
        "{error}"
    );
}

pub fn arguments_that_do_not_fit_are_refused(_: &Path) {
    let program = compile(ADD).unwrap();
    let a = upload(&[1.0; 3]);
    let keep = |count| (0..count).map(|_| Argument::Keep(&a)).collect::<Vec<_>>();
    for got in [0, 1, 3] {
        let error = program.execute(keep(got)).unwrap_err();
        assert_eq!(error, Error::ArgumentCount { expected: 2, got });
    }
    let two = upload(&[1.0; 2]);
    let error = program
        .execute(vec![Argument::Keep(&a), Argument::Keep(&two)])
        .unwrap_err();
    assert_eq!(error.to_string(), "argument 1: expected f32[3], got f32[2]");
    // As many bytes, of another type: the plugin itself would compute with them.
    let bytes = [0; 12];
    let array = HostArray {
        element_type: ElementType::S32,
        dims: &[3],
        bytes: &bytes,
    };
    let integers = CLIENT.buffer_from_host(array, 0).unwrap();
    let arguments = vec![Argument::Keep(&integers), Argument::Keep(&a)];
    let error = program.execute(arguments).unwrap_err();
    assert_eq!(error.to_string(), "argument 0: expected f32[3], got i32[3]");
    // As many elements in another arrangement.
    let values = Floats::vector(&[1.0; 3]);
    let array = HostArray {
        dims: &[3, 1],
        ..values.array()
    };
    let column = CLIENT.buffer_from_host(array, 0).unwrap();
    let error = program
        .execute(vec![Argument::Keep(&a), Argument::Keep(&column)])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "argument 1: expected f32[3], got f32[3,1]"
    );
}

pub fn a_buffer_of_another_client_is_refused(path: &Path) {
    let program = compile(ADD).unwrap();
    let other = Client::new(&Plugin::load(path).unwrap(), &[]).unwrap();
    let foreign = other
        .buffer_from_host(Floats::vector(&[1.0; 3]).array(), 0)
        .unwrap();
    let ours = upload(&[1.0; 3]);
    let error = program.execute(vec![Argument::Keep(&ours), Argument::Keep(&foreign)]);
    assert_eq!(error.unwrap_err(), Error::OtherClient { index: 1 });
}

pub fn programs_that_are_none_are_refused(_: &Path) {
    let function = |text: &str| format!("module {{ func.func public @main{text} }}");
    for (program, said) in [
        (String::new(), "main"),
        ("hello".to_owned(), "hello"),
        ("\0\u{1}\u{fffd}".to_owned(), "error"),
        ("module {}".to_owned(), "main"),
        (
            function("(%a: tensor<3xf32>) -> tensor<4xf32> { return %a : tensor<3xf32> }"),
            "type",
        ),
        (
            function("(%a: tensor<?xf32>) -> tensor<?xf32> { return %a : tensor<?xf32> }"),
            "dynam",
        ),
        (
            function("() { stablehlo.no_such_operation }"),
            "no_such_operation",
        ),
        (ADD[..ADD.len() / 2].to_owned(), "error"),
    ] {
        let error = compile(&program).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Pjrt {
                    call: "PJRT_Client_Compile",
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains(said), "{program}: {error}");
    }
    let complex = function(
        "(%a: tensor<complex<f32>>) -> tensor<complex<f32>> { return %a : tensor<complex<f32>> }",
    );
    let error = compile(&complex).unwrap_err();
    assert!(matches!(error, Error::ElementType { .. }), "{error}");
}

pub fn compiler_flags_reach_the_compiler(_: &Path) {
    let with = |name: &str, value| {
        let options = CompileOptions::default().with_override(name, value);
        CLIENT.compile(ADD, &options).map(drop)
    };
    let flag = "xla_cpu_enable_fast_math";
    with(flag, OptionValue::Bool(true)).unwrap();
    with(flag, OptionValue::Text("False".to_owned())).unwrap();
    with("xla_backend_optimization_level", OptionValue::Int(1)).unwrap();
    // XLA looks at each value itself, so these show that every type arrives.
    for (value, said) in [
        (OptionValue::Int(7), "'7' is not a valid bool"),
        (
            OptionValue::Text("maybe".to_owned()),
            "'maybe' is not a valid bool",
        ),
        (OptionValue::Float(0.25), "0.25"),
    ] {
        let error = with(flag, value).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Pjrt {
                    code: Code::InvalidArgument,
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains(said), "{error}");
    }
    let error = with("xla_no_such_flag", OptionValue::Bool(true)).unwrap_err();
    assert!(error.to_string().contains("xla_no_such_flag"), "{error}");
}

pub fn a_client_runs_on_one_device(_: &Path) {
    for (replicas, partitions) in [(2, 1), (1, 2), (0, 1), (1, 0)] {
        let options = CompileOptions::default().with_copies(replicas, partitions);
        let error = CLIENT.compile(ADD, &options).unwrap_err();
        assert!(matches!(error, Error::Options { .. }), "{error}");
    }
}

pub fn too_large_an_array_is_out_of_memory(_: &Path) {
    // More bytes than any address space has, so no machine begins to try.
    let program = compile(
        "module {
           func.func public @main() -> tensor<1000000000000000xf32> {
             %0 = stablehlo.constant dense<1.0> : tensor<1000000000000000xf32>
             return %0 : tensor<1000000000000000xf32>
           }
         }",
    )
    .unwrap();
    assert_eq!(
        program.memory().unwrap().output_bytes,
        4_000_000_000_000_000
    );
    let failed = program
        .execute(Vec::new())
        .and_then(|outputs| outputs[0].wait());
    let error = failed.unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
    // The client goes on.
    assert_eq!(read(&upload(&[1.0])), [1.0]);
}

pub fn what_this_plugin_cannot_do_is_typed(path: &Path) {
    let plugin = Plugin::load(path).unwrap();
    let error = Topology::new(&plugin, "v5e:1x1").unwrap_err();
    assert!(
        matches!(
            error,
            Error::Pjrt {
                code: Code::Unimplemented,
                ..
            }
        ),
        "{error}"
    );
    let error = CLIENT.device_memory(0).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Pjrt {
                code: Code::Unimplemented,
                ..
            }
        ),
        "{error}"
    );
}
