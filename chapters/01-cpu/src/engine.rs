//! What the pipeline asks of a model: load once, then run batches. Nothing
//! here knows libtorch, so that other engines can join behind the same trait.

use std::path::PathBuf;

use thiserror::Error;

/// A batch of normalised images on the host.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Pixels, NCHW, f32.
    pub pixels: &'a [f32],
    /// `[batch, channels, height, width]`.
    pub shape: [usize; 4],
}

/// Unnormalised class scores of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    /// `[batch, classes]`, row-major.
    pub values: Vec<f32>,
    /// Scores of one image.
    pub classes: usize,
}

impl Logits {
    /// The scores of each image, in the order of the batch.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.classes)
    }
}

/// Why a batch gave no logits.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The batch is of another shape than the model takes.
    #[error("expected images of {expected:?} (channels, height, width), got {got:?}")]
    Shape {
        /// `[channels, height, width]`.
        expected: [usize; 3],
        /// `[channels, height, width]`.
        got: [usize; 3],
    },
    /// The batch does not fit into the device's memory.
    #[error(
        "{engine}: no memory for a batch of {images}: {message}; give a smaller --batch, or \
         --shrink-on-oom"
    )]
    OutOfMemory {
        /// Name of the library.
        engine: &'static str,
        /// Images in the batch.
        images: usize,
        /// First line of what it said.
        message: String,
    },
    /// The device stopped working, or another program took it away.
    #[error(
        "{engine}: the device failed: {message}; see what `nvidia-smi` and the kernel's log say \
         of it, then run again"
    )]
    DeviceLost {
        /// Name of the library.
        engine: &'static str,
        /// First line of what it said.
        message: String,
    },
    /// The library behind the engine refused.
    #[error("{engine}: {message}")]
    Library {
        /// Name of the library.
        engine: &'static str,
        /// First line of what it said.
        message: String,
    },
}

/// Why no engine could be made.
#[derive(Debug, Error)]
pub enum SetupError {
    /// Its library is missing or of the wrong version, or cannot do this here.
    #[error("{engine} is not available: {why}; {remedy}")]
    Unavailable {
        /// Name of the library.
        engine: &'static str,
        /// What is missing, and where it was looked for.
        why: String,
        /// What to type.
        remedy: String,
    },
    /// The library refuses the model file.
    #[error("{engine} cannot open {}: {why}; expected {expected}", path.display())]
    Model {
        /// Name of the library.
        engine: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What would do.
        expected: String,
    },
}

// ANCHOR: trait
/// A model that was loaded and waits for batches.
pub trait Engine: Send {
    /// Runs one batch and waits for its logits.
    ///
    /// # Errors
    /// [`EngineError`] if the shape does not fit or the library refuses.
    fn infer(&mut self, batch: Batch) -> Result<Logits, EngineError>;

    /// Shape of one image: `[channels, height, width]`.
    fn image_shape(&self) -> [usize; 3];
}
// ANCHOR_END: trait
