//! Asks a plugin what it is, and lets it add two vectors.
//!
//! `cargo run -p pjrt-runtime --example ask -- cpu`, or `cuda`, or the path of a plugin.

use std::{env, error::Error};

use pjrt_runtime::{
    Argument, Client, ClientOption, CompileOptions, ElementType, HostArray, Platform, Plugin,
    SearchPath, find_plugin,
};

const ADD: &str = "
    module {
      func.func public @main(%a: tensor<3xf32>, %b: tensor<3xf32>) -> tensor<3xf32> {
        %sum = stablehlo.add %a, %b : tensor<3xf32>
        return %sum : tensor<3xf32>
      }
    }";

fn main() -> Result<(), Box<dyn Error>> {
    let wish = env::args().nth(1).unwrap_or_else(|| "cpu".to_owned());
    let (platform, explicit) = match wish.as_str() {
        "cpu" => (Platform::Cpu, None),
        "cuda" => (Platform::Cuda, None),
        "tpu" => (Platform::Tpu, None),
        path => (Platform::Cpu, Some(path.into())),
    };
    let search = SearchPath::from_environment(explicit, vec![".native/pjrt".into()]);
    let plugin = Plugin::load(&find_plugin(platform, &search)?)?;
    println!("{plugin}");
    for (name, value) in plugin.attributes()? {
        println!("  {name}: {value}");
    }
    // Only CUDA knows it: do not take most of the GPU's memory for one addition.
    let options: &[_] = match platform {
        Platform::Cuda => &[("preallocate", ClientOption::Bool(false))],
        Platform::Cpu | Platform::Tpu => &[],
    };
    let client = Client::new(&plugin, options)?;
    println!("{}: {}", client.platform_name(), client.platform_version());
    for device in client.devices() {
        println!("  device {}: {}", device.id, device.kind);
    }
    let add = client.compile(ADD, &CompileOptions::default())?;
    println!("compiled: {:?}", add.memory()?);
    for (name, value) in add.cost()? {
        println!("  {name}: {value}");
    }
    let upload = |values: [f32; 3]| {
        let bytes = values.map(f32::to_le_bytes).concat();
        let array = HostArray {
            element_type: ElementType::F32,
            dims: &[3],
            bytes: &bytes,
        };
        client.buffer_from_host(array, 0)
    };
    let (a, b) = (upload([1.0, 2.0, 3.0])?, upload([0.5, 0.5, 0.5])?);
    let outputs = add.execute(vec![Argument::Keep(&a), Argument::Keep(&b)])?;
    for bytes in outputs[0].to_host()?.chunks_exact(4) {
        println!("{}", f32::from_le_bytes(bytes.try_into()?));
    }
    println!("{:?}", client.transfers());
    Ok(())
}
