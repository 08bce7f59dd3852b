//! Nothing leaks with the CPU's plugin: not in any order of dropping, not on errors, not over
//! thousands of steps. These count what the whole process has, so they run one at a time.

mod harness;

use std::{path::Path, process::ExitCode};

use harness::{Floats, Need, floats, run};
use pjrt_runtime::{
    Argument, Buffer, Client, CompileOptions, Error, Executable, HostArray, LiveObjects, Platform,
    Plugin, live_objects,
};

/// `a * 0.5 + b`, with `a` donated for the result.
fn step_program(elements: usize) -> String {
    format!(
        "module {{
           func.func public @main(%a: tensor<{elements}xf32> {{tf.aliasing_output = 0 : i32}},
                                  %b: tensor<{elements}xf32>) -> tensor<{elements}xf32> {{
             %half = stablehlo.constant dense<0.5> : tensor<{elements}xf32>
             %0 = stablehlo.multiply %a, %half : tensor<{elements}xf32>
             %1 = stablehlo.add %0, %b : tensor<{elements}xf32>
             return %1 : tensor<{elements}xf32>
           }}
         }}"
    )
}

fn client(path: &Path) -> Client {
    assert!(live_objects().is_empty(), "{:?}", live_objects());
    Client::new(&Plugin::load(path).unwrap(), &[]).unwrap()
}

fn upload(client: &Client, values: &[f32]) -> Buffer {
    client
        .buffer_from_host(Floats::vector(values).array(), 0)
        .unwrap()
}

fn step(program: &Executable, state: Buffer, input: &Buffer) -> Buffer {
    let arguments = vec![Argument::Donate(state), Argument::Keep(input)];
    program.execute(arguments).unwrap().pop().unwrap()
}

fn everything_may_be_dropped_in_any_order(path: &Path) {
    // Six orders of client, program and buffers: the rest must work until it is dropped itself.
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let client = client(path);
        let program = client
            .compile(&step_program(2), &CompileOptions::default())
            .unwrap();
        let input = upload(&client, &[1.0, 2.0]);
        let output = step(&program, upload(&client, &[2.0, 4.0]), &input);
        output.wait().unwrap();
        let expected = LiveObjects {
            clients: 1,
            buffers: 2,
            executables: 2,
            ..Default::default()
        };
        assert_eq!(live_objects(), expected);
        let (mut client, mut program) = (Some(client), Some(program));
        let mut buffers = Some((input, output));
        for what in order {
            match what {
                0 => client = None,
                1 => program = None,
                _ => buffers = None,
            }
            if let Some((input, output)) = &buffers {
                assert_eq!(floats(&output.to_host().unwrap()), [2.0, 4.0]);
                if let Some(program) = &program {
                    let arguments = vec![Argument::Keep(output), Argument::Keep(input)];
                    let again = program.execute(arguments).unwrap();
                    assert_eq!(floats(&again[0].to_host().unwrap()), [2.0, 4.0]);
                }
            }
            if let Some(client) = &client {
                assert_eq!(floats(&upload(client, &[7.0]).to_host().unwrap()), [7.0]);
            }
        }
        assert!(live_objects().is_empty(), "{order:?}: {:?}", live_objects());
    }
}

fn errors_leave_nothing_behind(path: &Path) {
    let client = client(path);
    let options = CompileOptions::default();
    let program = client.compile(&step_program(2), &options).unwrap();
    let input = upload(&client, &[1.0, 2.0]);
    let before = live_objects();
    for _ in 0..10 {
        client.compile("hello", &options).unwrap_err();
        client
            .compile(&step_program(2), &options.clone().on_device(99))
            .unwrap_err();
        let one = Floats::vector(&[1.0]);
        let wrong = HostArray {
            dims: &[3],
            ..one.array()
        };
        client.buffer_from_host(wrong, 0).unwrap_err();
        client.buffer_from_host(one.array(), 99).unwrap_err();
        // Donated arguments are gone also when the run is refused.
        let three = upload(&client, &[1.0; 3]);
        let arguments = vec![Argument::Donate(three), Argument::Keep(&input)];
        let error = program.execute(arguments).unwrap_err();
        assert!(matches!(error, Error::Argument { index: 0, .. }), "{error}");
        let one = upload(&client, &[1.0; 2]);
        program.execute(vec![Argument::Donate(one)]).unwrap_err();
        assert_eq!(live_objects(), before);
    }
    drop((client, program, input));
    assert!(live_objects().is_empty());
}

fn a_run_that_fails_leaves_nothing_behind(path: &Path) {
    let client = client(path);
    let large = "module {
        func.func public @main() -> tensor<1000000000000000xf32> {
          %0 = stablehlo.constant dense<1.0> : tensor<1000000000000000xf32>
          return %0 : tensor<1000000000000000xf32>
        }
      }";
    let program = client.compile(large, &CompileOptions::default()).unwrap();
    let before = live_objects();
    for _ in 0..10 {
        let run = program.execute(Vec::new());
        let error = run.and_then(|outputs| outputs[0].to_host()).unwrap_err();
        assert!(error.is_out_of_memory(), "{error}");
        assert_eq!(live_objects(), before);
    }
    drop((client, program));
    assert!(live_objects().is_empty());
}

fn many_donated_steps_copy_nothing_and_keep_nothing(path: &Path) {
    const STEPS: usize = 2000;
    const ELEMENTS: usize = 1 << 18;
    let client = client(path);
    let program = client
        .compile(&step_program(ELEMENTS), &CompileOptions::default())
        .unwrap();
    let input = upload(&client, &[1.0; ELEMENTS]);
    let mut state = upload(&client, &[0.0; ELEMENTS]);
    for _ in 0..10 {
        state = step(&program, state, &input);
    }
    state.wait().unwrap();
    // ANCHOR: steps
    let (transfers, memory) = (client.transfers(), resident_bytes());
    // The state, the input, and what is left of the state that was donated last.
    let objects = LiveObjects {
        clients: 1,
        buffers: 3,
        executables: 2,
        ..LiveObjects::default()
    };
    for _ in 0..STEPS {
        state = step(&program, state, &input);
        assert_eq!(live_objects(), objects);
    }
    state.wait().unwrap();
    assert_eq!(live_objects().buffers, 2);
    assert_eq!(client.transfers(), transfers);
    // ANCHOR_END: steps
    if let (Some(before), Some(after)) = (memory, resident_bytes()) {
        // Each step made an array of 1 MiB: 2 GB if one of them stayed. What a runtime keeps
        // for itself is far less.
        let grown = after.saturating_sub(before);
        assert!(grown < 200 << 20, "{grown} bytes more than {before}");
    }
    // 2 is where x / 2 + 1 stays.
    assert_eq!(floats(&state.to_host().unwrap())[..3], [2.0; 3]);
    let after = client.transfers();
    assert_eq!(after.device_to_host, transfers.device_to_host + 1);
    assert_eq!(
        after.device_to_host_bytes,
        transfers.device_to_host_bytes + 4 * ELEMENTS as u64
    );
    assert_eq!(after.host_to_device, 2);
    assert_eq!(after.host_to_device_bytes, 2 * 4 * ELEMENTS as u64);
    drop((client, program, input, state));
    assert!(live_objects().is_empty());
}

/// Memory of this process in bytes, where the system says it in `/proc`.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes = line.split_whitespace().nth(1)?.parse::<u64>().ok()?;
    Some(kilobytes * 1024)
}

fn all_may_be_dropped_while_a_program_runs(path: &Path) {
    // Long enough not to be done when execute returns.
    let program = "module {
        func.func public @main(%a: tensor<700x700xf32>) -> tensor<700x700xf32> {
          %0 = stablehlo.dot_general %a, %a, contracting_dims = [1] x [0]
               : (tensor<700x700xf32>, tensor<700x700xf32>) -> tensor<700x700xf32>
          %1 = stablehlo.dot_general %0, %a, contracting_dims = [1] x [0]
               : (tensor<700x700xf32>, tensor<700x700xf32>) -> tensor<700x700xf32>
          return %1 : tensor<700x700xf32>
        }
      }";
    for order in 0..4 {
        let client = client(path);
        let program = client.compile(program, &CompileOptions::default()).unwrap();
        let values = Floats::vector(&vec![1e-3; 700 * 700]);
        let array = HostArray {
            dims: &[700, 700],
            ..values.array()
        };
        let argument = client.buffer_from_host(array, 0).unwrap();
        let outputs = program.execute(vec![Argument::Keep(&argument)]).unwrap();
        match order {
            0 => drop((outputs, program, client, argument)),
            1 => drop((argument, outputs, client, program)),
            2 => drop((program, argument, client, outputs)),
            // What is dropped is still being computed with.
            _ => {
                drop((program, argument, client));
                let values = floats(&outputs[0].to_host().unwrap());
                let expected = 700.0 * 700.0 * 1e-9;
                assert!(values.iter().all(|value| (value - expected).abs() < 1e-6));
                drop(outputs);
            }
        }
        assert!(live_objects().is_empty());
    }
}

fn clients_come_and_go(path: &Path) {
    for _ in 0..5 {
        let client = client(path);
        let clone = client.clone();
        drop(client);
        assert_eq!(live_objects().clients, 1);
        drop(clone);
        assert!(live_objects().is_empty());
    }
}

fn main() -> ExitCode {
    run(
        &Need::plugin(Platform::Cpu),
        true,
        tests![
            everything_may_be_dropped_in_any_order,
            errors_leave_nothing_behind,
            a_run_that_fails_leaves_nothing_behind,
            many_donated_steps_copy_nothing_and_keep_nothing,
            all_may_be_dropped_while_a_program_runs,
            clients_come_and_go,
        ],
    )
}
