//! Which results are older than what they measured: a file that `cargo x results` writes
//! with git's help, since this program runs none.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{error::BuildError, problem::Problem};

/// Version of the file's shape.
const SCHEMA_VERSION: u32 = 1;

/// What is known of results' age.
#[derive(Debug, Default)]
pub struct Stale {
    root: PathBuf,
    /// Result file, relative to the root, to what has changed, in words.
    results: BTreeMap<String, String>,
    /// Published results that git has and the checkout lacks.
    deleted: Vec<String>,
}

impl Stale {
    /// Reads the file.
    ///
    /// # Errors
    /// `BuildError::Io` if it cannot be read, `BuildError::Settings` for another shape.
    pub fn read(path: &Path, root: &Path) -> Result<Self, BuildError> {
        #[derive(Deserialize)]
        struct File {
            schema_version: u32,
            stale: BTreeMap<String, Entry>,
            #[serde(default)]
            deleted: Vec<String>,
        }
        #[derive(Deserialize)]
        struct Entry {
            what: String,
        }

        let fail = |reason: String| BuildError::Settings {
            path: path.to_owned(),
            reason,
        };
        let text = fs::read_to_string(path).map_err(BuildError::io("read", path))?;
        let file: File = serde_json::from_str(&text).map_err(|error| fail(error.to_string()))?;
        if file.schema_version != SCHEMA_VERSION {
            return Err(fail(format!(
                "expected schema_version {SCHEMA_VERSION}, got {}: write it anew with `cargo x results`",
                file.schema_version
            )));
        }
        Ok(Self {
            root: root.to_owned(),
            results: file
                .stale
                .into_iter()
                .map(|(path, entry)| (path, entry.what))
                .collect(),
            deleted: file.deleted,
        })
    }

    /// Published results that were deleted, as problems: the history that pages show would
    /// have a hole, and nobody would see it.
    pub fn deleted(&self) -> impl Iterator<Item = Problem> {
        self.deleted.iter().map(|path| {
            Problem::in_file(
                path,
                "this published result was deleted: `cargo x results restore` brings it back; \
                 if it was wrong, name it under [withdrawn] in book/figures.toml, with the reason",
            )
        })
    }

    /// What has changed since this result was measured.
    pub fn of(&self, path: &Path) -> Option<String> {
        if self.results.is_empty() {
            return None;
        }
        // The reader's results may be named by another path than the root's.
        let real = path.canonicalize().ok();
        let inside = [Some(path), real.as_deref()]
            .into_iter()
            .flatten()
            .find_map(|path| path.strip_prefix(&self.root).ok())?;
        self.results.get(&crate::pages::slashed(inside)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::Stale;

    #[test]
    fn a_result_is_found_by_its_path_in_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let file = root.join("stale.json");
        fs::write(
            &file,
            r#"{"schema_version": 1, "stale": {"chapters/a/x.json": {"what": "code has changed", "command": "y"}}}"#,
        )
        .unwrap();
        let stale = Stale::read(&file, root).unwrap();
        assert_eq!(
            stale.of(&root.join("chapters/a/x.json")).as_deref(),
            Some("code has changed")
        );
        assert_eq!(stale.of(&root.join("chapters/a/y.json")), None);
        assert_eq!(stale.of(Path::new("/elsewhere/x.json")), None);
        fs::write(&file, r#"{"schema_version": 2, "stale": {}}"#).unwrap();
        let error = Stale::read(&file, root).unwrap_err().to_string();
        assert!(error.contains("cargo x results"), "{error}");
    }
}
