//! `tpu-training train`.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use accel::{
    checkout::checkout_root,
    device::Device,
    environment::Environment,
    exit, human,
    progress::Progress,
    results::{ResultFile, Row},
    stdout::print_line,
    timing::Samples,
};
use anyhow::Context;
use datasets::resnet::{Config as Network, Stem};

use crate::{
    cli::{
        CompileForArgs, Data, DeviceArgs, DrivingArgs, LearningArgs, Lower, ModelArgs,
        OptimizerName, TrainArgs,
    },
    commands::compile_for,
    config::{CompileEffort, Optimizer, TrainConfig},
    data_set::{DataError, DataSet},
    device::{self, Opened},
    failure::Refused,
    run_folder::RunFolder,
    store::Place,
    trainer::Driving,
    training_run::{self, News, Outcome, RunError, RunOptions},
};

/// Runs the command: exit code 130 if it was interrupted and saved.
///
/// # Errors
/// What failed, on what value, what to do next.
pub fn run(args: &TrainArgs) -> anyhow::Result<u8> {
    if let Some(topology) = &args.compile_for {
        return compile(args, topology);
    }
    let data = match args.dry_run {
        true => DataSet::made_up(128, 8, 1, 10),
        false => data_set(args.model.data, args.model.data_dir.clone(), args.quiet)?,
    };
    let mut learning = args.learning.clone();
    if args.quick {
        learning.epochs = Some(3);
    }
    if args.dry_run {
        learning.epochs = Some(2);
    }
    let mut config = config(&args.model, &learning, &data)?;
    config.compile = args.driving.compile;
    config.check(data.train.len())?;
    crate::network::check(&config.network)?;
    if args.lower == Lower::XlaRs {
        return crate::xla_rs::run(args, &config, &data);
    }
    let scratch = args.dry_run.then(tempfile::tempdir).transpose()?;
    let out = match &scratch {
        Some(folder) => Place::from(folder.path()),
        None => args.out.clone(),
    };
    let progress = Progress::new(Some(config.epochs as u64), "epochs", args.quiet);
    let stop = stop_on_interrupt()?;
    let opened = open(&args.device, &progress)?;
    let options = RunOptions {
        resume: args.resume,
        default_warmup: args.learning.warmup_steps.is_none(),
        driving: driving(&args.driving, &opened),
        until: None,
        test: true,
    };
    let mut folder = RunFolder::open(&out, args.keep).map_err(RunError::from)?;
    let tell = |news: News<'_>| tell(&progress, &config, &news);
    let outcome = training_run::train(&opened, &config, &data, &mut folder, &options, &stop, tell)?;
    progress.finish();

    let file = result_file(&config, &data, options.driving, &opened, &outcome);
    let written = match args.dry_run {
        true => None,
        // While the folder is still this run's.
        false => Some(folder.write_file("result.json", &file.to_text()?)?),
    };
    drop(folder);
    match args.json {
        true => print_line(&serde_json::to_string(&file)?)?,
        false => print_summary(&outcome, written.as_deref())?,
    }
    Ok(match outcome.stopped {
        true => exit::INTERRUPTED,
        false => exit::OK,
    })
}

/// Compiles the training step that the flags ask for, and trains nothing.
fn compile(args: &TrainArgs, topology: &str) -> anyhow::Result<u8> {
    let plain = TrainArgs::plain();
    let (learning, driving) = (&args.learning, &args.driving);
    let given = [
        ("--epochs", learning.epochs.is_some()),
        ("--lr", learning.learning_rate.is_some()),
        ("--schedule", learning.schedule != plain.learning.schedule),
        ("--warmup-steps", learning.warmup_steps.is_some()),
        ("--seed", learning.seed != plain.learning.seed),
        (
            "--steps-per-call",
            driving.steps_per_call.is_some_and(|steps| steps != 1),
        ),
        ("--loop", driving.loop_style != plain.driving.loop_style),
        ("--compile", driving.compile != plain.driving.compile),
        ("--device", args.device.device != plain.device.device),
        ("--out", args.out != plain.out),
        ("--resume", args.resume),
        ("--keep", args.keep != plain.keep),
        ("--lower", args.lower != plain.lower),
        ("--quick", args.quick),
        ("--dry-run", args.dry_run),
    ];
    if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
        return Err(Refused(format!(
            "{flag} has no meaning with --compile-for, which compiles one training step and runs \
             nothing; leave one of the two out"
        ))
        .into());
    }
    let (optimizer, _) = optimizer(learning)?;
    let wanted = CompileForArgs {
        topologies: vec![topology.to_owned()],
        model: args.model.clone(),
        image: None,
        inference: false,
        usd_per_hour: None,
        plugin: args.device.plugin.clone(),
        out: None,
        json: args.json,
        quiet: args.quiet,
    };
    compile_for::run_for(&wanted, optimizer, !learning.no_augment)
}

/// The data set of a flag.
///
/// # Errors
/// [`DataError`].
pub fn data_set(data: Data, folder: Option<PathBuf>, quiet: bool) -> Result<DataSet, DataError> {
    match data {
        Data::Digits => DataSet::digits(),
        Data::Cifar10 => {
            let root = checkout_root().unwrap_or_else(|| PathBuf::from("."));
            DataSet::cifar10(folder, &root.join(".native/data/cifar10"), quiet)
        }
    }
}

/// The network that the flags and the data ask for.
pub fn network(args: &ModelArgs, data: &DataSet) -> Network {
    Network {
        arch: args.arch,
        stem: Stem::Small,
        width: args.width,
        channels: data.channels,
        classes: data.classes(),
    }
}

/// The configuration of the flags.
///
/// # Errors
/// If a flag belongs to another optimiser than the one chosen.
pub fn config(
    model: &ModelArgs,
    learning: &LearningArgs,
    data: &DataSet,
) -> anyhow::Result<TrainConfig> {
    let (optimizer, rate) = optimizer(learning)?;
    let epochs = learning.epochs.unwrap_or(match model.data {
        Data::Digits => 40,
        Data::Cifar10 => 30,
    });
    let steps = epochs.saturating_mul(data.train.len() / model.batch);
    Ok(TrainConfig {
        network: network(model, data),
        batch: model.batch,
        epochs,
        optimizer,
        learning_rate: learning.learning_rate.unwrap_or(rate),
        schedule: learning.schedule,
        warmup_steps: learning.warmup_steps.unwrap_or(100.min(steps / 10)),
        seed: learning.seed,
        precision: model.precision,
        augment: !learning.no_augment,
        conv: model.conv,
        compile: CompileEffort::Thorough,
    })
}

/// The optimiser of the flags, and its usual learning rate.
fn optimizer(learning: &LearningArgs) -> Result<(Optimizer, f64), Refused> {
    Ok(match learning.optimizer {
        OptimizerName::Sgd => {
            let Optimizer::Sgd {
                momentum,
                weight_decay,
            } = Optimizer::SGD
            else {
                unreachable!("SGD is SGD");
            };
            let sgd = Optimizer::Sgd {
                momentum: learning.momentum.unwrap_or(momentum),
                weight_decay: learning.weight_decay.unwrap_or(weight_decay),
            };
            (sgd, 0.1)
        }
        OptimizerName::Adamw => {
            if let Some(momentum) = learning.momentum {
                let wrong = format!("--momentum {momentum} belongs to SGD; leave it out for AdamW");
                return Err(Refused(wrong));
            }
            let Optimizer::AdamW {
                beta1,
                beta2,
                epsilon,
                weight_decay,
            } = Optimizer::ADAMW
            else {
                unreachable!("AdamW is AdamW");
            };
            let adamw = Optimizer::AdamW {
                beta1,
                beta2,
                epsilon,
                weight_decay: learning.weight_decay.unwrap_or(weight_decay),
            };
            (adamw, 1e-3)
        }
    })
}

/// How the host drives the device, by the flags or by what was measured to be fast.
pub fn driving(args: &DrivingArgs, opened: &Opened) -> Driving {
    Driving {
        // On the CPU a call costs little and a loop takes the parallel kernels away; the
        // book's page on steps per call has the measurements.
        steps_per_call: args.steps_per_call.unwrap_or(match opened.device {
            Device::Cpu => 1,
            Device::Cuda(_) | Device::Tpu => 16,
        }),
        loop_style: args.loop_style,
    }
}

/// Opens the device and says which.
///
/// # Errors
/// [`device::OpenError`].
pub fn open(args: &DeviceArgs, progress: &Progress) -> Result<Opened, device::OpenError> {
    let opened = device::open(args.device, args.plugin.as_deref())?;
    progress.println(&format!("device {}", opened.reason));
    Ok(opened)
}

/// A flag that Ctrl-C and SIGTERM raise; a second one ends the process at once.
fn stop_on_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the first signal finds the flag down and raises it.
        let code = exit::INTERRUPTED.into();
        signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("cannot watch for Ctrl-C")?;
    }
    Ok(stop)
}

fn tell(progress: &Progress, config: &TrainConfig, news: &News<'_>) {
    match news {
        News::Resumed {
            folder,
            epoch,
            step,
        } => {
            progress.inc(*epoch);
            progress.println(&format!(
                "resumed from {folder}: {epoch} epochs, {step} steps"
            ));
        }
        News::Skipped(checkpoint) => progress.warn(&format!("passed over {checkpoint}")),
        News::NotRemoved(why) => progress.warn(&format!("an older checkpoint stays: {why}")),
        News::Compiled { seconds, .. } => {
            progress.println(&format!("compiled in {}", human::duration(*seconds)));
        }
        News::Epoch {
            record,
            epoch,
            validation,
        } => {
            progress.inc(1);
            progress.println(&format!(
                "epoch {:>3}/{}  loss {:.4}  validation {:.2}%  {}",
                record.epoch,
                config.epochs,
                record.loss,
                100.0 * validation.accuracy,
                human::rate(epoch.images as f64 / epoch.seconds, "images"),
            ));
        }
        News::Stopped { folder } => {
            progress.println(&format!("stopped; saved {folder}; go on with --resume"));
        }
    }
}

/// The run's figures: a row for the whole, and one for each epoch.
fn result_file(
    config: &TrainConfig,
    data: &DataSet,
    driving: Driving,
    opened: &Opened,
    outcome: &Outcome,
) -> ResultFile {
    let mut file = ResultFile::new("03-tpu-training", "train", environment(opened));
    file.title = Some(format!("Training {} on {}", config.network.arch, data.name));
    file.depends_on = depends_on();
    if outcome.stopped {
        file.notes.push("stopped before its last epoch".into());
    }
    let with_workload = |row: Row| workload(row, config, data, driving, opened);
    // Neither stopped nor begun before a resume.
    let complete: Vec<_> = outcome
        .epochs
        .iter()
        .filter(|epoch| !epoch.stopped && epoch.images == epoch.losses.len() * config.batch)
        .collect();
    let mut whole = with_workload(Row::ok("run", "the whole run"))
        .with_metric("training_seconds", outcome.seconds)
        .with_metric("compile_seconds", outcome.compile_seconds);
    if let Some(bytes) = outcome.device_bytes {
        whole = whole.with_metric("estimated_device_bytes", bytes as f64);
    }
    if let Some(first) = complete.first() {
        let transfers = first.transfers;
        whole = whole
            .with_metric(
                "host_to_device_copies_per_epoch",
                transfers.host_to_device as f64,
            )
            .with_metric(
                "device_to_host_copies_per_epoch",
                transfers.device_to_host as f64,
            )
            .with_metric("steps_per_epoch", first.losses.len() as f64)
            .with_samples(Samples {
                items_per_sample: first.images.max(1),
                warmup_seconds: vec![],
                seconds: complete.iter().map(|epoch| epoch.seconds).collect(),
            });
    }
    for (name, evaluation) in [("validation", outcome.validation), ("test", outcome.test)] {
        if let Some(evaluation) = evaluation {
            whole = whole
                .with_metric(&format!("{name}_accuracy"), evaluation.accuracy)
                .with_metric(&format!("{name}_loss"), evaluation.loss)
                .with_metric(&format!("{name}_images"), evaluation.images as f64);
        }
    }
    file.rows.push(whole);
    for record in &outcome.history {
        let row = Row::ok(
            format!("epoch-{}", record.epoch),
            format!("epoch {}", record.epoch),
        );
        let mut row = with_workload(row)
            .with("epoch", record.epoch)
            .with_metric("loss", record.loss)
            .with_metric("learning_rate", record.learning_rate);
        if let Some(accuracy) = record.accuracy {
            row = row.with_metric("validation_accuracy", accuracy);
        }
        file.rows.push(row);
    }
    file
}

/// What was run, in a row's terms.
pub fn workload(
    row: Row,
    config: &TrainConfig,
    data: &DataSet,
    driving: Driving,
    opened: &Opened,
) -> Row {
    row.with("engine", "pjrt")
        .with("device", opened.device.to_string())
        .with("arch", config.network.arch.name())
        .with("width", config.network.width)
        .with("data", data.name.clone())
        .with("image", data.side)
        .with("batch", config.batch)
        .with("dtype", config.precision.name())
        .with("optimizer", config.optimizer.name())
        .with("conv", config.conv.name())
        .with("compile", config.compile.name())
        .with("steps_per_call", driving.steps_per_call)
        .with("loop", driving.loop_style.name())
}

/// The machine, with the plugin among its libraries.
pub fn environment(opened: &Opened) -> Environment {
    let mut environment = Environment::collect();
    environment.libraries.extend(plugin_versions(opened));
    environment
}

/// The plugin's versions, as a result file names them.
pub fn plugin_versions(opened: &Opened) -> Vec<(String, String)> {
    let platform = opened.client.platform_name();
    vec![
        ("pjrt-c-api".into(), opened.plugin.api_version().to_string()),
        (
            format!("pjrt-{platform}"),
            opened.client.platform_version().to_owned(),
        ),
    ]
}

/// What the chapter's figures depend on.
pub fn depends_on() -> Vec<String> {
    let paths = [
        "chapters/03-tpu-training/src",
        "chapters/03-tpu-training/crates",
        "Cargo.lock",
    ];
    paths.map(str::to_owned).to_vec()
}

fn print_summary(outcome: &Outcome, written: Option<&str>) -> anyhow::Result<()> {
    let (images, seconds) = (outcome.images, outcome.seconds);
    print_line(&format!(
        "trained {images} images in {} ({}), compiled in {}",
        human::duration(seconds),
        human::rate(images as f64 / seconds.max(f64::MIN_POSITIVE), "images"),
        human::duration(outcome.compile_seconds),
    ))?;
    if let Some(test) = outcome.test {
        print_line(&format!(
            "test accuracy {:.2}% of {} images held out",
            100.0 * test.accuracy,
            test.images
        ))?;
    }
    if let Some(model) = &outcome.model {
        print_line(&format!("model {model}"))?;
    }
    if let Some(written) = written {
        print_line(&format!("result {written}"))?;
    }
    Ok(())
}
