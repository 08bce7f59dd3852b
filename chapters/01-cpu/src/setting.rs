//! What every command settles before the first batch: allocator, device, threads.

#[cfg(unix)]
use std::sync::{Arc, atomic::AtomicBool};

use accel::{
    device::{self, CpuOnly, Device, DeviceError, Selection},
    environment::Environment,
    progress::Progress,
};

use crate::{allocator, cli::DeviceArgs, tch_engine};

/// What a command computes with.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Where tensors live.
    pub device: tch::Device,
    /// Threads of one operator on the CPU.
    pub threads: usize,
    /// Name of the allocator's setting.
    pub malloc: &'static str,
}

/// Applies the flags.
///
/// # Errors
/// [`DeviceError`] if the device was named and is not there.
pub fn apply(args: &DeviceArgs, quiet: bool) -> Result<Setting, DeviceError> {
    let selection = device::select(args.device, &CpuOnly)?;
    Ok(settle(&selection, args.threads, args.system_malloc, quiet))
}

/// Settles malloc and threads, and says which device it is to be.
///
/// * `threads`: of one operator; `None` for all cores
/// * `system_malloc`: leave malloc as it comes
pub fn settle(
    selection: &Selection,
    threads: Option<usize>,
    system_malloc: bool,
    quiet: bool,
) -> Setting {
    let malloc = malloc(system_malloc);
    let threads = threads.unwrap_or_else(cores);
    tch_engine::set_threads(threads);
    Progress::new(None, "images", quiet)
        .println(&format!("device {}; {threads} threads", selection.reason));
    Setting {
        device: match selection.device {
            Device::Cuda(index) => tch::Device::Cuda(index),
            // No probe of ours finds a TPU: libtorch has none.
            Device::Cpu | Device::Tpu => tch::Device::Cpu,
        },
        threads,
        malloc,
    }
}

impl Setting {
    /// The device as the command line writes it: `cpu`, `cuda:0`.
    pub fn device_name(&self) -> String {
        match self.device {
            tch::Device::Cuda(index) => Device::Cuda(index).to_string(),
            _ => Device::Cpu.to_string(),
        }
    }

    /// The device for a result's row: `device`, and for a GPU `device_name`, its product's.
    pub fn described(&self) -> serde_json::Map<String, serde_json::Value> {
        let mut map = serde_json::Map::new();
        map.insert("device".into(), self.device_name().into());
        if self.device.is_cuda()
            && let Some(accelerator) = environment().accelerator
        {
            map.insert("device_name".into(), accelerator.name.into());
        }
        map
    }
}

/// Tunes the allocator unless told not to; returns the name of its setting.
pub fn malloc(system: bool) -> &'static str {
    match system {
        false if allocator::keep_freed_memory() => "glibc, keeps freed memory",
        _ => "system",
    }
}

/// Lets a write beyond the file-size limit (`ulimit -f`) fail as an error with
/// a message; as a signal it ends the process without a word.
pub fn outlive_file_size_limit() {
    #[cfg(unix)]
    {
        let noted = Arc::new(AtomicBool::new(false));
        // Where it cannot be registered, the limit ends the process as before.
        let _ = signal_hook::flag::register(libc::SIGXFSZ, noted);
    }
}

/// Ends the process while other threads are computing. `process::exit` would run
/// libtorch's destructors under them, and end in a segmentation fault.
pub fn exit_at_once(code: u8) -> ! {
    #[cfg(unix)]
    signal_hook::low_level::exit(code.into());
    #[cfg(not(unix))]
    std::process::exit(code.into());
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The machine and the versions of what computes on it.
pub fn environment() -> Environment {
    let mut environment = Environment::collect();
    environment
        .libraries
        .insert("libtorch".into(), env!("LIBTORCH_VERSION").into());
    environment.libraries.insert("tch".into(), "0.24.0".into());
    environment
}
