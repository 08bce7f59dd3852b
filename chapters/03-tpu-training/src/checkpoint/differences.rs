//! A checkpoint against the run that wants to go on from it: every difference, not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::error::CheckpointError;
use super::state::NamedTensor;

/// Something in which a checkpoint is not this run's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// A setting, such as `optimizer`, or a tensor of the model or the optimiser.
    pub what: String,
    /// What this run has; `nothing` if it lacks it.
    pub expected: String,
    /// What the checkpoint has; `nothing` if it lacks it.
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            expected,
            got,
        } = self;
        write!(formatter, "{what}: expected {expected}, got {got}")
    }
}

/// What one side lacks.
const NOTHING: &str = "nothing";

/// The settings in which two configurations differ, in alphabetical order.
///
/// * `may_change`: settings of the top level that are not compared
///
/// # Errors
/// [`CheckpointError::Config`] if this run's is not an object. A checkpoint's that is none
/// differs in every setting.
pub(super) fn in_config(
    now: &Value,
    saved: &Value,
    may_change: &[&str],
) -> Result<Vec<Difference>, CheckpointError> {
    let Value::Object(settings) = now else {
        return Err(CheckpointError::Config { got: kind(now) });
    };
    let none = serde_json::Map::new();
    let saved = saved.as_object().unwrap_or(&none);
    let names: BTreeSet<&String> = settings.keys().chain(saved.keys()).collect();
    let mut differences = Vec::new();
    for name in names {
        if !may_change.contains(&name.as_str()) {
            compare(name, settings.get(name), saved.get(name), &mut differences);
        }
    }
    Ok(differences)
}

/// Adds the differences below one setting; objects are compared setting by setting.
fn compare(name: &str, now: Option<&Value>, saved: Option<&Value>, into: &mut Vec<Difference>) {
    if now == saved {
        return;
    }
    if let (Some(Value::Object(now)), Some(Value::Object(saved))) = (now, saved) {
        let names: BTreeSet<&String> = now.keys().chain(saved.keys()).collect();
        for inner in names {
            let name = format!("{name}.{inner}");
            compare(&name, now.get(inner), saved.get(inner), into);
        }
        return;
    }
    let text = |value: Option<&Value>| value.map_or_else(|| NOTHING.to_owned(), Value::to_string);
    into.push(Difference {
        what: name.to_owned(),
        expected: text(now),
        got: text(saved),
    });
}

/// Puts tensors into the order that a run has them in; returns the differences if they are not
/// the same tensors, in alphabetical order.
///
/// * `which`: `model` or `optimizer`, for the differences
/// * `expected`: name and shape of each tensor of this run
pub(super) fn arrange(
    which: &str,
    tensors: &mut Vec<NamedTensor>,
    expected: &[(String, Vec<usize>)],
) -> Vec<Difference> {
    let mut got: BTreeMap<String, NamedTensor> = std::mem::take(tensors)
        .into_iter()
        .map(|tensor| (tensor.name.clone(), tensor))
        .collect();
    let text = |dims: Option<&[usize]>| match dims {
        Some(dims) => format!("f32 {dims:?}"),
        None => NOTHING.to_owned(),
    };
    let mut differences = BTreeMap::new();
    let mut differs = |name: &str, expected: Option<&[usize]>, got: Option<&[usize]>| {
        let difference = Difference {
            // Names come from a file: quoted, so that they cannot steer a terminal.
            what: format!("{which} tensor {name:?}"),
            expected: text(expected),
            got: text(got),
        };
        differences.insert(name.to_owned(), difference);
    };
    for (name, dims) in expected {
        match got.remove(name) {
            Some(tensor) if tensor.dims == *dims => tensors.push(tensor),
            Some(tensor) => differs(name, Some(dims), Some(&tensor.dims)),
            None => differs(name, Some(dims), None),
        }
    }
    for (name, tensor) in &got {
        differs(name, None, Some(&tensor.dims));
    }
    differences.into_values().collect()
}

/// The kind of a JSON value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
