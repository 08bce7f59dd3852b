//! Result files: one JSON file a run, written by the program and never by hand.
//!
//! The shape is [`ResultFile`]; `shared/result.schema.json` says the same for
//! other languages. Reading and writing both check, so that a broken file is
//! neither made nor believed.

mod check;
mod json;
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::checkout::{self, checkout_root};
use crate::environment::Environment;
use crate::privacy::Places;
use crate::timing::Samples;

#[cfg(test)]
pub(crate) use check::is_name;
pub use store::{local_path, published_dir};

/// Version of the shape. A reader refuses another one.
pub const SCHEMA_VERSION: u32 = 1;

/// Largest result file that is read, in bytes. A run of a thousand samples for a
/// hundred rows takes about 2 MB.
pub const MAX_BYTES: u64 = 64 << 20;

/// One run of one measurement: what was run, on what, and every sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultFile {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Folder name of the chapter: "01-cpu".
    pub chapter: String,
    /// Name of the measurement, and of its file: "ladder".
    pub measurement: String,
    /// A heading for people.
    pub title: Option<String>,
    /// When the run began: `2025-11-21T10:58:00Z`.
    pub created_utc: String,
    /// The program's name and its arguments, without absolute paths.
    pub command: Vec<String>,
    /// The commit of the checkout, as git's full object name.
    pub commit: Option<String>,
    /// Whether tracked files differed from the commit.
    pub dirty: Option<bool>,
    /// Files and folders that the figures depend on, relative to the checkout: if
    /// one has changed since `commit`, the file is stale.
    pub depends_on: Vec<String>,
    /// The machine and its software.
    pub environment: Environment,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// The figures. Ids are unique in the file.
    pub rows: Vec<Row>,
}

/// One configuration that was run, or that could not be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Name by which the book asks for the row, unique in the file.
    pub id: String,
    /// Name for people.
    pub label: String,
    /// What was run: engine, arch, image, batch, dtype, threads, ... Values are
    /// strings, numbers, booleans or null.
    pub workload: serde_json::Map<String, serde_json::Value>,
    /// How it ended.
    pub status: Status,
    /// Why it failed or was skipped: required unless `ok`.
    pub reason: Option<String>,
    /// Raw times.
    pub samples: Option<Samples>,
    /// Figures other than times, with the unit in the name:
    /// `accuracy`, `images_per_second_pipeline`, `peak_rss_bytes`.
    pub metrics: BTreeMap<String, f64>,
}

/// How a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It ran; the row has samples or metrics.
    Ok,
    /// It was tried and failed.
    Failed,
    /// It was not tried here.
    Skipped,
}

/// What is wrong with a result file, or with writing it.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried: "read", "write", "create folder".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file stands where a folder is needed.
    #[error(
        "cannot create folder {}: {} is a file; remove it or choose another folder with --out DIR",
        folder.display(), file.display()
    )]
    FileInTheWay {
        /// The folder that was to be made.
        folder: PathBuf,
        /// The file that is there.
        file: PathBuf,
    },
    /// A folder, a pipe or a device stands where the result file belongs.
    #[error("{} is not a regular file; a result file is a JSON file such as ladder.json", path.display())]
    NotAFile {
        /// What is not a file.
        path: PathBuf,
    },
    /// More than [`MAX_BYTES`].
    #[error("{bytes} bytes or more; a result file has at most {MAX_BYTES}")]
    TooLarge {
        /// Its size, as far as it was looked at.
        bytes: u64,
    },
    /// Not JSON, or JSON of another shape.
    #[error("not JSON of a result file's shape (shared/result.schema.json): {0}")]
    Json(#[from] serde_json::Error),
    /// Made by another version of the project.
    #[error(
        "expected schema_version {SCHEMA_VERSION}, got {got}; {}",
        if *newer { "update this checkout" } else { "measure again with this checkout" }
    )]
    Version {
        /// The version it says, or what stands in its place.
        got: String,
        /// Whether it is a later one than ours.
        newer: bool,
    },
    /// The right shape with wrong values. Lists every place, with expected and got.
    #[error("{}", list(problems))]
    Invalid {
        /// One line a problem: place, expected, got.
        problems: Vec<String>,
    },
    /// Any of the above, of a file that was read.
    #[error("{} is not a usable result file: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ResultError>,
    },
}

fn hint(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound => "; run the measurement first, or check the path",
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
            "; choose a folder that you may write to with --out DIR"
        }
        Kind::StorageFull | Kind::QuotaExceeded => {
            "; free some space or choose another disk with --out DIR"
        }
        _ => "",
    }
}

fn list(problems: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut text = problems
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("; ");
    if problems.len() > SHOWN {
        text.push_str(&format!("; and {} more", problems.len() - SHOWN));
    }
    text
}

impl ResultFile {
    /// A file without rows: dated now, with this program's command line, and with
    /// the commit if the program runs from a checkout and git is there.
    ///
    /// * `chapter`: the chapter's folder name, "01-cpu"
    /// * `measurement`: its name, lower-case with hyphens
    pub fn new(
        chapter: impl Into<String>,
        measurement: impl Into<String>,
        environment: Environment,
    ) -> Self {
        let root = checkout_root();
        let commit = root.as_deref().and_then(checkout::commit);
        let mut notes = Vec::new();
        if cfg!(debug_assertions) {
            notes.push("built without optimisation: the times say nothing".to_owned());
        }
        Self {
            schema_version: SCHEMA_VERSION,
            chapter: chapter.into(),
            measurement: measurement.into(),
            title: None,
            created_utc: utc_now(),
            command: command(&Places::here(root.as_deref())),
            dirty: commit.as_ref().map(|commit| commit.dirty),
            commit: commit.map(|commit| commit.id),
            depends_on: Vec::new(),
            environment,
            notes,
            rows: Vec::new(),
        }
    }

    /// The row with this id.
    pub fn row(&self, id: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }
}

impl Row {
    /// A row that ran. Give it `samples` or `metrics` before the file is written.
    pub fn ok(id: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            label: label.into(),
            workload: serde_json::Map::new(),
            status: Status::Ok,
            reason: None,
            samples: None,
            metrics: BTreeMap::new(),
        }
    }

    /// A row that was tried and failed, and why.
    pub fn failed(
        id: impl Into<String>,
        label: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            status: Status::Failed,
            reason: Some(reason.into()),
            ..Self::ok(id, label)
        }
    }

    /// A row that was not tried here, and why.
    pub fn skipped(
        id: impl Into<String>,
        label: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            status: Status::Skipped,
            ..Self::failed(id, label, reason)
        }
    }

    /// Adds one entry to the workload.
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.workload.insert(name.to_owned(), value.into());
        self
    }

    /// Adds one metric; the unit belongs into the name.
    pub fn with_metric(mut self, name: &str, value: f64) -> Self {
        self.metrics.insert(name.to_owned(), value);
        self
    }

    /// Sets the samples.
    pub fn with_samples(mut self, samples: Samples) -> Self {
        self.samples = Some(samples);
        self
    }
}

/// Now, to the second: `2025-11-21T10:58:00Z`.
fn utc_now() -> String {
    let now = jiff::Timestamp::now();
    // A clock's seconds are always in jiff's range: they came from there.
    jiff::Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

/// This process' command line, fit to be published.
fn command(places: &Places) -> Vec<String> {
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let program = arguments.next().unwrap_or_default();
    let program = std::path::Path::new(&program).file_name().map_or_else(
        || "unknown".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    std::iter::once(program)
        .chain(arguments.map(|argument| places.argument(&argument)))
        .collect()
}
