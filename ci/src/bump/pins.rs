//! `ci/native.toml` as a text that is changed in place: its comments stay.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail, ensure};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, Value};

use super::index::{self, Releases};
use crate::{native_pins::Wheel, pip, wheel};

const FILE: &str = "ci/native.toml";
/// What became of a package whose pins were changed.
pub const WRITTEN: &str = "written";

/// The pins.
pub struct File {
    document: DocumentMut,
}

impl File {
    /// Reads the file.
    ///
    /// # Errors
    /// If it cannot be read, or is no TOML.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(root.join(FILE))
            .with_context(|| format!("cannot read {FILE}"))?;
        let document = text.parse().with_context(|| format!("{FILE} is no TOML"))?;
        Ok(Self { document })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, root: &Path) -> anyhow::Result<()> {
        std::fs::write(root.join(FILE), self.document.to_string())
            .with_context(|| format!("cannot write {FILE}"))
    }

    /// Each package once, with its version.
    pub fn names(&self) -> Vec<(String, String)> {
        let mut names = BTreeMap::new();
        for part in tables(self.document.get("part")) {
            for wheel in tables(part.get("wheel")) {
                names.insert(text(wheel, "name"), text(wheel, "version"));
            }
        }
        names.into_iter().collect()
    }

    /// Puts a version in place of another, on every platform, after fetching and opening its
    /// wheels.
    ///
    /// # Errors
    /// If a platform has no wheel, or one is not what the index says, or lacks a kept file.
    /// Nothing is changed then.
    pub fn take(
        &mut self,
        name: &str,
        version: &str,
        releases: &Releases,
        root: &Path,
    ) -> anyhow::Result<()> {
        let mut changed = self.document.clone();
        let parts = changed
            .get_mut("part")
            .and_then(Item::as_array_of_tables_mut);
        for part in parts.into_iter().flat_map(ArrayOfTables::iter_mut) {
            let wheels = tables(part.get("wheel")).filter(|wheel| text(wheel, "name") == name);
            let Some(old) = wheels.map(|wheel| text(wheel, "version")).next() else {
                continue;
            };
            take_part(part, name, &old, version, releases, root).with_context(|| {
                format!("{} for {}", text(part, "path"), text(part, "platform"))
            })?;
        }
        self.document = changed;
        Ok(())
    }
}

fn tables(item: Option<&Item>) -> impl Iterator<Item = &Table> {
    let tables = item.and_then(Item::as_array_of_tables);
    tables.into_iter().flat_map(ArrayOfTables::iter)
}

fn text(table: &Table, key: &str) -> String {
    let value = table.get(key).and_then(Item::as_str);
    value.unwrap_or_default().to_owned()
}

/// Another value with the old one's spaces and comments.
fn put(table: &mut Table, key: &str, value: impl Into<Value>) {
    let mut value = value.into();
    if let Some(old) = table.get(key).and_then(Item::as_value) {
        *value.decor_mut() = old.decor().clone();
    }
    table[key] = Item::Value(value);
}

fn take_part(
    part: &mut Table,
    name: &str,
    old: &str,
    version: &str,
    releases: &Releases,
    root: &Path,
) -> anyhow::Result<()> {
    let wheels = part.get_mut("wheel").and_then(Item::as_array_of_tables_mut);
    let wheels = wheels.context("no wheel")?;
    // What several wheels take together cannot be told from one of them.
    ensure!(
        wheels.len() == 1,
        "it is made of {} wheels; move them by hand",
        wheels.len()
    );
    let table = wheels.get_mut(0).context("no wheel")?;
    let tags = table.get("platforms").and_then(Item::as_array);
    let tag = tags
        .and_then(|tags| tags.get(0)?.as_str())
        .unwrap_or_default()
        .to_owned();
    let Some(file) = releases.wheel(version, &tag) else {
        bail!("{name} {version} has no wheel like {tag}");
    };
    let wheel = Wheel {
        name: name.to_owned(),
        version: version.to_owned(),
        platforms: file.platforms(),
        sha256: file.sha256().to_owned(),
        bytes: file.size,
        keep: renamed(table, old, version),
    };
    let mut unpacked = kept_bytes(&wheel, file, root)?;

    put(table, "version", version);
    put(table, "sha256", wheel.sha256.as_str());
    put(table, "bytes", i64::try_from(wheel.bytes)?);
    put(
        table,
        "platforms",
        wheel.platforms.iter().collect::<Value>(),
    );
    if let Some(keep) = table.get_mut("keep").and_then(Item::as_table_like_mut) {
        keep.clear();
        for (from, to) in &wheel.keep {
            keep.insert(from, toml_edit::value(to));
        }
    }
    let written = part.get("write").and_then(Item::as_table_like);
    for (_, value) in written.into_iter().flat_map(|table| table.iter()) {
        unpacked += value.as_str().map_or(0, |text| text.len() as u64);
    }
    put(part, "unpacked_bytes", i64::try_from(unpacked)?);
    let title = text(part, "title").replace(old, version);
    put(part, "title", title);
    Ok(())
}

/// The kept files, with the new version where the old one is part of a path in the wheel.
fn renamed(wheel: &Table, old: &str, version: &str) -> BTreeMap<String, String> {
    let keep = wheel.get("keep").and_then(Item::as_table_like);
    let entries = keep.into_iter().flat_map(|keep| keep.iter());
    entries
        .map(|(from, to)| {
            (
                from.replace(old, version),
                to.as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect()
}

/// Fetches the wheel and unpacks what is kept of it, aside; its size.
fn kept_bytes(wheel: &Wheel, file: &index::File, root: &Path) -> anyhow::Result<u64> {
    let native = root.join(".native");
    std::fs::create_dir_all(&native)
        .with_context(|| format!("cannot create {}", native.display()))?;
    // Swept by the next set-up if this is interrupted.
    let work = tempfile::Builder::new()
        .prefix(".setup-")
        .tempdir_in(&native)
        .with_context(|| format!("cannot create a folder in {}", native.display()))?;
    eprintln!("fetching {wheel}");
    let path = pip::download(wheel, work.path(), |_| {})?;
    wheel::verify(wheel, &path)?;
    let bytes = path
        .metadata()
        .with_context(|| format!("cannot read {}", path.display()))?
        .len();
    ensure!(
        bytes == file.size,
        "{wheel} has {bytes} bytes, the index says {}",
        file.size
    );
    let mut files = BTreeMap::new();
    wheel::unpack(wheel, &path, &work.path().join("part"), &mut files)?;
    Ok(files.values().sum())
}
