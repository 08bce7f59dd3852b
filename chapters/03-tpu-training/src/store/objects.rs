//! A prefix in an object store.
//!
//! An object appears whole or not at all, but there is no rename of many objects: a folder of
//! them is complete when the one that is written last is there.

use std::path::Path;
use std::sync::{Arc, mpsc};

use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, RetryConfig, WriteMultipart};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

use super::answers::remote;
use super::credentials::Environment;
use super::error::{Action, StoreError};
use super::place::{ObjectUrl, Scheme};
use super::staging::Staging;
use super::{Lock, Store};

/// Objects above this size are sent in parts of this size, in bytes: a part that fails is sent
/// again, not the whole, and none takes longer than a request may.
const PART_BYTES: usize = 8 << 20;

/// Parts in flight at once.
const PARTS_AT_ONCE: usize = 4;

/// How long one request may take, unless the environment says otherwise: a part of
/// [`PART_BYTES`] at 70 kB/s.
const TIMEOUT: &str = "120 seconds";

/// How often a request is repeated before a run begins.
const FIRST_RETRIES: usize = 3;

/// An object that shows at the beginning of a run, and not after an epoch, that writing works.
const WRITE_CHECK: &str = ".write-check";

/// A prefix in an object store as a [`Store`].
pub struct ObjectFolder {
    url: ObjectUrl,
    environment: Environment,
    store: Arc<dyn ObjectStore>,
    /// The same, less patient: what is wrong from the beginning should be told in seconds.
    first_contact: Arc<dyn ObjectStore>,
    staging: Staging,
    /// Never empty but while it is dropped.
    runtime: Option<Runtime>,
}

impl ObjectFolder {
    /// A prefix in the store that its scheme names, with the environment's settings.
    ///
    /// Requests that fail are repeated by the crate `object_store`, with growing pauses, as its
    /// own default says: up to 10 times within 3 minutes. Only [`Store::prepare`] gives up
    /// sooner.
    ///
    /// # Errors
    /// [`StoreError::Remote`]: settings that make no sense. No connection is opened yet.
    pub fn connect(url: &ObjectUrl, environment: &Environment) -> Result<Self, StoreError> {
        Self::connect_with(url, environment, RetryConfig::default())
    }

    /// As [`ObjectFolder::connect`], with other rules for repeating.
    ///
    /// # Errors
    /// As [`ObjectFolder::connect`].
    pub fn connect_with(
        url: &ObjectUrl,
        environment: &Environment,
        retry: RetryConfig,
    ) -> Result<Self, StoreError> {
        let first = RetryConfig {
            max_retries: retry.max_retries.min(FIRST_RETRIES),
            ..retry.clone()
        };
        // For the whole process, and kept if the program has chosen another: TLS has no meaning
        // of its own here, and reqwest asks for the process's provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let build = |retry| {
            let built = match url.scheme {
                Scheme::S3 => amazon(url, environment, retry),
                Scheme::Gs => google(url, environment, retry),
            };
            built.map_err(|error| {
                remote(
                    Action::Open,
                    &url.to_string(),
                    url.scheme,
                    environment,
                    &error,
                )
            })
        };
        let mut folder = Self::with_store(url.clone(), environment.clone(), build(retry)?)?;
        folder.first_contact = build(first)?;
        Ok(folder)
    }

    /// A prefix in a store that is there already, such as one in memory.
    ///
    /// # Errors
    /// [`StoreError::Io`]: no thread can be started.
    pub fn with_store(
        url: ObjectUrl,
        environment: Environment,
        store: Arc<dyn ObjectStore>,
    ) -> Result<Self, StoreError> {
        Self::new(url, environment, Arc::clone(&store), store)
    }

    fn new(
        url: ObjectUrl,
        environment: Environment,
        store: Arc<dyn ObjectStore>,
        first_contact: Arc<dyn ObjectStore>,
    ) -> Result<Self, StoreError> {
        // A thread of its own: it also serves idle connections while the training computes.
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("object-store")
            .enable_all()
            .build()
            .map_err(StoreError::io(Action::Open, Path::new(&url.to_string())))?;
        Ok(Self {
            url,
            environment,
            store,
            first_contact,
            staging: Staging::new(&std::env::temp_dir())?,
            runtime: Some(runtime),
        })
    }

    fn key(&self, name: &str) -> Key {
        Key::from(self.url.join(name).prefix)
    }

    /// Runs one operation on the store's thread, and waits for it.
    ///
    /// Unlike `block_on`, this also works on a thread that already belongs to a runtime.
    fn wait<T, F>(
        &self,
        operation: impl FnOnce(Arc<dyn ObjectStore>) -> F,
    ) -> object_store::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        self.wait_for(operation(Arc::clone(&self.store)))
    }

    fn wait_for<T: Send + 'static>(
        &self,
        future: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> object_store::Result<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                // The receiver waits below; it cannot be gone.
                let _ = sender.send(future.await);
            });
        }
        receiver.recv().unwrap_or_else(|_| {
            Err(object_store::Error::Generic {
                store: "object store",
                source: "the operation ended without a result".into(),
            })
        })
    }

    /// Turns an error of the crate into ours.
    fn failed(&self, action: Action, name: &str) -> impl FnOnce(object_store::Error) -> StoreError {
        let url = self.url.join(name).to_string();
        move |error| remote(action, &url, self.url.scheme, &self.environment, &error)
    }

    fn put(&self, name: &str, content: Vec<u8>) -> Result<(), StoreError> {
        let key = self.key(name);
        let whole = content.len() <= PART_BYTES;
        self.wait(|store| async move {
            if whole {
                store.put(&key, PutPayload::from(content)).await?;
                return Ok(());
            }
            let upload = store.put_multipart(&key).await?;
            let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
            for part in content.chunks(PART_BYTES) {
                if let Err(error) = writer.wait_for_capacity(PARTS_AT_ONCE).await {
                    // What was sent would be kept, and paid for, unseen.
                    let _ = writer.abort().await;
                    return Err(error);
                }
                writer.write(part);
            }
            writer.finish().await?;
            Ok(())
        })
        .map_err(self.failed(Action::Write, name))
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let key = self.key(name);
        match self.wait(|store| async move { store.delete(&key).await }) {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            result => result.map_err(self.failed(Action::Remove, name)),
        }
    }
}

impl Store for ObjectFolder {
    fn address(&self, name: &str) -> String {
        self.url.join(name).to_string()
    }

    fn prepare(&self) -> Result<(), StoreError> {
        let (prefix, key) = (self.key(""), self.key(WRITE_CHECK));
        let store = || Arc::clone(&self.first_contact);
        let (list, put, delete) = (store(), store(), store());
        self.wait_for(async move { list.list_with_delimiter(Some(&prefix)).await })
            .map_err(self.failed(Action::List, ""))?;
        let check = key.clone();
        self.wait_for(async move { put.put(&check, PutPayload::new()).await })
            .map_err(self.failed(Action::Write, WRITE_CHECK))?;
        match self.wait_for(async move { delete.delete(&key).await }) {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            result => result.map_err(self.failed(Action::Remove, WRITE_CHECK)),
        }
    }

    fn lock(&self) -> Result<Lock, StoreError> {
        Ok(Lock { _file: None })
    }

    fn folders(&self) -> Result<Vec<String>, StoreError> {
        let prefix = self.key("");
        let listing = self
            .wait(|store| async move { store.list_with_delimiter(Some(&prefix)).await })
            .map_err(self.failed(Action::List, ""))?;
        let mut names: Vec<String> = listing
            .common_prefixes
            .iter()
            .filter_map(|folder| folder.filename().map(str::to_owned))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, name: &str) -> Result<bool, StoreError> {
        let key = self.key(name);
        match self.wait(|store| async move { store.head(&key).await }) {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(Action::Read, name)(error)),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let key = self.key(name);
        match self.wait(|store| async move { store.get(&key).await?.bytes().await }) {
            Ok(content) => Ok(content.into()),
            Err(object_store::Error::NotFound { .. }) => Err(StoreError::NotFound {
                address: self.address(name),
            }),
            Err(error) => Err(self.failed(Action::Read, name)(error)),
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        self.put(name, content.to_owned())
    }

    fn stage(&self) -> Result<TempDir, StoreError> {
        self.staging.stage()
    }

    fn publish_file(&self, staged: &Path, name: &str) -> Result<(), StoreError> {
        let content = std::fs::read(staged).map_err(StoreError::io(Action::Read, staged))?;
        self.put(name, content)
    }

    fn publish_folder(
        &self,
        staged: TempDir,
        name: &str,
        files: &[&str],
    ) -> Result<(), StoreError> {
        files.iter().try_for_each(|file| {
            self.publish_file(&staged.path().join(file), &format!("{name}/{file}"))
        })
    }

    fn remove_folder(&self, name: &str, files: &[&str]) -> Result<(), StoreError> {
        files
            .iter()
            .rev()
            .try_for_each(|file| self.delete(&format!("{name}/{file}")))
    }
}

impl Drop for ObjectFolder {
    fn drop(&mut self) {
        // To wait for the thread is forbidden on a thread of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn amazon(
    url: &ObjectUrl,
    environment: &Environment,
    retry: RetryConfig,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::new();
    for (name, value) in [("timeout", TIMEOUT)]
        .into_iter()
        .chain(environment.settings())
    {
        // Names that are not known are other programs' (AWS_PROFILE, AWS_PAGER).
        if let Ok(key) = name.parse() {
            builder = builder.with_config(key, value);
        }
    }
    // Last: the address wins over AWS_BUCKET.
    let store = builder
        .with_bucket_name(&url.bucket)
        .with_retry(retry)
        .build()?;
    Ok(Arc::new(store))
}

fn google(
    url: &ObjectUrl,
    environment: &Environment,
    retry: RetryConfig,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = GoogleCloudStorageBuilder::new();
    for (name, value) in [("timeout", TIMEOUT)]
        .into_iter()
        .chain(environment.settings())
    {
        if let Ok(key) = name.parse() {
            builder = builder.with_config(key, value);
        }
    }
    let store = builder
        .with_bucket_name(&url.bucket)
        .with_retry(retry)
        .build()?;
    Ok(Arc::new(store))
}
