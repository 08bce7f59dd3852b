//! Stores that fail when a test asks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use object_store::memory::InMemory;
use tempfile::TempDir;
use tpu_training::store::{
    Action, Environment, Lock, ObjectFolder, ObjectUrl, Place, Store, StoreError,
};

/// An object store in memory, and the folder `gs://bucket/runs/a` in it.
pub fn in_memory(memory: &Arc<InMemory>) -> ObjectFolder {
    let Place::Objects(url) = Place::parse("gs://bucket/runs/a").unwrap() else {
        panic!("a URL is not a local path");
    };
    let ObjectUrl { scheme, .. } = url;
    ObjectFolder::with_store(url, Environment::new(scheme, []), memory.clone()).unwrap()
}

/// What a test turns on.
#[derive(Default)]
pub struct Faults {
    /// Publishing a folder ends with an error after this many files.
    pub files_published: AtomicUsize,
    /// Whether [`Faults::files_published`] counts.
    pub publish: AtomicBool,
    /// Reading fails.
    pub read: AtomicBool,
    /// Removing fails.
    pub remove: AtomicBool,
}

impl Faults {
    pub fn publish_only(&self, files: usize) {
        self.files_published.store(files, Ordering::Relaxed);
        self.publish.store(true, Ordering::Relaxed);
    }
}

/// A store with faults.
pub struct Faulty<S> {
    pub inner: S,
    pub faults: Arc<Faults>,
}

impl<S: Store> Faulty<S> {
    fn fail(&self, action: Action, name: &str) -> Result<(), StoreError> {
        Err(StoreError::Io {
            action,
            path: self.inner.address(name).into(),
            cause: std::io::Error::other("a fault"),
        })
    }
}

impl<S: Store> Store for Faulty<S> {
    fn address(&self, name: &str) -> String {
        self.inner.address(name)
    }

    fn prepare(&self) -> Result<(), StoreError> {
        self.inner.prepare()
    }

    fn lock(&self) -> Result<Lock, StoreError> {
        self.inner.lock()
    }

    fn folders(&self) -> Result<Vec<String>, StoreError> {
        self.inner.folders()
    }

    fn exists(&self, name: &str) -> Result<bool, StoreError> {
        self.inner.exists(name)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        if self.faults.read.load(Ordering::Relaxed) {
            self.fail(Action::Read, name)?;
        }
        self.inner.read(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        self.inner.write(name, content)
    }

    fn stage(&self) -> Result<TempDir, StoreError> {
        self.inner.stage()
    }

    fn publish_file(&self, staged: &Path, name: &str) -> Result<(), StoreError> {
        self.inner.publish_file(staged, name)
    }

    fn publish_folder(
        &self,
        staged: TempDir,
        name: &str,
        files: &[&str],
    ) -> Result<(), StoreError> {
        if !self.faults.publish.load(Ordering::Relaxed) {
            return self.inner.publish_folder(staged, name, files);
        }
        let count = self.faults.files_published.load(Ordering::Relaxed);
        for file in &files[..count] {
            let staged = staged.path().join(file);
            self.inner
                .publish_file(&staged, &format!("{name}/{file}"))?;
        }
        self.fail(Action::Write, name)
    }

    fn remove_folder(&self, name: &str, files: &[&str]) -> Result<(), StoreError> {
        if self.faults.remove.load(Ordering::Relaxed) {
            self.fail(Action::Remove, name)?;
        }
        self.inner.remove_folder(name, files)
    }
}
