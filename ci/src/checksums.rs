//! A file of checksums for all files of a folder, as `sha256sum` writes and checks it.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail, ensure};

use crate::{native_pins::is_inside, wheel};

/// Its name.
pub const FILE: &str = "SHA256SUMS";

/// All files below a folder but the checksums themselves: relative paths, sorted.
///
/// # Errors
/// If a folder cannot be listed.
pub fn files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    walk(folder, "", &mut files)?;
    files.retain(|file| file != FILE);
    files.sort_unstable();
    Ok(files)
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<String>) -> anyhow::Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.file_type()?.is_dir() {
            true => walk(&entry.path(), &format!("{prefix}{name}/"), files)?,
            false => files.push(format!("{prefix}{name}")),
        }
    }
    Ok(())
}

/// Writes the checksums of all files below a folder.
///
/// # Errors
/// If a file cannot be read or written.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    let mut text = String::new();
    for file in files(folder)? {
        let path = folder.join(&file);
        let sum =
            wheel::sha256(&path).with_context(|| format!("cannot read {}", path.display()))?;
        text.push_str(&format!("{sum}  {file}\n"));
    }
    let path = folder.join(FILE);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads the checksums: path, SHA-256.
///
/// # Errors
/// If there are none, or a line is none, or names a place outside of the folder.
pub fn read(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let path = folder.join(FILE);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut sums = BTreeMap::new();
    for line in text.lines() {
        let Some((sum, file)) = line.split_once("  ") else {
            bail!("{}: no checksum: {line:?}", path.display());
        };
        ensure!(
            is_inside(file),
            "{}: {file:?} leads out of the folder",
            path.display()
        );
        sums.insert(file.to_owned(), sum.to_owned());
    }
    Ok(sums)
}

/// Compares every file with its checksum.
///
/// # Errors
/// What differs, is missing, or is there without a checksum.
pub fn verify(folder: &Path) -> anyhow::Result<()> {
    let mut sums = read(folder)?;
    for file in files(folder)? {
        let path = folder.join(&file);
        let Some(expected) = sums.remove(&file) else {
            bail!("{}: {FILE} does not have it", path.display());
        };
        let got =
            wheel::sha256(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            got == expected,
            "{}: expected SHA-256 {expected}, got {got}",
            path.display()
        );
    }
    if let Some((file, _)) = sums.first_key_value() {
        bail!(
            "{}: {FILE} has it, and it is not there",
            folder.join(file).display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::create_dir(folder.join("b")).unwrap();
        std::fs::write(folder.join("a"), "1").unwrap();
        std::fs::write(folder.join("b/c"), "2").unwrap();
        write(folder).unwrap();
        verify(folder).unwrap();
        let said = || verify(folder).unwrap_err().to_string();
        std::fs::write(folder.join("a"), "3").unwrap();
        assert!(said().contains("a: expected SHA-256 "), "{}", said());
        std::fs::write(folder.join("a"), "1").unwrap();
        std::fs::write(folder.join("d"), "").unwrap();
        assert!(
            said().ends_with("d: SHA256SUMS does not have it"),
            "{}",
            said()
        );
        std::fs::remove_file(folder.join("d")).unwrap();
        std::fs::remove_file(folder.join("b/c")).unwrap();
        assert!(said().contains("b/c: SHA256SUMS has it"), "{}", said());
        std::fs::write(folder.join(FILE), "00  ../a\n").unwrap();
        assert!(said().contains("leads out of the folder"), "{}", said());
    }
}
