//! What a kind of measurement brings to the rounds that all kinds share.

use serde_json::{Map, Value};

/// One configuration that all its contenders run: a network for inference, a training.
pub trait Work {
    /// The measurement's name: `peers-resnet50-224-b8-f32`.
    fn measurement(&self) -> String;

    /// A heading for people.
    fn title(&self) -> String;

    /// Whether `--quick` runs it.
    fn in_quick_mode(&self) -> bool;

    /// Threads of each contender.
    fn threads(&self) -> usize;

    /// Everybody who takes part, ours first.
    fn contestants(&self) -> Vec<Contestant>;

    /// What the row of `contestant` says it ran.
    fn describe(&self, contestant: &Contestant) -> Map<String, Value>;

    /// Images of one sample.
    fn items_per_sample(&self) -> usize;

    /// One sample in words: `one batch of 8`.
    fn sample_in_words(&self) -> String;

    /// Arguments of the script's `prepare`, which writes the files that all contenders read.
    fn preparation(&self) -> Vec<String>;

    /// The name of the second of these files; the first is `weights.safetensors`.
    fn input_file(&self) -> &'static str;

    /// Arguments of our program that write a model file for all contenders, without the
    /// file's path; `None` if they need none.
    ///
    /// * `weights`: the file that the script has prepared, or the user's
    fn export(&self, _weights: &str) -> Option<Vec<String>> {
        None
    }

    /// The load message.
    fn load_message(&self, contestant: &Contestant, shared: &Shared) -> Value;

    /// The load message of the engine that the others must agree with.
    fn reference_message(&self, shared: &Shared) -> Value;

    /// The load message before the check of agreement, where it is another than the one
    /// before the rounds.
    fn check_message(&self, _contestant: &Contestant, _shared: &Shared) -> Option<Value> {
        None
    }

    /// Kind and message of the request for what has to agree.
    fn check_request(&self, shared: &Shared) -> (&'static str, Value);

    /// The numbers in the answer to that request; an error is the answer that was expected.
    fn check_answer(&self, answer: &Value) -> Result<Vec<f64>, &'static str>;

    /// Compares them with those of the reference.
    fn compare(&self, got: &[f64], reference: &[f64]) -> Agreement;
}

/// One contender: an engine with its settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Contestant {
    /// Row id: "openvino", "jax-scan".
    pub id: String,
    /// Name for people.
    pub label: String,
    /// The engine's name in the load message.
    pub engine: &'static str,
    /// Whether it is ours, run by the chapter's program.
    pub ours: bool,
    /// What its row says besides the engine, and a training's load message too.
    pub options: Map<String, Value>,
    /// Arguments of our program, after `worker`.
    pub arguments: Vec<&'static str>,
    /// Variables of its process.
    pub variables: Vec<(&'static str, &'static str)>,
}

impl Contestant {
    /// A contestant without settings of its own, named after its engine.
    pub fn new(engine: &'static str, label: &str, ours: bool) -> Self {
        Self {
            id: engine.to_owned(),
            label: label.to_owned(),
            engine,
            ours,
            options: Map::new(),
            arguments: Vec::new(),
            variables: Vec::new(),
        }
    }
}

/// The files that all contenders of one measurement read.
pub struct Shared {
    /// Safetensors with torchvision's names.
    pub weights: String,
    /// Images, and what belongs to them.
    pub input: String,
    /// The model file that our program has written, if the work has one.
    pub model: Option<String>,
}

/// How far a contender is from the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// For the row: name and value.
    pub metrics: Vec<(&'static str, f64)>,
    /// Why it does not agree; `None` if it does.
    pub fault: Option<String>,
}

/// Largest difference relative to the largest |reference|; infinite for another length or NaN.
pub fn relative_difference(got: &[f64], reference: &[f64]) -> f64 {
    if got.len() != reference.len() || got.iter().any(|value| value.is_nan()) {
        return f64::INFINITY;
    }
    let largest = reference.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let difference = got
        .iter()
        .zip(reference)
        .fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
    difference / largest.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_relative_to_the_largest() {
        assert_eq!(relative_difference(&[1.0, -4.0], &[1.0, -4.0]), 0.0);
        assert_eq!(relative_difference(&[2.0, -4.0], &[1.0, -4.0]), 0.25);
        assert_eq!(relative_difference(&[1.0], &[1.0, 2.0]), f64::INFINITY);
        assert_eq!(relative_difference(&[f64::NAN], &[1.0]), f64::INFINITY);
        assert!(relative_difference(&[1.0], &[0.0]) > 1.0);
    }
}
