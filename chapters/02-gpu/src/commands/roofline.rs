//! `gpu-inference roofline`: predict the time of each layer from what the device can
//! compute and move, then measure the network, and say which share was reached.

use std::{env, process::Command, time::Duration};

use accel::{
    exit,
    hardware::{self, Hardware},
    human,
    progress::Progress,
    results::{ResultFile, Row, Status},
    timing::{self, Plan},
};
use anyhow::Context;
use cpu_inference::{
    model::{Model, Source, Wishes},
    setting::Setting,
    tch_engine::{Dtype, LoadError, Rung, TchEngine, refused},
};
use datasets::resnet::{Arch, Stem};
use serde_json::json;
use tch::Device;

use crate::{
    cli::RooflineArgs,
    cost::{self, Cost, Roof},
    device,
    meter::{self, Gauge},
    output,
    peak::{self, Effort},
    steps::TF32_OFF,
};

/// Runs the command.
///
/// # Errors
/// What was refused, or what failed.
pub fn run(args: &RooflineArgs) -> anyhow::Result<u8> {
    let setting = device::apply(&args.device, args.output.quiet)?;
    if setting.device.is_cuda() && env::var_os(TF32_OFF.0).is_none() {
        return again_without_tf32();
    }
    let file = measure(args, &setting)?;
    output::finish(file, &args.output, table)
}

/// Runs this command once more, without TF32: convolutions would take it and products of
/// matrices would not, so that a network could beat its own roof. NVIDIA's libraries read
/// the variable when they start, and they have started.
fn again_without_tf32() -> anyhow::Result<u8> {
    let program = env::current_exe().context("cannot find this program")?;
    let status = Command::new(program)
        .args(env::args_os().skip(1))
        .env(TF32_OFF.0, TF32_OFF.1)
        .status()
        .context("cannot start this program again without TF32")?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(exit::FAILED))
}

fn measure(args: &RooflineArgs, setting: &Setting) -> anyhow::Result<ResultFile> {
    let quick = args.output.quick;
    let cuda = setting.device.is_cuda();
    let batch = args.batch.unwrap_or(if cuda { 128 } else { 8 });
    let progress = Progress::new(None, "rows", args.output.quiet);
    tch::Cuda::cudnn_set_benchmark(cuda);
    let mut file = output::new_file("roofline", setting);
    file.title = Some(format!(
        "Rooflines at {side} x {side}, batch {batch}, on {}",
        setting.device_name(),
        side = args.image,
    ));
    file.notes.push(
        "the roof: the longer of operations over the fastest matrix product and bytes over the \
         fastest copy, layer by layer, each tensor moved once"
            .into(),
    );
    let effort = Effort::for_device(setting.device, quick);
    progress.println("measuring the copy");
    let copy = peak::copy(setting.device, &effort)?;
    file.rows.push(
        with_device(Row::ok("copy", "A copy from memory to memory"), setting)
            .with("kind", "peak")
            .with("numbers", copy.size)
            .with_metric("peak_bytes_per_second", copy.per_second)
            .with_samples(copy.samples),
    );
    for &dtype in &args.dtypes {
        if let Some(reason) = lacks(dtype, setting) {
            let row = Row::skipped(format!("matmul-{dtype}"), format!("{dtype}"), reason);
            file.rows
                .push(with_device(row, setting).with("kind", "peak"));
            continue;
        }
        progress.println(&format!("measuring the product of matrices in {dtype}"));
        let matmul = peak::matmul(setting.device, dtype, &effort)?;
        let label = format!(
            "A product of {n} x {n} matrices in {dtype}",
            n = matmul.size
        );
        let mut row = with_device(Row::ok(format!("matmul-{dtype}"), label), setting)
            .with("kind", "peak")
            .with("dtype", json!(dtype))
            .with("side", matmul.size)
            .with_metric("peak_flops_per_second", matmul.per_second);
        let published = published(&file, dtype, cuda);
        if let Some(published) = published {
            row = row.with_metric("published_peak_share", matmul.per_second / published);
        }
        file.rows.push(row.with_samples(matmul.samples));
        let roof = Roof {
            flops_per_second: matmul.per_second,
            bytes_per_second: copy.per_second,
        };
        for &arch in &args.archs {
            progress.println(&format!("measuring {arch} in {dtype}"));
            let rows = network(args, setting, arch, dtype, batch, &roof)?;
            file.rows.extend(rows);
        }
    }
    Ok(file)
}

fn with_device(row: Row, setting: &Setting) -> Row {
    row.with("device", setting.device_name())
        .with("threads", setting.threads)
}

fn lacks(dtype: Dtype, setting: &Setting) -> Option<&'static str> {
    match (dtype, setting.device) {
        (Dtype::Bf16, Device::Cpu) if !output::cpu_has_bf16() => {
            Some("this CPU has no bf16 instructions")
        }
        (Dtype::F16, Device::Cpu) => Some("f16 is for GPUs: a CPU computes it by way of f32"),
        _ => None,
    }
}

/// What the vendor publishes of this GPU.
fn published(file: &ResultFile, dtype: Dtype, cuda: bool) -> Option<f64> {
    let accelerator = file.environment.accelerator.as_ref().filter(|_| cuda)?;
    let hardware = Hardware::shipped().ok()?;
    let dtype = match dtype {
        Dtype::F32 => hardware::Dtype::F32,
        Dtype::Bf16 => hardware::Dtype::Bf16,
        Dtype::F16 => hardware::Dtype::F16,
    };
    let facts = hardware.find(&accelerator.name)?;
    facts.operations_per_second.get(&dtype).copied()
}

/// The network as a whole, predicted and measured, and the prediction of each layer.
fn network(
    args: &RooflineArgs,
    setting: &Setting,
    arch: Arch,
    dtype: Dtype,
    batch: usize,
    roof: &Roof,
) -> anyhow::Result<Vec<Row>> {
    let wishes = Wishes {
        arch: Some(arch),
        stem: Some(Stem::Imagenet),
        side: Some(args.image),
        channels: None,
    };
    let model = Model::open(&Source::Random, wishes, args.output.quiet)?;
    let layers = cost::layers(&model.config, model.side(), batch, dtype.bytes());
    let sum = |what: fn(&Cost) -> f64| layers.iter().map(what).sum::<f64>();
    let (flops, bytes) = (sum(|cost| cost.flops), sum(|cost| cost.bytes));
    let predicted: f64 = layers.iter().map(|cost| roof.seconds(cost)).sum();
    let moving = layers.iter().filter(|cost| roof.bound_by_memory(cost));
    let moving: f64 = moving.map(|cost| roof.seconds(cost)).sum();
    let workload = |row: Row, kind: &str| {
        with_device(row, setting)
            .with("kind", kind)
            .with("arch", json!(arch))
            .with("dtype", json!(dtype))
            .with("image", model.side())
            .with("batch", batch)
    };
    let whole = workload(
        Row::ok(format!("{arch}-{dtype}"), format!("{arch}, {dtype}")),
        "network",
    );

    let load = |rung| {
        TchEngine::load(
            &model.config,
            &model.weights,
            model.side(),
            rung,
            dtype,
            setting.device,
        )
        .map(|engine| (engine, rung))
    };
    // The highest rung that works here.
    let loaded = match setting.device {
        Device::Cpu => load(Rung::Prepacked),
        _ => load(Rung::Fused),
    };
    let (engine, rung) = match loaded {
        Err(LoadError::Unsupported { .. }) => load(Rung::ChannelsLast)?,
        loaded => loaded?,
    };
    let input = engine
        .made_on_device(batch)
        .map_err(|error| refused(error, batch))?;
    let plan = Plan {
        warmup: 3,
        min_samples: if args.output.quick { 3 } else { 10 },
        max_samples: 200,
        min_time: Duration::from_secs_f64(if args.output.quick { 0.1 } else { 1.0 }),
    };
    let gauge = meter::open(setting.device, true);
    let gauge = gauge.as_ref().map(|gauge| gauge as &dyn Gauge);
    let (samples, spent) = meter::during(gauge, || {
        let run = || {
            let logits = engine.forward(&input);
            let logits = logits.and_then(|y| y.f_to_device(Device::Cpu));
            logits.map(drop).map_err(|error| refused(error, batch))
        };
        timing::measure(&plan, batch, run, || Ok(()))
    });
    let samples = samples?;
    let seconds = samples.summary().map_or(f64::NAN, |summary| summary.median);
    let images = batch * (samples.seconds.len() + samples.warmup_seconds.len());
    let whole = whole
        .with("rung", json!(rung))
        .with_metric("gflop_per_image", flops / batch as f64 / 1e9)
        .with_metric("megabytes_per_image", bytes / batch as f64 / 1e6)
        .with_metric("estimated_ms", 1e3 * predicted)
        .with_metric("estimated_images_per_second", batch as f64 / predicted)
        .with_metric("estimated_memory_bound_share", moving / predicted)
        .with_metric("reached_flops_per_second", flops / seconds)
        .with_metric("peak_share", flops / seconds / roof.flops_per_second)
        .with_metric("roofline_share", predicted / seconds);
    let whole = spent.tell(whole, images).with_samples(samples);

    let layer = |cost: &Cost| {
        let bound = match roof.bound_by_memory(cost) {
            true => "memory",
            false => "compute",
        };
        let row = Row::ok(format!("{arch}-{dtype}-{}", cost.name), cost.name.clone());
        workload(row, "layer")
            .with("bound", bound)
            .with_metric("gflop", cost.flops / 1e9)
            .with_metric("megabytes", cost.bytes / 1e6)
            .with_metric("flops_per_byte", cost.flops / cost.bytes)
            .with_metric("estimated_us", 1e6 * roof.seconds(cost))
    };
    Ok(std::iter::once(whole)
        .chain(layers.iter().map(layer))
        .collect())
}

/// The rows for people; layers are in the file alone.
fn table(file: &ResultFile) -> Vec<String> {
    let mut lines: Vec<String> = file.title.iter().cloned().collect();
    for row in &file.rows {
        let metric = |name: &str| row.metrics.get(name).copied().unwrap_or(f64::NAN);
        let kind = row.workload.get("kind").and_then(|kind| kind.as_str());
        lines.push(match kind {
            _ if row.status != Status::Ok => {
                let reason = row.reason.as_deref().unwrap_or_default();
                format!("  {:<16} not measured: {reason}", row.id)
            }
            Some("peak") if row.id == "copy" => format!(
                "  {:<16} {} GB/s",
                row.id,
                human::three_digits(metric("peak_bytes_per_second") / 1e9)
            ),
            Some("peak") => format!(
                "  {:<16} {} GFLOP/s",
                row.id,
                human::three_digits(metric("peak_flops_per_second") / 1e9)
            ),
            Some("network") => format!(
                "  {:<16} predicted {}, measured {}: {:.0}% of the roof, {:.0}% of the peak",
                row.id,
                human::rate(metric("estimated_images_per_second"), "images"),
                human::rate(
                    row.samples
                        .as_ref()
                        .and_then(|samples| samples.items_per_second())
                        .unwrap_or(f64::NAN),
                    "images"
                ),
                100.0 * metric("roofline_share"),
                100.0 * metric("peak_share"),
            ),
            _ => continue,
        });
    }
    lines
}
