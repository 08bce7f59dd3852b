//! A folder becomes a state; which folder is the newest good one.

use std::fmt;

use serde_json::Value;

use super::differences;
use super::error::{CheckpointError, Damage};
use super::manifest::{FORMAT_VERSION, Manifest, Unreadable};
use super::state::TrainingState;
use super::{MODEL_FILE, OPTIMIZER_FILE, STATE_FILE, folder_name, step_of, tensors};
use crate::store::{Place, Store, StoreError};

/// A checkpoint that was read and found whole.
#[derive(Debug)]
pub struct Loaded {
    /// What it holds; tensors in alphabetical order until [`Loaded::arrange`].
    pub state: TrainingState,
    /// The path or URL of its folder.
    pub checkpoint: String,
    /// Newer ones that could not be used, the newest first: for the caller to tell.
    pub skipped: Vec<Skipped>,
}

/// A checkpoint that was passed over.
#[derive(Debug)]
pub struct Skipped {
    /// Its step.
    pub step: u64,
    /// The path or URL of its folder.
    pub checkpoint: String,
    /// What is wrong with it.
    pub damage: Damage,
}

impl fmt::Display for Skipped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: damaged: {}", self.checkpoint, self.damage)
    }
}

impl Loaded {
    /// Refuses a checkpoint of a run with other settings.
    ///
    /// * `now`: this run's configuration, a JSON object
    /// * `may_change`: its settings of the top level that may differ, such as `epochs`
    ///
    /// # Errors
    /// [`CheckpointError::OtherRun`] lists *all* other settings that differ.
    pub fn check_config(&self, now: &Value, may_change: &[&str]) -> Result<(), CheckpointError> {
        self.refuse_if(differences::in_config(now, &self.state.config, may_change)?)
    }

    /// Compares the tensors with this run's, and puts them into its order.
    ///
    /// * `model`, `optimizer`: name and shape of each tensor of this run
    ///
    /// # Errors
    /// [`CheckpointError::OtherRun`] lists *all* tensors that are missing, superfluous or of
    /// another shape. The state is then of no use.
    pub fn arrange(
        &mut self,
        model: &[(String, Vec<usize>)],
        optimizer: &[(String, Vec<usize>)],
    ) -> Result<(), CheckpointError> {
        let mut all = differences::arrange("model", &mut self.state.model, model);
        all.append(&mut differences::arrange(
            "optimizer",
            &mut self.state.optimizer,
            optimizer,
        ));
        self.refuse_if(all)
    }

    fn refuse_if(&self, differences: Vec<differences::Difference>) -> Result<(), CheckpointError> {
        if differences.is_empty() {
            return Ok(());
        }
        Err(CheckpointError::OtherRun {
            checkpoint: self.checkpoint.clone(),
            differences,
        })
    }
}

/// The newest checkpoint of a place that is whole, for a reader that does not train.
///
/// # Errors
/// As [`latest`]; and [`StoreError`] if the place cannot be opened.
pub fn load_latest(place: &Place) -> Result<Loaded, CheckpointError> {
    latest(place.open()?.as_ref())
}

/// The newest checkpoint of a store that is whole.
///
/// One that is damaged is passed over, and named, in favour of the one before it. One that
/// cannot be *read*, because a disk fails or a server does not answer, is not: a run that went on
/// from an older one would throw away what is there.
///
/// # Errors
/// [`CheckpointError::NoCheckpoint`]; [`CheckpointError::AllDamaged`]; [`CheckpointError::Newer`]
/// if the newest was written by a later release; [`CheckpointError::Store`].
pub fn latest(store: &dyn Store) -> Result<Loaded, CheckpointError> {
    let mut steps = self::steps(store)?;
    loop {
        let result = newest_whole(store, &steps);
        let none = matches!(
            result,
            Err(CheckpointError::NoCheckpoint { .. } | CheckpointError::AllDamaged { .. })
        );
        if none {
            // A run that saves at this moment may have removed what was listed.
            let now = self::steps(store)?;
            if now.last() > steps.last() {
                steps = now;
                continue;
            }
        }
        return result;
    }
}

/// The newest of some steps, in rising order, that is whole.
fn newest_whole(store: &dyn Store, steps: &[u64]) -> Result<Loaded, CheckpointError> {
    let mut skipped = Vec::new();
    for step in steps.iter().rev() {
        match load(store, *step) {
            Ok(state) => {
                return Ok(Loaded {
                    state,
                    checkpoint: store.address(&folder_name(*step)),
                    skipped,
                });
            }
            Err(CheckpointError::Damaged { checkpoint, damage }) => skipped.push(Skipped {
                step: *step,
                checkpoint,
                damage,
            }),
            Err(error) => return Err(error),
        }
    }
    let place = store.address("");
    if skipped.is_empty() {
        return Err(CheckpointError::NoCheckpoint { place });
    }
    Err(CheckpointError::AllDamaged { place, skipped })
}

/// The steps of all checkpoints, whole or not, in rising order.
pub(crate) fn steps(store: &dyn Store) -> Result<Vec<u64>, StoreError> {
    let mut steps: Vec<u64> = store
        .folders()?
        .iter()
        .filter_map(|folder| step_of(folder))
        .collect();
    // Names sort as numbers only up to eight digits.
    steps.sort_unstable();
    Ok(steps)
}

/// Reads the checkpoint of one step.
///
/// # Errors
/// [`CheckpointError::Damaged`], [`CheckpointError::Newer`], [`CheckpointError::Store`].
fn load(store: &dyn Store, step: u64) -> Result<TrainingState, CheckpointError> {
    let folder = folder_name(step);
    let damaged = |damage| CheckpointError::Damaged {
        checkpoint: store.address(&folder),
        damage,
    };
    let read = |file: &'static str| match store.read(&format!("{folder}/{file}")) {
        Ok(content) => Ok(content),
        Err(StoreError::NotFound { .. }) => Err(damaged(Damage::Missing { file })),
        Err(StoreError::Kind { .. }) => Err(damaged(Damage::NotAFile { file })),
        Err(error) => Err(CheckpointError::Store(error)),
    };
    let manifest = Manifest::parse(&read(STATE_FILE)?).map_err(|unreadable| match unreadable {
        Unreadable::Damaged(damage) => damaged(damage),
        Unreadable::Newer { got } => CheckpointError::Newer {
            file: store.address(&format!("{folder}/{STATE_FILE}")),
            expected: FORMAT_VERSION,
            got,
        },
    })?;
    if manifest.progress.step != step {
        return Err(damaged(Damage::Text {
            file: STATE_FILE,
            expected: format!("step {step}, got {}", manifest.progress.step),
        }));
    }
    let tensors = |file: &'static str| {
        let content = read(file)?;
        manifest.files[file]
            .check(file, &content)
            .map_err(damaged)?;
        tensors::read(file, content).map_err(damaged)
    };
    let (model, description) = tensors(MODEL_FILE)?;
    let (optimizer, _) = tensors(OPTIMIZER_FILE)?;
    Ok(TrainingState {
        model,
        optimizer,
        progress: manifest.progress,
        description,
        config: manifest.config,
        history: manifest.history,
    })
}
