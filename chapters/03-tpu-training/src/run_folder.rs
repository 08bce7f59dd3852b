//! The folder of one run: taken by one process, with its last K checkpoints.
//!
//! A local folder is locked. An object store cannot be, see [`Store::lock`]; but a run knows
//! every checkpoint that it has found or written, and refuses to save beside one that it does
//! not know. Two runs on one prefix are thus told at their first save after the other's.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::{self, CheckpointError, FILES, Loaded, STATE_FILE, TrainingState};
use crate::store::{Lock, Place, Store};

/// The folder that a run writes to.
///
/// Dropping it gives the folder to the next run.
pub struct RunFolder {
    store: Box<dyn Store>,
    keep: usize,
    /// Steps of the checkpoints that were found or written.
    known: BTreeSet<u64>,
    /// Those that are not whole; removed as soon as there is a newer one that is.
    damaged: BTreeSet<u64>,
    _lock: Lock,
}

/// A checkpoint that was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The path or URL of its folder.
    pub checkpoint: String,
    /// The size of its files together.
    pub bytes: u64,
    /// Why an older checkpoint could not be removed, if so. The next save tries again.
    pub not_removed: Option<String>,
}

impl RunFolder {
    /// Makes a place's folder if it is missing, and takes it for this run.
    ///
    /// * `keep`: how many checkpoints stay, at least 1
    ///
    /// # Errors
    /// [`CheckpointError::Store`]: another run has it ([`StoreError::InUse`]), it cannot be
    /// written, the object store cannot be reached. [`CheckpointError::KeepNone`].
    ///
    /// [`StoreError::InUse`]: crate::store::StoreError::InUse
    pub fn open(place: &Place, keep: usize) -> Result<Self, CheckpointError> {
        Self::with_store(place.open()?, keep)
    }

    /// As [`RunFolder::open`], for a store that is open already.
    ///
    /// # Errors
    /// As [`RunFolder::open`].
    pub fn with_store(store: Box<dyn Store>, keep: usize) -> Result<Self, CheckpointError> {
        if keep == 0 {
            return Err(CheckpointError::KeepNone);
        }
        store.prepare()?;
        let lock = store.lock()?;
        Ok(Self {
            store,
            keep,
            known: BTreeSet::new(),
            damaged: BTreeSet::new(),
            _lock: lock,
        })
    }

    /// The path or URL of a file inside; of the folder itself for `""`.
    pub fn address(&self, name: &str) -> String {
        self.store.address(name)
    }

    /// For a run that begins: makes sure that there is no checkpoint yet.
    ///
    /// What was never finished does not count, and is removed at the first save.
    ///
    /// # Errors
    /// [`CheckpointError::Occupied`]: to save beside another run's checkpoints, and to remove
    /// the oldest of them, would destroy that run.
    pub fn require_empty(&mut self) -> Result<(), CheckpointError> {
        for step in checkpoint::steps(self.store.as_ref())?.into_iter().rev() {
            if self.is_committed(step)? {
                return Err(CheckpointError::Occupied {
                    place: self.address(""),
                    newest: checkpoint::folder_name(step),
                });
            }
            self.known.insert(step);
            self.damaged.insert(step);
        }
        Ok(())
    }

    /// Whether there is a checkpoint to go on from.
    ///
    /// # Errors
    /// [`CheckpointError::Store`]: the place cannot be read.
    pub fn has_checkpoint(&self) -> Result<bool, CheckpointError> {
        for step in checkpoint::steps(self.store.as_ref())? {
            if self.is_committed(step)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// For a run that resumes: the newest checkpoint that is whole.
    ///
    /// # Errors
    /// As [`checkpoint::latest`].
    pub fn latest(&mut self) -> Result<Loaded, CheckpointError> {
        let steps = checkpoint::steps(self.store.as_ref())?;
        let loaded = checkpoint::latest(self.store.as_ref())?;
        self.known = steps.into_iter().collect();
        self.damaged = loaded.skipped.iter().map(|skipped| skipped.step).collect();
        Ok(loaded)
    }

    /// Saves a checkpoint, then removes all but the newest `keep`.
    ///
    /// When this returns, the checkpoint is on the disk, or in the object store. To save the
    /// same step again replaces its checkpoint. What cannot be removed is told in
    /// [`Saved::not_removed`] and tried again at the next save: the run goes on.
    ///
    /// # Errors
    /// [`CheckpointError::NotFinite`]; [`CheckpointError::OtherWriter`];
    /// [`CheckpointError::Tensors`] and [`CheckpointError::Store`], for a full disk and the
    /// like. The older checkpoints are then as they were, and nothing half-written is left in a
    /// local folder.
    pub fn save(&mut self, state: &TrainingState) -> Result<Saved, CheckpointError> {
        checkpoint::check_finite(state)?;
        let step = state.progress.step;
        let store = self.store.as_ref();
        let there = checkpoint::steps(store)?;
        if let Some(other) = there.iter().find(|step| !self.known.contains(step)) {
            return Err(CheckpointError::OtherWriter {
                place: self.address(""),
                folder: checkpoint::folder_name(*other),
            });
        }
        // Known before it is written: what a failed attempt leaves is ours.
        self.known.insert(step);
        let bytes = checkpoint::save(store, state, there.contains(&step))?;
        self.damaged.remove(&step);
        let not_removed = self.prune(step).err().map(|error| error.to_string());
        Ok(Saved {
            checkpoint: self.address(&checkpoint::folder_name(step)),
            bytes,
            not_removed,
        })
    }

    /// Publishes `model.safetensors`, the file that chapter 1's program serves, in the run's
    /// folder itself; returns its path or URL.
    ///
    /// * `extra`: further entries of its metadata, such as the accuracy
    ///
    /// # Errors
    /// [`CheckpointError`]; an older file is then as it was.
    pub fn publish_model(
        &self,
        state: &TrainingState,
        extra: &BTreeMap<String, String>,
    ) -> Result<String, CheckpointError> {
        checkpoint::check_finite(state)?;
        checkpoint::publish_model(self.store.as_ref(), state, extra)
    }

    /// Writes any other file of the run, whole or not at all; returns its path or URL.
    ///
    /// # Errors
    /// [`CheckpointError::Store`]; an older file of that name is then as it was.
    pub fn write_file(&self, name: &str, content: &[u8]) -> Result<String, CheckpointError> {
        self.store.write(name, content)?;
        Ok(self.address(name))
    }

    /// Removes all whole checkpoints but `saved`, the one that was just saved, and the newest
    /// `keep - 1` of the others; and those that are not whole.
    fn prune(&mut self, saved: u64) -> Result<(), CheckpointError> {
        let mut kept = 1;
        for step in checkpoint::steps(self.store.as_ref())?.into_iter().rev() {
            if step == saved {
                continue;
            }
            let whole = !self.damaged.contains(&step) && self.is_committed(step)?;
            if whole && kept < self.keep {
                kept += 1;
                continue;
            }
            self.store
                .remove_folder(&checkpoint::folder_name(step), &FILES)?;
            self.known.remove(&step);
            self.damaged.remove(&step);
        }
        Ok(())
    }

    fn is_committed(&self, step: u64) -> Result<bool, CheckpointError> {
        let folder = checkpoint::folder_name(step);
        Ok(self.store.exists(&format!("{folder}/{STATE_FILE}"))?)
    }
}
