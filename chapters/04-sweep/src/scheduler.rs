//! Workers and queue brought together: a task for each slot, and one place where everything that
//! happens is heard.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use accel::exit;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};

use crate::{
    protocol::{Answer, Compiled, EpochDone, Failed, Kind, Ready, Request, Trained},
    queue::{Queue, Waiting},
    slots::Slots,
    worker_process::{StartError, WorkerCommand, WorkerProcess},
};

/// What is to be trained.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its place in the manifest.
    pub entry: usize,
    /// What a worker is asked.
    pub request: Request,
    /// Attempts that may fail before it has failed.
    pub attempts_left: u32,
}

/// What is heard.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker has started.
    Ready {
        /// Its slot.
        slot: usize,
        /// What it said.
        ready: Ready,
    },
    /// A worker takes a run.
    Started {
        /// Its slot.
        slot: usize,
        /// The run's place in the manifest.
        entry: usize,
    },
    /// Its programs are compiled.
    Compiled {
        /// The worker's slot.
        slot: usize,
        /// What it said.
        compiled: Compiled,
    },
    /// An epoch is over.
    Epoch {
        /// The worker's slot.
        slot: usize,
        /// What it said.
        epoch: EpochDone,
    },
    /// A run is trained as far as was asked.
    Done {
        /// The worker's slot.
        slot: usize,
        /// The run's place in the manifest.
        entry: usize,
        /// What came of it.
        trained: Box<Trained>,
    },
    /// An attempt failed.
    Failed {
        /// The worker's slot.
        slot: usize,
        /// The run's place in the manifest.
        entry: usize,
        /// Why.
        failed: Failed,
        /// Whether it waits for another attempt.
        again: bool,
    },
    /// A run was saved before its end.
    Stopped {
        /// The worker's slot.
        slot: usize,
        /// The run's place in the manifest.
        entry: usize,
    },
    /// A slot found no run worth taking while others still work.
    Idle {
        /// The slot.
        slot: usize,
    },
}

/// How far the user wants to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// Not at all.
    No,
    /// After the runs in progress are saved.
    Saving,
    /// At once.
    Now,
}

/// How workers are driven.
#[derive(Clone, Debug)]
pub struct Options {
    /// How they are started.
    pub command: WorkerCommand,
    /// How many work at the same time; on an accelerator settled by the first of them.
    pub slots: Slots,
    /// `--slots`.
    pub wished: Option<usize>,
    /// A worker that says nothing for so long is ended.
    pub silence: Duration,
}

/// Why a sweep cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// No worker can be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A task of this program.
    #[error("a slot's task ended in the middle: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// A second Ctrl-C.
    #[error("stopped at once; --resume goes on from the last checkpoints")]
    StoppedAtOnce,
}

impl SchedulerError {
    /// The program's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Start(StartError::Device { .. }) => exit::DEVICE,
            Self::Start(StartError::Refused { .. }) => exit::USAGE,
            Self::StoppedAtOnce => exit::INTERRUPTED,
            _ => exit::FAILED,
        }
    }
}

/// How busy the workers were.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Workers that took a run.
    pub slots: usize,
    /// Seconds from the first run's start to the last one's end.
    pub seconds: f64,
    /// Seconds until a slot first had nothing to take: after that comes the tail.
    pub until_tail: f64,
    /// Share of the slots' time until then in which a run was in progress.
    pub busy_share: f64,
    /// CPU time of the workers until then, as a share of the slots' threads; none where the
    /// system does not say.
    pub cpu_share: Option<f64>,
}

/// What all slots share.
struct Shared {
    options: Options,
    state: Mutex<State>,
    /// Slots below this number may work.
    allowed: AtomicUsize,
    /// Something came back to the queue, or nothing will any more.
    changed: Notify,
    events: mpsc::UnboundedSender<Event>,
    stopping: watch::Receiver<Stopping>,
}

struct State {
    queue: Queue,
    jobs: Vec<Option<Job>>,
    in_flight: usize,
    /// Whether the number of slots is settled.
    settled: bool,
}

/// Workers that stay from one batch of runs to the next.
pub struct Scheduler {
    shared: Arc<Shared>,
    workers: Vec<Option<Worker>>,
    events: mpsc::UnboundedReceiver<Event>,
}

struct Worker {
    process: WorkerProcess,
    ready: Ready,
}

impl Scheduler {
    /// Starts the first worker: it tells which device this is.
    ///
    /// # Errors
    /// [`SchedulerError::Start`].
    pub async fn start(
        options: Options,
        stopping: watch::Receiver<Stopping>,
    ) -> Result<(Self, Ready), SchedulerError> {
        let (process, ready) = WorkerProcess::start(&options.command).await?;
        let (sender, events) = mpsc::unbounded_channel();
        let on_cpu = matches!(ready.device.as_str(), "cpu" | "none");
        // On an accelerator the first program tells how many fit.
        let (count, settled) = match (on_cpu, options.wished) {
            (true, _) => (options.slots.count, true),
            (false, Some(count)) => (count, true),
            (false, None) => (1, false),
        };
        let shared = Shared {
            options,
            state: Mutex::new(State {
                queue: Queue::default(),
                jobs: vec![],
                in_flight: 0,
                settled,
            }),
            allowed: AtomicUsize::new(count.max(1)),
            changed: Notify::new(),
            events: sender,
            stopping,
        };
        let first = Worker {
            process,
            ready: ready.clone(),
        };
        let scheduler = Scheduler {
            shared: Arc::new(shared),
            workers: vec![Some(first)],
            events,
        };
        Ok((scheduler, ready))
    }

    /// Runs all jobs to their ends, or until the user stops.
    ///
    /// * `hear`: is told everything, in order; if it fails, the workers are ended
    ///
    /// # Errors
    /// [`SchedulerError`], or those of `hear`.
    pub async fn conduct<E: From<SchedulerError>>(
        &mut self,
        jobs: Vec<Job>,
        mut hear: impl AsyncFnMut(Vec<Event>) -> Result<(), E>,
    ) -> Result<Usage, E> {
        let count = jobs.len();
        self.shared.fill(jobs);
        let mut clock = Clock::new(self.shared.options.slots.threads);
        let mut tasks = JoinSet::new();
        // More tasks than slots that may work: the others wait, in case more fit. And one for
        // each worker that there is: a run may be left to the one that has its program.
        for slot in 0..count.max(self.workers.len()).min(MOST_SLOTS) {
            let worker = self.workers.get_mut(slot).and_then(Option::take);
            let shared = Arc::clone(&self.shared);
            tasks.spawn(async move { (slot, shared.work(slot, worker).await) });
        }
        let mut ended = vec![];
        let outcome = loop {
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => {
                    let mut events = vec![event];
                    while let Ok(event) = self.events.try_recv() {
                        events.push(event);
                    }
                    for event in &events {
                        clock.hear(event, Instant::now());
                    }
                    if let Err(error) = hear(events).await {
                        break Err(error);
                    }
                }
                task = tasks.join_next() => match task {
                    None => break Ok(()),
                    Some(Err(error)) => break Err(SchedulerError::from(error).into()),
                    Some(Ok((_, Err(error)))) => break Err(error.into()),
                    Some(Ok((slot, Ok(worker)))) => ended.push((slot, worker)),
                },
            }
        };
        if outcome.is_err() {
            // Their workers are killed when they are dropped.
            tasks.shutdown().await;
        }
        for (slot, worker) in ended {
            if self.workers.len() <= slot {
                self.workers.resize_with(slot + 1, || None);
            }
            self.workers[slot] = worker;
        }
        outcome?;
        Ok(clock.usage())
    }
}

/// Tasks that are made at most; there are few devices with room for more.
const MOST_SLOTS: usize = 256;

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        // Nobody hears only when the sweep has failed already.
        let _ = self.events.send(event);
    }

    fn fill(&self, jobs: Vec<Job>) {
        let mut state = self.state();
        state.queue.clear();
        state.jobs.clear();
        for job in jobs {
            let run = &job.request.run;
            let waiting = Waiting {
                entry: state.jobs.len(),
                program: run.program(),
                work: run.work(),
            };
            state.queue.add(waiting);
            state.jobs.push(Some(job));
        }
    }

    /// A slot: takes runs until none is left.
    async fn work(
        &self,
        slot: usize,
        mut worker: Option<Worker>,
    ) -> Result<Option<Worker>, SchedulerError> {
        let mut stopping = self.stopping.clone();
        loop {
            // Registered before the look: what changes in between is not missed.
            let changed = self.changed.notified();
            if slot < self.allowed.load(Ordering::Relaxed) {
                break;
            }
            if self.is_over() || *stopping.borrow() != Stopping::No {
                return Ok(worker);
            }
            changed.await;
        }
        let mut was_idle = false;
        let worker = loop {
            let changed = self.changed.notified();
            if *stopping.borrow_and_update() != Stopping::No {
                break worker;
            }
            let Some((waiting, job)) = self.take(slot) else {
                if self.is_over() {
                    break worker;
                }
                if !was_idle {
                    was_idle = true;
                    self.tell(Event::Idle { slot });
                }
                // A run that fails comes back.
                tokio::select! {
                    () = changed => {}
                    _ = wish(&mut stopping, false) => {}
                }
                continue;
            };
            let (left, again) = self
                .attempt(slot, worker, &waiting, job, &mut stopping)
                .await?;
            worker = left;
            {
                let mut state = self.state();
                if worker.is_none() {
                    state.queue.forget(slot);
                }
                if let Some(job) = again {
                    let at = waiting.entry;
                    state.jobs[at] = Some(job);
                    state.queue.add(waiting);
                }
                state.in_flight -= 1;
            }
            self.changed.notify_waiters();
        };
        // Those that were never allowed to work look whether it is over.
        self.changed.notify_waiters();
        Ok(worker)
    }

    /// Whether nothing waits, and nothing in progress can come back.
    fn is_over(&self) -> bool {
        let state = self.state();
        state.queue.is_empty() && state.in_flight == 0
    }

    fn take(&self, slot: usize) -> Option<(Waiting, Job)> {
        let mut state = self.state();
        let waiting = state.queue.take(slot)?;
        let job = state.jobs[waiting.entry].take()?;
        state.in_flight += 1;
        Some((waiting, job))
    }

    /// One attempt at a run. Returns the worker if it lives, and the job if it is to be tried
    /// again.
    async fn attempt(
        &self,
        slot: usize,
        worker: Option<Worker>,
        waiting: &Waiting,
        job: Job,
        stopping: &mut watch::Receiver<Stopping>,
    ) -> Result<(Option<Worker>, Option<Job>), SchedulerError> {
        let entry = job.entry;
        self.tell(Event::Started { slot, entry });
        let mut worker = match worker {
            Some(worker) => worker,
            None => match WorkerProcess::start(&self.options.command).await {
                Ok((process, ready)) => Worker { process, ready },
                // Killed as it started: an attempt like another.
                Err(StartError::Ended(message)) => {
                    return Ok((None, self.failed(slot, job, Kind::Crashed, message)));
                }
                Err(error) => return Err(error.into()),
            },
        };
        let ready = worker.ready.clone();
        self.tell(Event::Ready { slot, ready });
        if worker.process.ask(&job.request).await.is_err() {
            let message = worker.process.how_it_ended().await;
            return Ok((None, self.failed(slot, job, Kind::Crashed, message)));
        }
        let mut asked_to_stop = false;
        let mut heard = Instant::now();
        loop {
            let silence = self.options.silence.saturating_sub(heard.elapsed());
            let answer = tokio::select! {
                answer = worker.process.answer() => answer,
                wish = wish(stopping, asked_to_stop) => {
                    if wish == Stopping::Now {
                        return Err(SchedulerError::StoppedAtOnce);
                    }
                    asked_to_stop = true;
                    // A worker that has ended is told by its answers.
                    let _ = worker.process.stop().await;
                    continue;
                }
                () = tokio::time::sleep(silence) => {
                    let seconds = self.options.silence.as_secs();
                    let how = worker.process.end().await;
                    let message = format!("no word for {seconds} s (see --silence-limit); {how}");
                    return Ok((None, self.failed(slot, job, Kind::Silent, message)));
                }
            };
            heard = Instant::now();
            match answer {
                None => {
                    let message = worker.process.end().await;
                    return Ok((None, self.failed(slot, job, Kind::Crashed, message)));
                }
                Some(Answer::Compiled(compiled)) => {
                    self.settle(&worker.ready, &compiled);
                    self.tell(Event::Compiled { slot, compiled });
                }
                Some(Answer::Epoch(epoch)) => self.tell(Event::Epoch { slot, epoch }),
                Some(Answer::Ready(_)) => {}
                Some(Answer::Done(trained)) => {
                    let seconds = trained.seconds - trained.compile_seconds;
                    self.state().queue.learn(
                        &waiting.program,
                        waiting.work,
                        trained.compile_seconds,
                        seconds,
                    );
                    self.tell(Event::Done {
                        slot,
                        entry,
                        trained,
                    });
                    // After a stop the worker ends by itself.
                    let worker = (!asked_to_stop).then_some(worker);
                    return Ok((worker, None));
                }
                Some(Answer::Failed(failed)) => {
                    let again = self.failed(slot, job, failed.kind, failed.message);
                    return Ok(((!asked_to_stop).then_some(worker), again));
                }
                Some(Answer::Stopped { .. }) => {
                    self.tell(Event::Stopped { slot, entry });
                    return Ok((None, None));
                }
            }
        }
    }

    /// Tells a failure; returns the job if it is to be tried again.
    fn failed(&self, slot: usize, mut job: Job, kind: Kind, message: String) -> Option<Job> {
        let again =
            kind.may_pass() && job.attempts_left > 0 && *self.stopping.borrow() == Stopping::No;
        job.attempts_left = job.attempts_left.saturating_sub(1);
        let id = job.request.run.id.clone();
        let entry = job.entry;
        let failed = Failed { id, kind, message };
        self.tell(Event::Failed {
            slot,
            entry,
            failed,
            again,
        });
        again.then_some(job)
    }

    /// On an accelerator: the first program tells how many fit beside it.
    fn settle(&self, ready: &Ready, compiled: &Compiled) {
        let mut state = self.state();
        if std::mem::replace(&mut state.settled, true) {
            return;
        }
        drop(state);
        let wished = self.options.wished;
        let slots = Slots::on_accelerator(ready, compiled.device_bytes, wished);
        self.allowed.store(slots.count.max(1), Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

/// Waits until the user wants to stop: at all, or at once where the worker knows already.
async fn wish(stopping: &mut watch::Receiver<Stopping>, told: bool) -> Stopping {
    let wanted = |stopping: &Stopping| match told {
        false => *stopping != Stopping::No,
        true => *stopping == Stopping::Now,
    };
    match stopping.wait_for(wanted).await.map(|stopping| *stopping) {
        Ok(stopping) => stopping,
        // Nobody can stop it any more.
        Err(_) => std::future::pending().await,
    }
}

/// When how many slots were busy.
struct Clock {
    start: Option<Instant>,
    busy_since: Vec<Option<Instant>>,
    busy: Duration,
    tail: Option<Tail>,
    end: Option<Instant>,
    threads: Option<usize>,
    /// CPU time that the workers had taken before.
    cpu_before: f64,
}

/// How things stood when a slot first had nothing to take.
#[derive(Clone, Copy)]
struct Tail {
    after: Duration,
    busy: Duration,
    cpu: f64,
}

impl Clock {
    fn new(threads: Option<usize>) -> Self {
        Clock {
            start: None,
            busy_since: vec![],
            busy: Duration::ZERO,
            tail: None,
            end: None,
            threads,
            cpu_before: workers_cpu_seconds(),
        }
    }

    fn hear(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Started { slot, .. } => {
                self.start.get_or_insert(now);
                if self.busy_since.len() <= *slot {
                    self.busy_since.resize(slot + 1, None);
                }
                self.busy_since[*slot] = Some(now);
            }
            Event::Done { slot, .. } | Event::Failed { slot, .. } | Event::Stopped { slot, .. } => {
                if let Some(since) = self.busy_since.get_mut(*slot).and_then(Option::take) {
                    self.busy += now - since;
                }
                self.end = Some(now);
            }
            Event::Idle { .. } => self.begin_tail(now),
            Event::Ready { .. } | Event::Compiled { .. } | Event::Epoch { .. } => {}
        }
    }

    fn begin_tail(&mut self, now: Instant) {
        let (None, Some(start)) = (self.tail, self.start) else {
            return;
        };
        let open = self.busy_since.iter().flatten().map(|since| now - *since);
        self.tail = Some(Tail {
            after: now - start,
            busy: self.busy + open.sum::<Duration>(),
            cpu: workers_cpu_seconds(),
        });
    }

    fn usage(mut self) -> Usage {
        let (Some(start), Some(end)) = (self.start, self.end) else {
            return Usage::default();
        };
        self.begin_tail(end);
        let Some(tail) = self.tail else {
            return Usage::default();
        };
        let slots = self.busy_since.len();
        let whole = (slots as f64 * tail.after.as_secs_f64()).max(f64::MIN_POSITIVE);
        let cpu = tail.cpu - self.cpu_before;
        Usage {
            slots,
            seconds: (end - start).as_secs_f64(),
            until_tail: tail.after.as_secs_f64(),
            busy_share: tail.busy.as_secs_f64() / whole,
            cpu_share: self.threads.map(|threads| cpu / (whole * threads as f64)),
        }
    }
}

/// CPU time of this process's children that live, in seconds.
fn workers_cpu_seconds() -> f64 {
    let mut system = System::new();
    let what = ProcessRefreshKind::nothing().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
    let own = Pid::from_u32(std::process::id());
    let children = system
        .processes()
        .values()
        .filter(|process| process.parent() == Some(own));
    // Threads are listed beside their processes on Linux.
    let children = children.filter(|process| process.thread_kind().is_none());
    children
        .map(|child| child.accumulated_cpu_time() as f64 / 1e3)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_begins_when_a_slot_finds_nothing() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let started = |slot| Event::Started { slot, entry: 0 };
        let stopped = |slot| Event::Stopped { slot, entry: 0 };
        assert_eq!(Clock::new(None).usage(), Usage::default());
        let mut clock = Clock::new(None);
        clock.hear(&started(0), at(0));
        clock.hear(&started(1), at(2));
        clock.hear(&stopped(1), at(10));
        clock.hear(&Event::Idle { slot: 1 }, at(10));
        clock.hear(&stopped(0), at(20));
        let usage = clock.usage();
        assert_eq!(
            (usage.slots, usage.seconds, usage.until_tail),
            (2, 20.0, 10.0)
        );
        assert_eq!((usage.busy_share, usage.cpu_share), (18.0 / 20.0, None));
    }
}
