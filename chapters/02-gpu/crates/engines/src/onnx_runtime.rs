//! ONNX Runtime: its CPU provider, and CUDA and TensorRT where its library has them.

use std::{
    env,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use cpu_inference::engine::{Batch, Engine, EngineError, Logits, SetupError};
use ort::{
    ErrorCode,
    ep::{CUDA, ExecutionProviderDispatch, TensorRT},
    logging::LogLevel,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, Session, builder::GraphOptimizationLevel},
    value::Tensor,
};

use crate::{
    library::{Library, first_line},
    plan::{INPUT, OUTPUT},
    staged::{Staged, check, nothing_staged},
};

/// Its name in messages.
const NAME: &str = "ONNX Runtime";
/// The user's own library: a file.
const VARIABLE: &str = "ORT_DYLIB_PATH";
const LIBRARY: Library = Library {
    name: NAME,
    folder: "onnxruntime",
    stem: "onnxruntime",
    variable: VARIABLE,
};

/// What computes, and in which number format where the file leaves it open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// The host's processor.
    Cpu,
    /// An NVIDIA GPU, by cuDNN. Counted from 0.
    Cuda(usize),
    /// An NVIDIA GPU, by an engine that TensorRT builds at load.
    TensorRt {
        /// The GPU, counted from 0.
        device: usize,
        /// Let layers of an f32 file run in f16.
        fp16: bool,
        /// Let layers of an f32 file run in bf16.
        bf16: bool,
        /// Let marked layers run in int8.
        int8: bool,
        /// Folder that keeps built engines. One GPU cannot use another's: the caller names the
        /// folder after the GPU.
        cache: PathBuf,
    },
}

/// Opens ONNX Runtime's library: `ORT_DYLIB_PATH`, else the one that set-up brought.
///
/// Returns the library's version, as it says.
///
/// # Errors
/// [`SetupError::Unavailable`] if it is missing or too old, or is another library.
pub fn load() -> Result<String, SetupError> {
    let path = match env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        // A relative path would be looked for beside the program first.
        Some(path) => std::path::absolute(&path).unwrap_or(path.into()),
        None => LIBRARY.from_setup()?,
    };
    let loaded = LOADED.get_or_init(|| {
        let environment = ort::init_from(&path).map_err(|error| {
            // The message names the place; the user knows it from the variable.
            let shown = path.file_name().unwrap_or(path.as_os_str());
            let why = error.to_string();
            let why = why.replace(&path.display().to_string(), &shown.to_string_lossy());
            first_line(&why)
        })?;
        // What it would print is told by the errors that it returns.
        environment
            .with_name("gpu-inference")
            .with_telemetry(false)
            .with_logger(Arc::new(
                |_: LogLevel, _: &str, _: &str, _: &str, _: &str| {},
            ))
            .commit();
        Ok(version(&path))
    });
    loaded.clone().map_err(|why| LIBRARY.unavailable(why))
}

/// What came of opening the library, which a process does once: the crate ort takes a second
/// attempt after a failed one for a success, and panics at the first call.
static LOADED: OnceLock<Result<String, String>> = OnceLock::new();

/// The library's version. Its functions do not tell; the name of its symbols' version does, which
/// stands at the beginning of the file: `VERS_1.31.1`.
fn version(path: &Path) -> String {
    const BEGINNING: u64 = 1 << 20;
    let mut bytes = vec![];
    let read = File::open(path).and_then(|file| file.take(BEGINNING).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let found = text.split('\0').find_map(|word| word.strip_prefix("VERS_"));
    match (read, found) {
        (Ok(_), Some(version)) => version.to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// A ResNet on ONNX Runtime.
#[derive(Debug)]
pub struct OnnxRuntime {
    session: Session,
    binding: IoBinding,
    provider: Provider,
    /// `[channels, height, width]`.
    image: [usize; 3],
    /// Images laid ready; 0 if none.
    staged: usize,
}

impl OnnxRuntime {
    // ANCHOR: open
    /// Opens an ONNX file of [`crate::onnx`].
    ///
    /// * `image`: `[channels, height, width]`
    /// * `batch`: the size that TensorRT prepares for; any size runs
    /// * `threads`: of one operator on the CPU, at least 1
    ///
    /// # Errors
    /// [`SetupError::Unavailable`] if the library, the provider or a kernel is missing;
    /// [`SetupError::Model`] if the file is not a fitting ONNX file.
    pub fn open(
        path: &Path,
        image: [usize; 3],
        batch: usize,
        threads: usize,
        provider: Provider,
    ) -> Result<Self, SetupError> {
        load()?;
        let refused = |error: ort::Error| refused(path, &error);
        let providers = execution_providers(&provider, image, batch);
        let mut builder = Session::builder()
            .and_then(|b| Ok(b.with_optimization_level(GraphOptimizationLevel::All)?))
            .and_then(|b| Ok(b.with_intra_threads(threads)?))
            .and_then(|b| Ok(b.with_inter_threads(1)?))
            .and_then(|b| Ok(b.with_execution_providers(providers)?))
            .map_err(|error| LIBRARY.unavailable(first_line(error.message())))?;
        let session = builder.commit_from_file(path).map_err(refused)?;
        let binding = session.create_binding().map_err(refused)?;
        Ok(OnnxRuntime {
            session,
            binding,
            provider,
            image,
            staged: 0,
        })
    }
    // ANCHOR_END: open

    /// Asks for the logits on the host, wherever they are computed. Memory that was bound for
    /// another number of images is given back: it would be used again, and not fit.
    fn bind_output(&mut self) -> ort::Result<()> {
        self.binding.clear_outputs();
        let host = MemoryInfo::new(
            AllocationDevice::CPU,
            0,
            AllocatorType::Device,
            MemoryType::CPUOutput,
        )?;
        self.binding.bind_output_to_device(OUTPUT, &host)
    }
}

/// The providers in the order in which they are asked for each operator. What no one of them has
/// falls to the CPU.
fn execution_providers(
    provider: &Provider,
    image: [usize; 3],
    batch: usize,
) -> Vec<ExecutionProviderDispatch> {
    let number = |device: usize| i32::try_from(device).unwrap_or(i32::MAX);
    let cuda = |device: usize| {
        CUDA::default()
            .with_device_id(number(device))
            .build()
            .error_on_failure()
    };
    match provider {
        Provider::Cpu => vec![],
        Provider::Cuda(device) => vec![cuda(*device)],
        Provider::TensorRt {
            device,
            fp16,
            bf16,
            int8,
            cache,
        } => {
            let [channels, height, width] = image;
            let shape = |images| format!("{INPUT}:{images}x{channels}x{height}x{width}");
            let tensor_rt = TensorRT::default()
                .with_device_id(number(*device))
                .with_fp16(*fp16)
                .with_bf16(*bf16)
                .with_int8(*int8)
                .with_engine_cache(true)
                .with_engine_cache_path(cache.display())
                .with_timing_cache(true)
                .with_timing_cache_path(cache.display())
                .with_profile_min_shapes(shape(1))
                .with_profile_opt_shapes(shape(batch))
                .with_profile_max_shapes(shape(batch))
                .build()
                .error_on_failure();
            vec![tensor_rt, cuda(*device)]
        }
    }
}

/// Why a file does not open.
fn refused(path: &Path, error: &ort::Error) -> SetupError {
    sorted(path, error.code(), error.message())
}

/// Not there to read, not a model, more than this library can, or a cache of another GPU.
fn sorted(path: &Path, code: ErrorCode, message: &str) -> SetupError {
    let message = first_line(message);
    let shown = path.file_name().map_or(path, Path::new).to_owned();
    // Its own words, from ONNX Runtime's TensorRT provider.
    if message.contains("deserialize engine from cache") {
        return SetupError::Unavailable {
            engine: "TensorRT",
            why: format!("an engine in its cache is of another GPU or version ({message})"),
            remedy: "delete the cache folder and run again: it is built anew".into(),
        };
    }
    match code {
        ErrorCode::NotImplemented | ErrorCode::ExecutionProviderFailure => {
            SetupError::Unavailable {
                engine: NAME,
                why: message,
                remedy: "choose another --dtype or --device".into(),
            }
        }
        _ => SetupError::Model {
            engine: NAME,
            path: shown,
            why: message,
            expected: "a whole ONNX file, as \"gpu-inference export\" writes it".into(),
        },
    }
}

/// How ONNX Runtime's arena and CUDA say that there is no memory.
const OUT_OF_MEMORY: [&str; 3] = ["Failed to allocate memory", "out of memory", "bad_alloc"];

/// * `images`: images in the batch that was under way
fn failed(message: &str, images: usize) -> EngineError {
    let (engine, short) = (NAME, first_line(message));
    match OUT_OF_MEMORY.iter().any(|words| message.contains(words)) {
        true => EngineError::OutOfMemory {
            engine,
            images,
            message: short,
        },
        false => EngineError::Library {
            engine,
            message: short,
        },
    }
}

impl Engine for OnnxRuntime {
    fn infer(&mut self, batch: Batch) -> Result<Logits, EngineError> {
        self.stage(batch)?;
        self.run()
    }

    fn image_shape(&self) -> [usize; 3] {
        self.image
    }
}

impl Staged for OnnxRuntime {
    fn stage(&mut self, batch: Batch) -> Result<(), EngineError> {
        check(&batch, self.image)?;
        self.staged = 0;
        let images = batch.shape[0];
        let failed = |error: ort::Error| failed(error.message(), images);
        let shape = batch.shape.map(|n| n as i64);
        let tensor = Tensor::from_array((shape, batch.pixels.to_vec())).map_err(failed)?;
        let bound = match self.provider {
            Provider::Cpu => self.binding.bind_input(INPUT, &tensor),
            Provider::Cuda(device) | Provider::TensorRt { device, .. } => {
                let device = i32::try_from(device).unwrap_or(i32::MAX);
                tensor
                    .to(AllocationDevice::CUDA, device)
                    .and_then(|tensor| self.binding.bind_input(INPUT, &tensor))
            }
        };
        bound.and_then(|()| self.bind_output()).map_err(failed)?;
        self.staged = images;
        Ok(())
    }

    // ANCHOR: run
    fn run(&mut self) -> Result<Logits, EngineError> {
        if self.staged == 0 {
            return Err(nothing_staged(NAME));
        }
        let images = self.staged;
        let failed = |error: ort::Error| failed(error.message(), images);
        let outputs = self.session.run_binding(&self.binding).map_err(failed)?;
        let logits = outputs.get(OUTPUT).ok_or_else(|| EngineError::Library {
            engine: NAME,
            message: format!("no output {OUTPUT:?}"),
        })?;
        let (shape, values) = logits.try_extract_tensor::<f32>().map_err(failed)?;
        Ok(Logits {
            classes: shape.last().map_or(0, |&n| n as usize),
            values: values.to_vec(),
        })
    }
    // ANCHOR_END: run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_sorted() {
        let path = Path::new("/somewhere/model.onnx");
        let cache = "TensorRT EP could not deserialize engine from cache: /x/y_sm90.engine";
        let text = sorted(path, ErrorCode::GenericFailure, cache).to_string();
        assert!(
            text.contains("TensorRT") && text.contains("delete the cache"),
            "{text}"
        );
        let kernel = "Could not find an implementation for Conv(22)";
        let lacks = sorted(path, ErrorCode::NotImplemented, kernel);
        assert!(matches!(lacks, SetupError::Unavailable { .. }), "{lacks}");
        let broken = sorted(path, ErrorCode::InvalidProtobuf, "Protobuf parsing failed.");
        assert!(matches!(broken, SetupError::Model { .. }), "{broken}");
        let text = broken.to_string();
        assert!(
            text.contains("model.onnx") && !text.contains("/somewhere"),
            "{text}"
        );
    }

    #[test]
    fn no_memory_is_told_from_other_failures() {
        for text in [
            "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9",
            "CUDA failure 2: out of memory ; GPU=0",
        ] {
            let error = failed(text, 64);
            assert!(
                matches!(error, EngineError::OutOfMemory { images: 64, .. }),
                "{error}"
            );
        }
        let error = failed("Non-zero status code", 64);
        assert!(matches!(error, EngineError::Library { .. }), "{error}");
    }
}
