//! Measurements on request, for a program that times several engines in turn.
//! One JSON object a line in, one a line out.
//!
//! ```text
//! {"load": {"engine": "tch-prepacked", "arch": "resnet50", "stem": "imagenet", "image": 224,
//!           "batch": 8, "dtype": "f32", "threads": 2, "weights": PATH or null,
//!           "device": "cpu", "autotune": false}}
//!     -> {"loaded": {"versions": {...}, "settings": {"device": "cpu"}, "seconds": s}}
//! {"run": {"warmup": 2, "samples": 5}}  -> {"seconds": [...]}
//! {"logits": {"input": PATH}}           -> {"logits": [[...]]}
//! anything that fails                   -> {"error": "..."}
//! what this machine cannot run          -> {"error": "...", "unsupported": true}
//! ```
//!
//! A sample begins with the input on the device, as the engine wants it, and ends with
//! the logits on the host. `device` may be left out, and so may `autotune` (cuDNN tries its
//! kernels and keeps the fastest: done on a GPU unless it is false) and `onnx`, a model's
//! file for engines that open one.

use std::{
    io::{self, BufRead},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Instant,
};

use accel::{
    device::{DeviceError, DeviceRequest, Selection},
    exit,
};
use anyhow::{Context, bail, ensure};
use datasets::checkpoint::{Checkpoint, Dtype as StoredDtype};
use serde::Deserialize;
use serde_json::{Value, json};
use tch::Device;

use crate::{
    engine::{Batch, Engine, EngineError, Logits},
    failure::{self, print_line},
    model::{Model, Source, Wishes},
    resnet::{
        config::{Arch, Stem},
        seeded,
    },
    setting::{self, Setting},
    tch_engine::{Prepared, Rung, TchEngine, refused},
};

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Request {
    Load(Load),
    Run(Run),
    Logits(LogitsRequest),
}

/// What is to be loaded.
#[derive(Clone, Debug, Deserialize)]
pub struct Load {
    /// `tch-<rung>`, or another engine that a chapter knows.
    pub engine: String,
    /// Depth.
    pub arch: Arch,
    /// First layers.
    pub stem: Stem,
    /// Height and width in pixels, `8..=1024`.
    pub image: u32,
    /// Images, `1..=4096`.
    pub batch: usize,
    /// `f32`, `bf16`, `f16`, or what else the engine knows.
    pub dtype: String,
    /// Of one operator on the CPU, `1..=1024`.
    pub threads: usize,
    /// As on the command line: `digits`, or a safetensors file; from a seed if not given.
    pub weights: Option<PathBuf>,
    /// As on the command line; `cpu` if not given.
    pub device: Option<String>,
    /// Whether cuDNN tries its kernels; on a GPU it does if not given.
    pub autotune: Option<bool>,
    /// The model as an ONNX file, for engines that open one.
    pub onnx: Option<PathBuf>,
    /// Where a sample's input lies when the sample begins; where the network is if not given.
    /// Chapter 2 knows others.
    pub feed: Option<String>,
}

#[derive(Deserialize)]
struct Run {
    warmup: usize,
    samples: usize,
}

#[derive(Deserialize)]
struct LogitsRequest {
    input: PathBuf,
}

/// An engine with an input that is ready.
pub trait Loaded {
    /// One sample: from the input on the device to the logits on the host.
    ///
    /// # Errors
    /// The engine's.
    fn sample(&mut self) -> Result<(), EngineError>;

    /// Batches of one sample; the seconds that are told are those of one batch.
    fn batches(&self) -> usize {
        1
    }

    /// The logits of another input.
    ///
    /// # Errors
    /// The engine's.
    fn logits(&mut self, batch: Batch) -> Result<Logits, EngineError>;

    /// What was chosen, by name: becomes part of a result's row.
    fn settings(&self) -> serde_json::Map<String, Value>;
}

/// Chooses a device, as a chapter's libraries allow.
pub type Select = dyn Fn(DeviceRequest) -> Result<Selection, DeviceError>;

/// Answers requests on stdin until it ends.
///
/// * `open`: loads what a request names; the sizes in it are checked
/// * `system_malloc`: leave malloc as it comes
///
/// # Errors
/// Only if stdin or stdout break; a failed request is an answer.
pub fn serve(
    open: &dyn Fn(&Load) -> anyhow::Result<Box<dyn Loaded>>,
    system_malloc: bool,
) -> anyhow::Result<()> {
    setting::malloc(system_malloc);
    let mut loaded = None;
    // By bytes: a line that is not UTF-8 is a bad request, not the end of the input.
    for line in io::stdin().lock().split(b'\n') {
        let line = line.context("cannot read requests from stdin")?;
        let answer = answer(&line, &mut loaded, open).unwrap_or_else(|error| {
            let mut answer = json!({ "error": format!("{error:#}") });
            // A device that is lost was there: that is a failure.
            let lost = matches!(error.downcast_ref(), Some(EngineError::DeviceLost { .. }));
            if failure::code(&error) == exit::DEVICE && !lost {
                answer["unsupported"] = json!(true);
            }
            answer
        });
        print_line(&answer.to_string())?;
    }
    Ok(())
}

fn answer(
    line: &[u8],
    loaded: &mut Option<Box<dyn Loaded>>,
    open: &dyn Fn(&Load) -> anyhow::Result<Box<dyn Loaded>>,
) -> anyhow::Result<Value> {
    match serde_json::from_slice(line).context("expected {\"load\"|\"run\"|\"logits\": {...}}")? {
        Request::Load(request) => {
            let start = Instant::now();
            // The old one's memory is free before the new one needs it.
            *loaded = None;
            // The limits of the command line.
            check("image", request.image as usize, 8..=1024)?;
            check("batch", request.batch, 1..=4096)?;
            check("threads", request.threads, 1..=1024)?;
            let engine = open(&request)?;
            let answer = json!({"loaded": {
                "versions": setting::environment().libraries,
                "settings": engine.settings(),
                "seconds": start.elapsed().as_secs_f64(),
            }});
            *loaded = Some(engine);
            Ok(answer)
        }
        Request::Run(request) => {
            let loaded = loaded.as_mut().context("load a model first")?;
            check("warmup", request.warmup, 0..=1_000_000)?;
            check("samples", request.samples, 0..=1_000_000)?;
            let mut seconds = vec![];
            for sample in 0..request.warmup + request.samples {
                let start = Instant::now();
                loaded.sample()?;
                if sample >= request.warmup {
                    let batches = loaded.batches().max(1) as f64;
                    seconds.push(start.elapsed().as_secs_f64() / batches);
                }
            }
            Ok(json!({ "seconds": seconds }))
        }
        Request::Logits(request) => {
            let loaded = loaded.as_mut().context("load a model first")?;
            let (pixels, shape) = read_input(&request.input)?;
            let logits = loaded.logits(Batch {
                pixels: &pixels,
                shape,
            })?;
            let rows: Vec<&[f32]> = logits.rows().collect();
            Ok(json!({ "logits": rows }))
        }
    }
}

/// Refuses a number that no measurement has, before it asks for all memory.
fn check(what: &str, got: usize, expected: RangeInclusive<usize>) -> anyhow::Result<()> {
    ensure!(
        expected.contains(&got),
        "{what}: expected {} to {}, got {got}",
        expected.start(),
        expected.end()
    );
    Ok(())
}

impl Load {
    /// Opens the model that the request names.
    ///
    /// # Errors
    /// The model's.
    pub fn model(&self) -> anyhow::Result<Model> {
        let source = match &self.weights {
            // A name of the command line's is a name here, too.
            Some(path) => match path.to_str().map(Source::from_str) {
                Some(Ok(source)) => source,
                _ => Source::File(path.clone()),
            },
            None => Source::Random,
        };
        let wishes = Wishes {
            arch: Some(self.arch),
            stem: Some(self.stem),
            side: Some(self.image),
            channels: None,
        };
        Ok(Model::open(&source, wishes, true)?)
    }

    /// Settles the device and the threads.
    ///
    /// # Errors
    /// If the device is not there, or its name is none.
    pub fn setting(&self, select: &Select) -> anyhow::Result<Setting> {
        let name = self.device.as_deref().unwrap_or("cpu");
        let selection = select(name.parse()?)?;
        // malloc was settled when the process began.
        Ok(setting::settle(&selection, Some(self.threads), true, true))
    }
}

/// libtorch, on one of its rungs.
struct LoadedTch {
    engine: TchEngine,
    input: Prepared,
    images: usize,
    settings: serde_json::Map<String, Value>,
}

/// Loads the network of a request `tch-<rung>`.
///
/// # Errors
/// What was refused, or what this machine lacks.
pub fn load_tch(request: &Load, setting: &Setting) -> anyhow::Result<TchEngine> {
    let Some(rung) = request.engine.strip_prefix("tch-") else {
        bail!("expected an engine tch-<rung>, got {:?}", request.engine);
    };
    let rung: Rung = rung.parse().map_err(anyhow::Error::msg)?;
    let dtype = request.dtype.parse().map_err(anyhow::Error::msg)?;
    let model = request.model()?;
    let autotune = request.autotune.unwrap_or(setting.device != Device::Cpu);
    tch::Cuda::cudnn_set_benchmark(autotune);
    Ok(TchEngine::load(
        &model.config,
        &model.weights,
        model.side(),
        rung,
        dtype,
        setting.device,
    )?)
}

/// Loads `tch-<rung>` with an input that lies where the network is.
///
/// * `setting`: from [`Load::setting`]
///
/// # Errors
/// What was refused, or what this machine lacks.
pub fn open_tch(request: &Load, setting: &Setting) -> anyhow::Result<Box<dyn Loaded>> {
    if let Some(feed) = &request.feed {
        bail!("expected no feed, got {feed:?}");
    }
    let engine = load_tch(request, setting)?;
    let [channels, height, width] = engine.image_shape();
    let shape = [request.batch, channels, height, width];
    let pixels = seeded::tensor(0, "input", &shape);
    let input = engine
        .prepare(Batch {
            pixels: &pixels,
            shape,
        })
        .map_err(|error| refused(error, request.batch))?;
    Ok(Box::new(LoadedTch {
        engine,
        input,
        images: request.batch,
        settings: setting.described(),
    }))
}

impl Loaded for LoadedTch {
    fn sample(&mut self) -> Result<(), EngineError> {
        let logits = self.engine.forward(&self.input);
        let logits = logits.and_then(|y| y.f_to_device(Device::Cpu));
        logits.map(drop).map_err(|e| refused(e, self.images))
    }

    fn logits(&mut self, batch: Batch) -> Result<Logits, EngineError> {
        self.engine.infer(batch)
    }

    fn settings(&self) -> serde_json::Map<String, Value> {
        self.settings.clone()
    }
}

/// The tensor `input`, f32 NCHW, of a safetensors file.
fn read_input(path: &Path) -> anyhow::Result<(Vec<f32>, [usize; 4])> {
    let file = Checkpoint::open(path)?;
    let view = file
        .tensor("input")
        .with_context(|| format!("no tensor \"input\" in {}", path.display()))?;
    ensure!(
        view.dtype == StoredDtype::F32,
        "tensor \"input\": expected F32, got {:?}",
        view.dtype
    );
    let shape = <[usize; 4]>::try_from(view.shape)
        .map_err(|_| anyhow::anyhow!("expected 4 dimensions (NCHW), got {:?}", view.shape))?;
    let pixels = view
        .bytes
        .as_chunks()
        .0
        .iter()
        .map(|&b| f32::from_le_bytes(b))
        .collect();
    Ok((pixels, shape))
}
