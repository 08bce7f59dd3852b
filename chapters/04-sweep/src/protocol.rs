//! What a worker is asked, and what it answers: one JSON object a line.
//!
//! | request | meaning |
//! | --- | --- |
//! | `{"id", "data", "config", "until"?, "test"?}` | train this run, or go on with it |
//! | `{"stop": true}` | save the run in progress, and answer no more requests |
//!
//! | answer | when |
//! | --- | --- |
//! | `{"done": {...}}` | the run is trained as far as was asked |
//! | `{"failed": {"id", "kind", "message"}}` | it cannot be; the worker goes on |
//! | `{"stopped": {"id"}}` | it was stopped, and saved |
//! | `{"ready": {...}}`, `{"compiled": {...}}`, `{"epoch": {...}}` | in between, with `--progress` |
//!
//! A request is answered by exactly one of the first three.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::run::Run;

/// A run, and how far it is to be trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// Pause after so many epochs in all; the last one if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<usize>,
    /// Evaluate the test rows, too: for the run that was chosen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
}

/// A line to a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// Train.
    Train(Box<Request>),
    /// Save, and end.
    Stop,
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// What was expected, and the id if the line has one.
    pub fn parse(line: &[u8]) -> Result<Self, Failed> {
        let refuse = |id: Option<&str>, problem: String| Failed {
            id: id.unwrap_or_default().chars().take(128).collect(),
            kind: Kind::Refused,
            message: problem,
        };
        let value: Value = serde_json::from_slice(line)
            .map_err(|error| refuse(None, format!("expected a JSON object a line: {error}")))?;
        if value == serde_json::json!({ "stop": true }) {
            return Ok(Line::Stop);
        }
        let id = value.get("id").and_then(Value::as_str);
        let request = Request::deserialize(&value).map_err(|error| {
            refuse(
                id,
                format!("expected a run, as `parallel-training plan` prints them: {error}"),
            )
        })?;
        if !request.run.is_genuine() {
            let run = Run::new(request.run.data, request.run.config);
            let problem = format!(
                "the id is not that of the configuration; expected {}",
                run.id
            );
            return Err(refuse(id, problem));
        }
        Ok(Line::Train(Box::new(request)))
    }
}

/// A line from a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It has its device, and waits.
    Ready(Ready),
    /// The run's programs are compiled.
    Compiled(Compiled),
    /// An epoch is over and saved.
    Epoch(EpochDone),
    /// The run is trained as far as was asked.
    Done(Box<Trained>),
    /// It cannot be trained.
    Failed(Failed),
    /// It was stopped, and saved.
    Stopped {
        /// The run.
        id: String,
    },
}

/// A worker's device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// `cpu`, `cuda:0`, `tpu`.
    pub device: String,
    /// One line: what was chosen, and why.
    pub reason: String,
    /// The device's memory in bytes, where the plugin says.
    pub memory_bytes: Option<u64>,
    /// Names and versions of plugin and API.
    pub versions: BTreeMap<String, String>,
}

/// What compiling took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compiled {
    /// The run.
    pub id: String,
    /// Seconds in the compiler.
    pub seconds: f64,
    /// Memory that the program takes on the device, in bytes, by the compiler's estimate.
    pub device_bytes: Option<u64>,
}

/// An epoch's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochDone {
    /// The run.
    pub id: String,
    /// Epochs that are complete.
    pub epoch: usize,
    /// Of how many.
    pub of: usize,
    /// Mean training loss in nats.
    pub loss: f64,
    /// Share of right answers on the validation rows.
    pub validation_accuracy: f64,
}

/// How good a network is on some rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean loss in nats.
    pub loss: f64,
    /// Share of right answers.
    pub accuracy: f64,
    /// Rows.
    pub images: usize,
}

/// A run that is trained as far as was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// The run.
    pub id: String,
    /// Epochs that are complete.
    pub epochs: usize,
    /// On the validation rows, after the last of them.
    pub validation: Score,
    /// On the test rows, where that was asked for.
    pub test: Option<Score>,
    /// Mean training loss of the last epoch, in nats.
    pub training_loss: f64,
    /// Images in an epoch's steps.
    pub images_per_epoch: usize,
    /// Seconds of each epoch's steps, also of those before a resume.
    pub epoch_seconds: Vec<f64>,
    /// Seconds in the compiler for this request; 0 where an earlier run had the same programs.
    pub compile_seconds: f64,
    /// Seconds from the request to this answer.
    pub seconds: f64,
    /// Seconds that the worker had waited for the request.
    pub waited_seconds: f64,
    /// Memory that the program takes on the device, in bytes, by the compiler's estimate.
    pub device_bytes: Option<u64>,
    /// The published model's file or URL, where the run is complete.
    pub model: Option<String>,
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The run; empty if the request did not say.
    pub id: String,
    /// What kind of failure: whether to try again.
    pub kind: Kind,
    /// What failed, on what value, what to do next.
    pub message: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The loss is no number: it would come to the same again.
    Diverged,
    /// No memory, on the device or the host.
    OutOfMemory,
    /// The request, or what lies in the run's folder, cannot be worked with.
    Refused,
    /// The worker ended in the middle of it.
    Crashed,
    /// The worker was silent for too long, and was ended.
    Silent,
    /// Anything else: the disk, the device.
    Other,
}

impl Kind {
    /// Whether another attempt may come to another end.
    pub fn may_pass(self) -> bool {
        !matches!(self, Kind::Diverged | Kind::Refused)
    }
}

#[cfg(test)]
mod tests {
    use tpu_training::{cli::Data, config::TrainConfig};

    use super::*;

    fn request() -> Request {
        Request {
            run: Run::new(Data::Digits, TrainConfig::digits()),
            until: None,
            test: false,
        }
    }

    #[test]
    fn a_request_survives_its_line() {
        let request = request();
        let line = serde_json::to_vec(&request).unwrap();
        assert_eq!(Line::parse(&line).unwrap(), Line::Train(Box::new(request)));
        assert_eq!(Line::parse(br#"{"stop":true}"#).unwrap(), Line::Stop);
    }

    #[test]
    fn a_bad_line_is_refused_with_its_id() {
        let mut forged = request();
        forged.run.id = "../elsewhere".into();
        let forged = serde_json::to_string(&forged).unwrap();
        for (line, id, part) in [
            ("", "", "a JSON object a line"),
            ("[1]", "", "expected a run"),
            ("\u{0}", "", "a JSON object a line"),
            (r#"{"id":"a"}"#, "a", "missing field"),
            (&forged, "../elsewhere", "expected resnet18-b64-lr0.1-"),
        ] {
            let failed = Line::parse(line.as_bytes()).unwrap_err();
            assert_eq!((failed.id.as_str(), failed.kind), (id, Kind::Refused));
            assert!(failed.message.contains(part), "{line}: {}", failed.message);
        }
    }
}
