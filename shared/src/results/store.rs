//! Where result files lie, and how they are read and written.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{MAX_BYTES, ResultError, ResultFile, SCHEMA_VERSION, json};
use crate::checkout::checkout_root;
use crate::privacy::Places;

/// Where a reader's own result lies:
/// `<root>/results-local/<chapter>/<machine-slug>/<measurement>.json`.
pub fn local_path(root: &Path, chapter: &str, slug: &str, measurement: &str) -> PathBuf {
    root.join("results-local")
        .join(chapter)
        .join(slug)
        .join(format!("{measurement}.json"))
}

/// The folder of the published results of one measurement on one machine:
/// `<root>/chapters/<chapter>/results/<machine-slug>/<measurement>`. The files in
/// it are named by [`ResultFile::published_name`].
pub fn published_dir(root: &Path, chapter: &str, slug: &str, measurement: &str) -> PathBuf {
    root.join("chapters")
        .join(chapter)
        .join("results")
        .join(slug)
        .join(measurement)
}

impl ResultFile {
    /// The file's name among the published ones: `<date>-<commit>.json`, with twelve
    /// digits of the commit, `-dirty` after it where the tree was, and `uncommitted`
    /// where there is no commit.
    pub fn published_name(&self) -> String {
        // The date is ASCII in a valid file; `get` for one that is not.
        let date = self.created_utc.get(..10).unwrap_or("undated");
        let commit = self
            .commit
            .as_deref()
            .map_or("uncommitted", |id| id.get(..12).unwrap_or(id));
        let dirty = match self.dirty {
            Some(true) => "-dirty",
            _ => "",
        };
        format!("{date}-{commit}{dirty}.json")
    }

    /// Reads and checks a result file.
    ///
    /// # Errors
    /// [`ResultError::Io`] if it cannot be read, [`ResultError::NotAFile`] for a
    /// folder, a pipe or a device, and [`ResultError::InFile`] with the reason if its
    /// content is refused; see [`ResultFile::parse`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ResultError> {
        let path = path.as_ref();
        let failed = |source| ResultError::Io {
            action: "read",
            path: path.to_path_buf(),
            source,
        };
        let in_file = |source| ResultError::InFile {
            path: path.to_path_buf(),
            source: Box::new(source),
        };
        // Asked before it is opened: opening a named pipe would wait for a writer.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(ResultError::NotAFile {
                path: path.to_path_buf(),
            });
        }
        let mut bytes = Vec::new();
        // One byte past the limit is enough to know, whatever size the file claims.
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
            .map_err(failed)?;
        Self::parse(&bytes).map_err(in_file)
    }

    /// Parses and checks the text of a result file. Never panics, whatever the bytes.
    ///
    /// # Errors
    /// [`ResultError::TooLarge`], [`ResultError::Json`], [`ResultError::Version`] or
    /// [`ResultError::Invalid`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ResultError> {
        /// Looked at first: a file of another version has other fields, and should
        /// not be refused for those.
        #[derive(Deserialize)]
        struct Versioned {
            #[serde(default)]
            schema_version: Value,
        }

        if bytes.len() as u64 > MAX_BYTES {
            return Err(ResultError::TooLarge {
                bytes: bytes.len() as u64,
            });
        }
        let Versioned { schema_version } = serde_json::from_slice(bytes)?;
        if schema_version != SCHEMA_VERSION {
            return Err(ResultError::Version {
                newer: schema_version
                    .as_f64()
                    .is_some_and(|version| version > f64::from(SCHEMA_VERSION)),
                got: match schema_version {
                    Value::Null => "none".to_owned(),
                    Value::Number(number) => number.to_string(),
                    Value::String(text) if text.len() < 20 => format!("{text:?}"),
                    _ => "something that is no number".to_owned(),
                },
            });
        }
        let file: Self = serde_json::from_slice(bytes)?;
        file.validate()?;
        Ok(file)
    }

    /// Writes the file: makes the folders, writes beside the target, and renames, so
    /// that nobody ever sees half a file and an older one stays if anything fails.
    ///
    /// The content is that of [`ResultFile::to_text`].
    ///
    /// # Errors
    /// Those of [`ResultFile::to_text`] (nothing is written then),
    /// [`ResultError::FileInTheWay`] if a folder cannot be made because of a file,
    /// [`ResultError::NotAFile`] if the target is a folder, and [`ResultError::Io`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), ResultError> {
        let path = path.as_ref();
        let text = self.to_text()?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        create_folder(folder)?;
        // A device such as /dev/full would be replaced by the rename.
        if path.symlink_metadata().is_ok() && !path.is_file() {
            return Err(ResultError::NotAFile {
                path: path.to_path_buf(),
            });
        }
        write_atomically(folder, path, &text).map_err(|source| ResultError::Io {
            action: "write",
            path: path.to_path_buf(),
            source,
        })
    }

    /// The file's content, for whoever writes it elsewhere than [`ResultFile::write`]: JSON that
    /// ends with a newline.
    ///
    /// Absolute paths in texts (command, notes, reasons, workload, ...) are reduced: inside
    /// the checkout to relative ones, elsewhere to their last component.
    ///
    /// # Errors
    /// [`ResultError::Invalid`] if a value is wrong, [`ResultError::TooLarge`].
    pub fn to_text(&self) -> Result<Vec<u8>, ResultError> {
        let file = self.without_paths();
        file.validate()?;
        let text = json::to_text(&file)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(ResultError::TooLarge {
                bytes: text.len() as u64,
            });
        }
        Ok(text)
    }

    /// The same file with every text made fit to be published.
    fn without_paths(&self) -> Self {
        let places = Places::here(checkout_root().as_deref());
        let clean = |text: &mut String| *text = places.text(text);
        let mut file = self.clone();
        for argument in &mut file.command {
            *argument = places.argument(argument);
        }
        file.title.iter_mut().for_each(clean);
        file.notes.iter_mut().for_each(clean);
        file.environment.libraries.values_mut().for_each(clean);
        for row in &mut file.rows {
            clean(&mut row.label);
            row.reason.iter_mut().for_each(clean);
            for (_, value) in &mut row.workload {
                if let Value::String(text) = value {
                    *text = places.argument(text);
                }
            }
        }
        file
    }
}

fn create_folder(folder: &Path) -> Result<(), ResultError> {
    std::fs::create_dir_all(folder).map_err(|source| {
        // The system says "not a directory" and not which part of the path is none.
        let in_the_way = folder
            .ancestors()
            .find(|ancestor| ancestor.symlink_metadata().is_ok())
            .filter(|ancestor| !ancestor.is_dir());
        match in_the_way {
            Some(file) => ResultError::FileInTheWay {
                folder: folder.to_path_buf(),
                file: file.to_path_buf(),
            },
            None => ResultError::Io {
                action: "create folder",
                path: folder.to_path_buf(),
                source,
            },
        }
    })
}

fn write_atomically(folder: &Path, path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".result-").suffix(".tmp");
    // A temporary file is private by default; a result is like any other file, as
    // the umask says.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(text)?;
    // On disk before the rename: after a crash there is the old file or the new one.
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename itself is durable once the folder is; not every file system lets a
    // folder be synced, and the file is in place either way.
    #[cfg(unix)]
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}
