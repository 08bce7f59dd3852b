//! Everything that a training needs to go on, as a folder of three files.
//!
//! ```text
//! step-00000012/
//!   model.safetensors      parameters and running statistics, torchvision's names and layouts
//!   optimizer.safetensors  the optimiser's state, under the parameters' names
//!   state.json             progress, configuration, losses; sizes and SHA-256 of the two others
//! ```
//!
//! `state.json` is written last and commits the checkpoint: a folder without it was never
//! finished. Whatever is read is compared with its hash before it is used, so that a damaged
//! checkpoint is recognised as a whole and the one before it can be taken.
//!
//! | file | idea |
//! | --- | --- |
//! | `state.rs` | what a checkpoint holds: plain data |
//! | `manifest.rs` | `state.json`: text and back, with its own hash |
//! | `tensors.rs` | tensors to safetensors and back |
//! | `save.rs` | a state becomes a folder |
//! | `load.rs` | a folder becomes a state; which folder is the newest good one |
//! | `differences.rs` | a checkpoint against the run that wants to go on from it |
//! | `error.rs` | what can be wrong |
//!
//! The model's file is one that chapter 1's program and PyTorch open as they stand: copy it, or
//! name it, and serve it.
//!
//! Nothing here knows of a device, a graph or a model: names, shapes and numbers go in and come
//! out. Which folder a run may write to, and how many checkpoints stay, is
//! [`crate::run_folder`]'s.

mod differences;
mod error;
mod load;
mod manifest;
mod save;
mod state;
mod tensors;

pub use differences::Difference;
pub use error::{CheckpointError, Damage};
pub(crate) use load::steps;
pub use load::{Loaded, Skipped, latest, load_latest};
pub use manifest::FORMAT_VERSION;
pub(crate) use save::{check_finite, publish_model, save};
pub use state::{EpochRecord, NamedTensor, Progress, TrainingState};

/// The parameters' file.
pub const MODEL_FILE: &str = "model.safetensors";
/// The optimiser's file.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// The file that commits a checkpoint.
pub const STATE_FILE: &str = "state.json";

/// A checkpoint's files, in the order in which they are written.
pub const FILES: [&str; 3] = [MODEL_FILE, OPTIMIZER_FILE, STATE_FILE];

/// The folder of a step: `step-` and at least eight digits.
pub fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// The step that a folder's name tells; none for folders that are no checkpoints.
pub fn step_of(folder: &str) -> Option<u64> {
    let step = folder.strip_prefix("step-")?.parse().ok()?;
    // `step-+1` and `step-12` are not names that we give.
    (folder_name(step) == folder).then_some(step)
}
