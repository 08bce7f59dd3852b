//! OpenVINO on the CPU.

use std::{env, panic, path::Path};

use cpu_inference::engine::{Batch, Engine, EngineError, Logits, SetupError};
use openvino::{
    CompiledModel, Core, DeviceType, ElementType, InferRequest, InferenceError, PartialShape,
    PropertyKey, RwPropertyKey, SetupError as OpenVinoSetup, Shape, Tensor,
};

use crate::{
    library::{Library, first_line},
    staged::{Staged, check, nothing_staged},
};

/// Its name in messages.
const NAME: &str = "OpenVINO";
const LIBRARY: Library = Library {
    name: NAME,
    folder: "openvino",
    stem: "openvino_c",
    variable: "OPENVINO_INSTALL_DIR",
};
/// What the crate openvino-finder reads, in its order: if one is set, it searches.
const VARIABLES: [&str; 3] = [
    "OPENVINO_BUILD_DIR",
    "OPENVINO_INSTALL_DIR",
    "INTEL_OPENVINO_DIR",
];
/// Longest wait for a batch, in milliseconds: a day.
const LONGEST_WAIT_MS: i64 = 24 * 60 * 60 * 1000;

/// The number format that OpenVINO computes in, where the file says f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    F32,
    /// bf16 in convolutions; needs a CPU with instructions for it.
    Bf16,
}

impl Precision {
    fn hint(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }
}

/// Opens OpenVINO's library: the user's own by `OPENVINO_INSTALL_DIR`, else the one that set-up
/// brought.
///
/// Returns the library's version, as it says.
///
/// # Errors
/// [`SetupError::Unavailable`] if it is missing or too old, or is another library.
pub fn load() -> Result<String, SetupError> {
    let set = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let own = VARIABLES.iter().find(|name| set(name));
    let path = match own {
        Some(_) => None,
        None => Some(LIBRARY.from_setup()?),
    };
    // The bindings panic where a library has not the functions that they look for.
    let loaded = panic::catch_unwind(|| {
        match path {
            Some(path) => openvino_sys::library::load_from(path),
            None => openvino_sys::library::load(),
        }?;
        let version = openvino::version().build_number;
        Ok(version.split('-').next().unwrap_or(&version).to_owned())
    });
    let why: String = match loaded {
        Ok(Ok(version)) => return Ok(version),
        Ok(Err(why)) => why,
        Err(_) => "the library found is not OpenVINO's, or of another version".into(),
    };
    let why = first_line(&why);
    Err(LIBRARY.unavailable(match own {
        Some(variable) => format!("{why} ({variable} is set)"),
        None => why,
    }))
}

/// A ResNet on OpenVINO, for batches of up to a fixed size.
///
/// With one stream, all threads share each batch. With more, the batch is shared out, and each
/// stream works through its part with its own threads: no barrier at each layer.
pub struct OpenVino {
    parts: Vec<Part>,
    /// Images of one part.
    part: usize,
    /// `[channels, height, width]`.
    image: [usize; 3],
    /// Images laid ready; 0 if none.
    staged: usize,
    // Dropped last: the parts are made from it.
    _compiled: CompiledModel,
    _core: Core,
}

/// One stream's share of a batch.
struct Part {
    request: InferRequest,
    input: Tensor,
}

impl OpenVino {
    // ANCHOR: open
    /// Opens an ONNX file of [`crate::onnx`] and compiles it for this CPU.
    ///
    /// * `image`: `[channels, height, width]`
    /// * `batch`: images of a full batch, at least 1; fewer are filled up, more are run in turns
    /// * `threads`: of all streams together, at least 1
    /// * `streams`: parts of a batch that run side by side, at least 1
    ///
    /// # Errors
    /// [`SetupError::Unavailable`] if the library is missing or this CPU has not the precision;
    /// [`SetupError::Model`] if the file is not a fitting ONNX file.
    pub fn open(
        path: &Path,
        image: [usize; 3],
        batch: usize,
        threads: usize,
        streams: usize,
        precision: Precision,
    ) -> Result<Self, SetupError> {
        load()?;
        let streams = streams.clamp(1, batch.max(1));
        let part = batch.max(1).div_ceil(streams);
        let cpu = DeviceType::CPU;
        let mut core =
            Core::new().map_err(|error| LIBRARY.unavailable(first_line(&text(error))))?;
        let text_of = |error: InferenceError| LIBRARY.unavailable(first_line(&error.to_string()));
        let (threads, streams_text) = (threads.to_string(), streams.to_string());
        let hint = match streams {
            1 => "LATENCY",
            _ => "THROUGHPUT",
        };
        core.set_properties(
            &cpu,
            [
                (RwPropertyKey::HintPerformanceMode, hint),
                (RwPropertyKey::NumStreams, &streams_text),
                (RwPropertyKey::InferenceNumThreads, &threads),
                // By name also for f32: the plugin takes bf16 by itself where the CPU has it.
                (RwPropertyKey::HintInferencePrecision, precision.hint()),
            ],
        )
        .map_err(text_of)?;
        let compiled = compile(&mut core, path, image, part)?;
        let got = compiled
            .get_property(&PropertyKey::Rw(RwPropertyKey::HintInferencePrecision))
            .map_err(text_of)?
            .into_owned();
        if got != precision.hint() {
            return Err(SetupError::Unavailable {
                engine: NAME,
                why: format!(
                    "asked for {}, it computes in {got} on this CPU",
                    precision.hint()
                ),
                remedy: "choose another --dtype".into(),
            });
        }
        let mut compiled = compiled;
        let parts = (0..streams)
            .map(|_| Part::new(&mut compiled, image, part))
            .collect::<Result<_, _>>()
            .map_err(text_of)?;
        Ok(OpenVino {
            parts,
            part,
            image,
            staged: 0,
            _compiled: compiled,
            _core: core,
        })
    }
    // ANCHOR_END: open

    /// Images of a full batch.
    fn capacity(&self) -> usize {
        self.part * self.parts.len()
    }
}

/// Reads the file, fixes the batch, and compiles.
fn compile(
    core: &mut Core,
    path: &Path,
    image: [usize; 3],
    part: usize,
) -> Result<CompiledModel, SetupError> {
    let shown = path.file_name().map_or(path, Path::new).to_owned();
    let model_error = |why: String| SetupError::Model {
        engine: NAME,
        path: shown.clone(),
        why: first_line(&why),
        expected: "a whole ONNX file, as \"gpu-inference export\" writes it".into(),
    };
    let name = path.to_str().filter(|name| !name.contains('\0'));
    let name = name.ok_or_else(|| model_error("its path is not UTF-8".into()))?;
    let refused = |error: InferenceError| model_error(error.to_string());
    // An ONNX file has its weights inside.
    let mut model = core.read_model_from_file(name, "").map_err(refused)?;
    let [channels, height, width] = image.map(|n| n as i64);
    // Kernels are chosen, and memory is planned, for one size.
    let shape = PartialShape::new_static(4, &[part as i64, channels, height, width]);
    shape
        .and_then(|shape| model.reshape_single_input(&shape))
        .map_err(refused)?;
    core.compile_model(&model, DeviceType::CPU).map_err(refused)
}

fn text(error: OpenVinoSetup) -> String {
    error.to_string()
}

fn failed(error: InferenceError) -> EngineError {
    EngineError::Library {
        engine: NAME,
        message: first_line(&error.to_string()),
    }
}

impl Part {
    fn new(
        compiled: &mut CompiledModel,
        image: [usize; 3],
        part: usize,
    ) -> Result<Self, InferenceError> {
        let [channels, height, width] = image.map(|n| n as i64);
        let shape = Shape::new(&[part as i64, channels, height, width])?;
        let input = Tensor::new(ElementType::F32, &shape)?;
        let mut request = compiled.create_infer_request()?;
        request.set_input_tensor(&input)?;
        Ok(Part { request, input })
    }
}

impl Engine for OpenVino {
    fn infer(&mut self, batch: Batch) -> Result<Logits, EngineError> {
        check(&batch, self.image)?;
        let each: usize = self.image.iter().product();
        let mut all = Logits {
            values: vec![],
            classes: 0,
        };
        let [_, channels, height, width] = batch.shape;
        for pixels in batch.pixels.chunks(self.capacity() * each) {
            let shape = [pixels.len() / each, channels, height, width];
            self.stage(Batch { pixels, shape })?;
            let logits = self.run()?;
            all.classes = logits.classes;
            all.values.extend(logits.values);
        }
        Ok(all)
    }

    fn image_shape(&self) -> [usize; 3] {
        self.image
    }
}

impl Staged for OpenVino {
    /// At most a full batch; see [`OpenVino::open`].
    fn stage(&mut self, batch: Batch) -> Result<(), EngineError> {
        check(&batch, self.image)?;
        self.staged = 0;
        if batch.shape[0] > self.capacity() {
            return Err(EngineError::Library {
                engine: NAME,
                message: format!(
                    "expected at most {} images in a batch, got {}",
                    self.capacity(),
                    batch.shape[0]
                ),
            });
        }
        let each: usize = self.image.iter().product();
        let mut shares = batch.pixels.chunks(self.part * each);
        for part in &mut self.parts {
            let input = part.input.get_data_mut::<f32>().map_err(failed)?;
            let share = shares.next().unwrap_or_default();
            let (filled, rest) = input.split_at_mut(share.len());
            filled.copy_from_slice(share);
            rest.fill(0.0);
        }
        self.staged = batch.shape[0];
        Ok(())
    }

    // ANCHOR: run
    fn run(&mut self) -> Result<Logits, EngineError> {
        if self.staged == 0 {
            return Err(nothing_staged(NAME));
        }
        match self.parts.as_mut_slice() {
            [part] => part.request.infer().map_err(failed)?,
            parts => {
                for part in parts.iter_mut() {
                    part.request.infer_async().map_err(failed)?;
                }
                for part in parts {
                    part.request.wait(LONGEST_WAIT_MS).map_err(failed)?;
                }
            }
        }
        let mut values = vec![];
        for part in &self.parts {
            let output = part.request.get_output_tensor().map_err(failed)?;
            values.extend_from_slice(output.get_data::<f32>().map_err(failed)?);
        }
        let classes = values.len() / self.capacity();
        values.truncate(self.staged * classes);
        Ok(Logits { values, classes })
    }
    // ANCHOR_END: run
}
