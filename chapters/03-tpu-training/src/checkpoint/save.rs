//! A state becomes a folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use datasets::checkpoint::Description;

use super::error::CheckpointError;
use super::manifest::{Manifest, Seal};
use super::state::TrainingState;
use super::{FILES, MODEL_FILE, OPTIMIZER_FILE, STATE_FILE, folder_name, tensors};
use crate::store::{Action, Store, StoreError, write_synced};

/// Refuses numbers that a training cannot go on from.
///
/// # Errors
/// [`CheckpointError::NotFinite`] names the first of them.
pub(crate) fn check_finite(state: &TrainingState) -> Result<(), CheckpointError> {
    let tensors = [("model", &state.model), ("optimizer", &state.optimizer)];
    let in_tensors = tensors.iter().flat_map(|(which, tensors)| {
        tensors
            .iter()
            .filter(|tensor| !tensor.data.iter().all(|value| value.is_finite()))
            .map(move |tensor| format!("{which} tensor {:?}", tensor.name))
    });
    let losses = state
        .progress
        .epoch_losses
        .iter()
        .map(|loss| f64::from(*loss));
    let in_losses = losses
        .filter(|loss| !loss.is_finite())
        .map(|_| String::from("the loss"));
    let in_history = state.history.iter().filter_map(|record| {
        let numbers = [
            ("loss", record.loss),
            ("accuracy", record.accuracy.unwrap_or_default()),
            ("learning rate", record.learning_rate),
            ("duration", record.seconds),
        ];
        let (name, _) = numbers
            .into_iter()
            .find(|(_, number)| !number.is_finite())?;
        Some(format!("the {name} of epoch {}", record.epoch))
    });
    match in_losses.chain(in_history).chain(in_tensors).next() {
        None => Ok(()),
        Some(what) => Err(CheckpointError::NotFinite {
            step: state.progress.step,
            what,
        }),
    }
}

/// Saves a state as the folder of its step; returns the bytes of its files.
///
/// * `exists`: whether there is a folder of that step; it is replaced
///
/// # Errors
/// [`CheckpointError`]; then nothing has changed, or the folder of this step is not complete.
/// No other step is touched.
pub(crate) fn save(
    store: &dyn Store,
    state: &TrainingState,
    exists: bool,
) -> Result<u64, CheckpointError> {
    let folder = folder_name(state.progress.step);
    let staged = store.stage()?;
    let at = |file: &str| staged.path().join(file);
    let none = BTreeMap::new();
    tensors::write(&at(MODEL_FILE), &state.model, &state.description, &none)?;
    tensors::write(
        &at(OPTIMIZER_FILE),
        &state.optimizer,
        &Description::default(),
        &none,
    )?;
    let files = BTreeMap::from([
        (MODEL_FILE.to_owned(), seal(&at(MODEL_FILE))?),
        (OPTIMIZER_FILE.to_owned(), seal(&at(OPTIMIZER_FILE))?),
    ]);
    let manifest = Manifest {
        written_by: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
        files,
        progress: state.progress.clone(),
        config: state.config.clone(),
        history: state.history.clone(),
    };
    let text = manifest.to_text().map_err(|cause| StoreError::Io {
        action: Action::Write,
        path: at(STATE_FILE),
        cause: cause.into(),
    })?;
    let bytes = manifest.files.values().map(|seal| seal.bytes).sum::<u64>() + text.len() as u64;

    if exists && holds(store, &folder, &manifest) {
        // A run that goes on and stops at once saves the step that it read. Its tensors stay;
        // one file changes, and that at once: there is no moment without a checkpoint.
        store.write(&format!("{folder}/{STATE_FILE}"), text.as_bytes())?;
        return Ok(bytes);
    }
    write_synced(&at(STATE_FILE), text.as_bytes())?;
    if exists {
        store.remove_folder(&folder, &FILES)?;
    }
    store.publish_folder(staged, &folder, &FILES)?;
    Ok(bytes)
}

/// Publishes the model's file alone, under its own name; returns its path or URL.
///
/// * `extra`: further entries of its metadata, such as the accuracy
///
/// # Errors
/// [`CheckpointError`]; an older file of that name is then as it was.
pub(crate) fn publish_model(
    store: &dyn Store,
    state: &TrainingState,
    extra: &BTreeMap<String, String>,
) -> Result<String, CheckpointError> {
    let staged = store.stage()?;
    let path = staged.path().join(MODEL_FILE);
    tensors::write(&path, &state.model, &state.description, extra)?;
    store.publish_file(&path, MODEL_FILE)?;
    Ok(store.address(MODEL_FILE))
}

fn seal(path: &Path) -> Result<Seal, StoreError> {
    // What is sealed is what the disk gives back.
    let content = fs::read(path).map_err(|cause| StoreError::Io {
        action: Action::Read,
        path: path.to_owned(),
        cause,
    })?;
    Ok(Seal::of(&content))
}

/// Whether a folder already holds these tensors, whole.
fn holds(store: &dyn Store, folder: &str, manifest: &Manifest) -> bool {
    let read = |file: &str| store.read(&format!("{folder}/{file}")).ok();
    let same = |file: &'static str| {
        let (Some(content), Some(seal)) = (read(file), manifest.files.get(file)) else {
            return false;
        };
        seal.check(file, &content).is_ok()
    };
    read(STATE_FILE).is_some() && same(MODEL_FILE) && same(OPTIMIZER_FILE)
}
