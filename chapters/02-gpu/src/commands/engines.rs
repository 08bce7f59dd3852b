//! `gpu-inference engines`: one model in every engine and number format, in turn.
//!
//! A row for each cell of the table, also for those that were not measured: they say why not, and
//! what to type where. All engines are loaded first and then measured round by round, so that a
//! machine that slows down for a moment slows all of them.

use std::{
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

use accel::{
    device::Device,
    exit, human,
    progress::Progress,
    results::{ResultFile, Row, Status},
    timing::Samples,
};
use anyhow::Context;
use cpu_inference::{
    comparison::{accuracy, held_out, noise, relative_difference},
    engine::{Batch, Engine, EngineError, Logits, SetupError},
    model::{Model, Source, Wishes},
    setting::Setting,
    tch_engine::{Dtype, LoadError, Rung, TchEngine},
};
use inference_engines::staged::{Staged, StagedTch};

use crate::{
    cli::EnginesArgs,
    contender::{self, EngineName, Format, Order, cannot},
    device,
    exports::{Exports, calibrated_on},
    output::{self, cpu_has_bf16},
};

/// How far logits may be from libtorch's in f32 on the CPU, as a share of the largest one:
/// rounding in f32, 8 or 11 significant bits through 50 layers, or 256 steps.
///
/// A GPU multiplies f32 in TF32 where it may, with 11 significant bits.
fn tolerance(format: Format, device: Device) -> f64 {
    match format {
        Format::F32 if device == Device::Cpu => 1e-5,
        Format::F32 | Format::F16 => 5e-3,
        Format::Bf16 => 0.03,
        Format::Int8 => 0.1,
    }
}

/// Runs the command.
///
/// # Errors
/// What was refused, or what failed.
pub fn run(args: &EnginesArgs) -> anyhow::Result<u8> {
    let setting = device::apply(&args.device, args.output.quiet)?;
    let file = measure(args, setting)?;
    let measured = file.rows.iter().any(|row| row.status == Status::Ok);
    let code = output::finish(file, &args.output, table)?;
    match measured {
        false if code == exit::OK => {
            let bar = Progress::new(None, "rows", true);
            bar.warn("nothing was measured; each row says what it needs");
            Ok(exit::DEVICE)
        }
        _ => Ok(code),
    }
}

/// libtorch's fastest rungs on the CPU.
const TCH_CPU: [Rung; 2] = [Rung::Prepacked, Rung::Streams];
/// And on a GPU.
const TCH_CUDA: [Rung; 2] = [Rung::ChannelsLast, Rung::Fused];

/// A column of the table: libtorch on a rung, or another engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    /// libtorch.
    Tch(Rung),
    /// Another.
    Other(EngineName),
}

impl FromStr for Contestant {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let tch = TCH_CPU.into_iter().chain(TCH_CUDA).map(Contestant::Tch);
        let all = tch.chain(EngineName::ALL.map(Contestant::Other));
        all.clone()
            .find(|contestant| contestant.name() == s)
            .ok_or_else(|| {
                let names: Vec<_> = all.map(Contestant::name).collect();
                format!("expected one of {}, got {s:?}", names.join(", "))
            })
    }
}

impl Contestant {
    /// The name of the flag: `tch-prepacked`, `openvino`.
    pub fn name(self) -> String {
        match self {
            Contestant::Tch(rung) => format!("tch-{rung}"),
            Contestant::Other(engine) => engine.to_string(),
        }
    }

    /// The column of the four-way table.
    fn family(self) -> &'static str {
        match self {
            Contestant::Tch(_) => "tch",
            Contestant::Other(EngineName::Onnxruntime) => "ONNX Runtime",
            Contestant::Other(EngineName::Openvino | EngineName::OpenvinoStreams) => "OpenVINO",
            Contestant::Other(EngineName::Tensorrt) => "TensorRT",
        }
    }
}

/// One cell of the table: who, in which format, where, with how many images.
#[derive(Clone, Copy, Debug)]
struct Cell {
    contestant: Contestant,
    format: Format,
    device: Device,
    batch: usize,
}

/// Every cell, for the CPU and for a GPU.
fn cells(batches: &[usize], gpu: Device) -> Vec<Cell> {
    let cpu = TCH_CPU.map(Contestant::Tch);
    let cuda = TCH_CUDA.map(Contestant::Tch);
    let mut cells = vec![];
    for (device, tch) in [(Device::Cpu, cpu), (gpu, cuda)] {
        for &batch in batches {
            for format in Format::ALL {
                // A CPU computes in f16 what it can as well compute in bf16.
                if format == Format::F16 && device == Device::Cpu {
                    continue;
                }
                let others = EngineName::ALL.map(Contestant::Other);
                let streams = Contestant::Other(EngineName::OpenvinoStreams);
                let both = tch.into_iter().chain(others);
                cells.extend(both.filter(|c| device == Device::Cpu || *c != streams).map(
                    |contestant| Cell {
                        contestant,
                        format,
                        device,
                        batch,
                    },
                ));
            }
        }
    }
    cells
}

/// One row under way.
struct Running {
    engine: Box<dyn Staged>,
    row: Row,
    samples: Samples,
}

/// Measures every cell that this machine can.
///
/// # Errors
/// What was refused, or what failed.
pub fn measure(args: &EnginesArgs, setting: Setting) -> anyhow::Result<ResultFile> {
    let quiet = args.output.quiet;
    let wishes = Wishes {
        arch: args.model.arch,
        stem: args.model.stem,
        side: args.model.image,
        channels: None,
    };
    let model = Model::open(&args.model.weights, wishes, quiet)?;
    let digits = Model::open(&Source::Digits, Wishes::default(), true)?;
    let mut file = output::new_file("engines", &setting);
    for engine in EngineName::ALL {
        if let Ok(version) = engine.version() {
            let libraries = &mut file.environment.libraries;
            libraries.insert(engine.library().into(), version);
        }
    }
    file.title = Some(format!(
        "{} on {side} x {side} images, in every engine",
        model.config.arch,
        side = model.side(),
    ));
    file.notes.push(format!("weights: {}", model.origin));
    file.notes.push(calibrated_on(&model));
    file.notes
        .push(format!("digits_accuracy: {}", calibrated_on(&digits)));
    let mut field = Field {
        setting,
        here: match setting.device {
            tch::Device::Cuda(index) => Device::Cuda(index),
            _ => Device::Cpu,
        },
        onnx: args.onnx.clone(),
        exports: Exports::new(&model)?,
        digits_exports: Exports::new(&digits)?,
        held_out: held_out(&digits)?.context("the digits model is not one for digits")?,
        accuracies: vec![],
        references: vec![],
    };
    let gpu = match field.here {
        Device::Cuda(index) => Device::Cuda(index),
        _ => Device::Cuda(0),
    };
    if field.here != Device::Cpu {
        // libtorch tries cuDNN's kernels and keeps the fastest, as the other engines do at load.
        tch::Cuda::cudnn_set_benchmark(true);
    }
    let usual: &[usize] = match field.here {
        Device::Cpu => &[1, 8],
        _ => &[1, 8, 64],
    };
    let given = match args.batch.as_slice() {
        [] => usual,
        given => given,
    };
    let batches = match (args.output.quick, given) {
        (true, [.., last]) => std::slice::from_ref(last),
        (_, batches) => batches,
    };
    let progress = Progress::new(None, "rounds", quiet);
    let mut running = vec![];
    let mut order = vec![];
    for cell in cells(batches, gpu) {
        let wanted = (args.engines.is_empty() || args.engines.contains(&cell.contestant))
            && args.dtypes.contains(&cell.format);
        if !wanted {
            continue;
        }
        let row = field.row(&cell);
        order.push(row.id.clone());
        match field.why_not(&cell) {
            Some(reason) => file.rows.push(skipped(row, reason)),
            None => {
                progress.println(&format!("loading {}", row.id));
                match field.prepare(&cell, row.clone()) {
                    Ok(ready) => running.push(ready),
                    // The reader's own file: nothing else would be measured on it, either.
                    Err(error) if field.onnx.is_some() && refused(&error) => return Err(error),
                    Err(error) => file.rows.push(not_measured(row, &error)),
                }
            }
        }
    }
    let rounds = if args.output.quick { 2 } else { args.rounds };
    let bar = Progress::new(Some((rounds + 1) as u64), "rounds", quiet);
    for round in 0..=rounds {
        let mut left = vec![];
        for mut contender in running {
            match contender.turn(round == 0) {
                Ok(()) => left.push(contender),
                Err(error) => file.rows.push(not_measured(contender.row, &error.into())),
            }
        }
        running = left;
        bar.inc(1);
    }
    bar.finish();
    file.rows
        .extend(running.into_iter().map(|c| c.row.with_samples(c.samples)));
    // As the table has them, measured or not.
    file.rows
        .sort_by_key(|row| order.iter().position(|id| *id == row.id));
    Ok(file)
}

/// What all cells share.
struct Field<'a> {
    setting: Setting,
    here: Device,
    /// A file in place of those that are made here.
    onnx: Option<PathBuf>,
    exports: Exports<'a>,
    digits_exports: Exports<'a>,
    held_out: (Vec<f32>, Vec<usize>),
    /// Accuracy on the held-out digits, by name and format.
    accuracies: Vec<(String, Format, f64)>,
    /// libtorch's logits in f32, by batch size.
    references: Vec<(usize, Logits)>,
}

impl Field<'_> {
    fn row(&self, cell: &Cell) -> Row {
        let model = self.exports.model();
        let name = cell.contestant.name();
        let place = match cell.device {
            Device::Cpu => "cpu",
            _ => "cuda",
        };
        let (format, batch) = (cell.format, cell.batch);
        Row::ok(
            format!("{name}-{format}-{place}-b{batch}"),
            format!("{name}, {format}"),
        )
        .with("engine", name)
        .with("family", cell.contestant.family())
        .with("dtype", format.name())
        .with("device", place)
        .with("arch", model.config.arch.name())
        .with("image", model.side())
        .with("batch", batch)
        .with("threads", self.setting.threads)
        .with("allocator", self.setting.malloc)
    }

    /// Why a cell is not even tried here.
    fn why_not(&self, cell: &Cell) -> Option<String> {
        match cell.contestant {
            Contestant::Tch(_) if cell.format == Format::Int8 => {
                return Some("tch does not wrap libtorch's 8-bit convolutions".into());
            }
            Contestant::Other(engine) => {
                if let Some(why) = cannot(engine, cell.format, cell.device) {
                    return Some(why.into());
                }
            }
            Contestant::Tch(_) => {}
        }
        if cell.device != self.here {
            let (device, place) = match cell.device {
                Device::Cpu => ("cpu", "this machine's CPU"),
                _ => ("cuda", "a machine with an NVIDIA GPU"),
            };
            return Some(format!(
                "needs: {place}; gpu-inference engines --device {device}"
            ));
        }
        let narrow = cell.format == Format::Bf16 && cell.device == Device::Cpu;
        (narrow && !cpu_has_bf16()).then(|| "this CPU has no bf16 instructions".into())
    }

    /// What engines are measured and compared on: digits for a model of digits, since 8 bits hold
    /// what it was calibrated on, and noise for others.
    fn images(&self, batch: usize) -> (Vec<f32>, [usize; 4]) {
        let model = self.exports.model();
        let (noise, shape) = noise(model, batch);
        if model.config != self.digits_exports.model().config {
            return (noise, shape);
        }
        let (digits, _) = &self.held_out;
        let pixels = digits.iter().copied().cycle().take(noise.len());
        (pixels.collect(), shape)
    }

    /// Loads an engine, compares its logits and its accuracy, and lays its batch ready.
    fn prepare(&mut self, cell: &Cell, row: Row) -> anyhow::Result<Running> {
        let mut engine = self.open(cell, false)?;
        let (pixels, shape) = self.images(cell.batch);
        let batch = Batch {
            pixels: &pixels,
            shape,
        };
        engine.stage(batch)?;
        let logits = engine.run()?;
        let difference = relative_difference(&logits, self.reference(cell.batch)?);
        let limit = tolerance(cell.format, cell.device);
        anyhow::ensure!(
            difference <= limit,
            "its logits differ from libtorch's by {difference:.3} of the largest one: \
             expected at most {limit}"
        );
        let right = self.accuracy(cell)?;
        Ok(Running {
            engine,
            row: row
                .with_metric("logit_max_relative_difference", difference)
                .with_metric("digits_accuracy", right),
            samples: Samples {
                items_per_sample: cell.batch,
                ..Samples::default()
            },
        })
    }

    /// * `digits`: on the digits' model, for batches of all held-out digits
    fn open(&mut self, cell: &Cell, digits: bool) -> anyhow::Result<Box<dyn Staged>> {
        let exports = match digits {
            true => &mut self.digits_exports,
            false => &mut self.exports,
        };
        match cell.contestant {
            Contestant::Tch(rung) => {
                let dtype = match cell.format {
                    Format::Bf16 => Dtype::Bf16,
                    Format::F16 => Dtype::F16,
                    Format::F32 | Format::Int8 => Dtype::F32,
                };
                let model = exports.model();
                let engine = load(model, rung, dtype, self.setting.device)?;
                Ok(Box::new(StagedTch::new(engine)))
            }
            Contestant::Other(engine) => {
                let order = Order {
                    engine,
                    format: cell.format,
                    device: cell.device,
                    batch: match digits {
                        true => self.held_out.1.len(),
                        false => cell.batch,
                    },
                    threads: self.setting.threads,
                    onnx: match digits {
                        true => None,
                        false => self.onnx.as_deref(),
                    },
                };
                contender::open(&order, exports)
            }
        }
    }

    /// libtorch's own logits on the noise: f32, as trained.
    fn reference(&mut self, batch: usize) -> anyhow::Result<&Logits> {
        let at = self.references.iter().position(|(size, _)| *size == batch);
        let at = match at {
            Some(at) => at,
            None => {
                let model = self.exports.model();
                let mut engine = load(model, Rung::Eager, Dtype::F32, tch::Device::Cpu)?;
                let (pixels, shape) = self.images(batch);
                let logits = engine.infer(Batch {
                    pixels: &pixels,
                    shape,
                })?;
                self.references.push((batch, logits));
                self.references.len() - 1
            }
        };
        Ok(&self.references[at].1)
    }

    /// Accuracy on the held-out digits, of the same engine and format.
    fn accuracy(&mut self, cell: &Cell) -> anyhow::Result<f64> {
        let name = cell.contestant.name();
        let known = self
            .accuracies
            .iter()
            .find(|(engine, format, _)| *engine == name && *format == cell.format);
        if let Some((_, _, share)) = known {
            return Ok(*share);
        }
        let mut engine = self.open(cell, true)?;
        let (pixels, labels) = &self.held_out;
        let share = accuracy(&mut *engine, pixels, labels)?;
        self.accuracies.push((name, cell.format, share));
        Ok(share)
    }
}

fn load(
    model: &Model,
    rung: Rung,
    dtype: Dtype,
    device: tch::Device,
) -> Result<TchEngine, LoadError> {
    TchEngine::load(
        &model.config,
        &model.weights,
        model.side(),
        rung,
        dtype,
        device,
    )
}

fn skipped(row: Row, reason: String) -> Row {
    Row {
        status: Status::Skipped,
        reason: Some(reason),
        ..row
    }
}

/// Whether an engine refused the model file.
fn refused(error: &anyhow::Error) -> bool {
    let mut causes = error.chain();
    causes.any(|cause| matches!(cause.downcast_ref(), Some(SetupError::Model { .. })))
}

/// What a machine lacks is no failure; all else is.
fn not_measured(row: Row, error: &anyhow::Error) -> Row {
    let lacks = error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(SetupError::Unavailable { .. }))
            || matches!(cause.downcast_ref(), Some(LoadError::Unsupported { .. }))
    });
    Row {
        status: match lacks {
            true => Status::Skipped,
            false => Status::Failed,
        },
        reason: Some(format!("{error:#}")),
        ..row
    }
}

impl Running {
    /// One turn: one batch, or, where a batch is short, 50 ms of them.
    fn turn(&mut self, warmup: bool) -> Result<(), EngineError> {
        if !warmup {
            // The others have emptied the caches.
            self.engine.run()?;
        }
        let start = Instant::now();
        loop {
            let sample = Instant::now();
            self.engine.run()?;
            let seconds = sample.elapsed().as_secs_f64();
            match warmup {
                true => self.samples.warmup_seconds.push(seconds),
                false => self.samples.seconds.push(seconds),
            }
            if start.elapsed() >= Duration::from_millis(50) {
                return Ok(());
            }
        }
    }
}

/// The rows for people.
pub fn table(file: &ResultFile) -> Vec<String> {
    let mut lines = file.title.iter().cloned().collect::<Vec<_>>();
    for row in &file.rows {
        let rate = row.samples.as_ref().and_then(Samples::items_per_second);
        let Some(rate) = rate else {
            let reason = row.reason.as_deref().unwrap_or_default();
            lines.push(format!("  {:<32} not measured: {reason}", row.id));
            continue;
        };
        let metric = |name: &str| row.metrics.get(name).copied().unwrap_or(f64::NAN);
        lines.push(format!(
            "  {:<32} {:>16}  logits within {:.1e}  digits {:.2}%",
            row.id,
            human::rate(rate, "images"),
            metric("logit_max_relative_difference"),
            100.0 * metric("digits_accuracy"),
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_has_every_engine_format_and_device_once() {
        let cells = cells(&[1, 8], Device::Cuda(0));
        let names: BTreeSet<_> = cells
            .iter()
            .map(|c| {
                format!(
                    "{} {} {} {}",
                    c.contestant.name(),
                    c.format,
                    c.device,
                    c.batch
                )
            })
            .collect();
        assert_eq!(names.len(), cells.len());
        for family in ["tch", "ONNX Runtime", "OpenVINO", "TensorRT"] {
            for format in [Format::F32, Format::Bf16, Format::Int8] {
                for device in [Device::Cpu, Device::Cuda(0)] {
                    for batch in [1, 8] {
                        let found = cells.iter().any(|c| {
                            c.contestant.family() == family
                                && (c.format, c.device, c.batch) == (format, device, batch)
                        });
                        assert!(found, "{family} {format} {device} {batch}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_lacking_is_skipped_and_what_breaks_has_failed() {
        let row = || Row::ok("a", "a");
        let lacking = SetupError::Unavailable {
            engine: "X",
            why: "none".into(),
            remedy: "get one".into(),
        };
        let lacking = anyhow::Error::from(lacking).context("loading");
        let row_of = not_measured(row(), &lacking);
        assert_eq!(row_of.status, Status::Skipped);
        assert!(row_of.reason.unwrap().contains("get one"));
        let broken = anyhow::anyhow!("it broke");
        assert_eq!(not_measured(row(), &broken).status, Status::Failed);
    }
}
