//! Where a run keeps its files: a folder on this machine, or a prefix in an object store.
//!
//! [`Place`] is what the user typed, `results/run` or `gs://bucket/run`. [`Place::open`] makes a
//! [`Store`] of it: a dozen operations that the rest of the program is written against, blocking
//! from the caller's view. What a store promises is what a checkpoint needs: a file or a folder
//! of files appears whole or not at all.
//!
//! | file | idea |
//! | --- | --- |
//! | `place.rs` | text to a place, and what is wrong with the text |
//! | `local.rs` | a folder on disk: temporary names, fsync, rename, a lock |
//! | `objects.rs` | a prefix in an object store: the last object of a folder commits it |
//! | `staging.rs` | files on their way to an object store |
//! | `credentials.rs` | which environment variables reach the object store, and what is secret |
//! | `answers.rs` | what an object store answers, as one of our errors |
//! | `error.rs` | what can go wrong, without secrets, with what to do |
//!
//! Not here: what the files mean; that is [`crate::checkpoint`]'s.

mod answers;
mod credentials;
mod error;
mod local;
mod objects;
mod place;
mod staging;

use std::path::Path;

use tempfile::TempDir;

pub use credentials::Environment;
pub use error::{Action, AddressProblem, RemoteKind, StoreError};
pub use local::LocalFolder;
pub(crate) use local::write_synced;
pub use objects::ObjectFolder;
pub use place::{ObjectUrl, Place, Scheme};

/// A folder of files, and of folders of files, with what a checkpoint needs of it.
///
/// Names are relative to the folder, with `/` between the parts: `step-00000012/state.json`.
pub trait Store: Send + Sync {
    /// The path or URL of a file or folder inside, for messages; of the store itself for `""`.
    fn address(&self, name: &str) -> String;

    /// Makes sure that files can be written here: makes a local folder, tries an object store.
    ///
    /// # Errors
    /// [`StoreError`]: no permission, no such bucket, no credentials, no connection.
    fn prepare(&self) -> Result<(), StoreError>;

    /// Takes this folder for one run, until what is returned is dropped.
    ///
    /// A local folder is locked by the kernel, which also lets go of it when the process is
    /// killed. Under the lock, what a killed run left half-written is removed. An object store
    /// has no such lock: nothing ends the claim of a machine that is switched off. There a
    /// second run is recognised by the checkpoints that it writes; see [`crate::run_folder`].
    ///
    /// # Errors
    /// [`StoreError::InUse`] names the process that has the folder.
    fn lock(&self) -> Result<Lock, StoreError>;

    /// The names of the folders directly inside, sorted; none if there is no such folder yet.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be listed.
    fn folders(&self) -> Result<Vec<String>, StoreError>;

    /// Whether there is such a file.
    ///
    /// # Errors
    /// [`StoreError`]: the store does not say.
    fn exists(&self, name: &str) -> Result<bool, StoreError>;

    /// The content of a file.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none; other [`StoreError`]s if it cannot be read.
    fn read(&self, name: &str) -> Result<Vec<u8>, StoreError>;

    /// Writes a file, whole or not at all; an older one of that name is replaced.
    ///
    /// # Errors
    /// [`StoreError`]; an older file is then as it was.
    fn write(&self, name: &str, content: &[u8]) -> Result<(), StoreError>;

    /// A new folder on this machine to write files into, before they are published. It is
    /// removed, with its files, when it is dropped.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be made.
    fn stage(&self) -> Result<TempDir, StoreError>;

    /// Publishes one staged file under a name, whole or not at all.
    ///
    /// # Errors
    /// [`StoreError`]; an older file of that name is then as it was.
    fn publish_file(&self, staged: &Path, name: &str) -> Result<(), StoreError>;

    /// Publishes a staged folder under a name that is free.
    ///
    /// * `files`: the names of its files; the last one commits: whoever finds it finds all
    ///
    /// # Errors
    /// [`StoreError`]; then the last file is not there.
    fn publish_folder(&self, staged: TempDir, name: &str, files: &[&str])
    -> Result<(), StoreError>;

    /// Removes a folder.
    ///
    /// * `files`: the names of its files; the *last* one is removed first, so that a folder that
    ///   is half removed does not look complete
    ///
    /// # Errors
    /// [`StoreError`]; what is gone already is no error.
    fn remove_folder(&self, name: &str, files: &[&str]) -> Result<(), StoreError>;
}

/// A claim on a folder; dropping it lets go.
#[derive(Debug)]
#[must_use = "dropping it gives the folder to the next run"]
pub struct Lock {
    /// The locked file; the lock ends when it is closed. None in an object store.
    _file: Option<std::fs::File>,
}
