//! A serving folder: published models, and a pointer to the one to serve.
//!
//! ```text
//! DIR/current                       the version's name and a newline
//! DIR/<version>/model.safetensors   the weights
//! DIR/<version>/card.json           what the model is: a JSON object
//! ```
//!
//! A version appears whole or not at all, and never changes: both files are staged in a folder of
//! another name, brought to the disk, and renamed into place; then the pointer is replaced. So a
//! reader needs no lock, and to go back is to point to an older version.
//!
//! The pointer and the names come from outside. No name leads out of the folder, and no link.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::{atomic_file, sha256};

/// The file that names the version to serve.
pub const POINTER: &str = "current";
/// The weights of a version.
pub const MODEL: &str = "model.safetensors";
/// What a version says of itself.
pub const CARD: &str = "card.json";
/// The longest name of a version, in bytes.
pub const MAX_VERSION_BYTES: usize = 128;

/// How the name of a folder begins that is not published yet.
const STAGED: &str = ".publishing-";
/// How it begins once nobody is to publish it any more.
const SWEPT: &str = ".swept-";
/// A staged folder of that age was left by a publisher that died.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder of published models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingFolder {
    path: PathBuf,
}

/// A model that is there to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its name in the folder.
    pub version: String,
    /// Its weights, a safetensors file.
    pub model: PathBuf,
    /// What it says of itself, a JSON object.
    pub card: PathBuf,
}

/// Why a model cannot be published or found.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// The folder is not there.
    #[error("{}: no such folder; give a folder that models are published to", path.display())]
    NotFound {
        /// The path as it was given.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{}: expected {expected}, got {got}", path.display())]
    Kind {
        /// The path.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        got: &'static str,
    },
    /// No folder of a version can have that name.
    #[error(
        "version {got:?}: expected 1 to {MAX_VERSION_BYTES} of the characters A-Z, a-z, 0-9, '.', \
         '_' and '-', not beginning with '.', and not {POINTER:?}; choose another name"
    )]
    Version {
        /// The name, shortened.
        got: String,
    },
    /// The pointer names no version.
    #[error(
        "{}: expected a version's name and a newline, got {got}; publish a model, or point to a \
         version that is there", path.display()
    )]
    Pointer {
        /// The pointer.
        path: PathBuf,
        /// What it holds.
        got: String,
    },
    /// A version lacks a file, or is not there at all.
    #[error(
        "version {version:?}: expected {}, got no such file; publish it again under another name, \
         or point to a version that is there", path.display()
    )]
    Missing {
        /// The version.
        version: String,
        /// What is missing.
        path: PathBuf,
    },
    /// A link leads out of the folder.
    #[error(
        "version {version:?}: expected {} in the serving folder, got a link out of it; \
         publish the model instead of linking to it", path.display()
    )]
    Outside {
        /// The version.
        version: String,
        /// The file that is elsewhere.
        path: PathBuf,
    },
    /// A version never changes.
    #[error(
        "version {version:?} is published already: expected its model (SHA-256 {expected}), got \
         another one (SHA-256 {got}); choose another name"
    )]
    Taken {
        /// The version.
        version: String,
        /// SHA-256 of the published model.
        expected: String,
        /// SHA-256 of the model that was to be published.
        got: String,
    },
    /// The card is another kind of JSON.
    #[error("the card of version {version:?}: expected a JSON object, got {got}")]
    Card {
        /// The version.
        version: String,
        /// What it is.
        got: &'static str,
    },
    /// Something cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something cannot be written; what was published is as it was.
    #[error("{}: cannot publish: {source}{}", path.display(), atomic_file::remedy(source))]
    Write {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ServingFolder {
    /// Names the folder; nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Publishes a model and points to it. Returns the version's folder.
    ///
    /// * `version`: its name, `[A-Za-z0-9._-]{1,128}`, not beginning with a dot
    /// * `model`: the weights, which are copied
    /// * `card`: what the model is, a JSON object
    ///
    /// A version that is there with the same weights keeps its card, and is pointed to again.
    /// Missing folders are created. Two publishers may work at the same time; the pointer is then
    /// that of the last one.
    ///
    /// # Errors
    /// [`ServingError`]: a bad name, a card that is no object, a version with other weights, a
    /// disk that is full or cannot be written. The pointer is then as it was.
    pub fn publish(
        &self,
        version: &str,
        model: &Path,
        card: &Value,
    ) -> Result<PathBuf, ServingError> {
        check_name(version)?;
        if let Some(got) = not_an_object(card) {
            return Err(ServingError::Card {
                version: version.to_owned(),
                got,
            });
        }
        expect_file(model, "a file with weights")?;
        fs::create_dir_all(&self.path).map_err(|source| write_error(&self.path, source))?;
        self.sweep();
        let target = self.path.join(version);
        if exists(&target)? {
            self.expect_same(version, model)?;
        } else {
            match self.stage(version, model, card) {
                // Another publisher was faster: its model decides.
                Err(ServingError::Write { .. }) if exists(&target)? => {
                    self.expect_same(version, model)?;
                }
                staged => staged?,
            }
        }
        self.point_to(version)?;
        Ok(target)
    }

    /// Points to a version that is there: a newer one, or an older one to go back to.
    ///
    /// # Errors
    /// [`ServingError`] if the version is not there or not whole, or the pointer cannot be
    /// written. The pointer is then as it was.
    pub fn point_to(&self, version: &str) -> Result<(), ServingError> {
        check_name(version)?;
        expect_folder(&self.path)?;
        self.find(version)?;
        let pointer = self.path.join(POINTER);
        atomic_file::write(&pointer, |file| writeln!(file, "{version}"))
            .map_err(|source| write_error(&pointer, source))
    }

    /// The model to serve; none as long as nothing was published.
    ///
    /// # Errors
    /// [`ServingError`] if there is no such folder, if the pointer does not name a version, or if
    /// that version is not there, not whole, or elsewhere.
    pub fn current(&self) -> Result<Option<Published>, ServingError> {
        expect_folder(&self.path)?;
        match self.pointer()? {
            Some(version) => self.find(&version).map(Some),
            None => Ok(None),
        }
    }

    /// The name in the pointer, if there is one.
    fn pointer(&self) -> Result<Option<String>, ServingError> {
        let path = self.path.join(POINTER);
        // Not through a link, and not from a pipe: to open one would wait for a writer.
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ServingError::Read { path, source }),
            Ok(about) if !about.is_file() => {
                return Err(ServingError::Kind {
                    path,
                    expected: "a file with a version's name",
                    got: kind(&about),
                });
            }
            Ok(_) => {}
        }
        let mut bytes = Vec::new();
        // One byte more than a pointer has: enough to see that it is too long.
        let most = MAX_VERSION_BYTES as u64 + 2;
        let read = File::open(&path).and_then(|file| file.take(most).read_to_end(&mut bytes));
        if let Err(source) = read {
            return Err(ServingError::Read { path, source });
        }
        let got = match std::str::from_utf8(&bytes) {
            _ if bytes.is_empty() => "an empty file".to_owned(),
            _ if bytes.len() as u64 == most => {
                format!("more than {} bytes", MAX_VERSION_BYTES + 1)
            }
            Err(_) => "bytes that are not UTF-8".to_owned(),
            // Without the newline, it may be the beginning of a longer name.
            Ok(text) => match text.strip_suffix('\n') {
                Some(version) if check_name(version).is_ok() => {
                    return Ok(Some(version.to_owned()));
                }
                _ => format!("{text:?}"),
            },
        };
        Err(ServingError::Pointer { path, got })
    }

    /// The files of a version, checked to be there and in the folder.
    ///
    /// * `version`: a checked name
    fn find(&self, version: &str) -> Result<Published, ServingError> {
        let read_error = |path: &Path, source| ServingError::Read {
            path: path.to_owned(),
            source,
        };
        let root = fs::canonicalize(&self.path).map_err(|e| read_error(&self.path, e))?;
        let folder = self.path.join(version);
        for path in [folder.clone(), folder.join(MODEL), folder.join(CARD)] {
            let real = match fs::canonicalize(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(ServingError::Missing {
                        version: version.to_owned(),
                        path,
                    });
                }
                real => real.map_err(|e| read_error(&path, e))?,
            };
            if !real.starts_with(&root) {
                return Err(ServingError::Outside {
                    version: version.to_owned(),
                    path,
                });
            }
            if path == folder {
                expect_folder(&path)?;
            } else {
                expect_file(&path, "a file of a published model")?;
            }
        }
        Ok(Published {
            version: version.to_owned(),
            model: folder.join(MODEL),
            card: folder.join(CARD),
        })
    }

    /// Makes the version's folder appear whole.
    fn stage(&self, version: &str, model: &Path, card: &Value) -> Result<(), ServingError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(STAGED);
        // As in `atomic_file`: not private, but as the process's umask says.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        // Removed with what is in it where a step fails.
        let staged = builder
            .tempdir_in(&self.path)
            .map_err(|source| write_error(&self.path, source))?;
        copy(model, &staged.path().join(MODEL))?;
        let path = staged.path().join(CARD);
        File::create_new(&path)
            .and_then(|mut file| {
                writeln!(file, "{card:#}")?;
                file.sync_all()
            })
            .map_err(|source| write_error(&path, source))?;
        let target = self.path.join(version);
        sync(staged.path())
            .and_then(|()| fs::rename(staged.path(), &target))
            .and_then(|()| sync(&self.path))
            .map_err(|source| write_error(&target, source))
    }

    /// A version that is there must have the weights that are published under its name.
    fn expect_same(&self, version: &str, model: &Path) -> Result<(), ServingError> {
        let sum = |path: &Path| {
            sha256::of_file(path).map_err(|source| ServingError::Read {
                path: path.to_owned(),
                source,
            })
        };
        let (expected, got) = (sum(&self.find(version)?.model)?, sum(model)?);
        if expected == got {
            return Ok(());
        }
        Err(ServingError::Taken {
            version: version.to_owned(),
            expected,
            got,
        })
    }

    /// Removes what publishers that died have left. Not to succeed is no error: readers pass over
    /// it.
    fn sweep(&self) {
        let now = SystemTime::now();
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let abandoned = entry
                .metadata()
                .and_then(|about| about.modified())
                .is_ok_and(|then| now.duration_since(then).is_ok_and(|age| age > ABANDONED));
            let rest = name.strip_prefix(STAGED).filter(|_| abandoned);
            // Renamed first: should its publisher live after all, it finds nothing to publish
            // instead of a folder that is half removed.
            let swept = match rest {
                Some(rest) => {
                    let swept = self.path.join(format!("{SWEPT}{rest}"));
                    fs::rename(entry.path(), &swept).ok().map(|()| swept)
                }
                None => name.starts_with(SWEPT).then(|| entry.path()),
            };
            if let Some(swept) = swept {
                let _ = fs::remove_dir_all(swept);
            }
        }
    }
}

/// Whether a version may have that name.
///
/// # Errors
/// [`ServingError::Version`].
pub fn check_name(version: &str) -> Result<(), ServingError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let sound = (1..=MAX_VERSION_BYTES).contains(&version.len())
        && version.bytes().all(allowed)
        && !version.starts_with('.')
        // Some file systems know no case.
        && !version.eq_ignore_ascii_case(POINTER);
    if sound {
        return Ok(());
    }
    Err(ServingError::Version {
        got: version.chars().take(MAX_VERSION_BYTES + 1).collect(),
    })
}

/// Copies the bytes and brings them to the disk. Permissions stay behind.
fn copy(from: &Path, to: &Path) -> Result<(), ServingError> {
    let unreadable = |source| ServingError::Read {
        path: from.to_owned(),
        source,
    };
    let mut source = File::open(from).map_err(unreadable)?;
    let mut target = File::create_new(to).map_err(|source| write_error(to, source))?;
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count.map_err(unreadable)?,
        };
        target
            .write_all(&buffer[..count])
            .map_err(|source| write_error(to, source))?;
    }
    target.sync_all().map_err(|source| write_error(to, source))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn write_error(path: &Path, source: io::Error) -> ServingError {
    ServingError::Write {
        path: path.to_owned(),
        source,
    }
}

fn exists(path: &Path) -> Result<bool, ServingError> {
    path.try_exists().map_err(|source| ServingError::Read {
        path: path.to_owned(),
        source,
    })
}

fn expect_folder(path: &Path) -> Result<(), ServingError> {
    match about(path)? {
        about if about.is_dir() => Ok(()),
        about => Err(ServingError::Kind {
            path: path.to_owned(),
            expected: "a folder of published models",
            got: kind(&about),
        }),
    }
}

fn expect_file(path: &Path, expected: &'static str) -> Result<(), ServingError> {
    match about(path)? {
        about if about.is_file() => Ok(()),
        about => Err(ServingError::Kind {
            path: path.to_owned(),
            expected,
            got: kind(&about),
        }),
    }
}

fn about(path: &Path) -> Result<fs::Metadata, ServingError> {
    fs::metadata(path).map_err(|source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => ServingError::NotFound { path },
            _ => ServingError::Read { path, source },
        }
    })
}

fn kind(about: &fs::Metadata) -> &'static str {
    if about.is_dir() {
        "a folder"
    } else if about.is_symlink() {
        "a link"
    } else if about.is_file() {
        "a file"
    } else {
        "neither a file nor a folder"
    }
}

fn not_an_object(card: &Value) -> Option<&'static str> {
    match card {
        Value::Object(_) => None,
        Value::Null => Some("null"),
        Value::Bool(_) => Some("true or false"),
        Value::Number(_) => Some("a number"),
        Value::String(_) => Some("a text"),
        Value::Array(_) => Some("an array"),
    }
}
