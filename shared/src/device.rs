//! Device names, and the choice of one.
//!
//! The choice is a pure function of a [`DeviceRequest`] and a [`Probe`], so that
//! every branch is tested on a machine that has none of the devices. Looking at
//! the hardware is the probe's work, and each chapter brings the probe that its
//! own libraries allow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Environment variable by which a TPU image says that its TPU is to be used,
/// as in PyTorch/XLA and JAX images: `PJRT_DEVICE=TPU`.
pub const PJRT_DEVICE: &str = "PJRT_DEVICE";

/// A device that computes. Written `cpu`, `cuda:0` or `tpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The host's processor.
    Cpu,
    /// The NVIDIA GPU with this index, counted from 0 as CUDA does (after
    /// `CUDA_VISIBLE_DEVICES`).
    Cuda(usize),
    /// The TPU that the PJRT plugin reaches.
    Tpu,
}

/// What the user asked for: `--device auto|cpu|cuda[:n]|tpu`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceRequest {
    /// The best device that works here; see [`select`] for the order.
    #[default]
    Auto,
    /// The host's processor.
    Cpu,
    /// A GPU: the one with this index, or the first.
    Cuda(Option<usize>),
    /// The TPU.
    Tpu,
}

/// A text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown device {got:?}; expected one of {expected}")]
pub struct ParseDeviceError {
    got: String,
    expected: &'static str,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.pad("cpu"),
            Self::Cuda(index) => f.pad(&format!("cuda:{index}")),
            Self::Tpu => f.pad("tpu"),
        }
    }
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Cpu => f.pad("cpu"),
            Self::Cuda(None) => f.pad("cuda"),
            Self::Cuda(Some(index)) => f.pad(&format!("cuda:{index}")),
            Self::Tpu => f.pad("tpu"),
        }
    }
}

impl FromStr for DeviceRequest {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(None)),
            "tpu" => Ok(Self::Tpu),
            _ => match parse_cuda_index(text) {
                Some(index) => Ok(Self::Cuda(Some(index))),
                None => Err(ParseDeviceError {
                    got: text.to_owned(),
                    expected: "auto, cpu, cuda, cuda:N (N counted from 0), tpu",
                }),
            },
        }
    }
}

impl FromStr for Device {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "tpu" => Ok(Self::Tpu),
            _ => match parse_cuda_index(text) {
                Some(index) => Ok(Self::Cuda(index)),
                None => Err(ParseDeviceError {
                    got: text.to_owned(),
                    expected: "cpu, cuda:N (N counted from 0), tpu",
                }),
            },
        }
    }
}

/// The index in `cuda:3`. `usize::from_str` also takes `+3`, which no tool writes.
fn parse_cuda_index(text: &str) -> Option<usize> {
    let digits = text.strip_prefix("cuda:")?;
    if digits.starts_with('+') {
        return None;
    }
    digits.parse().ok()
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What a program can find out about the devices of its machine.
pub trait Probe {
    /// The value of `PJRT_DEVICE`, or `None` where it is not set.
    fn pjrt_device(&self) -> Option<String>;

    /// Whether a TPU works here.
    ///
    /// # Errors
    /// Why it does not, as a clause that can follow a colon.
    fn tpu(&self) -> Result<(), String>;

    /// How many CUDA devices work here.
    ///
    /// # Errors
    /// Why there is none, as a clause that can follow a colon.
    fn cuda_devices(&self) -> Result<usize, String>;
}

/// The probe of a program that has neither CUDA nor TPU support built in.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuOnly;

impl Probe for CpuOnly {
    fn pjrt_device(&self) -> Option<String> {
        std::env::var(PJRT_DEVICE).ok()
    }

    fn tpu(&self) -> Result<(), String> {
        Err("this chapter runs on the CPU only, no TPU support is built in".to_owned())
    }

    fn cuda_devices(&self) -> Result<usize, String> {
        Err("this chapter runs on the CPU only, no CUDA support is built in".to_owned())
    }
}

/// The device to use, and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The device to use.
    pub device: Device,
    /// One line for the user: what was chosen and why.
    pub reason: String,
}

/// A device that was asked for by name and cannot be used. Programs end with
/// [`exit::DEVICE`](crate::exit::DEVICE).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No device of this kind works here.
    #[error(
        "--device {request} is not available: {why}; use --device auto to take the best device \
         that works here, or --device cpu"
    )]
    Unavailable {
        /// What was asked for.
        request: DeviceRequest,
        /// Why it does not work, in the probe's words.
        why: String,
    },
    /// The index is past the last GPU.
    #[error(
        "--device cuda:{index} does not exist: this machine has {}; use {}",
        count_gpus(*count),
        usable_indices(*count)
    )]
    NoSuchCudaDevice {
        /// The index asked for, counted from 0.
        index: usize,
        /// How many GPUs work here, at least 1.
        count: usize,
    },
}

fn count_gpus(count: usize) -> String {
    match count {
        1 => "1 CUDA device".to_owned(),
        _ => format!("{count} CUDA devices"),
    }
}

fn usable_indices(count: usize) -> String {
    match count {
        1 => "--device cuda:0".to_owned(),
        _ => format!("--device cuda:0 to cuda:{}", count.saturating_sub(1)),
    }
}

/// Chooses the device for a request.
///
/// `auto` takes the TPU where `PJRT_DEVICE=TPU` and the TPU works, else the first
/// CUDA device where CUDA works, else the CPU. The TPU is not even looked for
/// without `PJRT_DEVICE=TPU`: a TPU belongs to one process at a time, and looking
/// takes it. A device asked for by name is taken or is an error: it is never
/// replaced in silence.
///
/// # Errors
/// [`DeviceError`] if a device asked for by name does not work here; `auto` and
/// `cpu` never fail.
pub fn select(request: DeviceRequest, probe: &dyn Probe) -> Result<Selection, DeviceError> {
    let unavailable = |why| DeviceError::Unavailable { request, why };
    let asked = |device: Device| Selection {
        device,
        reason: format!("{device}: asked for with --device {request}"),
    };
    match request {
        DeviceRequest::Auto => Ok(choose(probe)),
        DeviceRequest::Cpu => Ok(asked(Device::Cpu)),
        DeviceRequest::Tpu => {
            probe.tpu().map_err(unavailable)?;
            Ok(asked(Device::Tpu))
        }
        DeviceRequest::Cuda(index) => {
            let count = working_cuda_devices(probe).map_err(unavailable)?;
            let index = index.unwrap_or(0);
            if index >= count {
                return Err(DeviceError::NoSuchCudaDevice { index, count });
            }
            Ok(asked(Device::Cuda(index)))
        }
    }
}

/// Chooses the device for a request and falls back to what `auto` would take
/// where [`select`] fails: for `--fallback`, which must be asked for.
///
/// Returns the selection and, if it is not what was asked for, a warning to print.
pub fn select_or_fall_back(
    request: DeviceRequest,
    probe: &dyn Probe,
) -> (Selection, Option<String>) {
    match select(request, probe) {
        Ok(selection) => (selection, None),
        Err(error) => {
            let selection = choose(probe);
            let warning = match &error {
                DeviceError::Unavailable { request, why } => format!(
                    "--device {request} is not available: {why}; going on with {}",
                    selection.device
                ),
                DeviceError::NoSuchCudaDevice { index, count } => format!(
                    "--device cuda:{index} does not exist: this machine has {}; going on with {}",
                    count_gpus(*count),
                    selection.device
                ),
            };
            (selection, Some(warning))
        }
    }
}

/// A probe that finds CUDA and counts no device has found none.
fn working_cuda_devices(probe: &dyn Probe) -> Result<usize, String> {
    match probe.cuda_devices() {
        Ok(0) => Err("CUDA is there but no device is visible".to_owned()),
        other => other,
    }
}

/// The order of `auto`.
fn choose(probe: &dyn Probe) -> Selection {
    let tpu_requested = probe
        .pjrt_device()
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("tpu"));
    let no_tpu = if tpu_requested {
        match probe.tpu() {
            Ok(()) => {
                return Selection {
                    device: Device::Tpu,
                    reason: format!("tpu: {PJRT_DEVICE}=TPU is set and a TPU works"),
                };
            }
            Err(why) => format!("{PJRT_DEVICE}=TPU is set but no TPU works ({why})"),
        }
    } else {
        format!("no TPU announced ({PJRT_DEVICE} is not TPU)")
    };
    match working_cuda_devices(probe) {
        Ok(count) => Selection {
            device: Device::Cuda(0),
            reason: format!("cuda:0: {no_tpu}, and {} found", works(count)),
        },
        Err(why) => Selection {
            device: Device::Cpu,
            reason: format!("cpu: {no_tpu}, and no CUDA device works ({why})"),
        },
    }
}

fn works(count: usize) -> String {
    match count {
        1 => "1 working CUDA device was".to_owned(),
        _ => format!("{count} working CUDA devices were"),
    }
}
