//! A measurement as the book shows it: the newest published result of the
//! reference machine, and beside it the reader's own.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use accel::results::{self, ResultFile, Row};

use crate::{
    directive::Selection,
    settings::{Known, Settings},
    stale::Stale,
};

/// Whose numbers these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Committed with the book.
    Published,
    /// Measured on the reader's machine.
    Yours,
}

/// One result file.
#[derive(Debug)]
pub struct Source {
    /// Whose numbers these are.
    pub origin: Origin,
    /// What it holds.
    pub file: ResultFile,
    /// Where it lies.
    pub path: PathBuf,
    /// Where its copy lies in the rendered book, with `/`.
    pub link: String,
    /// What has changed since it was measured, in words; `None` for nothing that is known.
    pub stale: Option<String>,
}

impl Source {
    /// "Published, on AMD EPYC 9B14" or "Yours, on AMD EPYC 9B14".
    pub fn heading(&self) -> String {
        let origin = match self.origin {
            Origin::Published => "Published",
            Origin::Yours => "Yours",
        };
        let environment = &self.file.environment;
        match &environment.accelerator {
            Some(accelerator) if self.ran_on_accelerator() => {
                format!("{origin}, on {}", accelerator.name)
            }
            _ => format!("{origin}, on {}", environment.cpu_model),
        }
    }

    /// Whether a row names a device other than the CPU: a machine may have a GPU
    /// and be measured without it.
    pub fn ran_on_accelerator(&self) -> bool {
        self.file.rows.iter().any(|row| {
            row.workload
                .get("device")
                .and_then(serde_json::Value::as_str)
                .is_some_and(|device| device != "cpu")
        })
    }
}

/// The result files of one measurement.
#[derive(Debug)]
pub struct Measurement {
    /// `chapter/measurement`.
    pub name: String,
    /// Its entry in `book/figures.toml`.
    pub known: Known,
    /// The book's numbers.
    pub published: Option<Source>,
    /// What was published before them, of the same machine, oldest first.
    pub older: Vec<Source>,
    /// The reader's.
    pub yours: Option<Source>,
}

impl Measurement {
    /// The result files that are there, the published one first.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.published.iter().chain(&self.yours)
    }

    /// All that was published, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &Source> {
        self.older.iter().chain(&self.published)
    }

    /// Title of a figure: the page's, else the measurement's.
    pub fn title<'a>(&'a self, own: Option<&'a str>) -> &'a str {
        own.unwrap_or(&self.known.title)
    }
}

/// All measurements that pages may name, read once.
#[derive(Debug, Default)]
pub struct Measurements {
    by_name: BTreeMap<String, Measurement>,
}

impl Measurements {
    /// Reads the results of every measurement in `book/figures.toml`.
    ///
    /// * `root`: the repository
    /// * `local`: the reader's results, `results-local/`; it need not exist
    /// * `stale`: which of them are older than what they measured
    ///
    /// Returns the measurements, the faults of published files (each fails the
    /// gate) and of the reader's own (each is a warning: an old file of theirs must
    /// not cost them the book).
    pub fn read(
        root: &Path,
        local: &Path,
        settings: &Settings,
        stale: &Stale,
    ) -> (Self, Vec<String>, Vec<String>) {
        let mut faults = Vec::new();
        let mut warnings = Vec::new();
        let mut by_name = BTreeMap::new();
        for (name, known) in &settings.measurement {
            let (chapter, measurement) = name.split_once('/').unwrap_or((name, ""));
            let mut older: Vec<Source> = Vec::new();
            if let Some(slug) = settings.machine(name) {
                let folder = results::published_dir(root, chapter, slug, measurement);
                let files = read_all(&json_files(&folder), name, &mut faults);
                for (path, file) in &files {
                    let own = file.environment.machine_slug();
                    if own != slug {
                        faults.push(format!(
                            "{}: measured on {own}, but lies among the results of {slug}",
                            path.display()
                        ));
                    }
                }
                older.extend(files.into_iter().map(|(path, file)| Source {
                    origin: Origin::Published,
                    stale: stale.of(&path),
                    link: format!("results/{name}/{slug}/{}", file_name(&path)),
                    file,
                    path,
                }));
            }
            let published = older.pop();
            // `results-local/<chapter>/<machine>/<measurement>.json`, newest of all machines:
            // a folder may have moved to another machine with its results.
            let own: Vec<PathBuf> = folders(&local.join(chapter))
                .into_iter()
                .map(|folder| folder.join(format!("{measurement}.json")))
                .filter(|path| path.is_file())
                .collect();
            let yours = read_all(&own, name, &mut warnings)
                .pop()
                .map(|(path, file)| Source {
                    origin: Origin::Yours,
                    stale: stale.of(&path),
                    link: format!("results-local/{name}.json"),
                    file,
                    path,
                });
            by_name.insert(
                name.clone(),
                Measurement {
                    name: name.clone(),
                    known: known.clone(),
                    published,
                    older,
                    yours,
                },
            );
        }
        (Self { by_name }, faults, warnings)
    }

    /// A measurement by its name.
    ///
    /// # Errors
    /// The names there are, if this is none of them.
    pub fn get(&self, name: &str) -> Result<&Measurement, String> {
        self.by_name.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            format!(
                "no measurement {name:?}: book/figures.toml has {}",
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            )
        })
    }
}

/// Reads result files of one measurement, oldest first.
fn read_all(paths: &[PathBuf], name: &str, faults: &mut Vec<String>) -> Vec<(PathBuf, ResultFile)> {
    let mut files = Vec::new();
    for path in paths {
        match ResultFile::read(path) {
            Ok(file) => {
                let own = format!("{}/{}", file.chapter, file.measurement);
                if own == name {
                    files.push((path.clone(), file));
                } else {
                    faults.push(format!(
                        "{}: expected a result of {name}, got one of {own}",
                        path.display()
                    ));
                }
            }
            Err(error) => faults.push(format!("{}: {error}", path.display())),
        }
    }
    // RFC 3339 in UTC sorts as text; the name settles a tie.
    files.sort_by(|(path, file), (other_path, other)| {
        (&file.created_utc, path).cmp(&(&other.created_utc, other_path))
    });
    files
}

fn json_files(folder: &Path) -> Vec<PathBuf> {
    entries(folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ext| ext == "json") && path.is_file())
        .collect()
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    entries(folder)
        .into_iter()
        .filter(|path| path.is_dir())
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

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The ids that a selection takes from the result files, in order: those of the
/// published file first, then those only the reader has.
///
/// # Errors
/// What there is, if an id is in no file, or if nothing is left.
pub fn select(measurement: &Measurement, selection: &Selection) -> Result<Vec<String>, String> {
    let mut ids: Vec<String> = Vec::new();
    for source in measurement.sources() {
        for row in &source.file.rows {
            if !ids.contains(&row.id) && matches(row, &selection.filter) {
                ids.push(row.id.clone());
            }
        }
    }
    if !selection.rows.is_empty() {
        for wanted in &selection.rows {
            let known = measurement
                .sources()
                .any(|source| source.file.row(wanted).is_some());
            match (known, ids.contains(wanted)) {
                (_, true) => {}
                (true, false) => {
                    return Err(format!("rows= names {wanted:?}, which where= excludes"));
                }
                (false, false) => return Err(no_row(measurement, wanted)),
            }
        }
        return Ok(selection.rows.clone());
    }
    if ids.is_empty() {
        return Err(format!(
            "no row of {} has {}",
            measurement.name,
            selection
                .filter
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
                .join(" ")
        ));
    }
    Ok(ids)
}

/// What to say of an id that is in no row.
pub fn no_row(measurement: &Measurement, wanted: &str) -> String {
    let mut ids: Vec<&str> = Vec::new();
    for source in measurement.sources() {
        for row in &source.file.rows {
            if !ids.contains(&row.id.as_str()) {
                ids.push(&row.id);
            }
        }
    }
    format!(
        "no row {wanted:?} in {}: expected one of {}",
        measurement.name,
        ids.join(", ")
    )
}

fn matches(row: &Row, filter: &[(String, String)]) -> bool {
    filter.iter().all(|(key, wanted)| {
        row.workload.get(key).is_some_and(|value| match value {
            serde_json::Value::String(text) => text == wanted,
            // Numbers, as the result file writes them: `batch=8`.
            serde_json::Value::Number(number) => number.to_string() == wanted.as_str(),
            serde_json::Value::Bool(yes) => (if *yes { "true" } else { "false" }) == wanted,
            _ => false,
        })
    })
}
