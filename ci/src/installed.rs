//! The record in an unpacked part that says it is whole, and from which pins.
//!
//! It lists every file with its size, so that a part that lost a file is made anew and a
//! whole one is recognised by looking at sizes alone.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::native_pins::{Part, Wheel};

const FILE: &str = ".installed.json";

#[derive(Serialize, Deserialize, PartialEq)]
struct Record {
    wheel: Vec<Wheel>,
    write: BTreeMap<String, String>,
    link: BTreeMap<String, String>,
    /// Path in the part, size in bytes.
    files: BTreeMap<String, u64>,
}

/// Why a part must be fetched.
#[derive(Debug, PartialEq)]
pub enum Lack {
    /// Its folder is not there.
    Absent,
    /// It has no readable record: not made by set-up.
    NoRecord,
    /// It was made from other pins.
    OtherPins,
    /// A file is gone or has another size.
    Damaged(PathBuf),
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("not there yet"),
            Self::NoRecord => f.write_str("was not made by `cargo x setup`"),
            Self::OtherPins => f.write_str("was made from other pins"),
            Self::Damaged(path) => write!(f, "{} is missing or damaged", path.display()),
        }
    }
}

/// Whether `folder` holds `part` as its pins say; if not, why.
pub fn lack(part: &Part, folder: &Path) -> Option<Lack> {
    if !folder.exists() {
        return Some(Lack::Absent);
    }
    let record = std::fs::read(folder.join(FILE)).ok();
    let Some(record) = record.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok())
    else {
        return Some(Lack::NoRecord);
    };
    if record.wheel != part.wheel || record.write != part.write || record.link != part.link {
        return Some(Lack::OtherPins);
    }
    for (path, bytes) in &record.files {
        let whole = (folder.join(path).symlink_metadata())
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == *bytes);
        if !whole {
            return Some(Lack::Damaged(path.into()));
        }
    }
    for (path, target) in &part.link {
        if std::fs::read_link(folder.join(path)).ok().as_deref() != Some(Path::new(target)) {
            return Some(Lack::Damaged(path.into()));
        }
    }
    None
}

/// Adds to an unpacked part what no wheel holds, and the record.
///
/// * `files`: what was unpacked: path relative to `folder`, size in bytes
///
/// # Errors
/// If a file cannot be written, or is there already.
pub fn finish(part: &Part, folder: &Path, mut files: BTreeMap<String, u64>) -> anyhow::Result<()> {
    for (path, text) in &part.write {
        let target = folder.join(path);
        let written = create_parent(&target).and_then(|()| std::fs::write(&target, text));
        written.with_context(|| format!("cannot write {}", target.display()))?;
        files.insert(path.clone(), text.len() as u64);
    }
    for (path, target) in &part.link {
        let link = folder.join(path);
        create_parent(&link)
            .and_then(|()| symbolic_link(target, &link))
            .with_context(|| format!("cannot link {} to {target}", link.display()))?;
    }
    let record = Record {
        wheel: part.wheel.clone(),
        write: part.write.clone(),
        link: part.link.clone(),
        files,
    };
    let path = folder.join(FILE);
    std::fs::write(&path, serde_json::to_vec(&record)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn create_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)
}

/// Makes a symbolic link, where the platform has them for everybody.
#[cfg(unix)]
pub fn symbolic_link(target: impl AsRef<Path>, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Makes a symbolic link, where the platform has them for everybody.
#[cfg(not(unix))]
pub fn symbolic_link(_: impl AsRef<Path>, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> Part {
        Part {
            title: "tiny".to_owned(),
            path: "tiny".to_owned(),
            platform: "linux-x86_64".to_owned(),
            flag: None,
            libtorch: None,
            pjrt: None,
            engine: None,
            unpacked_bytes: 3,
            write: BTreeMap::from([("lib/libtorch.so".to_owned(), "INPUT(a)\n".to_owned())]),
            link: BTreeMap::from([("include".to_owned(), "deep/include".to_owned())]),
            wheel: Vec::new(),
        }
    }

    #[test]
    fn a_whole_part_lacks_nothing_and_every_damage_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("tiny");
        assert_eq!(lack(&part(), &folder), Some(Lack::Absent));
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(lack(&part(), &folder), Some(Lack::NoRecord));

        std::fs::write(folder.join("a"), "abc").unwrap();
        let files = BTreeMap::from([("a".to_owned(), 3)]);
        finish(&part(), &folder, files).unwrap();
        assert_eq!(lack(&part(), &folder), None);

        let mut other = part();
        other.write.clear();
        assert_eq!(lack(&other, &folder), Some(Lack::OtherPins));

        std::fs::write(folder.join("a"), "ab").unwrap();
        let damaged = |path: &str| Some(Lack::Damaged(path.into()));
        assert_eq!(lack(&part(), &folder), damaged("a"));
        std::fs::write(folder.join("a"), "abc").unwrap();
        std::fs::remove_file(folder.join("lib/libtorch.so")).unwrap();
        assert_eq!(lack(&part(), &folder), damaged("lib/libtorch.so"));
        std::fs::write(folder.join("lib/libtorch.so"), "INPUT(a)\n").unwrap();
        std::fs::remove_file(folder.join("include")).unwrap();
        assert_eq!(lack(&part(), &folder), damaged("include"));

        std::fs::write(folder.join(FILE), "{").unwrap();
        assert_eq!(lack(&part(), &folder), Some(Lack::NoRecord));
    }
}
