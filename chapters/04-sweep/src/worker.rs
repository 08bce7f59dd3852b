//! The worker: a process that trains one run after another, as it is asked.
//!
//! It keeps its device, its data and its compiled programs from one run to the next. A run's
//! checkpoints lie in a folder of the run's name, so that a run which this worker does not
//! finish goes on in another.

use std::{
    io::{self, BufRead},
    process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use accel::{exit, progress::Progress, stdout::print_line};
use anyhow::Context;
use tpu_training::{
    checkpoint::CheckpointError,
    cli::{Data, TrainArgs},
    commands::train,
    data_set::DataSet,
    device::Opened,
    failure,
    run_folder::RunFolder,
    store::{Place, StoreError},
    trainer::{Driving, Evaluation, TrainError},
    training_run::{self, News, RunError, RunOptions},
};

use crate::{
    cli::WorkerArgs,
    protocol::{Answer, Compiled, EpochDone, Failed, Kind, Line, Ready, Request, Score, Trained},
};

/// Requests that are read ahead.
const READ_AHEAD: usize = 64;

/// How long a run's folder may be another's: the worker of a sweep that was killed ends within
/// [`PARENT_CHECK`].
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a worker looks whether its parent lives.
const PARENT_CHECK: Duration = Duration::from_millis(100);

/// Answers requests until the input ends.
///
/// # Errors
/// No device (exit code 3), or stdin or stdout broken. A run that fails is an answer.
pub fn run(args: &WorkerArgs) -> anyhow::Result<u8> {
    let stop = Arc::new(AtomicBool::new(false));
    if args.with_parent {
        end_with_parent()?;
    }
    if args.empty {
        return answer_without_training(&listen(stop)?);
    }
    let progress = Progress::new(None, "epochs", true);
    let opened = train::open(&args.device, &progress)?;
    if args.progress {
        say(&Answer::Ready(ready(&opened)))?;
    }
    let lines = Mutex::new(listen(Arc::clone(&stop))?);
    let serve = || {
        let worker = Worker {
            driving: driving(&opened),
            opened: &opened,
            out: args.out.clone(),
            keep: args.keep,
            made_up: args.made_up,
            progress: args.progress,
            stop: &stop,
            data: vec![],
        };
        worker.serve(&lines)
    };
    if args.at_once == 1 {
        serve()?;
        return Ok(exit::OK);
    }
    thread::scope(|scope| {
        let threads: Vec<_> = (0..args.at_once).map(|_| scope.spawn(serve)).collect();
        let ended = threads.into_iter().map(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        ended.collect::<anyhow::Result<Vec<()>>>()
    })?;
    Ok(exit::OK)
}

fn say(answer: &Answer) -> anyhow::Result<()> {
    Ok(print_line(&serde_json::to_string(answer)?)?)
}

fn ready(opened: &Opened) -> Ready {
    let memory = opened.client.device_memory(opened.ordinal).ok();
    let limit = memory.and_then(|memory| u64::try_from(memory.bytes_limit?).ok());
    Ready {
        device: opened.device.to_string(),
        reason: opened.reason.clone(),
        memory_bytes: limit,
        versions: train::plugin_versions(opened).into_iter().collect(),
    }
}

/// How the host drives this device, as chapter 3 found out.
fn driving(opened: &Opened) -> Driving {
    train::driving(&TrainArgs::plain().driving, opened)
}

/// Requests, in their order; what is none as the answer that it gets.
type Requests = Receiver<Asked>;

type Asked = Result<Box<Request>, Failed>;

/// Reads requests in a thread of its own, so that a stop is heard in the middle of a run.
fn listen(stop: Arc<AtomicBool>) -> anyhow::Result<Requests> {
    let (sender, receiver) = sync_channel(READ_AHEAD);
    let read = move |sender: SyncSender<Asked>| {
        // By bytes: a line that is not UTF-8 is a bad request, not the end of the input.
        for line in io::stdin().lock().split(b'\n') {
            let Ok(line) = line else { return };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let request = match Line::parse(&line) {
                Ok(Line::Train(request)) => Ok(request),
                Ok(Line::Stop) => {
                    stop.store(true, Ordering::Relaxed);
                    return;
                }
                Err(failed) => Err(failed),
            };
            if sender.send(request).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("requests".into())
        .spawn(move || read(sender))
        .context("cannot start the thread that reads requests")?;
    Ok(receiver)
}

// ANCHOR: parent
/// Ends this process when its parent ends, whatever ends it: a run that nobody waits for
/// would keep its folder from the sweep that resumes.
fn end_with_parent() -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        let parent = std::os::unix::process::parent_id();
        let watch = move || {
            while std::os::unix::process::parent_id() == parent {
                thread::sleep(PARENT_CHECK);
            }
            process::exit(exit::FAILED.into());
        };
        thread::Builder::new()
            .name("parent".into())
            .spawn(watch)
            .context("cannot start the thread that watches the parent")?;
    }
    Ok(())
}
// ANCHOR_END: parent

/// For measuring what a request costs by itself.
fn answer_without_training(lines: &Requests) -> anyhow::Result<u8> {
    say(&Answer::Ready(Ready {
        device: "none".into(),
        reason: "answers without training".into(),
        memory_bytes: None,
        versions: Default::default(),
    }))?;
    let mut free = Instant::now();
    for line in lines {
        let waited_seconds = free.elapsed().as_secs_f64();
        let start = Instant::now();
        say(&match line {
            Err(failed) => Answer::Failed(failed),
            Ok(request) => Answer::Done(Box::new(Trained {
                epochs: request.run.config.epochs,
                id: request.run.id,
                validation: Score {
                    loss: 0.0,
                    accuracy: 0.0,
                    images: 0,
                },
                test: None,
                training_loss: 0.0,
                images_per_epoch: 0,
                epoch_seconds: vec![],
                compile_seconds: 0.0,
                seconds: start.elapsed().as_secs_f64(),
                waited_seconds,
                device_bytes: None,
                model: None,
            })),
        })?;
        free = Instant::now();
    }
    Ok(exit::OK)
}

struct Worker<'a> {
    opened: &'a Opened,
    driving: Driving,
    out: Place,
    keep: usize,
    made_up: bool,
    progress: bool,
    stop: &'a AtomicBool,
    data: Vec<(Data, DataSet)>,
}

impl Worker<'_> {
    /// Answers one request after another.
    ///
    /// # Errors
    /// stdout is broken.
    fn serve(mut self, lines: &Mutex<Requests>) -> anyhow::Result<()> {
        let mut free = Instant::now();
        // Released before the request is answered: another thread takes the next.
        let next = || {
            let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.recv().ok()
        };
        while let Some(line) = next() {
            let waited = free.elapsed();
            let answer = match line {
                Err(failed) => Answer::Failed(failed),
                Ok(request) => self.answer(&request, waited),
            };
            say(&answer)?;
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            free = Instant::now();
        }
        Ok(())
    }

    fn answer(&mut self, request: &Request, waited: Duration) -> Answer {
        let start = Instant::now();
        let id = request.run.id.clone();
        match self.train(request) {
            Ok(outcome) if outcome.stopped => Answer::Stopped { id },
            Ok(outcome) => Answer::Done(Box::new(trained(id, &outcome, start.elapsed(), waited))),
            Err(error) => Answer::Failed(Failed {
                id,
                kind: kind(&error),
                message: failure::text(&error),
            }),
        }
    }

    fn train(&mut self, request: &Request) -> anyhow::Result<training_run::Outcome> {
        let (id, config) = (&request.run.id, &request.run.config);
        self.load(request.run.data)?;
        let (_, data) = (self.data.iter())
            .find(|(known, _)| *known == request.run.data)
            .expect("loaded above");
        let mut folder = open(&self.out.join(id), self.keep)?;
        let options = RunOptions {
            resume: folder.has_checkpoint()?,
            default_warmup: false,
            driving: self.driving,
            until: request.until,
            test: request.test,
        };
        let tell = |news: News<'_>| {
            if let (true, Some(answer)) = (self.progress, answer_of(id, config.epochs, &news)) {
                // A parent that has gone is noticed at the run's end.
                let _ = say(&answer);
            }
        };
        Ok(training_run::train(
            self.opened,
            config,
            data,
            &mut folder,
            &options,
            self.stop,
            tell,
        )?)
    }

    /// Reads a data set, once.
    fn load(&mut self, data: Data) -> anyhow::Result<()> {
        if self.data.iter().all(|(known, _)| *known != data) {
            let set = match self.made_up {
                true => DataSet::made_up(128, 8, 1, 10),
                false => train::data_set(data, None, true)?,
            };
            self.data.push((data, set));
        }
        Ok(())
    }
}

/// Takes a run's folder, as soon as a worker that is about to end has left it.
fn open(place: &Place, keep: usize) -> Result<RunFolder, CheckpointError> {
    let start = Instant::now();
    loop {
        match RunFolder::open(place, keep) {
            Err(CheckpointError::Store(StoreError::InUse { .. })) if start.elapsed() < PATIENCE => {
                thread::sleep(PARENT_CHECK / 2);
            }
            opened => return opened,
        }
    }
}

fn answer_of(id: &str, of: usize, news: &News<'_>) -> Option<Answer> {
    match news {
        News::Compiled {
            seconds,
            device_bytes,
        } => Some(Answer::Compiled(Compiled {
            id: id.to_owned(),
            seconds: *seconds,
            device_bytes: *device_bytes,
        })),
        News::Epoch {
            record, validation, ..
        } => Some(Answer::Epoch(EpochDone {
            id: id.to_owned(),
            epoch: record.epoch as usize,
            of,
            loss: record.loss,
            validation_accuracy: validation.accuracy,
        })),
        News::Skipped(checkpoint) => {
            eprintln!("warning: {id}: passed over {checkpoint}");
            None
        }
        News::NotRemoved(why) => {
            eprintln!("warning: {id}: an older checkpoint stays: {why}");
            None
        }
        News::Resumed { .. } | News::Stopped { .. } => None,
    }
}

fn trained(
    id: String,
    outcome: &training_run::Outcome,
    took: Duration,
    waited: Duration,
) -> Trained {
    let score = |evaluation: Evaluation| Score {
        loss: evaluation.loss,
        accuracy: evaluation.accuracy,
        images: evaluation.images,
    };
    let history = &outcome.history;
    Trained {
        id,
        epochs: history.len(),
        validation: (outcome.validation)
            .map(score)
            .expect("a run that was not stopped is validated"),
        test: outcome.test.map(score),
        training_loss: history.last().map_or(f64::MAX, |record| record.loss),
        images_per_epoch: history.last().map_or(0, |record| record.images as usize),
        epoch_seconds: history.iter().map(|record| record.seconds).collect(),
        compile_seconds: outcome.compile_seconds,
        seconds: took.as_secs_f64(),
        waited_seconds: waited.as_secs_f64(),
        device_bytes: outcome.device_bytes,
        model: outcome.model.clone(),
    }
}

/// What kind of failure an error is.
fn kind(error: &anyhow::Error) -> Kind {
    let training = error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(RunError::Train(error) | RunError::AfterCheckpoint { cause: error, .. }) => {
            Some(error)
        }
        _ => cause.downcast_ref::<TrainError>(),
    });
    match training {
        Some(TrainError::Diverged { .. }) => Kind::Diverged,
        Some(TrainError::Runtime(error)) if error.is_out_of_memory() => Kind::OutOfMemory,
        _ if failure::code(error) == exit::USAGE => Kind::Refused,
        _ => Kind::Other,
    }
}
