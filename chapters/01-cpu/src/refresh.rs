//! An engine that takes up a newer model between two batches.
//!
//! The newer one is looked for, read, checked and built on a thread of its own.
//! The pipeline's thread only exchanges one engine for the other, when no batch
//! is under way: no image waits for a model, and none is dropped. Where the newer
//! one is of no use, the one that is being served stays.
//!
//! Source: Apache Beam's `RunInference` with a side input of model metadata
//! (<https://beam.apache.org/documentation/ml/side-input-updates/>).

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Display,
    fs, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use datasets::serving::{Published, ServingFolder};
use thiserror::Error;

use crate::{
    engine::{Batch, Engine, EngineError, Logits},
    model::{Model, ModelError},
    preprocess::Transform,
    tch_engine::LoadError,
};

/// The name of a published model. Clones share it.
pub type Version = Arc<str>;

/// Why a newer model is not taken up.
#[derive(Debug, Error)]
pub enum RefreshError {
    /// It cannot be read, or is no model.
    #[error(transparent)]
    Model(#[from] Box<ModelError>),
    /// It cannot be prepared.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It does not compute.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It is a model for other pictures, or of other classes.
    #[error("expected {what} {expected}, as the model has that is being served, got {got}")]
    Differs {
        /// What differs.
        what: &'static str,
        /// As the pipeline was built for.
        expected: String,
        /// As the newer model has it.
        got: String,
    },
    /// Its scores are not numbers.
    #[error("expected finite scores of {classes} classes for a grey image, got {got:?}")]
    Scores {
        /// How many there should be.
        classes: usize,
        /// The first of those that came.
        got: Vec<f32>,
    },
}

/// An engine that waits to be taken up.
type Next = Arc<Mutex<Option<(Version, Box<dyn Engine>)>>>;

/// Wraps an engine for `--serve-from`.
pub struct Refreshing {
    engine: Box<dyn Engine>,
    version: Version,
    next: Next,
    served: Served,
}

/// Which version served which image. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Served(Arc<Mutex<Account>>);

#[derive(Debug, Default)]
struct Account {
    /// Images of each batch whose predictions are under way, in their order.
    under_way: VecDeque<(Version, usize)>,
    /// Images by version, in the order of first use.
    images: Vec<(Version, usize)>,
}

impl Served {
    /// The version that served the next image, which is counted.
    ///
    /// To be called once for each image that has scores, in the order of the
    /// batches. `None` for an image that no batch had.
    pub fn count(&self) -> Option<Version> {
        let mut account = locked(&self.0);
        let (version, left) = account.under_way.front_mut()?;
        let version = Arc::clone(version);
        *left -= 1;
        if *left == 0 {
            account.under_way.pop_front();
        }
        match account.images.iter_mut().find(|(v, _)| *v == version) {
            Some((_, images)) => *images += 1,
            None => account.images.push((Arc::clone(&version), 1)),
        }
        Some(version)
    }

    /// How many images each version served, in the order of first use.
    pub fn images(&self) -> Vec<(Version, usize)> {
        locked(&self.0).images.clone()
    }

    fn add(&self, version: &Version, images: usize) {
        if images > 0 {
            let batch = (Arc::clone(version), images);
            locked(&self.0).under_way.push_back(batch);
        }
    }
}

impl Refreshing {
    /// * `engine`: what serves until there is something newer
    /// * `version`: its model's
    pub fn new(engine: Box<dyn Engine>, version: impl Into<Version>) -> Self {
        Refreshing {
            engine,
            version: version.into(),
            next: Next::default(),
            served: Served::default(),
        }
    }

    /// Which version served what, to be read while the engine is at work elsewhere.
    pub fn served(&self) -> Served {
        self.served.clone()
    }

    /// Starts to look for newer models.
    ///
    /// * `folder`: where they are published
    /// * `every`: time from one look to the next
    /// * `load`: reads, checks and builds; on the thread that looks
    /// * `on_news`: told what was taken up, and why something was not
    ///
    /// # Errors
    /// What the system said, if there is no thread to be had.
    pub fn watch(
        &self,
        folder: ServingFolder,
        every: Duration,
        load: impl FnMut(&Published) -> Result<Box<dyn Engine>, RefreshError> + Send + 'static,
        on_news: impl FnMut(News) + Send + 'static,
    ) -> io::Result<Watcher> {
        let (stop, stopped) = mpsc::channel::<()>();
        let mut watch = Watch {
            folder,
            newest: Arc::clone(&self.version),
            next: Arc::clone(&self.next),
            refused: BTreeMap::new(),
            told: None,
            load,
            on_news,
        };
        let thread = thread::Builder::new()
            .name("refresh".into())
            .spawn(move || {
                while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    watch.look();
                }
            })?;
        Ok(Watcher {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Engine for Refreshing {
    // ANCHOR: refresh
    fn infer(&mut self, batch: Batch) -> Result<Logits, EngineError> {
        if let Some((version, engine)) = locked(&self.next).take() {
            self.version = version;
            self.engine = engine;
        }
        let logits = self.engine.infer(batch)?;
        let images = logits.rows().len().min(batch.shape[0]);
        self.served.add(&self.version, images);
        Ok(logits)
    }
    // ANCHOR_END: refresh

    fn image_shape(&self) -> [usize; 3] {
        self.engine.image_shape()
    }
}

/// What became of a newer model.
#[derive(Debug)]
pub enum News {
    /// It serves from the next batch on.
    TakenUp {
        /// Its name.
        version: Version,
    },
    /// It is of no use. Told once for each version.
    Refused {
        /// Its name.
        version: Version,
        /// What is wrong with it.
        error: RefreshError,
    },
    /// The folder does not say what to serve. Told once in a row.
    Unclear {
        /// What it says instead.
        reason: String,
    },
}

/// The thread that looks for newer models. It ends when this is dropped, after
/// the model that it is at.
#[derive(Debug)]
pub struct Watcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Waited for: a process must not end while a thread is inside libtorch.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Length and time of a file: another file under the same name has others.
type Stamp = Option<(u64, SystemTime)>;

struct Watch<L, N> {
    folder: ServingFolder,
    /// The version that serves, or that waits to.
    newest: Version,
    next: Next,
    /// Versions that were of no use, as their files were then.
    refused: BTreeMap<String, Stamp>,
    /// What was last told of the folder.
    told: Option<String>,
    load: L,
    on_news: N,
}

impl<L, N> Watch<L, N>
where
    L: FnMut(&Published) -> Result<Box<dyn Engine>, RefreshError>,
    N: FnMut(News),
{
    // ANCHOR: look
    fn look(&mut self) {
        let published = match self.folder.current() {
            Ok(Some(published)) => published,
            Ok(None) => return self.unclear("no version is pointed to any more"),
            Err(error) => return self.unclear(error),
        };
        self.told = None;
        if *published.version == *self.newest {
            return;
        }
        // Once is enough to read a file that is damaged; a folder that is copied
        // by other means may still be under way.
        let stamp = stamp(&published);
        let before = self.refused.get(&published.version);
        if before.is_some_and(|before| *before == stamp) {
            return;
        }
        let version = Version::from(published.version.as_str());
        match (self.load)(&published) {
            Ok(engine) => {
                self.newest = Arc::clone(&version);
                *locked(&self.next) = Some((Arc::clone(&version), engine));
                (self.on_news)(News::TakenUp { version });
            }
            Err(error) => {
                if self.refused.insert(published.version, stamp).is_none() {
                    (self.on_news)(News::Refused { version, error });
                }
            }
        }
    }
    // ANCHOR_END: look

    fn unclear(&mut self, reason: impl Display) {
        let reason = reason.to_string();
        if self.told.as_ref() != Some(&reason) {
            self.told = Some(reason.clone());
            (self.on_news)(News::Unclear { reason });
        }
    }
}

fn stamp(published: &Published) -> Stamp {
    let about = fs::metadata(&published.model).ok()?;
    Some((about.len(), about.modified().ok()?))
}

/// What goes into a model, and what its scores mean: what the pipeline was built for.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    channels: usize,
    transform: Transform,
    classes: usize,
    labels: Vec<String>,
}

impl Signature {
    /// A model's.
    pub fn of(model: &Model) -> Self {
        Signature {
            channels: model.config.channels,
            transform: model.transform.clone(),
            classes: model.config.classes,
            labels: model.labels.clone(),
        }
    }

    /// Whether a newer model has the same.
    ///
    /// # Errors
    /// [`RefreshError::Differs`] if its pictures would have to be prepared in another
    /// way, or if a class would mean something else.
    pub fn check(&self, newer: &Model) -> Result<(), RefreshError> {
        let newer = Signature::of(newer);
        let both = |what, say: &dyn Fn(&Signature) -> String| {
            Err(RefreshError::Differs {
                what,
                expected: say(self),
                got: say(&newer),
            })
        };
        if self.channels != newer.channels {
            return both("images with channels:", &|of| of.channels.to_string());
        }
        if self.transform != newer.transform {
            return both("images of", &|of| {
                let Transform {
                    resize,
                    crop,
                    mean,
                    std,
                } = &of.transform;
                format!("{crop} x {crop} pixels (resize {resize:?}, mean {mean:?}, std {std:?})")
            });
        }
        if self.classes != newer.classes {
            return both("classes:", &|of| of.classes.to_string());
        }
        if self.labels != newer.labels {
            let mut names = self.labels.iter().zip(&newer.labels);
            let first = names.position(|(a, b)| a != b).unwrap_or(0);
            return both("names of classes:", &|of| match of.labels.get(first) {
                Some(label) => format!("{label:?} for class {first}"),
                None => "no names".to_owned(),
            });
        }
        Ok(())
    }
}

/// Runs one grey image, so that what does not compute is not taken up.
///
/// # Errors
/// What the engine refuses, and [`RefreshError::Scores`] where its scores are not
/// numbers.
pub fn try_one(engine: &mut dyn Engine, classes: usize) -> Result<(), RefreshError> {
    let [channels, height, width] = engine.image_shape();
    let pixels = vec![0.0; channels * height * width];
    let logits = engine.infer(Batch {
        pixels: &pixels,
        shape: [1, channels, height, width],
    })?;
    let finite = logits.values.iter().all(|score| score.is_finite());
    if finite && logits.values.len() == classes {
        return Ok(());
    }
    let mut got = logits.values;
    got.truncate(5);
    Err(RefreshError::Scores { classes, got })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
