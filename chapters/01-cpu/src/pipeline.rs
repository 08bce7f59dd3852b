//! Pictures in, predictions out: a stream of stages with bounded queues.
//!
//! ```text
//! read -> decode -> resize -> normalise     in parallel, on blocking threads
//!   -> batch                                one task: by size, by pixels, by waiting time
//!   -> infer -> top-k                       one thread: the model uses the cores itself
//!   -> write                                one thread
//! ```
//!
//! Every queue has an end: a slow stage holds back those before it, so that
//! memory stays the same for a hundred pictures and for a million. Order is
//! kept, and what goes in comes out: a prediction, or the reason for none.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fast_image_resize::Resizer;
use futures::{StreamExt, stream};
use serde::Serialize;
use thiserror::Error;
use tokio::{
    sync::mpsc,
    task::{JoinError, spawn_blocking},
    time::timeout_at,
};

use crate::{
    engine::{Batch, Engine, EngineError},
    preprocess::{self, Picture, Transform},
};

/// Largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

/// One picture on its way in.
#[derive(Clone, Debug)]
pub struct Item {
    /// Position in the stream.
    pub index: usize,
    /// Name in the predictions, such as a path below the folder of pictures.
    pub name: String,
    /// The right answer, where it is known.
    pub label: Option<usize>,
    /// Where the pixels come from.
    pub input: Input,
}

/// Where the pixels of an item come from.
#[derive(Clone, Debug)]
pub enum Input {
    /// A JPEG or PNG file.
    File(PathBuf),
    /// Pixels of a data set that is in memory already.
    Picture(Picture),
}

/// How the stream is cut into batches, and how much runs at once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most images in a batch, at least 1.
    pub batch: usize,
    /// Most pixels in a batch, channels counted: the cost that keeps a batch of
    /// large images from filling the memory.
    pub max_pixels: Option<usize>,
    /// Longest time that the first image of a batch waits for others.
    pub max_wait: Duration,
    /// Pictures that are decoded at the same time.
    pub decoders: usize,
    /// Classes in a prediction.
    pub top_k: usize,
}

/// One class of a prediction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Index of the class.
    pub class: usize,
    /// Softmax of the logits, `0..=1`.
    pub probability: f32,
}

/// What came of one item.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// Position in the stream.
    pub index: usize,
    /// The item's name.
    pub name: String,
    /// The right answer, where it is known.
    pub label: Option<usize>,
    /// The likeliest classes, or why there are none.
    pub outcome: Result<Vec<Score>, String>,
    /// When the item entered the pipeline.
    pub entered: Instant,
}

/// Busy time of each stage in seconds, summed over its threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StageSeconds {
    /// Reading the file.
    pub read: f64,
    /// JPEG or PNG to RGB.
    pub decode: f64,
    /// Scaling the shorter side.
    pub resize: f64,
    /// Crop, to float, to planes.
    pub normalise: f64,
    /// Copying images side by side.
    pub batch: f64,
    /// The model.
    pub infer: f64,
    /// Softmax and selection.
    pub top_k: f64,
    /// Writing the predictions.
    pub write: f64,
}

impl StageSeconds {
    /// Stage names and seconds, in the order of the stream.
    pub fn stages(&self) -> [(&'static str, f64); 8] {
        [
            ("read", self.read),
            ("decode", self.decode),
            ("resize", self.resize),
            ("normalise", self.normalise),
            ("batch", self.batch),
            ("infer", self.infer),
            ("top-k", self.top_k),
            ("write", self.write),
        ]
    }
}

/// What the pipeline did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Items taken from the source.
    pub read: usize,
    /// Predictions written.
    pub predicted: usize,
    /// Items without a prediction.
    pub failed: usize,
    /// Items whose right answer is known.
    pub labelled: usize,
    /// Of these, those whose first class is right.
    pub correct: usize,
    /// Batches run.
    pub batches: usize,
    /// Wall-clock seconds from the first item to the last write.
    pub seconds: f64,
    /// From entering to being written, seconds, one an image.
    pub latencies: Vec<f64>,
    /// Seconds between one full batch and the next, once both are written.
    pub batch_seconds: Vec<f64>,
    /// Where the time went.
    pub stages: StageSeconds,
    /// Whether it was asked to stop before the source was empty.
    pub interrupted: bool,
}

/// Why the pipeline ended early. What was written stays written.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// The model refused a batch.
    #[error("inference failed")]
    Engine(#[from] EngineError),
    /// A prediction could not be written.
    #[error("cannot write predictions")]
    Write(#[source] io::Error),
    /// A thread of the pipeline died.
    #[error("a stage of the pipeline died")]
    Stage(#[from] JoinError),
}

/// Nanoseconds of work, counted by all threads of a stage.
#[derive(Default)]
struct Clock(AtomicU64);

impl Clock {
    fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
        result
    }

    fn seconds(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / 1e9
    }
}

#[derive(Default)]
struct Clocks {
    read: Clock,
    decode: Clock,
    resize: Clock,
    normalise: Clock,
    batch: Clock,
    infer: Clock,
    top_k: Clock,
    write: Clock,
}

impl Clocks {
    fn seconds(&self) -> StageSeconds {
        StageSeconds {
            read: self.read.seconds(),
            decode: self.decode.seconds(),
            resize: self.resize.seconds(),
            normalise: self.normalise.seconds(),
            batch: self.batch.seconds(),
            infer: self.infer.seconds(),
            top_k: self.top_k.seconds(),
            write: self.write.seconds(),
        }
    }
}

/// An item with its pixels ready for the model, or the reason why not.
struct Prepared {
    item: Header,
    pixels: Result<Vec<f32>, String>,
}

struct Header {
    index: usize,
    name: String,
    label: Option<usize>,
    entered: Instant,
}

/// Images side by side, and the items that they, or their errors, belong to.
struct Group {
    pixels: Vec<f32>,
    items: Vec<(Header, Option<String>)>,
}

// ANCHOR: run
/// Runs the stream to its end, or until `stop` is set; what is under way then
/// is finished and written.
///
/// * `source`: asked for the next item only when there is room for it
/// * `sink`: called once an item, in the order of the source
///
/// # Errors
/// [`PipelineError`] if the engine or the sink fails. A bad picture is no
/// error: it is a [`Prediction`] with a reason.
pub async fn run(
    source: impl Iterator<Item = Item> + Send + 'static,
    transform: Transform,
    engine: Box<dyn Engine>,
    settings: Settings,
    stop: Arc<AtomicBool>,
    sink: impl FnMut(&Prediction) -> io::Result<()> + Send + 'static,
) -> Result<(Report, Box<dyn Engine>), PipelineError> {
    let clocks = Arc::new(Clocks::default());
    let start = Instant::now();
    // Each queue holds about one batch: enough to keep the next stage busy.
    let (prepared_tx, prepared_rx) = mpsc::channel(settings.batch);
    let (group_tx, group_rx) = mpsc::channel(1);
    let (done_tx, done_rx) = mpsc::channel(2);
    let (spare_tx, spare_rx) = mpsc::channel(4);

    // On a thread of its own: a source that waits (for a camera, for a disk)
    // must not hold up the tasks.
    let (item_tx, item_rx) = mpsc::channel(1);
    let reading = spawn_blocking({
        let stop = Arc::clone(&stop);
        move || {
            source
                .take_while(|_| !stop.load(Ordering::Relaxed))
                .try_for_each(|item| item_tx.blocking_send(item))
                // Refused only if the stages behind have ended; they say why.
                .unwrap_or_default()
        }
    });
    let feeding = tokio::spawn(feed(
        item_rx,
        Arc::new(transform),
        settings.decoders,
        Arc::clone(&clocks),
        prepared_tx,
    ));
    let batching = tokio::spawn(form_batches(
        prepared_rx,
        group_tx,
        spare_rx,
        settings.clone(),
        engine.image_shape(),
        Arc::clone(&clocks),
    ));
    let inferring = spawn_blocking({
        let clocks = Arc::clone(&clocks);
        move || infer(engine, group_rx, done_tx, spare_tx, settings.top_k, &clocks)
    });
    let writing = spawn_blocking({
        let clocks = Arc::clone(&clocks);
        move || write(done_rx, sink, &clocks)
    });

    // A stage that ends early closes its queue, and those before it follow.
    let read = feeding.await?;
    reading.await?;
    batching.await?;
    let inferred = inferring.await?;
    let mut report = writing.await?.map_err(PipelineError::Write)?;
    let (engine, batches) = inferred?;
    report.read = read;
    report.batches = batches;
    report.seconds = start.elapsed().as_secs_f64();
    report.stages = clocks.seconds();
    report.interrupted = stop.load(Ordering::Relaxed);
    Ok((report, engine))
}
// ANCHOR_END: run

// ANCHOR: feed
/// Prepares `decoders` pictures at a time and hands them on in their order.
async fn feed(
    mut items: mpsc::Receiver<Item>,
    transform: Arc<Transform>,
    decoders: usize,
    clocks: Arc<Clocks>,
    prepared: mpsc::Sender<Prepared>,
) -> usize {
    let resizers: Arc<Mutex<Vec<Resizer>>> = Arc::default();
    let mut stream = stream::poll_fn(move |context| items.poll_recv(context))
        .map(|item| {
            let entered = Instant::now();
            let (transform, clocks, resizers) = (
                Arc::clone(&transform),
                Arc::clone(&clocks),
                Arc::clone(&resizers),
            );
            async move {
                let header = Header {
                    index: item.index,
                    name: item.name,
                    label: item.label,
                    entered,
                };
                let work = spawn_blocking(move || {
                    let mut resizer = unpoisoned(&resizers).pop().unwrap_or_default();
                    let pixels = prepare(item.input, &transform, &mut resizer, &clocks);
                    unpoisoned(&resizers).push(resizer);
                    pixels
                });
                // A decoder that panics has met a picture that it cannot read.
                let pixels = work
                    .await
                    .unwrap_or_else(|_| Err("the decoder gave up on it".to_owned()));
                Prepared {
                    item: header,
                    pixels,
                }
            }
        })
        .buffered(decoders.max(1));
    let mut read = 0;
    while let Some(item) = stream.next().await {
        if prepared.send(item).await.is_err() {
            break;
        }
        read += 1;
    }
    read
}
// ANCHOR_END: feed

fn unpoisoned<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that happens to one picture before the model.
fn prepare(
    input: Input,
    transform: &Transform,
    resizer: &mut Resizer,
    clocks: &Clocks,
) -> Result<Vec<f32>, String> {
    let picture = match input {
        Input::Picture(picture) => picture,
        Input::File(path) => {
            let bytes = clocks.read.time(|| read_file(&path))?;
            clocks
                .decode
                .time(|| preprocess::decode(&bytes))
                .map_err(|e| e.to_string())?
        }
    };
    let picture = clocks
        .resize
        .time(|| {
            let picture = match transform.channels() {
                1 => picture.into_grey(),
                _ => picture,
            };
            transform.resize(resizer, picture)
        })
        .map_err(|e| e.to_string())?;
    let side = transform.crop as usize;
    let mut pixels = vec![0.0; transform.channels() * side * side];
    clocks
        .normalise
        .time(|| transform.normalise(&picture, &mut pixels));
    Ok(pixels)
}

fn read_file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let about = std::fs::metadata(path).map_err(|e| format!("cannot be read: {e}"))?;
    if !about.is_file() {
        return Err("not a regular file".into());
    }
    if about.len() > MAX_FILE_BYTES {
        return Err(format!(
            "{} bytes are more than the {MAX_FILE_BYTES} that are read",
            about.len()
        ));
    }
    std::fs::read(path).map_err(|e| format!("cannot be read: {e}"))
}

// ANCHOR: batch
/// Joins images to batches: a batch leaves when it is full, when it costs
/// enough pixels, or when its first image has waited long enough.
async fn form_batches(
    mut prepared: mpsc::Receiver<Prepared>,
    groups: mpsc::Sender<Group>,
    mut spare: mpsc::Receiver<Vec<f32>>,
    settings: Settings,
    image_shape: [usize; 3],
    clocks: Arc<Clocks>,
) {
    let cost: usize = image_shape.iter().product();
    let by_cost = settings
        .max_pixels
        .map_or(usize::MAX, |max| max / cost.max(1));
    let size = settings.batch.min(by_cost).max(1);
    loop {
        let Some(first) = prepared.recv().await else {
            return;
        };
        // A wait beyond what the clock can say has no end.
        let deadline = tokio::time::Instant::now().checked_add(settings.max_wait);
        let mut pixels = spare.try_recv().unwrap_or_default();
        pixels.clear();
        let mut group = Group {
            pixels,
            items: Vec::with_capacity(size),
        };
        let mut next = Some(first);
        while let Some(image) = next {
            let error = clocks.batch.time(|| match image.pixels {
                Ok(values) => {
                    group.pixels.extend_from_slice(&values);
                    None
                }
                Err(error) => Some(error),
            });
            group.items.push((image.item, error));
            if group.items.len() == size {
                break;
            }
            // Time over, or nothing more to come: the batch leaves as it is.
            next = match deadline {
                Some(deadline) => timeout_at(deadline, prepared.recv()).await.unwrap_or(None),
                None => prepared.recv().await,
            };
        }
        if groups.send(group).await.is_err() {
            return;
        }
    }
}
// ANCHOR_END: batch

/// Runs the model on each batch, and picks the likeliest classes.
fn infer(
    mut engine: Box<dyn Engine>,
    mut groups: mpsc::Receiver<Group>,
    done: mpsc::Sender<Vec<Prediction>>,
    spare: mpsc::Sender<Vec<f32>>,
    top_k: usize,
    clocks: &Clocks,
) -> Result<(Box<dyn Engine>, usize), PipelineError> {
    let [channels, height, width] = engine.image_shape();
    let mut batches = 0;
    while let Some(group) = groups.blocking_recv() {
        let good = group.items.iter().filter(|(_, e)| e.is_none()).count();
        let logits = match good {
            0 => None,
            _ => Some(clocks.infer.time(|| {
                engine.infer(Batch {
                    pixels: &group.pixels,
                    shape: [good, channels, height, width],
                })
            })?),
        };
        batches += usize::from(good > 0);
        // Full only if several batches are waiting to be reused: drop it then.
        let _ = spare.try_send(group.pixels);
        let predictions = clocks.top_k.time(|| {
            let mut rows = logits.iter().flat_map(|l| l.rows());
            group
                .items
                .into_iter()
                .map(|(item, error)| Prediction {
                    index: item.index,
                    name: item.name,
                    label: item.label,
                    outcome: match error {
                        Some(error) => Err(error),
                        None => rows
                            .next()
                            .map(|row| top(row, top_k))
                            .ok_or_else(|| "the model gave no scores for it".to_owned()),
                    },
                    entered: item.entered,
                })
                .collect()
        });
        if done.blocking_send(predictions).is_err() {
            break;
        }
    }
    Ok((engine, batches))
}

/// Hands predictions to the sink and counts.
fn write(
    mut done: mpsc::Receiver<Vec<Prediction>>,
    mut sink: impl FnMut(&Prediction) -> io::Result<()>,
    clocks: &Clocks,
) -> io::Result<Report> {
    let mut report = Report::default();
    let mut last: Option<(Instant, usize)> = None;
    while let Some(predictions) = done.blocking_recv() {
        for prediction in &predictions {
            clocks.write.time(|| sink(prediction))?;
            report
                .latencies
                .push(prediction.entered.elapsed().as_secs_f64());
            match &prediction.outcome {
                Err(_) => report.failed += 1,
                Ok(scores) => {
                    report.predicted += 1;
                    if let Some(label) = prediction.label {
                        report.labelled += 1;
                        report.correct +=
                            usize::from(scores.first().is_some_and(|s| s.class == label));
                    }
                }
            }
        }
        if let Some((before, size)) = last
            && size == predictions.len()
        {
            report.batch_seconds.push(before.elapsed().as_secs_f64());
        }
        last = Some((Instant::now(), predictions.len()));
    }
    Ok(report)
}

// ANCHOR: top
/// The `k` likeliest classes, likeliest first; ties go to the lower class.
///
/// * `logits`: one image's, unnormalised
pub fn top(logits: &[f32], k: usize) -> Vec<Score> {
    // Subtracting the largest keeps the exponentials in range.
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|x| (x - max).exp()).sum();
    let mut scores: Vec<Score> = logits
        .iter()
        .enumerate()
        .map(|(class, x)| Score {
            class,
            probability: (x - max).exp() / sum,
        })
        .collect();
    scores.sort_by(|a, b| {
        b.probability
            .total_cmp(&a.probability)
            .then(a.class.cmp(&b.class))
    });
    scores.truncate(k);
    scores
}
// ANCHOR_END: top
