//! `cpu-inference worker`: measurements on request, for a program that times
//! several engines in turn. One JSON object a line in, one a line out.
//!
//! ```text
//! {"load": {"engine": "tch-prepacked", "arch": "resnet50", "stem": "imagenet", "image": 224,
//!           "batch": 8, "dtype": "f32", "threads": 2, "weights": PATH or null}}
//!     -> {"loaded": {"versions": {...}, "seconds": s}}
//! {"run": {"warmup": 2, "samples": 5}}  -> {"seconds": [...]}
//! {"logits": {"input": PATH}}           -> {"logits": [[...]]}
//! anything that fails                   -> {"error": "..."}
//! a rung that this machine cannot run   -> {"error": "...", "unsupported": true}
//! ```

use std::{
    io::{self, BufRead},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Instant,
};

use accel::exit;
use anyhow::{Context, bail, ensure};
use datasets::checkpoint::{Checkpoint, Dtype as StoredDtype};
use serde::Deserialize;
use serde_json::{Value, json};
use tch::Device;

use crate::{
    cli::WorkerArgs,
    engine::{Batch, Engine},
    failure::print_line,
    model::{Model, Source, Wishes},
    resnet::{
        config::{Arch, Stem},
        seeded,
    },
    setting,
    tch_engine::{Dtype, LoadError, Prepared, Rung, TchEngine, set_threads},
};

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Request {
    Load(Load),
    Run(Run),
    Logits(LogitsRequest),
}

#[derive(Deserialize)]
struct Load {
    engine: String,
    arch: Arch,
    stem: Stem,
    image: u32,
    batch: usize,
    dtype: Dtype,
    threads: usize,
    weights: Option<PathBuf>,
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

struct Loaded {
    engine: TchEngine,
    input: Prepared,
}

/// Answers requests until the input ends.
///
/// # Errors
/// Only if stdin or stdout break; a failed request is an answer.
pub fn run(args: WorkerArgs) -> anyhow::Result<u8> {
    setting::malloc(args.system_malloc);
    let mut loaded = None;
    // By bytes: a line that is not UTF-8 is a bad request, not the end of the input.
    for line in io::stdin().lock().split(b'\n') {
        let line = line.context("cannot read requests from stdin")?;
        let answer = answer(&line, &mut loaded).unwrap_or_else(|error| {
            let mut answer = json!({ "error": format!("{error:#}") });
            if let Some(LoadError::Unsupported { .. }) = error.downcast_ref() {
                answer["unsupported"] = json!(true);
            }
            answer
        });
        print_line(&answer.to_string())?;
    }
    Ok(exit::OK)
}

fn answer(line: &[u8], loaded: &mut Option<Loaded>) -> anyhow::Result<Value> {
    match serde_json::from_slice(line).context("expected {\"load\"|\"run\"|\"logits\": {...}}")? {
        Request::Load(request) => {
            let start = Instant::now();
            *loaded = None;
            *loaded = Some(load(&request)?);
            Ok(json!({"loaded": {
                "versions": setting::environment().libraries,
                "seconds": start.elapsed().as_secs_f64(),
            }}))
        }
        Request::Run(request) => {
            let loaded = loaded.as_ref().context("load a model first")?;
            check("warmup", request.warmup, 0..=1_000_000)?;
            check("samples", request.samples, 0..=1_000_000)?;
            let mut seconds = vec![];
            for sample in 0..request.warmup + request.samples {
                let start = Instant::now();
                drop(loaded.engine.forward(&loaded.input)?);
                if sample >= request.warmup {
                    seconds.push(start.elapsed().as_secs_f64());
                }
            }
            Ok(json!({ "seconds": seconds }))
        }
        Request::Logits(request) => {
            let loaded = loaded.as_mut().context("load a model first")?;
            let (pixels, shape) = read_input(&request.input)?;
            let logits = loaded.engine.infer(Batch {
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

fn load(request: &Load) -> anyhow::Result<Loaded> {
    let Some(rung) = request.engine.strip_prefix("tch-") else {
        bail!("expected an engine tch-<rung>, got {:?}", request.engine);
    };
    let rung: Rung = rung.parse().map_err(anyhow::Error::msg)?;
    // The limits of the command line.
    check("image", request.image as usize, 8..=1024)?;
    check("batch", request.batch, 1..=4096)?;
    check("threads", request.threads, 1..=1024)?;
    let source = match &request.weights {
        Some(path) => Source::File(path.clone()),
        None => Source::Random,
    };
    let wishes = Wishes {
        arch: Some(request.arch),
        stem: Some(request.stem),
        side: Some(request.image),
        channels: None,
    };
    let model = Model::open(&source, wishes, true)?;
    set_threads(request.threads);
    let engine = TchEngine::load(
        &model.config,
        &model.weights,
        model.side(),
        rung,
        request.dtype,
        Device::Cpu,
    )?;
    let [channels, height, width] = engine.image_shape();
    let shape = [request.batch, channels, height, width];
    let pixels = seeded::tensor(0, "input", &shape);
    let input = engine.prepare(Batch {
        pixels: &pixels,
        shape,
    })?;
    Ok(Loaded { engine, input })
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
