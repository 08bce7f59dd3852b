//! The machine's NVIDIA GPU, and the libtorch that it takes.

use std::path::Path;

use crate::{
    installed,
    native_pins::{self, Here, Part},
    toolchain,
};

/// Name and driver of the first GPU, as nvidia-smi tells; `None` without a working driver.
pub fn found() -> Option<String> {
    let query = ["--query-gpu=name,driver_version", "--format=csv,noheader"];
    toolchain::first_line("nvidia-smi", &query).filter(|line| !line.is_empty())
}

/// The CUDA libtorch among the pins of a platform.
pub fn libtorch(pins: &Here) -> Option<&Part> {
    let cuda = |part: &&Part| part.libtorch.is_some() && part.flag.as_deref() == Some("cuda");
    pins.parts.iter().find(cuda)
}

/// Whether set-up has brought the CUDA libtorch whole: `gpu-inference` looks for it there.
pub fn has_libtorch(root: &Path) -> bool {
    let pins = native_pins::read(root, &native_pins::this_platform()).ok();
    let part = pins.as_ref().and_then(libtorch);
    part.is_some_and(|part| installed::lack(part, &root.join(".native").join(&part.path)).is_none())
}

/// Bytes that `cargo x setup --cuda` would fetch at most; 0 where nothing is pinned.
pub fn bytes_to_fetch(root: &Path) -> u64 {
    let Ok(pins) = native_pins::read(root, &native_pins::this_platform()) else {
        return 0;
    };
    let mut wheels: Vec<(&str, u64)> = (pins.parts.iter())
        .filter(|part| part.flag.as_deref() == Some("cuda"))
        .flat_map(|part| &part.wheel)
        .map(|wheel| (wheel.sha256.as_str(), wheel.bytes))
        .collect();
    // Two parts may take files of one wheel.
    wheels.sort_unstable();
    wheels.dedup();
    wheels.iter().map(|(_, bytes)| bytes).sum()
}
