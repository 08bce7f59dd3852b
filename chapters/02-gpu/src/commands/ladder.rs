//! `gpu-inference ladder`: what feeds a GPU, step by step, each with its gain.
//!
//! Each step has a process of its own: TF32 is settled when NVIDIA's libraries start,
//! and kernels that cuDNN has chosen stay chosen. All are loaded first and then measured
//! round by round, so that a machine that slows down for a moment slows all of them.

use std::{collections::BTreeMap, path::Path};

use accel::{
    human,
    progress::Progress,
    results::{ResultFile, Row, Status},
    timing::Samples,
};
use anyhow::Context;
use cpu_inference::{
    comparison::{noise, relative_difference},
    engine::Logits,
    model::{Model, Source, Wishes},
    setting::Setting,
    tch_engine::Dtype,
};
use datasets::checkpoint::{self, Description};
use serde_json::json;

use crate::{
    child::{Worker, WorkerError},
    cli::LadderArgs,
    device,
    meter::{self, Gauge},
    output,
    steps::{STEPS, Step},
};

/// Images whose logits are compared: few, since the other images of a batch tell the same.
const COMPARED: usize = 2;
/// Shortest turn on a GPU, in seconds: NVML's counter of energy moves ten times a second.
const GPU_TURN: f64 = 0.3;
/// Shortest turn on the CPU, in seconds.
const CPU_TURN: f64 = 0.05;

/// Runs the command.
///
/// # Errors
/// What was refused, or what failed.
pub fn run(args: &LadderArgs) -> anyhow::Result<u8> {
    let setting = device::apply(&args.device, args.output.quiet)?;
    let file = measure(args, &setting)?;
    output::finish(file, &args.output, table)
}

/// One step under way.
struct Contender {
    worker: Worker,
    row: Row,
    samples: Samples,
    images: usize,
    joules: Option<f64>,
    gpu: meter::Reading,
}

/// What all steps share.
struct Workload<'a> {
    args: &'a LadderArgs,
    model: &'a Model,
    setting: &'a Setting,
    batch: usize,
    /// A file with the images whose logits are compared.
    input: &'a Path,
}

fn measure(args: &LadderArgs, setting: &Setting) -> anyhow::Result<ResultFile> {
    let wishes = Wishes {
        arch: args.model.arch,
        stem: args.model.stem,
        side: args.model.image,
        channels: None,
    };
    let model = Model::open(&args.model.weights, wishes, args.output.quiet)?;
    let cuda = setting.device.is_cuda();
    let batch = args.batch.unwrap_or(if cuda { 128 } else { 8 });
    let mut file = output::new_file("ladder", setting);
    file.title = Some(format!(
        "{} on {side} x {side} images, batch {batch}, on {}",
        model.config.arch,
        setting.device_name(),
        side = model.side(),
    ));
    file.notes.push(format!("weights: {}", model.origin));
    let gauge = meter::open(setting.device, args.output.quiet);
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let input = folder.path().join("input.safetensors");
    write_input(&model, &input)?;
    let workload = Workload {
        args,
        model: &model,
        setting,
        batch,
        input: &input,
    };

    let progress = Progress::new(None, "steps", args.output.quiet);
    let wanted = |step: &&Step| {
        let only = args.only.as_deref();
        only.is_none_or(|part| step.name.contains(part))
    };
    let mut rows: BTreeMap<usize, Row> = BTreeMap::new();
    let mut running: Vec<(usize, Contender)> = vec![];
    let mut reference: Option<Logits> = None;
    let mut best = STEPS[0];
    // What feeds comes second: it takes the best network that this machine has.
    for feeds in [false, true] {
        let mut loading = vec![];
        let steps = STEPS.iter().enumerate();
        for (index, step) in steps.filter(|(_, s)| s.feeds() == feeds && wanted(s)) {
            let step = match feeds {
                true => step.with_network_of(&best),
                false => *step,
            };
            let row = workload.row(&step);
            match workload.lacks(&step) {
                Some(reason) => {
                    rows.insert(index, skipped(row, reason));
                }
                None => {
                    progress.println(&format!("loading {}", step.name));
                    loading.push((index, step, row, workload.start(&step)));
                }
            }
        }
        // All load at the same time, and are awaited in their order.
        for (index, step, row, worker) in loading {
            let entered =
                worker.and_then(|w| workload.enter(w, &step, row.clone(), &mut reference));
            match entered {
                Ok(contender) => {
                    // f16 stands beside bf16, not above it.
                    if step.dtype != Dtype::F16 {
                        best = step;
                    }
                    running.push((index, contender));
                }
                Err(error) => {
                    rows.insert(index, refused(row, &error));
                }
            }
        }
    }
    running.sort_by_key(|(index, _)| *index);

    let rounds = if args.output.quick { 3 } else { args.rounds };
    let turn = if cuda { GPU_TURN } else { CPU_TURN };
    let bar = Progress::new(Some((rounds + 1) as u64), "rounds", args.output.quiet);
    for round in 0..=rounds {
        running = running
            .into_iter()
            .filter_map(|(index, mut contender)| {
                let gauge = gauge.as_ref().map(|gauge| gauge as &dyn Gauge);
                match contender.turn(round == 0, turn, gauge) {
                    Ok(()) => Some((index, contender)),
                    Err(error) => {
                        rows.insert(index, refused(contender.row, &error));
                        None
                    }
                }
            })
            .collect();
        bar.inc(1);
    }
    bar.finish();
    rows.extend(running.into_iter().map(|(index, c)| (index, c.finish())));
    file.rows = rows.into_values().collect();
    gains(&mut file);
    Ok(file)
}

impl Workload<'_> {
    fn row(&self, step: &Step) -> Row {
        Row::ok(step.name, step.label)
            .with("engine", "tch")
            .with("device", self.setting.device_name())
            .with("rung", json!(step.rung))
            .with("dtype", json!(step.dtype))
            .with("tf32", step.tf32 && self.setting.device.is_cuda())
            .with("autotune", step.autotune && self.setting.device.is_cuda())
            .with("feed", step.feed.name())
            .with("arch", json!(self.model.config.arch))
            .with("image", self.model.side())
            .with("batch", self.batch)
            .with("threads", self.setting.threads)
    }

    /// Why this machine cannot run it, where that is known beforehand.
    fn lacks(&self, step: &Step) -> Option<String> {
        if self.setting.device.is_cuda() {
            None
        } else if step.gpu {
            Some("needs a GPU; `gpu-inference ladder --device cuda` measures it".to_owned())
        } else if step.dtype == Dtype::Bf16 && !output::cpu_has_bf16() {
            Some("this CPU has no bf16 instructions".to_owned())
        } else {
            None
        }
    }

    /// Starts its process, and has it load.
    fn start(&self, step: &Step) -> Result<Worker, WorkerError> {
        let device = &self.args.device;
        let mut worker = Worker::start(step.environment(), device.system_malloc)?;
        let mut load = step.request();
        let weights = match &self.args.model.weights {
            Source::Random => json!(null),
            Source::Digits => json!("digits"),
            Source::Imagenet => json!("imagenet"),
            Source::File(path) => json!(path),
        };
        for (name, value) in [
            ("arch", json!(self.model.config.arch)),
            ("stem", json!(self.model.config.stem)),
            ("image", json!(self.model.side())),
            ("batch", json!(self.batch)),
            ("threads", json!(self.setting.threads)),
            ("weights", weights),
            ("device", json!(self.setting.device_name())),
        ] {
            load[name] = value;
        }
        worker.send(&json!({ "load": load }))?;
        Ok(worker)
    }

    /// Waits until it has loaded, and checks that its logits are those of the first step.
    fn enter(
        &self,
        mut worker: Worker,
        step: &Step,
        mut row: Row,
        reference: &mut Option<Logits>,
    ) -> Result<Contender, WorkerError> {
        worker.receive()?;
        worker.send(&json!({"logits": {"input": self.input}}))?;
        let logits = logits(&worker.receive()?)?;
        if let Some(reference) = reference {
            let difference = relative_difference(&logits, reference);
            let most = step.tolerance(self.setting.device.is_cuda());
            if difference.is_nan() || difference > most {
                return Err(WorkerError::Refused {
                    message: format!(
                        "its logits differ by {difference:.2e} of the largest; expected at most \
                         {most:.0e}"
                    ),
                    unsupported: false,
                });
            }
            row = row.with_metric("logit_max_relative_difference", difference);
        }
        reference.get_or_insert(logits);
        Ok(Contender {
            worker,
            row,
            samples: Samples {
                items_per_sample: self.batch,
                ..Samples::default()
            },
            images: 0,
            joules: None,
            gpu: meter::Reading::default(),
        })
    }
}

impl Contender {
    /// One turn: as many samples as fill its time, and at least one. The first turn is
    /// for warming up.
    fn turn(
        &mut self,
        first: bool,
        seconds: f64,
        gauge: Option<&dyn Gauge>,
    ) -> Result<(), WorkerError> {
        if first {
            // The first sample tunes and compiles; the second is like those that follow.
            self.samples.warmup_seconds = self.worker.run(0, 3)?;
            return Ok(());
        }
        let last = self.samples.seconds.last();
        let last = last.or(self.samples.warmup_seconds.last());
        let expected = last.copied().unwrap_or(seconds).max(1e-6);
        let count = (seconds / expected).ceil().clamp(1.0, 1000.0) as usize;
        // One before: the others have emptied the caches, and a queue is filled.
        let (measured, spent) = meter::during(gauge, || self.worker.run(1, count));
        self.samples.seconds.extend(measured?);
        if let Some(joules) = spent.joules {
            self.joules = Some(self.joules.unwrap_or(0.0) + joules);
        }
        self.images += (count + 1) * self.samples.items_per_sample;
        self.gpu = spent.end;
        Ok(())
    }

    fn finish(self) -> Row {
        let spent = meter::Consumption {
            joules: self.joules,
            end: self.gpu,
        };
        spent.tell(self.row, self.images).with_samples(self.samples)
    }
}

fn skipped(row: Row, reason: String) -> Row {
    Row {
        status: Status::Skipped,
        reason: Some(reason),
        ..row
    }
}

/// A row for a step that did not run: skipped where this machine lacks what it needs.
fn refused(row: Row, error: &WorkerError) -> Row {
    let unsupported = matches!(
        error,
        WorkerError::Refused {
            unsupported: true,
            ..
        }
    );
    Row {
        status: match unsupported {
            true => Status::Skipped,
            false => Status::Failed,
        },
        reason: Some(error.to_string()),
        // Figures of a step that failed are no figures.
        metrics: BTreeMap::new(),
        ..row
    }
}

fn logits(answer: &serde_json::Value) -> Result<Logits, WorkerError> {
    let rows: Option<Vec<Vec<f32>>> = serde_json::from_value(answer["logits"].clone()).ok();
    let rows = rows.filter(|rows| rows.first().is_some_and(|row| !row.is_empty()));
    let Some(rows) = rows else {
        return Err(WorkerError::Garbage {
            expected: "{\"logits\": [[...]]}",
            got: answer.to_string().chars().take(200).collect(),
        });
    };
    Ok(Logits {
        classes: rows[0].len(),
        values: rows.concat(),
    })
}

fn write_input(model: &Model, path: &Path) -> anyhow::Result<()> {
    let (pixels, shape) = noise(model, COMPARED);
    let bytes = pixels.iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor = (
        "input".to_owned(),
        shape.to_vec(),
        checkpoint::Dtype::F32,
        bytes,
    );
    checkpoint::write(path, &[tensor], &Description::default(), &BTreeMap::new())
        .context("cannot write the input of the comparison")
}

/// Each step's gain over the step that it is compared with.
fn gains(file: &mut ResultFile) {
    let rates: BTreeMap<String, f64> = file
        .rows
        .iter()
        .filter_map(|row| Some((row.id.clone(), row.samples.as_ref()?.items_per_second()?)))
        .collect();
    for row in &mut file.rows {
        let Some(step) = STEPS.iter().find(|step| step.name == row.id) else {
            continue;
        };
        let over = step.over.iter().find(|over| rates.contains_key(**over));
        if let (Some(over), Some(rate)) = (over, rates.get(&row.id)) {
            row.workload.insert("over".into(), json!(over));
            row.metrics.insert("gain_ratio".into(), rate / rates[*over]);
        }
    }
}

/// The rows for people.
fn table(file: &ResultFile) -> Vec<String> {
    let mut lines: Vec<String> = file.title.iter().cloned().collect();
    for row in &file.rows {
        let Some(samples) = &row.samples else {
            let reason = row.reason.as_deref().unwrap_or_default();
            lines.push(format!("  {:<16} not measured: {reason}", row.id));
            continue;
        };
        let rate = samples.items_per_second().unwrap_or_default();
        let over = row.workload.get("over").and_then(|over| over.as_str());
        let gain = match (row.metrics.get("gain_ratio"), over) {
            (Some(gain), Some(over)) => format!("  {gain:>5.2} times {over}"),
            _ => String::new(),
        };
        lines.push(format!(
            "  {:<16} {:>18}{gain}",
            row.id,
            human::rate(rate, "images")
        ));
    }
    lines
}
