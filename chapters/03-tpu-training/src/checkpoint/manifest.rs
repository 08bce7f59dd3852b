//! `state.json`: everything but the tensors, and what commits a checkpoint.
//!
//! The file is one JSON object. Its first line holds the format's version and the SHA-256 of all
//! lines after it:
//!
//! ```text
//! {"format_version":2,"sha256":"0f3a...",
//! "written_by":"tpu-training 0.1.0",
//! ...
//! ```
//!
//! That line is a promise to every later version: this program can tell that a file is newer
//! than itself, and not merely damaged, whatever the lines after the first have become.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::Damage;
use super::state::{EpochRecord, Progress};
use super::{MODEL_FILE, OPTIMIZER_FILE, STATE_FILE};

/// The version of the folder's format that this program writes, and the newest that it reads.
///
/// It grows when a reader of the version before would go wrong. Version 2 has the data's identity
/// in the configuration and the time of the epoch in progress. Version 1 is not read: it was never
/// released, and cannot tell whether a run goes on with its own data.
pub const FORMAT_VERSION: u64 = 2;

/// The size and the hash of a file when it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// The content of `state.json`, but for its first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The program and its version, for people.
    pub written_by: String,
    /// The seals of the two other files, by their names.
    pub files: BTreeMap<String, Seal>,
    pub progress: Progress,
    pub config: Value,
    pub history: Vec<EpochRecord>,
}

/// The first line, as an object of its own.
#[derive(Serialize, Deserialize)]
struct FirstLine {
    format_version: u64,
    sha256: String,
}

/// Why a text is no manifest.
pub(super) enum Unreadable {
    /// It is not what was written.
    Damaged(Damage),
    /// It has a later version.
    Newer { got: u64 },
}

impl Seal {
    /// Seals a file's content.
    pub fn of(content: &[u8]) -> Self {
        Self {
            bytes: content.len() as u64,
            sha256: sha256(content),
        }
    }

    /// Compares a file's content with what it was.
    ///
    /// # Errors
    /// [`Damage::Size`] or [`Damage::Hash`].
    pub fn check(&self, file: &'static str, content: &[u8]) -> Result<(), Damage> {
        let got = content.len() as u64;
        if got != self.bytes {
            return Err(Damage::Size {
                file,
                expected: self.bytes,
                got,
            });
        }
        let got = sha256(content);
        if got != self.sha256 {
            return Err(Damage::Hash {
                file,
                expected: self.sha256.clone(),
                got,
            });
        }
        Ok(())
    }
}

impl Manifest {
    /// The file's text.
    ///
    /// # Errors
    /// Never for numbers that are finite: JSON has no others.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        let text = serde_json::to_string_pretty(self)?;
        // `{` belongs to the first line, and the rest begins after the newline that follows it.
        let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
        let rest = format!("{rest}\n");
        let first = serde_json::to_string(&FirstLine {
            format_version: FORMAT_VERSION,
            sha256: sha256(rest.as_bytes()),
        })?;
        let first = first.trim_end_matches('}');
        Ok(format!("{first},\n{rest}"))
    }

    /// Reads the file's text, after its first line and its hash are checked.
    pub fn parse(content: &[u8]) -> Result<Self, Unreadable> {
        let damaged = |expected: &str| {
            Unreadable::Damaged(Damage::Text {
                file: STATE_FILE,
                expected: expected.to_owned(),
            })
        };
        let first_line = "a first line with format_version and sha256";
        let Some(end) = content.iter().position(|byte| *byte == b'\n') else {
            return Err(damaged(first_line));
        };
        let (first, rest) = (&content[..end], &content[end + 1..]);
        let FirstLine {
            format_version,
            sha256: expected,
        } = first
            .strip_suffix(b",")
            .map(|first| [first, b"}"].concat())
            .and_then(|first| serde_json::from_slice(&first).ok())
            .ok_or_else(|| damaged(first_line))?;
        if format_version > FORMAT_VERSION {
            return Err(Unreadable::Newer {
                got: format_version,
            });
        }
        if format_version != FORMAT_VERSION {
            return Err(damaged(&format!(
                "format_version {FORMAT_VERSION}, got {format_version}"
            )));
        }
        let got = sha256(rest);
        if got != expected {
            return Err(Unreadable::Damaged(Damage::Hash {
                file: STATE_FILE,
                expected,
                got,
            }));
        }
        // The hash was right: what fails now was written wrongly, not damaged.
        let manifest: Self = serde_json::from_slice(&[b"{", rest].concat())
            .map_err(|error| damaged(&format!("a training's state: {error}")))?;
        for file in [MODEL_FILE, OPTIMIZER_FILE] {
            if !manifest.files.contains_key(file) {
                return Err(damaged(&format!("the size and SHA-256 of {file}")));
            }
        }
        Ok(manifest)
    }
}

/// SHA-256, 64 lower-case hexadecimal digits.
fn sha256(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
