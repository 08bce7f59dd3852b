//! Which results are older than what they measured: git compares the paths that each depends
//! on with its commit. The book's builder runs no program, so it gets the answer as a file.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::Serialize;

use super::{
    depends::Figures,
    files::{self, Found},
    lock, matters, restore,
};
use crate::git;

/// Where the answer is written for the book's builder, from the root.
const FILE: &str = "book/generated/stale.json";

/// Files whose change is a change of versions, and not of code.
const LOCK: &str = "Cargo.lock";
const NATIVE: &str = "ci/native.toml";

/// What is known of all results' age.
pub struct Report {
    /// `None` without git.
    known: Option<Known>,
}

struct Known {
    results: Vec<Looked>,
    /// Paths of published results that git has and the checkout lacks.
    deleted: Vec<String>,
    faults: Vec<String>,
}

/// The newest result of a measurement on a machine.
struct Looked {
    path: String,
    name: String,
    published: bool,
    command: Option<String>,
    age: Age,
}

/// Whether something has changed since a result was measured.
enum Age {
    Fresh,
    Stale {
        code: Vec<String>,
        versions: Vec<String>,
        commit: String,
    },
    /// Why nobody can tell.
    Unknown(String),
}

/// Looks at the newest result of each measurement on each machine.
///
/// # Errors
/// If `book/figures.toml` cannot be read.
pub fn look(root: &Path) -> anyhow::Result<Report> {
    if !git::is_repository(root) {
        return Ok(Report { known: None });
    }
    let figures = Figures::read(root)?;
    let (all, faults) = files::all(root);
    // Sorted by date: a later one takes the earlier one's place.
    let mut newest: BTreeMap<(bool, String, String), &Found> = BTreeMap::new();
    for found in &all {
        let machine = found.file.environment.machine_slug();
        newest.insert((!found.published, found.name(), machine), found);
    }
    let mut versions = Versions {
        root,
        texts: BTreeMap::new(),
    };
    let results = newest
        .into_values()
        .map(|found| Looked {
            path: found.path.clone(),
            name: found.name(),
            published: found.published,
            command: figures.command(&found.name()).map(str::to_owned),
            age: age(found, &figures, root, &mut versions),
        })
        .collect();
    Ok(Report {
        known: Some(Known {
            results,
            deleted: (restore::look(root, &figures).results.into_iter())
                .map(|(path, _)| path)
                .collect(),
            faults: faults.iter().map(ToString::to_string).collect(),
        }),
    })
}

fn age(found: &Found, figures: &Figures, root: &Path, versions: &mut Versions<'_>) -> Age {
    let Some(commit) = &found.file.commit else {
        return Age::Unknown("it names no commit".to_owned());
    };
    if found.file.dirty == Some(true) {
        return Age::Unknown("it was measured with uncommitted changes".to_owned());
    }
    if !git::has_commit(root, commit) {
        return Age::Unknown(format!(
            "this repository does not have its commit {}",
            short(commit)
        ));
    }
    let paths = figures.paths(&found.file);
    if paths.is_empty() {
        return Age::Unknown("it does not say what it depends on".to_owned());
    }
    let mut arguments = vec!["diff", "--name-only", "--no-renames", commit, "--"];
    arguments.extend(paths.iter().map(String::as_str));
    let Some(changed) = git::ask(root, &arguments) else {
        return Age::Unknown("git diff failed".to_owned());
    };
    let mut code = Vec::new();
    let mut newer = Vec::new();
    for file in changed.lines() {
        match file {
            LOCK => newer.extend(versions.packages(commit, &found.file.chapter)),
            NATIVE => newer.extend(versions.parts(commit)),
            file if matters::is_beside_the_program(file) => {}
            file if matters::is_in_parts(file) && versions.builds_the_same(commit, file) => {}
            file => code.push(file.to_owned()),
        }
    }
    match code.is_empty() && newer.is_empty() {
        true => Age::Fresh,
        false => Age::Stale {
            code,
            versions: newer,
            commit: commit.clone(),
        },
    }
}

/// The project's pins at several commits, each read once.
struct Versions<'a> {
    root: &'a Path,
    texts: BTreeMap<String, Option<String>>,
}

impl Versions<'_> {
    /// A file's text at a commit.
    fn at(&mut self, commit: &str, file: &str) -> String {
        let name = format!("{commit}:{file}");
        let root = self.root;
        (self.texts.entry(name.clone()))
            .or_insert_with(|| git::ask(root, &["show", &name]))
            .clone()
            .unwrap_or_default()
    }

    fn now(&self, file: &str) -> String {
        fs::read_to_string(self.root.join(file)).unwrap_or_default()
    }

    fn packages(&mut self, commit: &str, chapter: &str) -> Vec<String> {
        let manifest = self.now(&format!("chapters/{chapter}/Cargo.toml"));
        let program = toml::from_str::<toml::Table>(&manifest)
            .ok()
            .and_then(|manifest| Some(manifest.get("package")?.get("name")?.as_str()?.to_owned()));
        match program {
            Some(program) => {
                let old = pinned(|file| self.at(commit, file));
                let new = pinned(|file| self.now(file));
                lock::packages(&old, &new, &program)
            }
            None => vec![format!("{LOCK} has changed")],
        }
    }

    fn builds_the_same(&mut self, commit: &str, file: &str) -> bool {
        matters::builds_the_same(file, &self.at(commit, file), &self.now(file))
    }

    fn parts(&mut self, commit: &str) -> Vec<String> {
        lock::parts(&self.at(commit, NATIVE), &self.now(NATIVE))
    }
}

/// What a state of the project pins, with its files' texts.
fn pinned(mut text: impl FnMut(&str) -> String) -> lock::Pinned {
    let workspace: Option<toml::Table> = toml::from_str(&text("Cargo.toml")).ok();
    let members = (workspace.as_ref())
        .and_then(|manifest| manifest.get("workspace")?.get("members")?.as_array())
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_str);
    lock::Pinned {
        manifests: members
            .map(|member| text(&format!("{member}/Cargo.toml")))
            .collect(),
        lock: text(LOCK),
    }
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

impl Age {
    /// What a reader of a page should know; `None` if nothing has changed or nobody can tell.
    fn words(&self) -> Option<String> {
        let Self::Stale {
            code,
            versions,
            commit,
        } = self
        else {
            return None;
        };
        let what = match (code.is_empty(), versions.is_empty()) {
            (false, false) => "code and versions have",
            (false, true) => "code has",
            (true, _) => "versions have",
        };
        Some(format!("{what} changed since commit {}", short(commit)))
    }

    /// What has changed, for who wants to know whether it matters.
    fn details(&self) -> String {
        let Self::Stale { code, versions, .. } = self else {
            return String::new();
        };
        let all: Vec<&str> = code.iter().chain(versions).map(String::as_str).collect();
        match all.as_slice() {
            [first, second, third, _, ..] => {
                format!("{first}, {second}, {third} and {} more", all.len() - 3)
            }
            few => few.join(", "),
        }
    }
}

impl Report {
    /// Whether a published result is known to be stale.
    pub fn published_are_stale(&self) -> bool {
        self.known
            .iter()
            .flat_map(|known| &known.results)
            .any(|one| one.published && matches!(one.age, Age::Stale { .. }))
    }

    /// Whether a published result is known to have been deleted.
    pub fn published_were_deleted(&self) -> bool {
        self.known.iter().any(|known| !known.deleted.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(known) = &self.known else {
            return writeln!(
                f,
                "no git, or not a git checkout: nobody can tell which results are stale"
            );
        };
        let mut counts = [0_usize; 3];
        for one in &known.results {
            let whose = if one.published { "" } else { " (yours)" };
            match &one.age {
                Age::Fresh => counts[0] += 1,
                Age::Stale { .. } => {
                    counts[1] += 1;
                    let words = one.age.words().unwrap_or_default();
                    writeln!(f, "stale    {}{whose}: {words}", one.name)?;
                    writeln!(f, "         {}", one.age.details())?;
                    if let Some(command) = &one.command {
                        writeln!(f, "         renew it: {command}")?;
                    }
                }
                Age::Unknown(reason) => {
                    counts[2] += 1;
                    writeln!(f, "unknown  {}{whose}: {reason}", one.name)?;
                }
            }
        }
        for path in &known.deleted {
            writeln!(f, "deleted  {path}")?;
        }
        if !known.deleted.is_empty() {
            writeln!(
                f,
                "         bring them back, for the history: cargo x results restore"
            )?;
        }
        for fault in &known.faults {
            writeln!(f, "left out: {fault}")?;
        }
        writeln!(
            f,
            "{} fresh, {} stale, {} of unknown age",
            counts[0], counts[1], counts[2]
        )
    }
}

/// Writes the answer for the book's builder; without git there is none, and an older answer
/// is removed. Returns where it is.
///
/// # Errors
/// If it cannot be written.
pub fn write(report: &Report, root: &Path) -> anyhow::Result<Option<PathBuf>> {
    #[derive(Serialize)]
    struct Answer<'a> {
        schema_version: u32,
        stale: BTreeMap<&'a str, Entry<'a>>,
        deleted: &'a [String],
    }
    #[derive(Serialize)]
    struct Entry<'a> {
        what: String,
        command: Option<&'a str>,
    }

    let path = root.join(FILE);
    let Some(known) = &report.known else {
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {FILE}"))
            }
            _ => Ok(None),
        };
    };
    let stale = known
        .results
        .iter()
        .filter_map(|one| {
            let entry = Entry {
                what: one.age.words()?,
                command: one.command.as_deref(),
            };
            Some((one.path.as_str(), entry))
        })
        .collect();
    let text = serde_json::to_string_pretty(&Answer {
        schema_version: 1,
        stale,
        deleted: &known.deleted,
    })?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(&path, text + "\n").with_context(|| format!("write {FILE}"))?;
    Ok(Some(path))
}
