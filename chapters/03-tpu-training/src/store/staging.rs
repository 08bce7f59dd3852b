//! A folder on this machine for files on their way to an object store.
//!
//! A process that is killed leaves its folder behind. A lock tells: the kernel lets go of it with
//! the process. So the next run on this machine removes the folders that nobody holds.

use std::fs::{self, File};
use std::path::Path;

use tempfile::TempDir;

use super::Store;
use super::error::{Action, StoreError};
use super::local::LocalFolder;

/// What the folders' names begin with.
const PREFIX: &str = "tpu-training-staging-";

/// The locked file of each.
const LOCK_FILE: &str = ".lock";

/// This process's folder; removed when it is dropped.
#[derive(Debug)]
pub(super) struct Staging {
    folder: TempDir,
    _lock: File,
}

impl Staging {
    /// Makes a folder, and removes those of processes that are gone.
    ///
    /// * `parent`: the folder of temporary files
    ///
    /// # Errors
    /// [`StoreError::Io`] if it cannot be made or locked.
    pub fn new(parent: &Path) -> Result<Self, StoreError> {
        sweep(parent);
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(parent)
            .map_err(StoreError::io(Action::Make, parent))?;
        let path = folder.path().join(LOCK_FILE);
        let lock = || {
            // Locked before it has its name: whoever finds the name finds the lock.
            let unnamed = folder.path().join(".lock-new");
            let file = File::create(&unnamed)?;
            file.lock()?;
            fs::rename(unnamed, &path)?;
            Ok(file)
        };
        let lock = lock().map_err(StoreError::io(Action::Lock, &path))?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// A new folder inside.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it cannot be made.
    pub fn stage(&self) -> Result<TempDir, StoreError> {
        LocalFolder::new(self.folder.path()).stage()
    }
}

/// Removes what can be: another user's folder is that user's business.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK_FILE)) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_processes_that_are_gone_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str, file: &str| {
            let folder = parent.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(file), "").unwrap();
            folder
        };
        let alive = Staging::new(parent.path()).unwrap();
        let dead = make(&format!("{PREFIX}dead"), LOCK_FILE);
        fs::create_dir(dead.join(".saving-abc")).unwrap();
        let unlocked_yet = make(&format!("{PREFIX}new"), "model.safetensors");
        let foreign = make("of-another-program", LOCK_FILE);

        let own = Staging::new(parent.path()).unwrap();
        assert!(!dead.exists());
        assert!(unlocked_yet.exists() && foreign.exists());
        let staged = alive.stage().unwrap();
        assert!(staged.path().starts_with(alive.folder.path()));
        drop(staged);
        drop((alive, own));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
    }
}
