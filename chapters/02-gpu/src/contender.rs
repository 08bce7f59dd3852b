//! The other engines by name: which ONNX file each one opens, in which number format, where.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use accel::{checkout::checkout_root, device::Device, environment::Environment};
use anyhow::Context;
use cpu_inference::{
    comparison::noise,
    engine::{Batch, EngineError, Logits, SetupError},
    setting::Setting,
    worker::{self, Load},
};
use inference_engines::{
    onnx::{Form, Quantisation},
    onnx_runtime::{OnnxRuntime, Provider},
    openvino::{OpenVino, Precision},
    staged::Staged,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{exports::Exports, output::cpu_has_bf16};

/// An engine beside libtorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineName {
    /// ONNX Runtime's own kernels, or cuDNN through it.
    Onnxruntime,
    /// OpenVINO, all threads on each batch.
    Openvino,
    /// OpenVINO, the batch shared out over streams of one thread each.
    OpenvinoStreams,
    /// TensorRT, through ONNX Runtime.
    Tensorrt,
}

impl EngineName {
    /// All of them.
    pub const ALL: [EngineName; 4] = [
        EngineName::Onnxruntime,
        EngineName::Openvino,
        EngineName::OpenvinoStreams,
        EngineName::Tensorrt,
    ];

    /// The name of the flag: `onnxruntime`, `openvino`, `openvino-streams`, `tensorrt`.
    pub fn name(self) -> &'static str {
        match self {
            EngineName::Onnxruntime => "onnxruntime",
            EngineName::Openvino => "openvino",
            EngineName::OpenvinoStreams => "openvino-streams",
            EngineName::Tensorrt => "tensorrt",
        }
    }

    /// The library's version, as it says.
    ///
    /// # Errors
    /// [`SetupError::Unavailable`] if it is not there.
    pub fn version(self) -> Result<String, SetupError> {
        match self {
            EngineName::Onnxruntime | EngineName::Tensorrt => {
                inference_engines::onnx_runtime::load()
            }
            EngineName::Openvino | EngineName::OpenvinoStreams => {
                inference_engines::openvino::load()
            }
        }
    }

    /// What the library is called in results.
    pub fn library(self) -> &'static str {
        match self {
            EngineName::Onnxruntime | EngineName::Tensorrt => "onnxruntime",
            EngineName::Openvino | EngineName::OpenvinoStreams => "openvino",
        }
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EngineName {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let found = EngineName::ALL
            .into_iter()
            .find(|engine| engine.name() == s);
        found.ok_or_else(|| {
            let names = EngineName::ALL.map(EngineName::name).join(", ");
            format!("expected one of {names}, got {s:?}")
        })
    }
}

/// The number format of weights and activations; logits are f32 in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// 32 bits.
    F32,
    /// 16 bits, 8 of them significant.
    Bf16,
    /// 16 bits, 11 of them significant.
    F16,
    /// 8 bits, by static quantisation.
    Int8,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 4] = [Format::F32, Format::Bf16, Format::F16, Format::Int8];

    /// The name of the flag: `f32`, `bf16`, `f16`, `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::Bf16 => "bf16",
            Format::F16 => "f16",
            Format::Int8 => "int8",
        }
    }

    /// The file of this format.
    ///
    /// * `quantisation`: which values have 8 bits, if any have
    pub fn form(self, quantisation: Quantisation) -> Form {
        match self {
            Format::F32 => Form::F32,
            Format::Bf16 => Form::Bf16,
            Format::F16 => Form::F16,
            Format::Int8 => Form::Int8(quantisation),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let found = Format::ALL.into_iter().find(|format| format.name() == s);
        found.ok_or_else(|| format!("expected f32, bf16, f16 or int8, got {s:?}"))
    }
}

/// What is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// By which library.
    pub engine: EngineName,
    /// In which number format.
    pub format: Format,
    /// Where.
    pub device: Device,
    /// Images of a full batch, at least 1.
    pub batch: usize,
    /// Threads on the CPU, at least 1.
    pub threads: usize,
    /// A file that is there already, in place of an export.
    pub onnx: Option<&'a Path>,
}

/// Opens an engine on a model.
///
/// # Errors
/// [`SetupError`] within, if the library or the device cannot do it, or refuses the file.
pub fn open(order: &Order, exports: &mut Exports) -> anyhow::Result<Box<dyn Staged>> {
    if let Some(why) = cannot(order.engine, order.format, order.device) {
        return Err(SetupError::Unavailable {
            engine: order.engine.name(),
            why: why.into(),
            remedy: "choose another --engines, --dtypes or --device".into(),
        }
        .into());
    }
    // Before an export: a missing library is told at once.
    order.engine.version()?;
    let config = &exports.model().config;
    let side = exports.model().side();
    let image = [config.channels, side, side];
    let mut path = |form: Form| match order.onnx {
        Some(path) => Ok(path.to_owned()),
        None => exports.file(form),
    };
    match order.engine {
        EngineName::Openvino | EngineName::OpenvinoStreams => {
            let precision = match order.format {
                Format::F32 => Precision::F32,
                Format::Int8 if !cpu_has_bf16() => Precision::F32,
                // What stays between 8 bits is bf16 then, as the plugin does by itself.
                Format::Bf16 | Format::Int8 | Format::F16 => Precision::Bf16,
            };
            let path = match order.format {
                Format::Int8 => path(Form::Int8(Quantisation::Cpu))?,
                // The plugin converts f32 itself.
                _ => path(Form::F32)?,
            };
            let streams = match order.engine {
                EngineName::OpenvinoStreams => order.threads,
                _ => 1,
            };
            let (batch, threads) = (order.batch, order.threads);
            let engine = OpenVino::open(&path, image, batch, threads, streams, precision)?;
            Ok(Box::new(engine))
        }
        EngineName::Onnxruntime => {
            let path = path(order.format.form(Quantisation::Cpu))?;
            let provider = match order.device {
                Device::Cuda(device) => Provider::Cuda(device),
                Device::Cpu | Device::Tpu => Provider::Cpu,
            };
            let (batch, threads) = (order.batch, order.threads);
            Ok(Box::new(OnnxRuntime::open(
                &path, image, batch, threads, provider,
            )?))
        }
        EngineName::Tensorrt => {
            let path = match order.format {
                Format::Int8 => path(Form::Int8(Quantisation::TensorRt))?,
                // TensorRT chooses the format of each layer among those that it may use.
                _ => path(Form::F32)?,
            };
            let Device::Cuda(device) = order.device else {
                anyhow::bail!("TensorRT on {}", order.device);
            };
            let provider = Provider::TensorRt {
                device,
                fp16: matches!(order.format, Format::F16 | Format::Int8),
                bf16: order.format == Format::Bf16,
                int8: order.format == Format::Int8,
                cache: tensor_rt_cache()?,
            };
            let (batch, threads) = (order.batch, order.threads);
            Ok(Box::new(OnnxRuntime::open(
                &path, image, batch, threads, provider,
            )?))
        }
    }
}

/// An engine for the worker, with the noise of chapter 1 laid ready.
struct Loaded {
    engine: Box<dyn Staged>,
    settings: serde_json::Map<String, Value>,
}

impl worker::Loaded for Loaded {
    fn sample(&mut self) -> Result<(), EngineError> {
        self.engine.run().map(drop)
    }

    fn logits(&mut self, batch: Batch) -> Result<Logits, EngineError> {
        self.engine.infer(batch)
    }

    fn settings(&self) -> serde_json::Map<String, Value> {
        self.settings.clone()
    }
}

/// Loads what a request of the worker names.
///
/// # Errors
/// What was refused, or what this machine lacks.
pub fn serve(request: &Load, setting: &Setting) -> anyhow::Result<Box<dyn worker::Loaded>> {
    let engine: EngineName = request.engine.parse().map_err(anyhow::Error::msg)?;
    let format: Format = request.dtype.parse().map_err(anyhow::Error::msg)?;
    let model = request.model()?;
    let device = match setting.device {
        tch::Device::Cuda(index) => Device::Cuda(index),
        _ => Device::Cpu,
    };
    if format == Format::Bf16 && device == Device::Cpu && !cpu_has_bf16() {
        return Err(SetupError::Unavailable {
            engine: engine.name(),
            why: "this CPU has no bf16 instructions".into(),
            remedy: "choose another dtype".into(),
        }
        .into());
    }
    let order = Order {
        engine,
        format,
        device,
        batch: request.batch,
        threads: request.threads,
        onnx: request.onnx.as_deref(),
    };
    let mut opened = open(&order, &mut Exports::new(&model)?)?;
    let (pixels, shape) = noise(&model, request.batch);
    opened.stage(Batch {
        pixels: &pixels,
        shape,
    })?;
    let mut settings = serde_json::Map::new();
    let version = format!("{} {}", engine.library(), engine.version()?);
    settings.insert("library".into(), version.into());
    settings.insert("device".into(), device.to_string().into());
    if matches!(device, Device::Cuda(_)) {
        let gpu = Environment::collect().accelerator;
        let name = gpu.map_or_else(|| "unknown".into(), |gpu| gpu.name);
        settings.insert("device_name".into(), name.into());
    }
    Ok(Box::new(Loaded {
        engine: opened,
        settings,
    }))
}

/// Why a combination exists nowhere, on no machine.
pub fn cannot(engine: EngineName, format: Format, device: Device) -> Option<&'static str> {
    let cuda = matches!(device, Device::Cuda(_));
    match engine {
        _ if device == Device::Tpu => Some("none of these engines computes on a TPU"),
        EngineName::Tensorrt if !cuda => Some("TensorRT computes on NVIDIA GPUs only"),
        EngineName::Openvino | EngineName::OpenvinoStreams if cuda => {
            Some("OpenVINO has no plugin for NVIDIA GPUs")
        }
        EngineName::Openvino | EngineName::OpenvinoStreams if format == Format::F16 => {
            Some("OpenVINO's CPU plugin is asked for bf16, not f16")
        }
        EngineName::Onnxruntime if cuda && format == Format::Int8 => {
            Some("ONNX Runtime's CUDA provider has no 8-bit convolution; TensorRT has")
        }
        _ => None,
    }
}

/// The folder of built engines for the GPU of this machine: one kind of GPU cannot use what was
/// built for another, nor one driver what another's built.
fn tensor_rt_cache() -> anyhow::Result<PathBuf> {
    let environment = Environment::collect();
    let driver = environment
        .accelerator
        .as_ref()
        .and_then(|gpu| gpu.driver.clone());
    let name = format!(
        "{}-driver-{}",
        environment.machine_slug(),
        driver.as_deref().unwrap_or("unknown")
    );
    let root = checkout_root().unwrap_or_else(std::env::temp_dir);
    let folder = root.join(".native/engines/tensorrt-cache").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for engine in EngineName::ALL {
            assert_eq!(engine.name().parse(), Ok(engine));
        }
        for format in Format::ALL {
            assert_eq!(format.name().parse(), Ok(format));
        }
        let error = "onnx".parse::<EngineName>().unwrap_err();
        assert!(
            error.contains("openvino-streams") && error.contains("\"onnx\""),
            "{error}"
        );
        assert!("fp32".parse::<Format>().is_err());
    }

    #[test]
    fn what_no_machine_can_do_is_said() {
        let gpu = Device::Cuda(0);
        assert!(cannot(EngineName::Tensorrt, Format::F32, Device::Cpu).is_some());
        assert!(cannot(EngineName::Openvino, Format::F32, gpu).is_some());
        assert!(cannot(EngineName::Onnxruntime, Format::Int8, gpu).is_some());
        for format in [Format::F32, Format::Bf16, Format::Int8] {
            assert!(cannot(EngineName::Onnxruntime, format, Device::Cpu).is_none());
            assert!(cannot(EngineName::Openvino, format, Device::Cpu).is_none());
            assert!(cannot(EngineName::Tensorrt, format, gpu).is_none());
        }
    }
}
