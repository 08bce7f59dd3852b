//! A whole training: epochs, evaluation, checkpoints, and going on after an end
//! that came too early.
//!
//! This is what chapter 4 runs eighteen times.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
};

use datasets::checkpoint::Description;
use serde::Serialize;

use crate::{
    checkpoint::{CheckpointError, EpochRecord, Loaded, NamedTensor, Progress, TrainingState},
    config::TrainConfig,
    data_set::{DataSet, Identity},
    device::Opened,
    run_folder::RunFolder,
    trainer::{Driving, Epoch, Evaluation, Snapshot, TrainError, Trainer},
};

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The training itself.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Reading or writing checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The training failed; what was saved is still there.
    #[error("{cause}{}", after(cause, folder))]
    AfterCheckpoint {
        /// What happened. Not a `source`: it is in the text, and would be told twice.
        cause: TrainError,
        /// Where the checkpoint is.
        folder: String,
    },
    /// A configuration is not JSON.
    #[error("the configuration cannot be written down: {0}")]
    Json(#[from] serde_json::Error),
}

/// What to do next, where there is a checkpoint.
fn after(cause: &TrainError, folder: &str) -> String {
    match cause {
        // From the checkpoint, with its own settings, the run would come to the same step.
        TrainError::Diverged { .. } => {
            format!(", in another folder; the last good checkpoint stays: {folder}")
        }
        _ => format!("; the last good checkpoint is {folder}: --resume goes on from it"),
    }
}

/// How a run begins, and how it is driven.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Go on from the newest checkpoint.
    pub resume: bool,
    /// The configuration's warm-up is a default, which depends on the epochs: a run that goes
    /// on takes its checkpoint's.
    pub default_warmup: bool,
    /// How the host drives the device.
    pub driving: Driving,
    /// Pause after so many epochs in all, saved; `None`: train to the last one.
    pub until: Option<usize>,
    /// Evaluate the test rows at the end. Who chooses among runs leaves it to the one chosen.
    pub test: bool,
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum News<'a> {
    /// It goes on from a checkpoint.
    Resumed {
        /// The checkpoint's folder.
        folder: &'a str,
        /// Epochs that are complete.
        epoch: u64,
        /// Steps taken in all.
        step: u64,
    },
    /// A damaged checkpoint was passed over.
    Skipped(String),
    /// An older checkpoint could not be removed, and why.
    NotRemoved(String),
    /// The programs are compiled.
    Compiled {
        /// Seconds that it took.
        seconds: f64,
        /// See [`Outcome::device_bytes`].
        device_bytes: Option<u64>,
    },
    /// An epoch is over and saved.
    Epoch {
        /// What stands in the history.
        record: &'a EpochRecord,
        /// What it was made from.
        epoch: &'a Epoch,
        /// On the validation rows.
        validation: Evaluation,
    },
    /// Stopped on request; the state is saved.
    Stopped {
        /// The checkpoint's folder.
        folder: &'a str,
    },
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Every complete epoch, also those before a resume.
    pub history: Vec<EpochRecord>,
    /// The epochs that were run now.
    pub epochs: Vec<Epoch>,
    /// Images of the whole run's training steps, also those before a resume.
    pub images: u64,
    /// Seconds of the same steps.
    pub seconds: f64,
    /// On the validation rows, after the last epoch.
    pub validation: Option<Evaluation>,
    /// On the test rows, once, after the last epoch, where that is asked for.
    pub test: Option<Evaluation>,
    /// Seconds in the compiler.
    pub compile_seconds: f64,
    /// Memory of the device that the program takes, in bytes, by the compiler's estimate.
    pub device_bytes: Option<u64>,
    /// Whether it was stopped before its end.
    pub stopped: bool,
    /// The model's file or URL, where the run is complete.
    pub model: Option<String>,
}

/// Configuration keys that may differ between a checkpoint and the run that goes on from it.
const MAY_CHANGE: [&str; 1] = ["epochs"];

// ANCHOR: train
/// Trains to the last epoch, saving after each one.
///
/// * `folder`: where checkpoints and the model go
/// * `stop`: when it turns true, the run saves where it is and returns
/// * `tell`: hears of progress
///
/// # Errors
/// [`RunError`]; checkpoints that were saved stay.
pub fn train(
    opened: &Opened,
    config: &TrainConfig,
    data: &DataSet,
    folder: &mut RunFolder,
    options: &RunOptions,
    stop: &AtomicBool,
    mut tell: impl FnMut(News<'_>),
) -> Result<Outcome, RunError> {
    let mut config = config.clone();
    let mut loaded = None;
    if options.resume {
        let checkpoint = folder.latest()?;
        let warmup = checkpoint.state.config["warmup_steps"].as_u64();
        if let (Some(steps), true) = (warmup, options.default_warmup) {
            config.warmup_steps = steps as usize;
        }
        loaded = Some(checkpoint);
    } else {
        folder.require_empty()?;
    }
    let settings = serde_json::to_value(Settings {
        config: &config,
        data: data.identity(),
    })?;
    if let Some(loaded) = &loaded {
        loaded.check_config(&settings, &MAY_CHANGE)?;
    }
    let (client, device) = (&opened.client, opened.ordinal);
    let mut run = Run {
        trainer: Trainer::new(client, device, &config, data, options.driving)?
            .with_programs(opened.programs.clone()),
        settings,
        description: description(&config, data),
        history: vec![],
        epoch_seconds: 0.0,
    };
    let mut saved = match loaded {
        Some(loaded) => Some(run.resume(loaded, &mut tell)?),
        None => None,
    };

    let mut outcome = Outcome {
        history: vec![],
        epochs: vec![],
        images: 0,
        seconds: 0.0,
        validation: None,
        test: None,
        compile_seconds: 0.0,
        device_bytes: None,
        stopped: false,
        model: None,
    };
    let last = options.until.unwrap_or(usize::MAX).min(config.epochs);
    if run.trainer.epoch() < last {
        run.trainer.compile()?;
        // Evaluation's compiler belongs to no epoch either.
        run.trainer.evaluate(&data.validation)?;
        let seconds = run.trainer.compile_time().as_secs_f64();
        tell(News::Compiled {
            seconds,
            device_bytes: run.trainer.device_bytes(),
        });
    }
    while run.trainer.epoch() < last {
        let go_on = |_| match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let epoch = run
            .trainer
            .train_epoch(go_on)
            .map_err(|cause| match &saved {
                Some(folder) => RunError::AfterCheckpoint {
                    cause,
                    folder: String::clone(folder),
                },
                None => cause.into(),
            })?;
        if epoch.images > 0 {
            run.epoch_seconds += epoch.seconds;
        }
        if epoch.stopped {
            let place = run.save(folder, &mut tell)?;
            tell(News::Stopped { folder: &place });
            outcome.stopped = true;
            outcome.epochs.push(epoch);
            break;
        }
        let validation = run.trainer.evaluate(&data.validation)?;
        run.record(&epoch, validation);
        saved = Some(run.save(folder, &mut tell)?);
        let record = &run.history[run.history.len() - 1];
        tell(News::Epoch {
            record,
            epoch: &epoch,
            validation,
        });
        outcome.validation = Some(validation);
        outcome.epochs.push(epoch);
    }
    if !outcome.stopped {
        if outcome.validation.is_none() {
            // It was complete before.
            outcome.validation = Some(run.trainer.evaluate(&data.validation)?);
        }
        if run.trainer.epoch() == config.epochs {
            let mut extra = BTreeMap::new();
            if options.test {
                let test = run.trainer.evaluate(&data.test)?;
                extra.insert("test_accuracy".to_owned(), test.accuracy.to_string());
                extra.insert("test_images".to_owned(), (test.images as f64).to_string());
                outcome.test = Some(test);
            }
            outcome.model = Some(folder.publish_model(&run.state()?, &extra)?);
        }
    }
    outcome.compile_seconds = run.trainer.compile_time().as_secs_f64();
    outcome.device_bytes = run.trainer.device_bytes();
    outcome.images = run.trainer.total_steps() * config.batch as u64;
    outcome.seconds = run.epoch_seconds + run.history.iter().map(|r| r.seconds).sum::<f64>();
    outcome.history = run.history;
    Ok(outcome)
}
// ANCHOR_END: train

/// What a run's checkpoints say of it: another run may not go on from them.
#[derive(Serialize)]
struct Settings<'a> {
    #[serde(flatten)]
    config: &'a TrainConfig,
    data: Identity,
}

/// What the model's file says of itself, so that chapter 1 need not be told.
fn description(config: &TrainConfig, data: &DataSet) -> Description {
    let network = &config.network;
    Description {
        arch: Some(network.arch.name().into()),
        width: Some(network.width),
        stem: Some(network.stem.name().into()),
        channels: Some(network.channels),
        classes: Some(network.classes),
        mean: Some(data.mean.clone()),
        std: Some(data.std.clone()),
        labels: Some(data.class_names.clone()),
    }
}

/// Names and shapes of tensors, in order.
type Shapes = Vec<(String, Vec<usize>)>;

struct Run {
    trainer: Trainer,
    settings: serde_json::Value,
    description: Description,
    history: Vec<EpochRecord>,
    /// Seconds of the steps of the epoch in progress, also those before a resume.
    epoch_seconds: f64,
}

impl Run {
    /// Goes on from a checkpoint; returns its folder.
    fn resume(
        &mut self,
        mut loaded: Loaded,
        tell: &mut impl FnMut(News<'_>),
    ) -> Result<String, RunError> {
        for skipped in &loaded.skipped {
            tell(News::Skipped(skipped.to_string()));
        }
        let (model, optimizer) = self.shapes();
        loaded.arrange(&model, &optimizer)?;
        let state = loaded.state;
        let data = |tensors: Vec<NamedTensor>| tensors.into_iter().map(|t| t.data).collect();
        self.trainer.restore(&Snapshot {
            epoch: state.progress.epoch as usize,
            step: state.progress.step_in_epoch as usize,
            losses: state.progress.epoch_losses,
            tensors: data(state.model),
            slots: data(state.optimizer),
        })?;
        self.history = state.history;
        self.epoch_seconds = state.progress.epoch_seconds;
        tell(News::Resumed {
            folder: &loaded.checkpoint,
            epoch: state.progress.epoch,
            step: state.progress.step,
        });
        Ok(loaded.checkpoint)
    }

    /// Names and file shapes of the model's tensors and the optimiser's.
    fn shapes(&self) -> (Shapes, Shapes) {
        let model = self.trainer.parameters().iter();
        let model = model
            .map(|p| (p.name.clone(), p.file_dims.clone()))
            .collect();
        let slots = self.trainer.config().optimizer.slots().iter();
        let optimizer = slots.flat_map(|slot| {
            let learned = self.trainer.learned().iter();
            learned.map(move |p| (format!("{}.{slot}", p.name), p.file_dims.clone()))
        });
        (model, optimizer.collect())
    }

    /// Saves the state as it is; returns the checkpoint's folder.
    fn save(
        &self,
        folder: &mut RunFolder,
        tell: &mut impl FnMut(News<'_>),
    ) -> Result<String, RunError> {
        let saved = folder.save(&self.state()?)?;
        if let Some(why) = saved.not_removed {
            tell(News::NotRemoved(why));
        }
        Ok(saved.checkpoint)
    }

    /// Enters a complete epoch into the history, with its part before a resume.
    fn record(&mut self, epoch: &Epoch, validation: Evaluation) {
        let losses = epoch.losses.iter().map(|&loss| f64::from(loss));
        self.history.push(EpochRecord {
            epoch: epoch.number as u64 + 1,
            step: self.trainer.total_steps(),
            loss: losses.sum::<f64>() / epoch.losses.len().max(1) as f64,
            accuracy: Some(validation.accuracy),
            learning_rate: self
                .trainer
                .learning_rate_at(self.trainer.total_steps() - 1),
            images: (epoch.losses.len() * self.trainer.config().batch) as u64,
            seconds: std::mem::take(&mut self.epoch_seconds),
        });
    }

    fn state(&self) -> Result<TrainingState, RunError> {
        let snapshot = self.trainer.snapshot()?;
        let (model, optimizer) = self.shapes();
        let named = |shapes: Vec<(String, Vec<usize>)>, values: Vec<Vec<f32>>| {
            let tensors = shapes.into_iter().zip(values);
            tensors
                .map(|((name, dims), data)| NamedTensor { name, dims, data })
                .collect()
        };
        Ok(TrainingState {
            model: named(model, snapshot.tensors),
            optimizer: named(optimizer, snapshot.slots),
            progress: Progress {
                epoch: snapshot.epoch as u64,
                step: self.trainer.total_steps(),
                step_in_epoch: snapshot.step as u64,
                seed: self.trainer.config().seed,
                epoch_losses: snapshot.losses,
                epoch_seconds: self.epoch_seconds,
            },
            description: self.description.clone(),
            config: self.settings.clone(),
            history: self.history.clone(),
        })
    }
}
