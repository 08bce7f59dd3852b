//! Named tensors: read from a checkpoint, or made by a seed.

use std::collections::BTreeMap;

use datasets::checkpoint::{Checkpoint, CheckpointError};
use tch::{Kind, Tensor};
use thiserror::Error;

use super::{config::Config, seeded};

/// Why a network cannot be built from these tensors.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// No tensor of that name.
    #[error("no tensor {0:?} among the weights")]
    Missing(String),
    /// A tensor of another shape.
    #[error("tensor {name:?}: expected shape {expected:?}, got {got:?}")]
    Shape {
        /// torchvision's name.
        name: String,
        /// What the architecture wants.
        expected: Vec<usize>,
        /// What the weights hold.
        got: Vec<usize>,
    },
    /// The checkpoint is of another network.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// libtorch refused.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

/// Tensors under torchvision's names, f32, dense, NCHW.
#[derive(Debug, Default)]
pub struct Weights(BTreeMap<String, Tensor>);

impl Weights {
    /// Takes the tensors of a checkpoint, after every name, shape and dtype
    /// was checked.
    ///
    /// # Errors
    /// One error that lists all that differs.
    pub fn from_checkpoint(config: &Config, checkpoint: &Checkpoint) -> Result<Self, WeightsError> {
        let specs = config.specs();
        checkpoint.check(&specs)?;
        let mut tensors = BTreeMap::new();
        for spec in specs.iter().filter(|s| !s.optional) {
            let view = checkpoint
                .tensor(&spec.name)
                .ok_or_else(|| WeightsError::Missing(spec.name.clone()))?;
            let shape: Vec<i64> = spec.shape.iter().map(|&n| n as i64).collect();
            let tensor = Tensor::f_from_data_size(view.bytes, &shape, Kind::Float)?;
            tensors.insert(spec.name.clone(), tensor);
        }
        Ok(Weights(tensors))
    }

    /// Tensors from a seed, the same on every machine and in the peers'
    /// scripts: for timing and for comparing engines, where the values matter
    /// less than that they agree. [`seeded`] has the recipe.
    ///
    /// # Errors
    /// libtorch's.
    pub fn seeded(config: &Config, seed: u32) -> Result<Self, WeightsError> {
        let mut tensors = BTreeMap::new();
        for spec in config.specs().iter().filter(|s| !s.optional) {
            let values = seeded::tensor(seed, &spec.name, &spec.shape);
            let shape: Vec<i64> = spec.shape.iter().map(|&n| n as i64).collect();
            let tensor = Tensor::f_from_slice(&values)?.f_reshape(shape)?;
            tensors.insert(spec.name.clone(), tensor);
        }
        Ok(Weights(tensors))
    }

    /// Tensors as they are, for a trainer that makes its own.
    pub fn from_tensors(tensors: BTreeMap<String, Tensor>) -> Self {
        Weights(tensors)
    }

    /// All tensors by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensor of that name, sharing its storage.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] or [`WeightsError::Shape`].
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, WeightsError> {
        let tensor = self
            .0
            .get(name)
            .ok_or_else(|| WeightsError::Missing(name.into()))?;
        let got: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        if got != shape {
            return Err(WeightsError::Shape {
                name: name.into(),
                expected: shape.to_vec(),
                got,
            });
        }
        Ok(tensor.shallow_clone())
    }
}
