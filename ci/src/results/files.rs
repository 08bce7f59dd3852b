//! Finds result files: the published ones and the reader's own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use accel::results::{ResultError, ResultFile};

/// A result file that was found.
pub struct Found {
    /// Where it lies, relative to the root, with `/`.
    pub path: String,
    /// Whether it is committed with the project.
    pub published: bool,
    /// What it holds.
    pub file: ResultFile,
}

impl Found {
    /// `chapter/measurement`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.file.chapter, self.file.measurement)
    }
}

/// All result files, oldest first, and what is wrong with those that cannot be read.
pub fn all(root: &Path) -> (Vec<Found>, Vec<ResultError>) {
    let mut found = Vec::new();
    let mut faults = Vec::new();
    for (published, path) in (published_paths(root).into_iter().map(|path| (true, path)))
        .chain(local_paths(root).into_iter().map(|path| (false, path)))
    {
        match ResultFile::read(&path) {
            Ok(file) => found.push(Found {
                path: relative(root, &path),
                published,
                file,
            }),
            Err(error) => faults.push(error),
        }
    }
    // RFC 3339 in UTC sorts as text; the path settles a tie.
    found.sort_by(|a, b| (&a.file.created_utc, &a.path).cmp(&(&b.file.created_utc, &b.path)));
    (found, faults)
}

/// `chapters/<chapter>/results/<machine>/<measurement>/*.json`.
fn published_paths(root: &Path) -> Vec<PathBuf> {
    entries(&root.join("chapters"))
        .iter()
        .flat_map(|chapter| entries(&chapter.join("results")))
        .flat_map(|machine| entries(&machine))
        .flat_map(|measurement| json(&measurement))
        .collect()
}

/// `results-local/<chapter>/<machine>/*.json`, but for what programs write there besides.
pub fn local_paths(root: &Path) -> Vec<PathBuf> {
    entries(&root.join("results-local"))
        .iter()
        .flat_map(|chapter| entries(chapter))
        .flat_map(|machine| json(&machine))
        .filter(|path| names_a_measurement(path))
        .collect()
}

/// Whether a file means to be a result: a summary or a manifest names no measurement.
fn names_a_measurement(path: &Path) -> bool {
    let value = fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    // What is no JSON may be a result that was cut short.
    value.is_none_or(|value| value.get("measurement").is_some())
}

fn json(folder: &Path) -> Vec<PathBuf> {
    entries(folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ext| ext == "json") && path.is_file())
        .collect()
}

/// A folder's entries, sorted; none if there is no such folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    paths.sort();
    paths
}

/// A path below the root, with `/`.
pub fn relative(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = (inside.components())
        .map(|part| part.as_os_str().to_string_lossy())
        .collect();
    parts.join("/")
}
