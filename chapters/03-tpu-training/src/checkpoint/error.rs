//! What can be wrong with a checkpoint, in words that say what to do.

use std::fmt::Write;

use super::differences::Difference;
use super::load::Skipped;
use crate::store::StoreError;

/// Why a checkpoint cannot be saved, read or gone on from.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is nothing to go on from.
    #[error(
        "{place}: expected a checkpoint to go on from, got a folder without one; begin without --resume"
    )]
    NoCheckpoint {
        /// The run's folder.
        place: String,
    },
    /// There are checkpoints, and none is whole.
    #[error(
        "{place}: no checkpoint is whole:{}\nbegin again in another folder",
        lines(skipped)
    )]
    AllDamaged {
        /// The run's folder.
        place: String,
        /// What is wrong with each, the newest first.
        skipped: Vec<Skipped>,
    },
    /// A new run would mix its checkpoints with an older one's.
    #[error(
        "{place}: expected a folder without checkpoints, got {newest}; go on from it with --resume, or choose another folder"
    )]
    Occupied {
        /// The run's folder.
        place: String,
        /// The folder of the newest checkpoint.
        newest: String,
    },
    /// A checkpoint that this run did not write has appeared.
    #[error(
        "{place}: {folder} is not this run's: another run saves there; stop one of them, and give each a folder of its own"
    )]
    OtherWriter {
        /// The run's folder.
        place: String,
        /// The other run's checkpoint.
        folder: String,
    },
    /// A checkpoint is not what was written.
    #[error("{checkpoint}: damaged: {damage}")]
    Damaged {
        /// The checkpoint's folder.
        checkpoint: String,
        /// What is wrong.
        damage: Damage,
    },
    /// A later release of the program wrote it.
    #[error(
        "{file}: expected format version {expected} or older, got {got}; use the program that wrote it, or a newer one"
    )]
    Newer {
        /// The path or URL of `state.json`.
        file: String,
        /// The version that this program writes.
        expected: u64,
        /// The version that the file says.
        got: u64,
    },
    /// The checkpoint belongs to a run with other settings.
    #[error(
        "{checkpoint}: not a checkpoint of this run, {}",
        different(differences)
    )]
    OtherRun {
        /// The checkpoint's folder.
        checkpoint: String,
        /// Every difference.
        differences: Vec<Difference>,
    },
    /// The configuration is not a JSON object.
    #[error("the run's configuration: expected a JSON object, got {got}")]
    Config {
        /// What came.
        got: &'static str,
    },
    /// A number that a training cannot go on from.
    #[error(
        "step {step}: {what} is not finite (NaN or infinity); nothing was saved, the last good checkpoint is as it was; begin in another folder with a smaller --lr"
    )]
    NotFinite {
        /// The step that should have been saved.
        step: u64,
        /// A tensor's name, or another number's.
        what: String,
    },
    /// To keep no checkpoint means to lose the run.
    #[error("checkpoints to keep: expected at least 1, got 0")]
    KeepNone,
    /// A tensor that cannot be written, or a full disk.
    #[error(transparent)]
    Tensors(#[from] datasets::checkpoint::CheckpointError),
    /// The place refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What makes a checkpoint unusable.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It was never finished, or its removal was not.
    #[error("{file} is missing")]
    Missing {
        /// The file.
        file: &'static str,
    },
    /// A folder, a pipe or the like has the file's name.
    #[error("{file} is not a file")]
    NotAFile {
        /// The file.
        file: &'static str,
    },
    /// A file was cut short, or is longer than it was.
    #[error("{file}: expected {expected} bytes, got {got}")]
    Size {
        /// The file.
        file: &'static str,
        /// Its size when it was written.
        expected: u64,
        /// Its size now.
        got: u64,
    },
    /// A file has other content than it had.
    #[error("{file}: its content has changed (SHA-256 expected {expected}, got {got})")]
    Hash {
        /// The file.
        file: &'static str,
        /// Its hash when it was written.
        expected: String,
        /// Its hash now.
        got: String,
    },
    /// `state.json` is not what this program writes.
    #[error("{file}: expected {expected}")]
    Text {
        /// The file.
        file: &'static str,
        /// What should be there.
        expected: String,
    },
    /// A safetensors file with tensors that a checkpoint does not have.
    #[error("{file}: {problem}")]
    Tensors {
        /// The file.
        file: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// A line each.
fn lines(skipped: &[Skipped]) -> String {
    skipped.iter().fold(String::new(), |mut text, skipped| {
        let _ = write!(text, "\n  {skipped}");
        text
    })
}

/// The text of [`CheckpointError::OtherRun`]: how many, a line each, and what to do.
fn different(differences: &[Difference]) -> String {
    let count = differences.len();
    let plural = if count == 1 { "" } else { "s" };
    let mut text = format!("{count} difference{plural}:");
    for difference in differences {
        let _ = write!(text, "\n  {difference}");
    }
    text.push_str("\nresume with the checkpoint's settings, or choose another folder");
    text
}
