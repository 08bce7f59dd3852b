//! libtorch's CUDA part, loaded while the program runs.
//!
//! The binary is linked with `libtorch_cpu` alone, so that it also starts where there is
//! no CUDA. `libtorch_cuda` registers its kernels with libtorch when it is loaded, and
//! must be loaded before the first question about CUDA: libtorch remembers the answer.
//!
//! # What loads with what
//!
//! `libtorch_cuda.so` NEEDs `libtorch_cpu.so`, `libc10.so`, `libc10_cuda.so`, and NVIDIA's
//! libraries. The first two are in the process already, and the loader takes those, by their
//! names: they must be of the same wheel. There are two ways to have it so:
//!
//! - `cargo x setup` and `cargo x setup --cuda` take both parts from one pinned wheel:
//!   the binary finds `.native/libtorch/cpu/lib` by its RPATH, this module finds
//!   `.native/libtorch/cuda/lib`, whose RPATHs find `.native/nvidia`.
//! - `LD_LIBRARY_PATH` at the `torch/lib` of an installed PyTorch 2.11.0 goes before the
//!   RPATH: all of libtorch then comes from there, also on a machine without a checkout.

use std::{
    fmt, mem,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use accel::checkout::checkout_root;
use tch::{Device, Kind, Tensor};

use crate::output::without_folders;

/// CUDA's own variable: which GPUs a program may see.
const VISIBLE_DEVICES: &str = "CUDA_VISIBLE_DEVICES";
/// What the loader looks for in `LD_LIBRARY_PATH`, the RPATH and the system's folders.
const LIBRARY: &str = "libtorch_cuda.so";
/// Where `cargo x setup --cuda` puts it, from the project's root.
const PART: &str = ".native/libtorch/cuda/lib";

/// Why no GPU can be used, as a clause that can follow a colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoCuda {
    /// `CUDA_VISIBLE_DEVICES` names none.
    Hidden {
        /// Its value.
        value: String,
    },
    /// There is no CUDA for this system.
    System(&'static str),
    /// `libtorch_cuda.so` was not found.
    NotFound,
    /// It was found and cannot be loaded.
    Broken(String),
    /// It was loaded and has not registered: a library of another build.
    NotRegistered(String),
    /// No driver, or no GPU that the driver knows.
    NoDriver,
    /// The driver is older than the CUDA that libtorch was built with.
    DriverTooOld(String),
    /// The driver works, and there is no GPU for it.
    NoDevice,
    /// Something else, in libtorch's words.
    Failed(String),
}

impl fmt::Display for NoCuda {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            NoCuda::Hidden { value } => write!(
                f,
                "{VISIBLE_DEVICES}={value:?} hides every GPU; unset it, or name one, such as 0"
            ),
            NoCuda::System(system) => write!(f, "there is no CUDA for {system}"),
            NoCuda::NotFound => write!(
                f,
                "{LIBRARY} is neither in {PART} nor on the loader's path; run \
                 `cargo x setup --cuda`, or set LD_LIBRARY_PATH to the torch/lib of a \
                 PyTorch 2.11.0 for CUDA"
            ),
            NoCuda::Broken(message) => write!(
                f,
                "{LIBRARY} cannot be loaded ({message}); run `cargo x setup --cuda`, or set \
                 LD_LIBRARY_PATH to the torch/lib of a PyTorch 2.11.0 for CUDA"
            ),
            NoCuda::NotRegistered(message) => write!(
                f,
                "{LIBRARY} was loaded, and libtorch still has no CUDA ({message}); it must be \
                 of the same build as libtorch_cpu.so, PyTorch 2.11.0"
            ),
            NoCuda::NoDriver => write!(
                f,
                "no NVIDIA driver was found; `nvidia-smi` shows what is installed"
            ),
            NoCuda::DriverTooOld(message) => write!(
                f,
                "{message} libtorch was built for CUDA 13, which wants a driver of the series \
                 580 or later"
            ),
            NoCuda::NoDevice => write!(
                f,
                "the NVIDIA driver shows no GPU; see `nvidia-smi` and {VISIBLE_DEVICES}"
            ),
            NoCuda::Failed(message) => write!(f, "{message}"),
        }
    }
}

/// How many GPUs libtorch can use, at least 1. Loads `libtorch_cuda` the first time, and
/// starts CUDA.
///
/// # Errors
/// [`NoCuda`], the same every time.
pub fn devices() -> Result<usize, NoCuda> {
    static DEVICES: OnceLock<Result<usize, NoCuda>> = OnceLock::new();
    DEVICES.get_or_init(count).clone()
}

fn count() -> Result<usize, NoCuda> {
    // Told apart here: with it, CUDA only says that there is no device.
    if let Some(value) = std::env::var_os(VISIBLE_DEVICES) {
        let value = value.to_string_lossy();
        if hides_all(&value) {
            return Err(NoCuda::Hidden {
                value: value.into_owned(),
            });
        }
    }
    load(checkout_root().as_deref())?;
    // An allocation says why not; the count would be 0, with a warning on stderr.
    if let Err(error) = Tensor::f_zeros([1], (Kind::Float, Device::Cuda(0))) {
        let message = error.to_string();
        return Err(sort(message.lines().next().unwrap_or_default()));
    }
    usize::try_from(tch::Cuda::device_count())
        .ok()
        .filter(|&count| count > 0)
        .ok_or(NoCuda::NoDevice)
}

/// Whether a value of `CUDA_VISIBLE_DEVICES` leaves no GPU: CUDA reads names up to the
/// first that is none.
fn hides_all(value: &str) -> bool {
    let first = value.split(',').next().unwrap_or_default().trim();
    first.is_empty() || first.starts_with('-') || first.eq_ignore_ascii_case("nodevfiles")
}

/// What libtorch 2.11 says, sorted.
///
/// Source: c10/cuda/CUDAFunctions.cpp, `device_count_impl` and
/// `device_count_ensure_non_zero`.
fn sort(message: &str) -> NoCuda {
    let message = message
        .trim_start_matches("Internal torch error: ")
        .trim_end()
        .to_owned();
    if message.contains("Found no NVIDIA driver") {
        NoCuda::NoDriver
    } else if message.contains("driver on your system is too old") {
        NoCuda::DriverTooOld(message)
    } else if message.contains("No CUDA GPUs are available")
        || message.contains("no CUDA-capable device")
    {
        NoCuda::NoDevice
    } else if message.contains("not linked with support for cuda")
        || message.contains("from the 'CUDA' backend")
        || message.contains("without linking")
    {
        NoCuda::NotRegistered(message)
    } else {
        NoCuda::Failed(message)
    }
}

/// Where to look, in this order: the loader's own path, then the project's part.
fn candidates(root: Option<&Path>) -> Vec<PathBuf> {
    let mut candidates = vec![PathBuf::from(LIBRARY)];
    candidates.extend(root.map(|root| root.join(PART).join(LIBRARY)));
    candidates
}

/// Loads the first that is there, once and for good.
#[cfg(all(unix, not(target_os = "macos")))]
// ANCHOR: load
#[allow(unsafe_code)]
fn load(root: Option<&Path>) -> Result<(), NoCuda> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    for path in candidates(root) {
        // SAFETY: its initialisers register kernels with libtorch, which is in the process
        // and allows it at any time; nothing of it is called by address, and it is never
        // unloaded.
        match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => {
                mem::forget(library);
                return Ok(());
            }
            Err(error) if is_missing(&error.to_string(), &path) => {}
            Err(error) => return Err(NoCuda::Broken(without_folders(&error.to_string()))),
        }
    }
    Err(NoCuda::NotFound)
}
// ANCHOR_END: load

#[cfg(not(all(unix, not(target_os = "macos"))))]
fn load(_root: Option<&Path>) -> Result<(), NoCuda> {
    Err(NoCuda::System(std::env::consts::OS))
}

/// Whether the loader misses this very file, and not one that it NEEDs.
fn is_missing(message: &str, path: &Path) -> bool {
    message.starts_with(&*path.to_string_lossy()) && message.contains("No such file or directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_is_told_from_visible() {
        for value in ["", " ", "-1", "-1,0", "NoDevFiles", ",0"] {
            assert!(hides_all(value), "{value:?}");
        }
        for value in ["0", "1,0", "GPU-8932f937", "MIG-GPU-1", "0,-1"] {
            assert!(!hides_all(value), "{value:?}");
        }
    }

    #[test]
    fn what_libtorch_says_is_sorted() {
        // As c10/cuda/CUDAFunctions.cpp of 2.11 words it.
        let too_old = "The NVIDIA driver on your system is too old (found version 12020). \
                       Please update your GPU driver by downloading and installing a new \
                       version from the URL: http://www.nvidia.com/Download/index.aspx";
        for (said, sorted) in [
            (
                "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
                NoCuda::NoDriver,
            ),
            ("No CUDA GPUs are available", NoCuda::NoDevice),
            (too_old, NoCuda::DriverTooOld(too_old.to_owned())),
            (
                "PyTorch is not linked with support for cuda devices",
                NoCuda::NotRegistered(
                    "PyTorch is not linked with support for cuda devices".to_owned(),
                ),
            ),
            (
                "Unexpected error from cudaGetDeviceCount()",
                NoCuda::Failed("Unexpected error from cudaGetDeviceCount()".to_owned()),
            ),
        ] {
            assert_eq!(sort(&format!("Internal torch error: {said}")), sorted);
        }
        let message = NoCuda::DriverTooOld(too_old.to_owned()).to_string();
        assert!(message.contains("found version 12020") && message.contains("580"));
    }

    #[test]
    fn the_loaders_complaint_about_the_library_is_told_from_one_about_its_needs() {
        let path = Path::new(LIBRARY);
        let missing = "libtorch_cuda.so: cannot open shared object file: No such file or directory";
        assert!(is_missing(missing, path));
        let needs = "libcudnn.so.9: cannot open shared object file: No such file or directory";
        assert!(!is_missing(needs, path));
        assert!(!is_missing("/x/libtorch_cuda.so: file too short", path));
    }
}
