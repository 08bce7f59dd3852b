//! The machine's NVIDIA GPU, and the libtorch that it takes.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::{
    installed,
    native_pins::{self, Here, Part},
    toolchain,
};

/// Where the libraries of the CUDA libtorch lie, relative to its part. `lib` is a link
/// to it; RPATHs are relative to the real one.
const LIBRARIES: &str = "torch/lib";

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

/// The folder of the CUDA libtorch's libraries, if set-up has brought it whole.
pub fn libtorch_folder(root: &Path) -> Option<PathBuf> {
    let pins = native_pins::read(root, &native_pins::this_platform()).ok()?;
    let part = libtorch(&pins)?;
    let folder = root.join(".native").join(&part.path);
    installed::lack(part, &folder)
        .is_none()
        .then(|| folder.join(LIBRARIES))
}

/// The variable by which the loader finds libraries, with `folder` before what the user has
/// in it.
pub fn library_path(folder: &Path) -> (&'static str, OsString) {
    const NAME: &str = "LD_LIBRARY_PATH";
    let mut path = OsString::from(folder);
    if let Some(rest) = std::env::var_os(NAME).filter(|rest| !rest.is_empty()) {
        path.push(":");
        path.push(rest);
    }
    (NAME, path)
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
