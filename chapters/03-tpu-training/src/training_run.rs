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

use crate::{
    checkpoint::{CheckpointError, EpochRecord, NamedTensor, Progress, TrainingState},
    config::TrainConfig,
    data_set::DataSet,
    device::Opened,
    run_folder::RunFolder,
    store::Place,
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
    #[error("{source}; the last good checkpoint is {folder}: --resume goes on from it")]
    AfterCheckpoint {
        /// What happened.
        source: TrainError,
        /// Where the checkpoint is.
        folder: String,
    },
    /// A configuration is not JSON.
    #[error("the configuration cannot be written down: {0}")]
    Json(#[from] serde_json::Error),
}

/// Where a run keeps its checkpoints, and how it is driven.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Folder or URL for checkpoints and the model.
    pub out: Place,
    /// Checkpoints that are kept, at least 1.
    pub keep: usize,
    /// Go on from the newest checkpoint.
    pub resume: bool,
    /// How the host drives the device.
    pub driving: Driving,
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
    /// The programs are compiled.
    Compiled {
        /// Seconds that it took.
        seconds: f64,
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
    /// On the validation rows, after the last epoch.
    pub validation: Option<Evaluation>,
    /// On the test rows, once, after the last epoch.
    pub test: Option<Evaluation>,
    /// Seconds in the compiler.
    pub compile_seconds: f64,
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
/// * `stop`: when it turns true, the run saves where it is and returns
/// * `tell`: hears of progress
///
/// # Errors
/// [`RunError`]; checkpoints that were saved stay.
pub fn train(
    opened: &Opened,
    config: &TrainConfig,
    data: &DataSet,
    options: &RunOptions,
    stop: &AtomicBool,
    mut tell: impl FnMut(News<'_>),
) -> Result<Outcome, RunError> {
    let mut folder = RunFolder::open(&options.out, options.keep)?;
    let mut run = Run {
        trainer: Trainer::new(
            &opened.client,
            opened.ordinal,
            config,
            data,
            options.driving,
        )?,
        config: serde_json::to_value(config)?,
        description: description(config, data),
        history: vec![],
    };
    let mut saved = None;
    if options.resume {
        saved = Some(run.resume(&mut folder, &mut tell)?);
    } else {
        folder.require_empty()?;
    }

    let mut outcome = Outcome {
        history: vec![],
        epochs: vec![],
        validation: None,
        test: None,
        compile_seconds: 0.0,
        stopped: false,
        model: None,
    };
    if run.trainer.epoch() < config.epochs {
        run.trainer.compile()?;
        // Evaluation's compiler belongs to no epoch either.
        run.trainer.evaluate(&data.validation)?;
        let seconds = run.trainer.compile_time().as_secs_f64();
        tell(News::Compiled { seconds });
    }
    while run.trainer.epoch() < config.epochs {
        let go_on = |_| match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let epoch = run
            .trainer
            .train_epoch(go_on)
            .map_err(|source| match &saved {
                Some(folder) => RunError::AfterCheckpoint {
                    source,
                    folder: String::clone(folder),
                },
                None => source.into(),
            })?;
        if epoch.stopped {
            let place = folder.save(&run.state()?)?.checkpoint;
            tell(News::Stopped { folder: &place });
            outcome.stopped = true;
            outcome.epochs.push(epoch);
            break;
        }
        let validation = run.trainer.evaluate(&data.validation)?;
        run.record(&epoch, validation);
        saved = Some(folder.save(&run.state()?)?.checkpoint);
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
        let test = run.trainer.evaluate(&data.test)?;
        outcome.test = Some(test);
        let accuracy = [
            ("test_accuracy", test.accuracy),
            ("test_images", test.images as f64),
        ];
        let extra: BTreeMap<_, _> = accuracy
            .map(|(name, value)| (name.to_owned(), value.to_string()))
            .into();
        outcome.model = Some(folder.publish_model(&run.state()?, &extra)?);
    }
    outcome.compile_seconds = run.trainer.compile_time().as_secs_f64();
    outcome.history = run.history;
    Ok(outcome)
}
// ANCHOR_END: train

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
    config: serde_json::Value,
    description: Description,
    history: Vec<EpochRecord>,
}

impl Run {
    /// Restores the newest good checkpoint; returns its folder.
    fn resume(
        &mut self,
        folder: &mut RunFolder,
        tell: &mut impl FnMut(News<'_>),
    ) -> Result<String, RunError> {
        let mut loaded = folder.latest()?;
        for skipped in &loaded.skipped {
            tell(News::Skipped(skipped.to_string()));
        }
        loaded.check_config(&self.config, &MAY_CHANGE)?;
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
            images: epoch.images as u64,
            seconds: epoch.seconds,
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
            },
            description: self.description.clone(),
            config: self.config.clone(),
            history: self.history.clone(),
        })
    }
}
