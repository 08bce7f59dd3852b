//! Compiling for TPUs with libtpu, on a machine that has none.

mod harness;

use std::{path::Path, process::ExitCode};

use harness::{Need, Test, run};
use pjrt_runtime::{
    Client, CompileOptions, CompiledProgram, Error, LIBTPU_WITHOUT_TPU, Platform, Plugin, Topology,
    live_objects, quiet_plugins, set_default_variable,
};

/// `tanh(a * b)` of bf16 matrices, 512x1024 and 1024x1024.
const PRODUCT: &str = "
    module @product {
      func.func public @main(%a: tensor<512x1024xbf16>, %b: tensor<1024x1024xbf16>)
          -> tensor<512x1024xbf16> {
        %0 = stablehlo.dot_general %a, %b, contracting_dims = [1] x [0]
             : (tensor<512x1024xbf16>, tensor<1024x1024xbf16>) -> tensor<512x1024xbf16>
        %1 = stablehlo.tanh %0 : tensor<512x1024xbf16>
        return %1 : tensor<512x1024xbf16>
      }
    }";

fn compile(path: &Path, topology: &str) -> CompiledProgram {
    let topology = Topology::new(&Plugin::load(path).unwrap(), topology).unwrap();
    topology
        .compile(PRODUCT, &CompileOptions::default())
        .unwrap()
}

fn cost(program: &CompiledProgram, name: &str) -> f64 {
    let costs = program.cost().unwrap();
    let cost = costs.iter().find(|(its_name, _)| its_name == name);
    cost.unwrap_or_else(|| panic!("no {name} in {costs:?}"))
        .1
        .as_f64()
        .unwrap()
}

fn topologies_name_their_chips(path: &Path) {
    let plugin = Plugin::load(path).unwrap();
    for (name, chips, kind) in [
        ("v5e:1x1", 1, "TPU v5 lite"),
        ("v5e:2x2", 4, "TPU v5 lite"),
        ("v6e:2x2", 4, "TPU v6 lite"),
    ] {
        let topology = Topology::new(&plugin, name).unwrap();
        assert_eq!(topology.platform_name().unwrap(), "tpu");
        assert_eq!(topology.devices().len(), chips, "{name}");
        assert!(
            topology.devices().iter().all(|device| device.kind == kind),
            "{topology:?}"
        );
    }
    assert!(live_objects().is_empty());
}

fn the_compiler_estimates_cost_and_memory(path: &Path) {
    let v5e = compile(path, "v5e:1x1");
    let matrix_flops = 2.0 * 512.0 * 1024.0 * 1024.0;
    let flops = cost(&v5e, "flops");
    assert!(
        (matrix_flops..1.05 * matrix_flops).contains(&flops),
        "{flops}"
    );
    let memory = v5e.memory().unwrap();
    assert_eq!(memory.argument_bytes, 2 * (512 * 1024 + 1024 * 1024));
    assert_eq!(memory.output_bytes, 2 * 512 * 1024);
    assert!(memory.device_bytes() >= memory.argument_bytes + memory.output_bytes);
    // The newer chip is expected to be faster.
    let seconds = cost(&v5e, "optimal_seconds");
    let newer = cost(&compile(path, "v6e:2x2"), "optimal_seconds");
    assert!(
        0.0 < newer && newer < seconds && seconds < 1e-3,
        "{newer} {seconds}"
    );
    drop(v5e);
    assert!(live_objects().is_empty());
}

fn what_does_not_fit_the_chip_is_out_of_memory(path: &Path) {
    let topology = Topology::new(&Plugin::load(path).unwrap(), "v5e:1x1").unwrap();
    // 40 GB of arguments and as much of outputs; a v5e has 16.
    let huge = "module {
        func.func public @main(%a: tensor<10000000000xf32>) -> tensor<10000000000xf32> {
          %0 = stablehlo.add %a, %a : tensor<10000000000xf32>
          return %0 : tensor<10000000000xf32>
        }
      }";
    let error = topology
        .compile(huge, &CompileOptions::default())
        .unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
}

fn mistakes_are_typed(path: &Path) {
    let plugin = Plugin::load(path).unwrap();
    for name in ["v99:1x1", "v5e:7x9", "nonsense"] {
        let error = Topology::new(&plugin, name).unwrap_err();
        assert!(matches!(error, Error::Pjrt { .. }), "{name}: {error}");
    }
    let topology = Topology::new(&plugin, "v5e:1x1").unwrap();
    let error = topology
        .compile("hello", &CompileOptions::default())
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Pjrt {
                call: "PJRT_Compile",
                ..
            }
        ),
        "{error}"
    );
    let none = CompileOptions::default().with_copies(0, 1);
    let error = topology.compile(PRODUCT, &none).unwrap_err();
    assert!(matches!(error, Error::Options { .. }), "{error}");
    drop(topology);
    assert!(live_objects().is_empty());
}

fn several_chips_share_a_program(path: &Path) {
    let topology = Topology::new(&Plugin::load(path).unwrap(), "v5e:2x2").unwrap();
    let options = CompileOptions::default().with_copies(4, 1);
    let program = topology.compile(PRODUCT, &options).unwrap();
    assert_eq!(program.num_outputs().unwrap(), 1);
}

fn without_a_tpu_there_is_no_client(path: &Path) {
    let error = Client::new(&Plugin::load(path).unwrap(), &[]).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Pjrt {
                call: "PJRT_Client_Create",
                ..
            }
        ),
        "{error}"
    );
    assert!(live_objects().is_empty());
}

fn main() -> ExitCode {
    // While there is one thread.
    quiet_plugins();
    for (name, value) in LIBTPU_WITHOUT_TPU {
        set_default_variable(name, value);
    }
    let need = Need::plugin(Platform::Tpu);
    let tests: &[Test] = tests![
        topologies_name_their_chips,
        the_compiler_estimates_cost_and_memory,
        what_does_not_fit_the_chip_is_out_of_memory,
        mistakes_are_typed,
        several_chips_share_a_program,
        // The last one: not where there is a TPU.
        without_a_tpu_there_is_no_client,
    ];
    let has_tpu = ["/dev/accel0", "/dev/vfio/0"]
        .iter()
        .any(|path| Path::new(path).exists());
    run(&need, true, &tests[..tests.len() - usize::from(has_tpu)])
}
