//! Programs, their arguments and outputs.

use std::{path::Path, time::Instant};

use pjrt_runtime::{Argument, CompileOptions, Error, HostArray, Plugin, Value};

use crate::{ADD, CLIENT, compile, harness::Floats, read, upload};

pub fn the_plugin_says_what_it_is(path: &Path) {
    let plugin = Plugin::load(path).unwrap();
    assert_eq!(plugin.path(), path.canonicalize().unwrap());
    assert_eq!(plugin.api_version().major, 0);
    let attributes = plugin.attributes().unwrap();
    let version = attributes
        .iter()
        .find(|(name, _)| name == "stablehlo_current_version");
    assert!(matches!(version, Some((_, Value::Ints(version))) if version.len() == 3));
    let text = plugin.to_string();
    assert!(text.contains("PJRT API 0."), "{text}");
    assert_eq!(CLIENT.platform_name(), "cpu");
    let kinds = CLIENT
        .devices()
        .iter()
        .map(|device| (device.id, device.kind.as_str()));
    assert_eq!(kinds.collect::<Vec<_>>(), [(0, "cpu"), (1, "cpu")]);
}

pub fn a_program_runs_on_the_device_it_was_compiled_for(_: &Path) {
    let options = CompileOptions::default().on_device(1);
    let program = CLIENT.compile(ADD, &options).unwrap();
    let on = |device, values: &[f32]| {
        let values = Floats::vector(values);
        CLIENT.buffer_from_host(values.array(), device).unwrap()
    };
    let (a, b) = (on(1, &[1.0, 2.0, 3.0]), on(1, &[0.5; 3]));
    let outputs = program
        .execute(vec![Argument::Donate(a), Argument::Keep(&b)])
        .unwrap();
    assert_eq!(read(&outputs[0]), [1.5, 2.5, 3.5]);
    // Buffers of the other device.
    let arguments = vec![Argument::Donate(on(0, &[1.0; 3])), Argument::Keep(&b)];
    let error = program.execute(arguments).unwrap_err();
    assert!(matches!(error, Error::Pjrt { .. }), "{error}");
}

pub fn a_program_computes(_: &Path) {
    let program = compile(ADD).unwrap();
    assert_eq!(program.num_outputs(), 1);
    let shapes = |shapes: Vec<pjrt_runtime::Shape>| {
        shapes
            .iter()
            .map(|shape| shape.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(shapes(program.output_shapes().unwrap()), ["f32[3]"]);
    let parameters = program.parameter_shapes().unwrap().to_vec();
    assert_eq!(shapes(parameters), ["f32[3]", "f32[3]"]);
    let (a, b) = (upload(&[1.0, 2.0, 3.0]), upload(&[4.0, 5.0, 6.0]));
    let outputs = program
        .execute(vec![Argument::Keep(&a), Argument::Keep(&b)])
        .unwrap();
    outputs[0].wait().unwrap();
    assert_eq!(read(&outputs[0]), [5.0, 7.0, 9.0]);
    let cost = program.cost().unwrap();
    let flops = cost.iter().find(|(name, _)| name == "flops").unwrap();
    assert_eq!(flops.1.as_f64(), Some(3.0));
    let memory = program.memory().unwrap();
    assert_eq!(
        (
            memory.argument_bytes,
            memory.output_bytes,
            memory.alias_bytes
        ),
        (24, 12, 12)
    );
    assert_eq!(
        memory.device_bytes(),
        24 + memory.temp_bytes + memory.generated_code_bytes
    );
}

pub fn outputs_have_their_own_types_and_dimensions(_: &Path) {
    let program = compile(
        "module {
           func.func public @main(%a: tensor<2x3xf32>)
               -> (tensor<3x2xf32>, tensor<2x3xbf16>, tensor<2x3xi1>, tensor<i32>) {
             %t = stablehlo.transpose %a, dims = [1, 0] : (tensor<2x3xf32>) -> tensor<3x2xf32>
             %h = stablehlo.convert %a : (tensor<2x3xf32>) -> tensor<2x3xbf16>
             %z = stablehlo.constant dense<2.0> : tensor<2x3xf32>
             %c = stablehlo.compare GT, %a, %z : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>
             %i = stablehlo.constant dense<-5> : tensor<i32>
             return %t, %h, %c, %i : tensor<3x2xf32>, tensor<2x3xbf16>, tensor<2x3xi1>, tensor<i32>
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
    let shapes = outputs.iter().map(|output| output.shape().to_string());
    assert_eq!(
        shapes.collect::<Vec<_>>(),
        ["f32[3,2]", "bf16[2,3]", "i1[2,3]", "i32[]"]
    );
    assert_eq!(read(&outputs[0]), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let halves = outputs[1].to_host().unwrap();
    // 3.0 in bfloat16 is 0x4040.
    assert_eq!(halves[4..6], [0x40, 0x40]);
    assert_eq!(outputs[2].to_host().unwrap(), [0, 0, 1, 1, 1, 1]);
    assert_eq!(outputs[3].to_host().unwrap(), (-5_i32).to_le_bytes());
}

pub fn programs_without_arguments_or_outputs_run(_: &Path) {
    let nothing_out = compile("module { func.func public @main(%a: tensor<3xf32>) { return } }");
    let outputs = nothing_out
        .unwrap()
        .execute(vec![Argument::Donate(upload(&[0.0; 3]))]);
    assert_eq!(outputs.unwrap().len(), 0);
    let nothing_in = compile(
        "module {
           func.func public @main() -> tensor<2xf32> {
             %0 = stablehlo.constant dense<[0.5, -1.0]> : tensor<2xf32>
             return %0 : tensor<2xf32>
           }
         }",
    );
    let outputs = nothing_in.unwrap().execute(Vec::new()).unwrap();
    assert_eq!(read(&outputs[0]), [0.5, -1.0]);
}

pub fn outputs_feed_the_next_run_without_waiting(_: &Path) {
    let program = compile(ADD).unwrap();
    let one = upload(&[1.0; 3]);
    let mut sum = upload(&[0.0, 10.0, 20.0]);
    let before = CLIENT.transfers();
    for _ in 0..100 {
        let arguments = vec![Argument::Donate(sum), Argument::Keep(&one)];
        sum = program.execute(arguments).unwrap().pop().unwrap();
    }
    let after = CLIENT.transfers();
    // Other tests run at the same time: this only says that none of these hundred is missing.
    assert!(after.host_to_device >= before.host_to_device);
    assert_eq!(read(&sum), [100.0, 110.0, 120.0]);
}

pub fn a_loop_inside_the_program_runs(_: &Path) {
    let program = compile(
        "module {
           func.func public @main(%a: tensor<3xf32>) -> tensor<3xf32> {
             %zero = stablehlo.constant dense<0> : tensor<i32>
             %one = stablehlo.constant dense<1> : tensor<i32>
             %five = stablehlo.constant dense<5> : tensor<i32>
             %r:2 = stablehlo.while(%i = %zero, %x = %a) : tensor<i32>, tensor<3xf32>
               cond {
                 %c = stablehlo.compare LT, %i, %five : (tensor<i32>, tensor<i32>) -> tensor<i1>
                 stablehlo.return %c : tensor<i1>
               } do {
                 %n = stablehlo.add %i, %one : tensor<i32>
                 %y = stablehlo.add %x, %x : tensor<3xf32>
                 stablehlo.return %n, %y : tensor<i32>, tensor<3xf32>
               }
             return %r#1 : tensor<3xf32>
           }
         }",
    )
    .unwrap();
    let outputs = program
        .execute(vec![Argument::Donate(upload(&[1.0, 2.0, 3.0]))])
        .unwrap();
    assert_eq!(read(&outputs[0]), [32.0, 64.0, 96.0]);
}

pub fn a_kept_argument_is_not_touched_even_where_donation_was_foreseen(_: &Path) {
    let program = compile(ADD).unwrap();
    let (a, b) = (upload(&[1.0, 2.0, 3.0]), upload(&[1.0; 3]));
    for _ in 0..3 {
        let outputs = program
            .execute(vec![Argument::Keep(&a), Argument::Keep(&b)])
            .unwrap();
        assert_eq!(read(&outputs[0]), [2.0, 3.0, 4.0]);
        assert_eq!(read(&a), [1.0, 2.0, 3.0]);
    }
    let outputs = program
        .execute(vec![Argument::Keep(&a), Argument::Keep(&a)])
        .unwrap();
    assert_eq!(read(&outputs[0]), [2.0, 4.0, 6.0]);
    // Donated where nothing was foreseen: it is only gone.
    let outputs = program
        .execute(vec![Argument::Keep(&a), Argument::Donate(b)])
        .unwrap();
    assert_eq!(read(&outputs[0]), [2.0, 3.0, 4.0]);
}

pub fn threads_share_client_program_and_buffers(_: &Path) {
    let program = compile(ADD).unwrap();
    let shared = upload(&[1.0, 2.0, 3.0]);
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let (program, shared) = (&program, &shared);
            scope.spawn(move || {
                for run in 0..50_u8 {
                    let start = f32::from(thread) + f32::from(run);
                    let mine = upload(&[start; 3]);
                    let arguments = vec![Argument::Donate(mine), Argument::Keep(shared)];
                    let outputs = program.execute(arguments).unwrap();
                    assert_eq!(read(&outputs[0]), [start + 1.0, start + 2.0, start + 3.0]);
                }
            });
        }
        // Compiles at the same time, and drops what it made in another thread.
        let other = scope.spawn(|| (compile(ADD).unwrap(), CLIENT.clone()));
        drop(other.join().unwrap());
    });
}

pub fn a_run_with_a_donated_argument_is_not_waited_for(_: &Path) {
    let program = compile(
        "module {
           func.func public @main(%a: tensor<700x700xf32> {tf.aliasing_output = 0 : i32})
               -> tensor<700x700xf32> {
             %0 = stablehlo.dot_general %a, %a, contracting_dims = [1] x [0]
                  : (tensor<700x700xf32>, tensor<700x700xf32>) -> tensor<700x700xf32>
             return %0 : tensor<700x700xf32>
           }
         }",
    )
    .unwrap();
    let values = Floats::vector(&vec![0.0; 700 * 700]);
    let array = HostArray {
        dims: &[700, 700],
        ..values.array()
    };
    // The clock is not ours alone: other tests run. One of many tries must show it.
    let ahead = (0..50).any(|_| {
        let argument = CLIENT.buffer_from_host(array, 0).unwrap();
        let start = Instant::now();
        let outputs = program.execute(vec![Argument::Donate(argument)]).unwrap();
        let returned = start.elapsed();
        outputs[0].wait().unwrap();
        returned < start.elapsed() / 2
    });
    assert!(ahead, "execute waited for the run that it began");
}
