//! What every command settles before the first batch: allocator, device, threads.

use accel::{
    device::{self, CpuOnly, DeviceError},
    environment::Environment,
    progress::Progress,
};

use crate::{allocator, cli::DeviceArgs, tch_engine};

/// Applies the flags.
///
/// Returns the threads of one operator, and the name of the allocator's setting.
///
/// # Errors
/// [`DeviceError`] if the device was named and is not there.
pub fn apply(args: &DeviceArgs, quiet: bool) -> Result<(usize, &'static str), DeviceError> {
    let malloc = malloc(args.system_malloc);
    let selection = device::select(args.device, &CpuOnly)?;
    let threads = args.threads.unwrap_or_else(cores);
    tch_engine::set_threads(threads);
    Progress::new(None, "images", quiet).println(&format!(
        "device {}: {}; {threads} threads",
        selection.device, selection.reason
    ));
    Ok((threads, malloc))
}

/// Tunes the allocator unless told not to; returns the name of its setting.
pub fn malloc(system: bool) -> &'static str {
    match system {
        false if allocator::keep_freed_memory() => "glibc, keeps freed memory",
        _ => "system",
    }
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
