//! `tpu-training compile-for`: the real TPU compiler, without a TPU.
//!
//! Everything that it reports comes from the compiler or is derived from that:
//! nothing here was measured, and the result's metrics say so by their names.

use accel::{
    environment::Environment,
    exit,
    hardware::{self, DeviceFacts, Hardware},
    human,
    progress::Progress,
    results::{ResultFile, Row},
    stdout::print_line,
};
use anyhow::Context;
use pjrt_runtime::{
    CompileOptions, LIBTPU_WITHOUT_TPU, MemoryStats, Platform, Plugin, Topology, find_plugin,
    set_default_variable,
};
use training_graph::Program;

use crate::{
    cli::{CompileForArgs, Data},
    commands::{
        steps_per_call::finish,
        train::{depends_on, network},
    },
    config::{CompileEffort, LoopStyle, Optimizer, TrainConfig},
    data_set::DataSet,
    device::search_path,
    failure::Refused,
    network as resnet,
    training_step::StepPlan,
};

/// Rows of the data set that the program is compiled for: CIFAR-10's training part. The
/// compiler only counts their memory.
const ROWS: usize = 50_000;

/// Runs the command, for a step of SGD with augmentation.
///
/// # Errors
/// As [`run_for`].
pub fn run(args: &CompileForArgs) -> anyhow::Result<u8> {
    run_for(args, Optimizer::SGD, true)
}

/// Runs the command for any training step.
///
/// It is always one step: XLA counts the body of a loop once, however often it runs, so an
/// estimate for a call of several steps would have the cost of one.
///
/// * `augment`: whether the step changes its images at random
///
/// # Errors
/// If a flag makes no sense, there is no libtpu, it knows no such topology, or the program does
/// not compile.
pub fn run_for(args: &CompileForArgs, optimizer: Optimizer, augment: bool) -> anyhow::Result<u8> {
    let batch = args.model.batch;
    if batch > ROWS {
        let wrong =
            format!("--batch {batch}: the data set has {ROWS} rows; expected at most as many");
        return Err(Refused(wrong).into());
    }
    if args.model.data_dir.is_some() {
        let wrong = "--data-dir: compiling reads no data; leave it out";
        return Err(Refused(wrong.into()).into());
    }
    optimizer.check()?;
    // While there is one thread, and before libtpu is loaded. On a machine that has TPUs, too:
    // this command uses none.
    for (name, value) in LIBTPU_WITHOUT_TPU {
        set_default_variable(name, value);
    }
    let progress = Progress::new(None, "programs", args.quiet);
    let plan = plan(args, optimizer, augment)?;
    let side = side(args);
    let (what, program) = match args.inference {
        true => ("inference", plan.inference(side, plan.batch)?),
        false => ("training step", plan.program(1, LoopStyle::While)?),
    };
    let path = find_plugin(Platform::Tpu, &search_path(args.plugin.as_deref()))
        .map_err(crate::device::OpenError::from)?;
    let plugin = Plugin::load(&path).map_err(crate::device::OpenError::from)?;
    let hardware = Hardware::shipped()?;

    let mut environment = Environment::collect();
    let version = plugin.api_version().to_string();
    environment.libraries.insert("pjrt-c-api".into(), version);
    let mut file = ResultFile::new("03-tpu-training", "compile-for", environment);
    file.title = Some(format!(
        "The TPU compiler's estimates, {} {what}",
        plan.network.arch
    ));
    file.depends_on = depends_on();
    file.notes
        .push("compiled without a TPU; nothing here was measured on one".into());
    for name in &args.topologies {
        let chip = chip(&hardware, name)?;
        let estimate = compile(&plugin, name, &program)?;
        if let Some(version) = &estimate.version {
            file.environment
                .libraries
                .insert("libtpu".into(), version.clone());
        }
        let row = row(args, &plan, side, name, chip, &estimate, &program);
        if !args.json {
            describe(&row, what, chip)?;
        }
        progress.inc(1);
        file.rows.push(row);
    }
    progress.finish();
    finish(&file, args.out.as_ref(), args.json)?;
    Ok(exit::OK)
}

fn side(args: &CompileForArgs) -> usize {
    match (args.image, args.model.data) {
        (Some(side), _) => side as usize,
        (None, Data::Digits) => 8,
        (None, Data::Cifar10) => 32,
    }
}

fn plan(args: &CompileForArgs, optimizer: Optimizer, augment: bool) -> anyhow::Result<StepPlan> {
    let channels = match args.model.data {
        Data::Digits => 1,
        Data::Cifar10 => 3,
    };
    let mut data = DataSet::made_up(2, side(args), channels, 10);
    let network = network(&args.model, &data);
    resnet::check(&network)?;
    data.labels = vec![0; ROWS];
    data.train = (0..ROWS as i32).collect();
    data.pixels = crate::data_set::Pixels::U8 {
        bytes: vec![],
        scale: 255.0,
    };
    let config = TrainConfig {
        network,
        batch: args.model.batch,
        optimizer,
        precision: args.model.precision,
        augment,
        conv: args.model.conv,
        compile: CompileEffort::Thorough,
        ..TrainConfig::digits()
    };
    Ok(StepPlan::new(&config, &data, "tpu"))
}

/// The chip's published facts, by the first part of the topology's name.
fn chip<'a>(hardware: &'a Hardware, topology: &str) -> Result<&'a DeviceFacts, Refused> {
    let generation = topology.split(':').next().unwrap_or_default();
    hardware.find(&format!("TPU {generation}")).ok_or_else(|| {
        Refused(format!(
            "no chip of the name {generation:?} in shared/hardware.toml; expected a topology such as \
             v5e:1x1, v5e:2x2 or v6e:1x1"
        ))
    })
}

/// What the compiler says.
struct Estimate {
    compile_seconds: f64,
    chips: usize,
    flops: Option<f64>,
    bytes_accessed: Option<f64>,
    step_seconds: Option<f64>,
    memory: MemoryStats,
    version: Option<String>,
}

fn compile(plugin: &Plugin, name: &str, program: &Program) -> anyhow::Result<Estimate> {
    let topology = Topology::new(plugin, name)
        .with_context(|| format!("the TPU compiler knows no topology {name:?}"))?;
    let text = program.stablehlo()?;
    let start = std::time::Instant::now();
    let compiled = topology
        .compile(&text, &CompileOptions::default())
        .with_context(|| format!("compiling {} for {name}", program.name))?;
    let compile_seconds = start.elapsed().as_secs_f64();
    let cost = compiled.cost()?;
    let number = |name: &str| cost.iter().find(|(key, _)| key == name)?.1.as_f64();
    Ok(Estimate {
        compile_seconds,
        chips: topology.devices().len(),
        flops: number("flops"),
        bytes_accessed: number("bytes accessed"),
        // An operation that the compiler cannot time counts -1: a sum that holds one says nothing.
        step_seconds: number("optimal_seconds").filter(|seconds| *seconds > 0.0),
        memory: compiled.memory()?,
        version: topology.platform_version().ok(),
    })
}

fn row(
    args: &CompileForArgs,
    plan: &StepPlan,
    side: usize,
    name: &str,
    chip: &DeviceFacts,
    estimate: &Estimate,
    program: &Program,
) -> Row {
    let kind = if args.inference {
        "inference"
    } else {
        "training"
    };
    let mut row = Row::ok(name.replace(':', "-"), format!("{} ({name})", chip.name))
        .with("topology", name)
        .with("program", kind)
        .with("arch", plan.network.arch.name())
        .with("width", plan.network.width)
        .with("image", side)
        .with("batch", plan.batch)
        .with("dtype", plan.precision.name())
        .with("optimizer", plan.optimizer.name())
        .with("steps_per_call", 1)
        .with("chips_in_topology", estimate.chips)
        .with_metric("compile_seconds", estimate.compile_seconds)
        .with_metric("counted_flops", program.flops() as f64)
        .with_metric(
            "estimated_device_bytes",
            estimate.memory.device_bytes() as f64,
        )
        .with_metric(
            "estimated_temporary_bytes",
            estimate.memory.temp_bytes as f64,
        );
    if let Some(memory) = chip.memory_bytes {
        let share = estimate.memory.device_bytes() as f64 / memory as f64;
        row = row.with_metric("estimated_memory_share", share);
    }
    if let Some(flops) = estimate.flops {
        row = row.with_metric("estimated_flops", flops);
    }
    if let Some(bytes) = estimate.bytes_accessed {
        row = row.with_metric("estimated_accessed_bytes", bytes);
    }
    let images = plan.batch as f64;
    let roofline = roofline_seconds(chip, estimate);
    if let Some(seconds) = roofline {
        row = row.with_metric("estimated_roofline_ms", 1e3 * seconds);
    }
    if let Some(seconds) = estimate.step_seconds {
        row = row.with_metric("estimated_call_ms", 1e3 * seconds);
    }
    // The compiler gives no time for every program; the roofline is what is left then.
    if let Some(seconds) = estimate.step_seconds.or(roofline) {
        row = row.with_metric("estimated_images_per_second", images / seconds);
        let recorded = chip.price.as_ref().map(|price| price.usd_per_hour);
        if let Some(price) = args.usd_per_hour.or(recorded) {
            let epoch_hours = ROWS as f64 * seconds / images / 3600.0;
            row = row
                .with_metric("usd_per_hour", price)
                .with_metric("estimated_usd_per_50000_images", price * epoch_hours);
        }
    }
    row
}

// ANCHOR: roofline
/// The least time that the chip can take, by its published peaks: for the arithmetic or for
/// the memory traffic, whichever is longer, as the compiler counts both.
fn roofline_seconds(chip: &DeviceFacts, estimate: &Estimate) -> Option<f64> {
    let peak = chip.operations_per_second.get(&hardware::Dtype::Bf16)?;
    let arithmetic = estimate.flops? / peak;
    let memory = estimate.bytes_accessed? / chip.memory_bytes_per_second;
    Some(arithmetic.max(memory))
}
// ANCHOR_END: roofline

fn describe(row: &Row, what: &str, chip: &DeviceFacts) -> anyhow::Result<()> {
    let metric = |name: &str| row.metrics.get(name).copied();
    print_line(&format!(
        "{}: {what}, by the compiler's estimate; nothing ran",
        row.label
    ))?;
    let line = |name: &str, value: String| print_line(&format!("  {name:<16} {value}"));
    let compiled = metric("compile_seconds").unwrap_or_default();
    line("compiled in", human::duration(compiled))?;
    if let Some(flops) = metric("estimated_flops") {
        let counted = metric("counted_flops").unwrap_or_default();
        line(
            "FLOPs",
            format!("{flops:.3e} (products counted in the graph: {counted:.3e})"),
        )?;
    }
    if let Some(bytes) = metric("estimated_accessed_bytes") {
        line("bytes accessed", human::bytes(bytes as u64))?;
    }
    if let (Some(bytes), Some(memory)) = (metric("estimated_device_bytes"), chip.memory_bytes) {
        let share = 100.0 * bytes / memory as f64;
        let (bytes, memory) = (human::bytes(bytes as u64), human::bytes(memory));
        line("memory", format!("{bytes} of {memory} ({share:.1}%)"))?;
    }
    if let Some(ms) = metric("estimated_roofline_ms") {
        line(
            "roofline",
            format!("{} a call at least", human::duration(ms / 1e3)),
        )?;
    }
    match metric("estimated_call_ms") {
        Some(ms) => line("call", human::duration(ms / 1e3))?,
        None => line(
            "call",
            "the compiler gives no time; below by the roofline".into(),
        )?,
    }
    if let Some(rate) = metric("estimated_images_per_second") {
        line("rate", human::rate(rate, "images"))?;
    }
    if let Some(usd) = metric("estimated_usd_per_50000_images") {
        let price = metric("usd_per_hour").unwrap_or_default();
        line(
            "50,000 images",
            format!("${usd:.6} at ${price:.2} an hour and chip"),
        )?;
    } else {
        line(
            "50,000 images",
            "no price recorded; pass --usd-per-hour".into(),
        )?;
    }
    Ok(())
}
