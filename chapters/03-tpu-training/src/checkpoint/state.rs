//! What a checkpoint holds: plain data.

use datasets::checkpoint::Description;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A tensor with its name, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Its name, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// Its shape; empty for a scalar.
    pub dims: Vec<usize>,
    /// Its elements in row-major order; as many as the shape says.
    pub data: Vec<f32>,
}

/// How far a run has come.
///
/// There is no state of a generator here: the order of the rows is a function of the seed and
/// the epoch ([`crate::order`]), the augmentation one of the seed and the step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs that are complete, which is also the index of the epoch in progress.
    pub epoch: u64,
    /// Steps since the run began; it names the checkpoint's folder.
    pub step: u64,
    /// Steps of the epoch in progress that are done; 0 between epochs.
    pub step_in_epoch: u64,
    /// The run's seed.
    pub seed: u64,
    /// The loss of each of those steps, in nats, so that the epoch's mean counts them.
    pub epoch_losses: Vec<f32>,
    /// Seconds that those steps took, so that the epoch's time counts them.
    pub epoch_seconds: f64,
}

/// What came out of an epoch that is complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Its number, from 1.
    pub epoch: u64,
    /// Steps since the run began, at its end.
    pub step: u64,
    /// Mean training loss over its images, in nats.
    pub loss: f64,
    /// Share of held-out images that were classified rightly, 0 to 1, if it was measured.
    pub accuracy: Option<f64>,
    /// The learning rate of its last step.
    pub learning_rate: f64,
    /// Images that it trained on.
    pub images: u64,
    /// Its duration in seconds, without the measurement of the accuracy.
    pub seconds: f64,
}

/// Everything that a training needs to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingState {
    /// Parameters and running statistics under torchvision's names, convolutions as
    /// `[out, in, height, width]`.
    pub model: Vec<NamedTensor>,
    /// The optimiser's state, such as `layer1.0.conv1.weight.momentum`.
    pub optimizer: Vec<NamedTensor>,
    /// How far the run has come.
    pub progress: Progress,
    /// What the model is for; stands in its file.
    pub description: Description,
    /// The run's configuration, a JSON object: what [`Loaded::check_config`] compares.
    ///
    /// [`Loaded::check_config`]: super::Loaded::check_config
    pub config: Value,
    /// The epochs that are complete.
    pub history: Vec<EpochRecord>,
}
