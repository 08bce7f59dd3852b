//! A folder on disk.
//!
//! What is being written stands under a temporary name in the same folder: `.saving-...`. It
//! reaches the disk (fsync) before it gets its name (rename), and the name reaches the disk
//! (fsync of the folder) before the call returns. A reader, a kill and a power cut therefore
//! find the old state or the new one.

use std::fs::{self, File, FileType, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::error::{Action, StoreError};
use super::{Lock, Store};

/// The locked file. It stays when the run ends: to remove it would race with the next run.
const LOCK_FILE: &str = ".lock";

/// What names of unfinished things begin with.
const TEMPORARY: &str = ".saving-";

/// A folder on disk as a [`Store`].
#[derive(Debug)]
pub struct LocalFolder {
    root: PathBuf,
}

impl LocalFolder {
    /// The folder at a path; it need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { root: path.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        match name {
            "" => self.root.clone(),
            name => self.root.join(name),
        }
    }

    /// Removes what a run that was killed left under temporary names. Only under the lock.
    fn sweep(&self) -> Result<(), StoreError> {
        for (name, _) in entries(&self.root)? {
            if name.starts_with(TEMPORARY) {
                remove(&self.path(&name))?;
            }
        }
        Ok(())
    }
}

impl Store for LocalFolder {
    fn address(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn prepare(&self) -> Result<(), StoreError> {
        if fs::metadata(&self.root).is_ok_and(|found| !found.is_dir()) {
            return Err(StoreError::Kind {
                path: self.root.clone(),
                expected: "a folder",
                got: "a file",
            });
        }
        make(&self.root).map_err(StoreError::io(Action::Make, &self.root))
    }

    fn lock(&self) -> Result<Lock, StoreError> {
        let path = self.path(LOCK_FILE);
        let failed = |source| StoreError::io(Action::Lock, &path)(source);
        // Not truncated here: until the lock is ours, the number in it is another process's.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // A lock file without a number still says that the folder is taken.
                let _ = (&file).take(32).read_to_string(&mut text);
                return Err(StoreError::InUse {
                    path: self.root.clone(),
                    pid: text.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        self.sweep()?;
        Ok(Lock { _file: Some(file) })
    }

    fn folders(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for (name, kind) in entries(&self.root)? {
            // To ask by the name, as for a link, would miss what is removed in between.
            if kind.is_dir() || (kind.is_symlink() && self.path(&name).is_dir()) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.path(name);
        path.try_exists()
            .map_err(StoreError::io(Action::Read, &path))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.path(name);
        let failed = |source| StoreError::io(Action::Read, &path)(source);
        let found = fs::metadata(&path).map_err(failed)?;
        if !found.is_file() {
            // Checked before opening: to open a pipe would wait for a writer.
            return Err(StoreError::Kind {
                path,
                expected: "a file",
                got: if found.is_dir() {
                    "a folder"
                } else {
                    "something else"
                },
            });
        }
        fs::read(&path).map_err(failed)
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        let staging = self.stage()?;
        let staged = staging.path().join("content");
        write_synced(&staged, content)?;
        self.publish_file(&staged, name)
    }

    fn stage(&self) -> Result<TempDir, StoreError> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY);
        // Without this the folder would be private (0700): `tempfile` is made for secrets. The
        // process's umask still applies.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        builder
            .tempdir_in(&self.root)
            .map_err(StoreError::io(Action::Make, &self.root))
    }

    fn publish_file(&self, staged: &Path, name: &str) -> Result<(), StoreError> {
        let path = self.path(name);
        let failed = |source| StoreError::io(Action::Write, &path)(source);
        let parent = path.parent().unwrap_or(&self.root);
        sync(staged).map_err(failed)?;
        fs::rename(staged, &path).map_err(failed)?;
        sync(parent).map_err(failed)
    }

    // ANCHOR: publish
    fn publish_folder(
        &self,
        staged: TempDir,
        name: &str,
        files: &[&str],
    ) -> Result<(), StoreError> {
        let path = self.path(name);
        let failed = |source| StoreError::io(Action::Write, &path)(source);
        for file in files {
            sync(&staged.path().join(file)).map_err(failed)?;
        }
        sync(staged.path()).map_err(failed)?;
        fs::rename(staged.path(), &path).map_err(failed)?;
        // The folder has another name now; there is nothing left to remove.
        let _ = staged.keep();
        sync(&self.root).map_err(failed)
    }
    // ANCHOR_END: publish

    fn remove_folder(&self, name: &str, files: &[&str]) -> Result<(), StoreError> {
        let path = self.path(name);
        if let Some(commit) = files.last() {
            remove(&path.join(commit))?;
        }
        remove(&path)
    }
}

/// Writes a new file and waits for the disk.
///
/// # Errors
/// Any error of the file system.
pub(crate) fn write_synced(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(StoreError::io(Action::Write, path))
}

/// Makes a folder and those above it that are missing, and waits for the disk.
fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // A working directory that was removed is its own parent.
    if parent != folder {
        make(parent)?;
    }
    match fs::create_dir(folder) {
        // Another run may make it at the same time.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
        // The folder's name is an entry of its parent's.
        Ok(()) => sync(parent),
    }
}

/// Waits until a file or folder has reached the disk.
fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What is in a folder, as far as the names are UTF-8: no other name is ours. Nothing if there
/// is no such folder.
fn entries(folder: &Path) -> Result<Vec<(String, FileType)>, StoreError> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io(Action::List, folder)(error)),
    };
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry.map_err(StoreError::io(Action::List, folder))?;
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            // Removed in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(StoreError::io(Action::List, &entry.path())(error)),
        };
        found.extend(
            entry
                .file_name()
                .into_string()
                .ok()
                .map(|name| (name, kind)),
        );
    }
    Ok(found)
}

/// Removes a file or a folder with all that is in it; what is gone already is no error.
fn remove(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io(Action::Remove, path)(error))
        }
        _ => Ok(()),
    }
}
