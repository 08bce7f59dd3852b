//! Opens pages of the rendered book in Chromium, as a reader would: on a phone and on a
//! desktop, in light and in dark.
//!
//! - [`view`]: the sizes and themes
//! - [`visit`]: one page in one view, and what is wrong with it
//! - [`devtools`]: the browser itself
//!
//! It opens files, lets no request leave the machine, and changes nothing.

pub mod devtools;
pub mod view;
pub mod visit;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{devtools::Browser, view::View, visit::Finding};

/// The pages of a rendered book, sorted.
///
/// # Errors
/// If a folder cannot be read.
pub fn pages(book: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    let mut folders = vec![book.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "html")
                // Only a frame of pages that are read without scripts.
                && path.file_name() != Some(OsStr::new("toc.html"))
            {
                pages.push(path);
            }
        }
    }
    pages.sort();
    Ok(pages)
}

/// Opens each page in each view; returns what is wrong.
///
/// * `axe`: the text of axe-core's script; `None` leaves accessibility out
///
/// # Errors
/// If the browser fails.
pub fn check(
    browser: &mut Browser,
    pages: &[PathBuf],
    views: &[View],
    axe: Option<&str>,
) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for view in views {
        let tab = browser.tab().context("open a tab")?;
        let mut visitor = visit::Visitor::new(tab, view, axe)?;
        for page in pages {
            findings.extend(
                visitor
                    .visit(page)
                    .with_context(|| format!("{}, {view}", page.display()))?,
            );
        }
        visitor.end().context("close the tab")?;
    }
    Ok(findings)
}
