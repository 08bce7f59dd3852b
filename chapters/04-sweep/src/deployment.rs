//! The winner, published into a serving folder with a card that says what it is.

use std::path::{Path, PathBuf};

use accel::{checkout, results::ResultFile};
use datasets::serving::ServingFolder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tpu_training::cli::Data;

use crate::{
    failure::Refused,
    manifest::{Manifest, SweepFolder},
};

/// A model that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// Its version: the run's id, and the beginning of the model's SHA-256.
    pub version: String,
    /// The model's file.
    pub model: PathBuf,
}

/// Publishes the winner of a sweep, and points to it.
///
/// * `serve`: the serving folder
///
/// # Errors
/// [`Refused`]: there is no winner. Otherwise what the file system says.
pub fn deploy(sweep: &Path, manifest: &Manifest, serve: &Path) -> anyhow::Result<Deployed> {
    let folder = sweep.display();
    let Some(winner) = &manifest.winner else {
        let failed = manifest
            .runs
            .iter()
            .filter(|entry| entry.failure().is_some())
            .count();
        let runs = manifest.runs.len();
        return Err(Refused(match failed == runs {
            true => format!("{folder}: all {runs} runs failed, there is no winner to deploy; result.json has the reasons"),
            false => format!("{folder}: the sweep has no winner yet; go on with it: parallel-training sweep --resume --out {folder}"),
        })
        .into());
    };
    // ANCHOR: publish
    // Not the path that the manifest has: a sweep's folder may be moved, and no path from data
    // leads out of it.
    let model = sweep
        .join("runs")
        .join(&winner.id)
        .join("model.safetensors");
    let content = std::fs::read(&model).map_err(|error| {
        Refused(format!(
            "{}: cannot read the winner's model: {error}; go on with the sweep: \
             parallel-training sweep --resume --out {folder}",
            model.display()
        ))
    })?;
    let digest = Sha256::digest(&content);
    let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let version = format!("{}-{}", winner.id, &sha256[..8]);
    let serving = ServingFolder::new(serve);
    let model = serving.publish(&version, &model, &card(sweep, manifest, &sha256)?)?;
    Ok(Deployed { version, model })
    // ANCHOR_END: publish
}

/// What the model is: from what, how good, by which command, under which licence.
fn card(sweep: &Path, manifest: &Manifest, sha256: &str) -> anyhow::Result<Value> {
    let winner = manifest.winner.as_ref().expect("deploy() has looked");
    let entry = (manifest.runs.iter())
        .find(|entry| entry.run.id == winner.id)
        .expect("a manifest's winner is one of its runs");
    let result = ResultFile::read(sweep.join("result.json")).ok();
    let commit = checkout::checkout_root().and_then(|root| checkout::commit(&root));
    let validation = entry.trained.as_ref().map(|trained| trained.validation);
    let seeds: Vec<_> = manifest
        .runs
        .iter()
        .filter(|other| other.repeats.as_ref() == Some(&winner.id) || other.run.id == winner.id)
        .filter_map(|other| Some(other.trained.as_ref()?.validation.accuracy))
        .collect();
    Ok(json!({
        "schema_version": 1,
        "id": winner.id,
        "model_sha256": sha256,
        "data": data(entry.run.data),
        "configuration": entry.run.config,
        "validation": validation,
        "validation_accuracy_by_seed": seeds,
        "test": winner.test,
        "chosen_from": manifest.runs.len(),
        "command": result.as_ref().map(|result| &result.command),
        "created_utc": result.as_ref().map(|result| &result.created_utc),
        "commit": commit.map(|commit| commit.id),
        "written_by": manifest.written_by,
        "licence": "MIT OR Apache-2.0",
    }))
}

/// A data set's name, source and licence.
fn data(data: Data) -> Value {
    match data {
        Data::Digits => json!({
            "name": "UCI handwritten digits, as scikit-learn ships them",
            "source": "https://archive.ics.uci.edu/dataset/80",
            "licence": "CC BY 4.0",
        }),
        Data::Cifar10 => json!({
            "name": "CIFAR-10",
            "source": "https://www.cs.toronto.edu/~kriz/cifar.html",
            "licence": null,
        }),
    }
}

/// The manifest of a sweep that has ended.
///
/// # Errors
/// There is none, or it is no manifest.
pub fn manifest(sweep: &Path) -> anyhow::Result<Manifest> {
    if !sweep.is_dir() {
        return Err(Refused(format!(
            "{}: no such folder; give the --out of a sweep",
            sweep.display()
        ))
        .into());
    }
    let folder = SweepFolder::open(sweep)?;
    folder.manifest()?.ok_or_else(|| {
        let folder = sweep.display();
        Refused(format!(
            "{folder}: there is no sweep; give the --out of one"
        ))
        .into()
    })
}
