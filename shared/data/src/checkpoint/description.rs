//! What the weights are for, in the file's own metadata.
//!
//! A program that finds a checkpoint need not be told which model it belongs to. The metadata of
//! a safetensors file maps strings to strings, so numbers stand in decimal and lists as JSON.
//! Files from elsewhere have none of these keys, hence every field is an `Option`.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::error::{ContentError, FormatError};
use super::header::shortened;

/// What a checkpoint is for. A field is `None` where the file does not say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Description {
    /// Architecture: `resnet18`, `resnet34`, `resnet50`.
    pub arch: Option<String>,
    /// Channels of the first stage: 64 in torchvision's ResNets, fewer in a narrow one.
    pub width: Option<usize>,
    /// First layers: `imagenet` (7x7 convolution, stride 2, max-pool) or `small` (3x3, stride 1).
    pub stem: Option<String>,
    /// Channels of an input image: 1 for grey, 3 for RGB.
    pub channels: Option<usize>,
    /// How many classes the last layer tells apart.
    pub classes: Option<usize>,
    /// Mean of each channel that the input is normalised by; pixels are scaled to 0..1 before.
    pub mean: Option<Vec<f32>>,
    /// Standard deviation of each channel, on the same scale.
    pub std: Option<Vec<f32>>,
    /// Names of the classes, in the order of the logits.
    pub labels: Option<Vec<String>>,
}

/// The metadata keys that belong to the description.
pub(super) const KEYS: [&str; 8] = [
    "arch", "width", "stem", "channels", "classes", "mean", "std", "labels",
];

/// A value that the description cannot hold.
struct Unsound {
    key: &'static str,
    expected: String,
    got: String,
}

impl Description {
    /// Takes the description out of a file's metadata; returns it and the other entries.
    pub(super) fn from_metadata(
        mut entries: HashMap<String, String>,
    ) -> Result<(Self, BTreeMap<String, String>), FormatError> {
        let mut take = |key: &'static str| entries.remove(key).map(|text| (key, text));
        let description = Self {
            arch: take("arch").map(|(_, text)| text),
            width: take("width").map(count).transpose()?,
            stem: take("stem").map(|(_, text)| text),
            channels: take("channels").map(count).transpose()?,
            classes: take("classes").map(count).transpose()?,
            mean: take("mean")
                .map(|entry| json(entry, "a JSON list of numbers"))
                .transpose()?,
            std: take("std")
                .map(|entry| json(entry, "a JSON list of numbers"))
                .transpose()?,
            labels: take("labels")
                .map(|entry| json(entry, "a JSON list of names"))
                .transpose()?,
        };
        description
            .sound()
            .map_err(|Unsound { key, expected, got }| FormatError::Description {
                key,
                expected,
                got,
            })?;
        Ok((description, entries.into_iter().collect()))
    }

    /// The description as metadata entries.
    pub(super) fn to_metadata(&self) -> Result<BTreeMap<String, String>, ContentError> {
        self.sound()
            .map_err(|Unsound { key, expected, got }| ContentError::Description {
                key,
                expected,
                got,
            })?;
        let list = |values: &Vec<f32>| serde_json::json!(values).to_string();
        let entries = [
            ("arch", self.arch.clone()),
            ("width", self.width.map(|n| n.to_string())),
            ("stem", self.stem.clone()),
            ("channels", self.channels.map(|n| n.to_string())),
            ("classes", self.classes.map(|n| n.to_string())),
            ("mean", self.mean.as_ref().map(list)),
            ("std", self.std.as_ref().map(list)),
            (
                "labels",
                self.labels
                    .as_ref()
                    .map(|names| serde_json::json!(names).to_string()),
            ),
        ];
        Ok(entries
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect())
    }

    /// One line for people, such as `resnet18, width 16, stem small, 10 classes`; empty if the
    /// file says nothing.
    pub fn summary(&self) -> String {
        let quoted = |text: &String| text.escape_debug().to_string();
        let parts = [
            self.arch.as_ref().map(quoted),
            self.width.map(|n| format!("width {n}")),
            self.stem
                .as_ref()
                .map(|stem| format!("stem {}", quoted(stem))),
            self.channels.map(|n| format!("{n} channels")),
            self.classes.map(|n| format!("{n} classes")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// Do the fields agree with each other, and can the numbers be computed with?
    fn sound(&self) -> Result<(), Unsound> {
        let counts = [
            ("width", self.width),
            ("channels", self.channels),
            ("classes", self.classes),
        ];
        for (key, count) in counts {
            if count == Some(0) {
                return unsound(key, "at least 1", "0");
            }
        }
        for (key, values) in [("mean", &self.mean), ("std", &self.std)] {
            let Some(values) = values else { continue };
            if let Some(channels) = self.channels
                && values.len() != channels
            {
                let expected = format!("a number for each of {channels} channels");
                return unsound(key, &expected, &values.len().to_string());
            }
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return unsound(key, "finite numbers", &value.to_string());
            }
        }
        if let Some(value) = self.std.iter().flatten().find(|value| **value <= 0.0) {
            return unsound("std", "numbers above 0, to divide by", &value.to_string());
        }
        if let (Some(classes), Some(labels)) = (self.classes, &self.labels)
            && labels.len() != classes
        {
            let expected = format!("a name for each of {classes} classes");
            return unsound("labels", &expected, &labels.len().to_string());
        }
        Ok(())
    }
}

fn unsound(key: &'static str, expected: &str, got: &str) -> Result<(), Unsound> {
    Err(Unsound {
        key,
        expected: expected.to_owned(),
        got: got.to_owned(),
    })
}

/// A whole number in decimal.
fn count((key, text): (&'static str, String)) -> Result<usize, FormatError> {
    text.parse().map_err(|_| FormatError::Description {
        key,
        expected: String::from("a whole number"),
        got: shortened(&text),
    })
}

/// A value in JSON.
fn json<T: serde::de::DeserializeOwned>(
    (key, text): (&'static str, String),
    expected: &str,
) -> Result<T, FormatError> {
    serde_json::from_str(&text).map_err(|_| FormatError::Description {
        key,
        expected: expected.to_owned(),
        got: shortened(&text),
    })
}
