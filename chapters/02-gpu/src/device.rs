//! The device of this chapter: what libtorch can use here, and the choice of one.

use accel::{
    device::{self, DeviceError, DeviceRequest, PJRT_DEVICE, Probe, Selection},
    progress::Progress,
};
use cpu_inference::setting::{self, Setting};

use crate::{cli::DeviceArgs, libtorch_cuda};

/// Looks for GPUs through libtorch. Nothing is loaded before it is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Libtorch;

impl Probe for Libtorch {
    fn pjrt_device(&self) -> Option<String> {
        std::env::var(PJRT_DEVICE).ok()
    }

    fn tpu(&self) -> Result<(), String> {
        Err("libtorch has no TPU support; chapter 3's tpu-training has".to_owned())
    }

    fn cuda_devices(&self) -> Result<usize, String> {
        libtorch_cuda::devices().map_err(|why| why.to_string())
    }
}

/// Chooses the device, and settles malloc and threads.
///
/// # Errors
/// [`DeviceError`] if the device was named, is not there, and `--fallback` was not given.
// ANCHOR: apply
pub fn apply(args: &DeviceArgs, quiet: bool) -> Result<Setting, DeviceError> {
    let selection = choose(args.device, args.fallback, &Libtorch)?;
    Ok(setting::settle(
        &selection,
        args.threads,
        args.system_malloc,
        quiet,
    ))
}
// ANCHOR_END: apply

/// Chooses the device for a request; a fallback is told, also where the rest is quiet.
///
/// # Errors
/// [`DeviceError`], never with `fallback`.
pub fn choose(
    request: DeviceRequest,
    fallback: bool,
    probe: &dyn Probe,
) -> Result<Selection, DeviceError> {
    if !fallback {
        return device::select(request, probe);
    }
    let (selection, warning) = device::select_or_fall_back(request, probe);
    if let Some(warning) = warning {
        Progress::new(None, "images", true).warn(&warning);
    }
    Ok(selection)
}
