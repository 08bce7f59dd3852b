//! Finds the project's root: the folder that holds `ci/native.toml`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

const MARK: &str = "ci/native.toml";

/// The given root, or the nearest folder upwards of the current one that holds `ci/native.toml`.
///
/// Looked up at run time, so that a built `x` holds no path of the machine that built it.
///
/// # Errors
/// If no such folder is found.
pub fn find(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(root) = given {
        let root = root
            .canonicalize()
            .with_context(|| format!("--root {}", root.display()))?;
        if !root.join(MARK).is_file() {
            bail!("--root {}: no {MARK} in it", root.display());
        }
        return Ok(root);
    }
    let here = std::env::current_dir().context("the current folder")?;
    match here.ancestors().find(|folder| folder.join(MARK).is_file()) {
        Some(root) => Ok(Path::to_path_buf(root)),
        None => bail!(
            "no {MARK} in {} or above it; run this in the project's folder",
            here.display()
        ),
    }
}
