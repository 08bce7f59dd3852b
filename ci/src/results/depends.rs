//! What a measurement measures: the paths that a result file names, and those that
//! `book/figures.toml` names for its chapter or for it; and the command that renews it.

use std::{collections::BTreeMap, fs, path::Path};

use accel::results::ResultFile;
use anyhow::Context;
use serde::Deserialize;

const FIGURES: &str = "book/figures.toml";

/// The parts of `book/figures.toml` that tell what results are of; its whole shape is
/// checked by book-builder.
#[derive(Default, Deserialize)]
pub struct Figures {
    #[serde(default)]
    depends: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    measurement: BTreeMap<String, Known>,
    /// Published results that proved wrong, and why.
    #[serde(default)]
    withdrawn: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Known {
    command: String,
}

impl Figures {
    /// Reads the file.
    ///
    /// # Errors
    /// If it cannot be read or has another shape.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(root.join(FIGURES)).with_context(|| FIGURES.to_owned())?;
        toml::from_str(&text).with_context(|| FIGURES.to_owned())
    }

    /// The command that measures it anew; `None` for a measurement that no page shows.
    pub fn command(&self, name: &str) -> Option<&str> {
        self.measurement
            .get(name)
            .map(|known| known.command.as_str())
    }

    /// Whether a published result was deleted for good: it was wrong.
    pub fn is_withdrawn(&self, path: &str) -> bool {
        self.withdrawn.contains_key(path)
    }

    /// What a result depends on, relative to the root.
    pub fn paths(&self, file: &ResultFile) -> Vec<String> {
        let name = format!("{}/{}", file.chapter, file.measurement);
        let mut paths = file.depends_on.clone();
        for key in [&file.chapter, &name] {
            paths.extend(self.depends.get(key).into_iter().flatten().cloned());
        }
        paths.sort();
        paths.dedup();
        paths
    }
}
