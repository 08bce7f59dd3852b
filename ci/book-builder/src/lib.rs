//! Builds the book: every code listing comes from a file that is compiled and
//! tested, every number from a result file, and a page that breaks either rule
//! fails the build.
//!
//! # The way of a page
//!
//! 1. [`settings`] reads `book/figures.toml`; [`measurement`] reads the result
//!    files it names: the newest published one, and the reader's own.
//! 2. mdBook loads the summary and the pages ([`pages`]).
//! 3. The gates read each page as it was written: [`directive`] parses what stands
//!    in `{{#...}}`, [`listing`] finds the code that is included and the code that was
//!    typed, [`typed_numbers`] the numbers that were. [`expand`] replaces the
//!    directives by code, the [`difference`] of two files, a [`table`], a [`matrix`], a
//!    [`chart`], a number in a [`sentence`], a fact about [`hardware`], the
//!    [`cheat_sheet`] and its [`calculator`], the [`trend`] of a figure, or a line of
//!    [`provenance`]; [`field`] reads
//!    a row, [`quantity`] prints its numbers, [`stale`] tells which results are older than
//!    what they measured.
//! 4. If nothing is wrong, mdBook renders the expanded pages into a new folder, and
//!    what it only warns of is kept ([`complaints`]).
//!    [`site`] adds what a published book has besides: pages fit for a blog, a sitemap;
//!    [`epub`] writes the same pages as one file for readers of books.
//! 5. [`rendered`] reads the HTML back, follows every link and weighs every page.
//! 6. Only then the new folder takes the place of `book/html`.
//!
//! All problems are collected and listed together ([`problem`]).
//!
//! # What it does not
//!
//! It measures nothing, runs no program, opens no connection, and knows no chapter
//! by name: a later chapter adds pages, result files and lines in
//! `book/figures.toml`. The forms of the directives stand in `README.md` beside
//! this crate.

pub mod calculator;
pub mod chart;
pub mod cheat_sheet;
pub mod complaints;
pub mod difference;
pub mod directive;
pub mod epub;
pub mod error;
pub mod expand;
pub mod field;
pub mod hardware;
pub mod listing;
pub mod markup;
pub mod matrix;
pub mod measurement;
pub mod page;
pub mod pages;
pub mod problem;
pub mod provenance;
pub mod quantity;
pub mod rendered;
pub mod sentence;
pub mod settings;
pub mod site;
pub mod stale;
pub mod table;
pub mod trend;
pub mod typed_numbers;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use accel::hardware::Hardware;
use mdbook_driver::{MDBook, config::Config};

pub use crate::error::BuildError;
use crate::{
    cheat_sheet::CheatSheet,
    expand::{Expanded, Material},
    measurement::Measurements,
    problem::Problem,
    settings::Settings,
    stale::Stale,
};

/// mdBook's setting for links that edit a page.
const EDIT: &str = "output.html.edit-url-template";

/// What to build.
#[derive(Debug, Clone)]
pub struct Options {
    /// The repository's root: the folder that holds `book/` and `chapters/`.
    pub root: PathBuf,
    /// The reader's own results; the folder need not exist.
    pub local: PathBuf,
    /// Run every gate, and leave `book/html` as it is.
    pub check: bool,
    /// The file that tells which results are stale; `None` where nobody knows.
    pub stale: Option<PathBuf>,
    /// Where to write the book as EPUB, too.
    pub epub: Option<PathBuf>,
}

/// What was built.
#[derive(Debug)]
pub struct Report {
    /// The first page; `None` after a check.
    pub index: Option<PathBuf>,
    /// How many pages the book has.
    pub pages: usize,
    /// How many figures (tables, charts, numbers in sentences) it shows.
    pub figures: usize,
    /// Measurements it shows that nobody has measured, published or local.
    pub not_measured: BTreeSet<String>,
    /// Faults of the reader's own result files, which were left out.
    pub warnings: Vec<String>,
}

/// Checks the book and renders it into `book/html`.
///
/// # Errors
/// [`BuildError::Gates`] with everything that is wrong with the pages; the last
/// good `book/html` is then left in place. Else what could not be read or written.
pub fn build(options: &Options) -> Result<Report, BuildError> {
    let root = options
        .root
        .canonicalize()
        .map_err(|_| BuildError::NotARepository(options.root.join("book/book.toml")))?;
    let book_folder = root.join("book");
    if !book_folder.join("book.toml").is_file() {
        return Err(BuildError::NotARepository(
            options.root.join("book/book.toml"),
        ));
    }
    let settings = Settings::read(&root)?;
    let mut config = read_config(&book_folder)?;
    if let Some(edit) = &settings.site.edit {
        config
            .set(EDIT, site::edit_template(edit))
            .map_err(|error| BuildError::MdBook(format!("{error:#}")))?;
    }

    // Rendered beside its final place, so that the last step is a rename.
    let workshop = book_folder.join("generated");
    fs::create_dir_all(&workshop).map_err(BuildError::io("create", &workshop))?;
    let fresh = tempfile::Builder::new()
        .prefix("html-")
        .tempdir_in(&workshop)
        .map_err(BuildError::io("create", &workshop))?;
    let output = fresh.path().join("html");
    config.build.build_dir.clone_from(&output);

    let mut book = MDBook::load_with_config(&book_folder, config)
        .map_err(|error| BuildError::MdBook(format!("{error:#}")))?;
    let pages = pages::of(&book.book);

    let stale = match &options.stale {
        Some(path) => Stale::read(path, &root)?,
        None => Stale::default(),
    };
    let hardware = Hardware::shipped().map_err(|error| BuildError::Settings {
        path: root.join("shared/hardware.toml"),
        reason: error.to_string(),
    })?;
    let cheat_sheet = CheatSheet::read(&root)?;
    let (measurements, faults, warnings) =
        Measurements::read(&root, &options.local, &settings, &stale);
    let mut expanded = Expanded::default();
    expanded.problems.extend(
        faults
            .into_iter()
            .map(|fault| Problem::in_file("published results", fault)),
    );
    expanded.problems.extend(stale.deleted());
    let material = Material {
        root: &root,
        measurements: &measurements,
        hardware: &hardware,
        cheat_sheet: cheat_sheet.as_ref(),
    };
    for page in &pages {
        expanded.add(page, &material);
    }
    expanded
        .problems
        .extend(orphans(&book.source_dir(), &pages)?);
    expanded.problems.extend(unused(&settings, &pages));
    refuse(expanded.problems)?;

    book.with_preprocessor(pages::ExpandedPages(expanded.pages));
    let (built, complaints) = complaints::heard(|| book.build());
    built.map_err(|error| BuildError::MdBook(format!("{error:#}")))?;
    let mut problems: Vec<Problem> = complaints
        .into_iter()
        .map(|line| Problem::in_file("mdBook", line))
        .collect();
    for (link, path) in &expanded.raw_files {
        let copy = output.join(link);
        if let Some(folder) = copy.parent() {
            fs::create_dir_all(folder).map_err(BuildError::io("create", folder))?;
        }
        fs::copy(path, &copy).map_err(BuildError::io("write", &copy))?;
    }
    site::standalone(&settings.site.standalone, &pages, &book_folder, &output)?;
    if let Some(base) = &settings.site.base {
        site::addresses(base, &book.config, &pages, &output)?;
    }
    problems.extend(rendered::check(&output)?);
    refuse(problems)?;
    if let Some(to) = &options.epub {
        epub::write(&book.config, &pages, &book_folder, &output, to)?;
    }

    let mut index = None;
    if !options.check {
        let html = book_folder.join("html");
        replace(&html, &output, fresh.path())?;
        index = Some(html.join("index.html"));
    }
    Ok(Report {
        index,
        pages: pages.len(),
        figures: expanded.figures,
        not_measured: expanded.not_measured,
        warnings,
    })
}

fn read_config(book_folder: &Path) -> Result<Config, BuildError> {
    let path = book_folder.join("book.toml");
    let fail = |reason: String| BuildError::Settings {
        path: path.clone(),
        reason,
    };
    // Not `MDBook::load`: that would let MDBOOK_* variables change the book.
    let mut config = Config::from_disk(&path).map_err(|error| fail(format!("{error:#}")))?;
    let preprocessors = config
        .preprocessors::<toml::Table>()
        .map_err(|error| fail(format!("{error:#}")))?;
    if let Some(name) = preprocessors.keys().next() {
        return Err(fail(format!(
            "expected no preprocessors, got preprocessor.{name}: mdBook would run it as a program"
        )));
    }
    let outputs = config
        .outputs::<toml::Table>()
        .map_err(|error| fail(format!("{error:#}")))?;
    if let Some(name) = outputs.keys().find(|name| *name != "html") {
        return Err(fail(format!(
            "expected the output html alone, got output.{name}: mdBook would run it as a program"
        )));
    }
    if let Ok(Some(_)) = config.get::<String>(EDIT) {
        return Err(fail(format!(
            "{EDIT}: all public addresses stand in figures.toml: move it to site.edit there"
        )));
    }
    // A summary's missing page is an error, not a file to make.
    config.build.create_missing = false;
    config.build.use_default_preprocessors = false;
    Ok(config)
}

fn refuse(mut problems: Vec<Problem>) -> Result<(), BuildError> {
    if problems.is_empty() {
        return Ok(());
    }
    problems.sort();
    problems.dedup();
    Err(BuildError::Gates(problems))
}

/// Pages that the summary does not name: nobody would find them.
fn orphans(source: &Path, pages: &[page::Page]) -> Result<Vec<Problem>, BuildError> {
    let known: BTreeSet<&str> = pages.iter().map(|page| page.path.as_str()).collect();
    let mut problems = Vec::new();
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(BuildError::io("read", &folder))? {
            let path = entry.map_err(BuildError::io("read", &folder))?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = pages::slashed(path.strip_prefix(source).unwrap_or(&path));
            if name.ends_with(".md") && name != "SUMMARY.md" && !known.contains(name.as_str()) {
                problems.push(Problem::in_file(
                    &format!("book/src/{name}"),
                    "no line of book/src/SUMMARY.md names this page",
                ));
            }
        }
    }
    Ok(problems)
}

/// Measurements of `book/figures.toml` that no page shows.
fn unused(settings: &Settings, pages: &[page::Page]) -> Vec<Problem> {
    settings
        .measurement
        .keys()
        .filter(|name| {
            !pages
                .iter()
                .any(|page| page.source.contains(&format!(" {name}")))
        })
        .map(|name| {
            Problem::in_file(
                "book/figures.toml",
                format!("no page shows {name}: remove it, or show it"),
            )
        })
        .collect()
}

/// Puts the new book in the place of the old one.
///
/// The old one moves into the folder that is removed at the end: a reader with the
/// page open never meets a half-written book.
fn replace(html: &Path, output: &Path, aside: &Path) -> Result<(), BuildError> {
    if html.exists() {
        fs::rename(html, aside.join("old")).map_err(BuildError::io("rename", html))?;
    }
    fs::rename(output, html).map_err(BuildError::io("rename", output))
}
