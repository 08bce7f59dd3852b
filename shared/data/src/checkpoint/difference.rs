//! A file's tensors against those that a model needs: every difference, not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use safetensors::Dtype;

use super::Checkpoint;
use super::header::shortened;

/// A tensor that a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its name, such as `layer1.0.conv1.weight`.
    pub name: String,
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// The type of an element.
    pub dtype: Dtype,
    /// Whether a file may lack it. What is there must still have the shape and type.
    pub optional: bool,
}

/// A difference between a file and a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The model needs it, the file lacks it.
    Missing {
        /// The tensor that is needed.
        expected: Spec,
    },
    /// The file has it, the model does not.
    Unexpected {
        /// The tensor.
        name: String,
        /// Its shape in the file.
        shape: Vec<usize>,
        /// Its type in the file.
        dtype: Dtype,
    },
    /// Both have it, with another shape or type.
    Different {
        /// The tensor that is needed.
        expected: Spec,
        /// Its shape in the file.
        shape: Vec<usize>,
        /// Its type in the file.
        dtype: Dtype,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        // Names come from the file: quoted, so that they cannot steer a terminal.
        match self {
            Self::Missing {
                expected: Spec {
                    name, shape, dtype, ..
                },
            } => {
                write!(formatter, "{name:?}: expected {dtype} {shape:?}, missing")
            }
            Self::Unexpected { name, shape, dtype } => {
                let name = shortened(name);
                write!(
                    formatter,
                    "{name:?}: expected no such tensor, got {dtype} {shape:?}"
                )
            }
            Self::Different {
                expected,
                shape,
                dtype,
            } => write!(
                formatter,
                "{:?}: expected {} {:?}, got {dtype} {shape:?}",
                expected.name, expected.dtype, expected.shape
            ),
        }
    }
}

/// All differences, in alphabetical order of the names.
pub(super) fn between(checkpoint: &Checkpoint, expected: &[Spec]) -> Vec<Problem> {
    let specs: BTreeMap<&str, &Spec> = expected
        .iter()
        .map(|spec| (spec.name.as_str(), spec))
        .collect();
    let names: BTreeSet<&str> = specs.keys().copied().chain(checkpoint.names()).collect();
    let difference = |name: &str| match (specs.get(name), checkpoint.tensor(name)) {
        (Some(spec), Some(got)) if got.shape == spec.shape && got.dtype == spec.dtype => None,
        (Some(spec), Some(got)) => Some(Problem::Different {
            expected: (*spec).clone(),
            shape: got.shape.to_vec(),
            dtype: got.dtype,
        }),
        (Some(spec), None) => {
            (!spec.optional && !is_batch_counter(name)).then(|| Problem::Missing {
                expected: (*spec).clone(),
            })
        }
        (None, Some(got)) => (!is_batch_counter(name)).then(|| Problem::Unexpected {
            name: name.to_owned(),
            shape: got.shape.to_vec(),
            dtype: got.dtype,
        }),
        (None, None) => None,
    };
    names.into_iter().filter_map(difference).collect()
}

/// Whether this is batch normalisation's counter of training batches. PyTorch adds it to every
/// file since 0.4.1; it has no part in the output, and files from elsewhere lack it.
fn is_batch_counter(name: &str) -> bool {
    name.rsplit('.').next() == Some("num_batches_tracked")
}
