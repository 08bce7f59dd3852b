//! A small, safe front to PJRT, the C API behind which XLA's compilers for CPU, GPU and TPU
//! live. The compilers come as shared libraries, called plugins, and are loaded when the
//! program runs: nothing is built or linked with C++.
//!
//! ```no_run
//! use pjrt_runtime::{
//!     Argument, Client, CompileOptions, ElementType, HostArray, Platform, Plugin, SearchPath,
//!     find_plugin,
//! };
//!
//! // a + b; the sum takes the place of a.
//! const ADD: &str = "
//!     module {
//!       func.func public @main(%a: tensor<2xf32> {tf.aliasing_output = 0 : i32},
//!                              %b: tensor<2xf32>) -> tensor<2xf32> {
//!         %sum = stablehlo.add %a, %b : tensor<2xf32>
//!         return %sum : tensor<2xf32>
//!       }
//!     }";
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let search = SearchPath::from_environment(None, vec![".native/pjrt".into()]);
//! let plugin = Plugin::load(&find_plugin(Platform::Cpu, &search)?)?;
//! let client = Client::new(&plugin, &[])?;
//! let add = client.compile(ADD, &CompileOptions::default())?;
//!
//! let upload = |values: [f32; 2]| {
//!     let bytes = values.map(f32::to_le_bytes).concat();
//!     let array = HostArray { element_type: ElementType::F32, dims: &[2], bytes: &bytes };
//!     client.buffer_from_host(array, 0)
//! };
//! let (mut sum, one) = (upload([10.0, 20.0])?, upload([1.0, 1.0])?);
//! for _ in 0..1000 {
//!     // Neither copied nor waited for: the sum stays on the device, and is given away.
//!     let arguments = vec![Argument::Donate(sum), Argument::Keep(&one)];
//!     sum = add.execute(arguments)?.remove(0);
//! }
//! assert_eq!(sum.to_host()?, [1010.0_f32, 1020.0].map(f32::to_le_bytes).concat());
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! | module | idea |
//! | --- | --- |
//! | `find` | where plugins lie: names and folders, nothing is opened |
//! | `library_file`, `plugin` | from a path to a loaded plugin, and every way it can fail |
//! | `client` | devices; makes buffers and programs |
//! | `buffer` | arrays on the host and on a device |
//! | `compile_options`, `protobuf` | what the compiler is told, and the bytes for it |
//! | `executable`, `run`, `signature` | running a program, and what it takes |
//! | `topology` | compiling for chips that are not here |
//! | `element_type`, `shape`, `layout`, `value`, `memory` | what arrays and answers are made of |
//! | `live`, `transfers` | counters: what is alive, what was copied |
//! | `error` | what can go wrong once a plugin is loaded |
//! | `ffi` | structs and function table of the C API |
//! | `sys` | the calls through that table, and the environment: the crate's `unsafe` |
//!
//! # What holds
//!
//! - Safe code cannot crash the process, as far as the plugin keeps the C API's promises.
//!   What plugins are known to answer by ending the process (compile options without a
//!   replica) or by computing nonsense (an argument of another type, on CPUs) is refused here.
//! - Drop in any order. All that a client made holds it, because some plugins crash when a
//!   buffer is destroyed after its client. [`live_objects`] counts.
//! - A donated buffer is moved into [`Executable::execute`], so that it cannot be used again.
//! - [`Executable::execute`] does not wait for the run that it begins, at most for the one
//!   before. [`Buffer::wait`] and [`Buffer::to_host`] do, and report a failure of the program.
//! - A plugin is loaded once a process and never unloaded: it has threads of its own.
//! - Clients, buffers and programs may be used from many threads at once, as JAX does with
//!   the objects behind them.
//!
//! # Versions
//!
//! PJRT grows. A plugin refuses a struct that is shorter than it needs, so the structs here
//! are the longest that this crate knows; and it may lack functions, so each call looks at
//! the plugin's own table first ([`Error::Missing`]). Only the major version must be ours.
//! Used with plugins of 0.81 (CPU) and 0.116 (TPU); the one of 0.115 (CUDA) takes the same
//! structs.
//!
//! # The environment
//!
//! Plugins read environment variables when they are loaded or later, from any thread. A
//! process may only change its own safely before it has threads: [`set_default_variable`]
//! does so where that is certain, first of all in `main`; else set them in the shell or for a
//! child process. [`quiet_plugins`] keeps XLA's messages from stderr, and
//! [`LIBTPU_WITHOUT_TPU`] is for compiling for TPUs without having one.
//!
//! # Not here
//!
//! More than one device a program, more than one process, complex and 8-bit floating-point
//! types, sending and receiving while a program runs. No StableHLO is built or read either:
//! programs are text that others write.

mod buffer;
mod client;
mod compile_options;
mod element_type;
mod error;
mod executable;
mod ffi;
mod find;
mod layout;
mod library_file;
mod live;
mod memory;
mod plugin;
mod protobuf;
mod run;
mod shape;
mod signature;
mod sys;
mod topology;
mod transfers;
mod value;

pub use buffer::{Buffer, HostArray};
pub use client::{Client, DeviceInfo};
pub use compile_options::{CompileOptions, OptionValue};
pub use element_type::ElementType;
pub use error::{Code, Error};
pub use executable::{Argument, Executable};
pub use find::{PLUGIN_PATH_VARIABLE, Platform, SearchPath, find_plugin};
pub use library_file::Machine;
pub use live::{LiveObjects, live_objects};
pub use memory::{DeviceMemory, MemoryStats};
pub use plugin::{ApiVersion, Plugin, PluginError};
pub use shape::Shape;
pub use sys::environment::{quiet_plugins, set_default_variable};
pub use topology::{CompiledProgram, LIBTPU_WITHOUT_TPU, Topology};
pub use transfers::Transfers;
pub use value::{AttributeValue, ClientOption, CostValue, Value};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_may_go_to_another_thread() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Plugin>();
        check::<Client>();
        check::<Buffer>();
        check::<Executable>();
        check::<Topology>();
        check::<CompiledProgram>();
        check::<Error>();
        check::<PluginError>();
    }
}
