//! `cargo x results restore`: brings back published results that were deleted.
//!
//! A newer result takes an older one's place on a page, and not in the checkout: all that
//! were ever published are the history that the book shows, and it must be there without git.

use std::{collections::BTreeSet, fs, path::Path, process::ExitCode};

use accel::{
    exit,
    results::{ResultFile, published_dir},
};
use anyhow::Context;

use super::{depends::Figures, files};
use crate::git;

/// Where published results lie, for git.
const PUBLISHED: &str = ":(glob)chapters/*/results/*/*/*.json";

/// Published results that git's history has and the checkout lacks.
#[derive(Default)]
pub struct Deleted {
    /// Path, relative to the root, and content.
    pub results: Vec<(String, String)>,
    /// Those that cannot be read any more, and why.
    pub unusable: Vec<String>,
}

/// Looks through the history of what is checked out. A shallow clone has a part of it, and
/// without git there is none.
pub fn look(root: &Path, figures: &Figures) -> Deleted {
    let mut deleted = Deleted::default();
    // A result may have come and gone on a branch: each side of a merge is looked at.
    let log = git::ask(
        root,
        &[
            "log",
            "--full-history",
            "-m",
            "--no-renames",
            "--diff-filter=AM",
            "--name-only",
            "--format=commit %H",
            "--",
            PUBLISHED,
        ],
    );
    let mut commit = "";
    let mut seen = BTreeSet::new();
    for line in log.as_deref().unwrap_or_default().lines() {
        if let Some(id) = line.strip_prefix("commit ") {
            commit = id;
            continue;
        }
        // Newest first: what comes again is older content.
        if line.is_empty() || !seen.insert(line) {
            continue;
        }
        let chapter: Vec<&str> = line.split('/').take(2).collect();
        let gone = !root.join(chapter.join("/")).is_dir();
        if gone || root.join(line).exists() || figures.is_withdrawn(line) {
            continue;
        }
        match read(root, commit, line) {
            Ok(text) => deleted.results.push((line.to_owned(), text)),
            Err(reason) => deleted.unusable.push(format!("{line}: {reason}")),
        }
    }
    deleted.results.sort();
    deleted.unusable.sort();
    deleted
}

/// A result's text at a commit, if today's programs can read it.
fn read(root: &Path, commit: &str, path: &str) -> Result<String, String> {
    let text = git::ask(root, &["show", &format!("{commit}:{path}")])
        .ok_or_else(|| format!("git cannot show it at {commit}"))?;
    let file = ResultFile::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    let slug = file.environment.machine_slug();
    let name = path.rsplit('/').next().unwrap_or_default();
    let right = published_dir(root, &file.chapter, &slug, &file.measurement).join(name);
    match files::relative(root, &right) == path {
        true => Ok(text),
        false => Err(format!(
            "it is a result of {}/{} on {slug}",
            file.chapter, file.measurement
        )),
    }
}

/// Writes them where they were: exit code 3 without git.
///
/// # Errors
/// If `book/figures.toml` cannot be read, or a file cannot be written.
pub fn run(root: &Path) -> anyhow::Result<ExitCode> {
    if !git::is_repository(root) {
        eprintln!(
            "error: no git, or not a git checkout: what was deleted lies in git's history only"
        );
        return Ok(ExitCode::from(exit::DEVICE));
    }
    let deleted = look(root, &Figures::read(root)?);
    for (path, text) in &deleted.results {
        let to = root.join(path);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("create {}", files::relative(root, folder)))?;
        }
        fs::write(&to, text).with_context(|| format!("write {path}"))?;
        println!("restored {path}");
    }
    for fault in &deleted.unusable {
        eprintln!("left in git: {fault}");
    }
    println!(
        "{} restored, {} left in git that cannot be read any more",
        deleted.results.len(),
        deleted.unusable.len()
    );
    Ok(ExitCode::SUCCESS)
}
