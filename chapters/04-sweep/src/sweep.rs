//! From a grid to a winner: what is to be trained next, and what came of it.

use tokio::sync::watch;

use crate::{
    display::Display,
    failure::Refused,
    journal::{self, Journal},
    manifest::{Entry, Manifest, ManifestError, State, SweepFolder, Winner},
    protocol::Request,
    scheduler::{Event, Job, Scheduler, SchedulerError, Stopping, Usage},
    selection,
};

/// Why a sweep ended early.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Its workers.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    /// Its folder.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Its journal.
    #[error("cannot write the journal: {0}")]
    Journal(#[from] std::io::Error),
    /// A flag that does not fit the device.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// A sweep in progress.
pub struct Sweep {
    /// Where it is kept.
    pub folder: SweepFolder,
    /// How far it is.
    pub manifest: Manifest,
    /// What happened.
    pub journal: Journal,
    /// What the user sees.
    pub display: Display,
    /// Attempts after the first that a run has.
    pub retries: u32,
    /// Whether the user wants to stop.
    pub stopping: watch::Receiver<Stopping>,
    /// How busy the workers were, for each part of the sweep that was run now.
    pub usage: Vec<Usage>,
    /// Seconds that workers waited for their next run, and that runs took, in this process.
    pub waited: Waited,
}

/// What scheduling costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Waited {
    /// Seconds from an answer to the next request, over all workers.
    pub waited_seconds: f64,
    /// Seconds from a request to its answer, over all runs.
    pub run_seconds: f64,
    /// Runs that this process has seen end.
    pub runs: usize,
}

impl Sweep {
    /// Trains what is left to train; returns whether it came to its end.
    ///
    /// # Errors
    /// [`SweepError`]; what was done is kept.
    pub async fn conduct(&mut self, scheduler: &mut Scheduler) -> Result<bool, SweepError> {
        // ANCHOR: resume
        // Whoever was training when the sweep was ended goes on from its checkpoint.
        for entry in &mut self.manifest.runs {
            if entry.state == State::Running {
                entry.state = State::Waiting;
            }
        }
        // ANCHOR_END: resume
        for rung in 0..self.manifest.settings.rungs.len() {
            if !self.train_rung(scheduler, rung).await? {
                return Ok(false);
            }
            self.promote(rung)?;
        }
        self.repeat_leaders()?;
        let last = self.manifest.settings.rungs.last();
        if !self.train_rung(scheduler, last).await? {
            return Ok(false);
        }
        self.crown(scheduler).await
    }

    /// Trains the runs of a rung that are not there yet.
    async fn train_rung(
        &mut self,
        scheduler: &mut Scheduler,
        rung: usize,
    ) -> Result<bool, SweepError> {
        let until = self
            .manifest
            .settings
            .rungs
            .get(rung)
            .and_then(|rung| rung.epochs);
        let waits = |entry: &Entry| entry.rung == rung && !entry.is_over();
        let places = (0..self.manifest.runs.len()).filter(|&at| waits(&self.manifest.runs[at]));
        let jobs: Vec<Job> = places.map(|at| self.job(at, until, false)).collect();
        self.run_jobs(scheduler, jobs).await?;
        Ok(*self.stopping.borrow() == Stopping::No)
    }

    fn job(&self, entry: usize, until: Option<usize>, test: bool) -> Job {
        let run = self.manifest.runs[entry].run.clone();
        Job {
            entry,
            request: Request { run, until, test },
            attempts_left: self.retries,
        }
    }

    async fn run_jobs(
        &mut self,
        scheduler: &mut Scheduler,
        jobs: Vec<Job>,
    ) -> Result<(), SweepError> {
        if jobs.is_empty() {
            return Ok(());
        }
        // ANCHOR: heard
        let usage = scheduler
            .conduct(jobs, async |events: Vec<Event>| {
                let mut changed = false;
                for event in events {
                    changed |= self.hear(&event)?;
                }
                // Once for all that happened meanwhile: with a thousand short runs the disk
                // would set the pace.
                if changed {
                    self.folder.write(&self.manifest)?;
                }
                Ok::<(), SweepError>(())
            })
            .await?;
        // ANCHOR_END: heard
        self.usage.push(usage);
        Ok(())
    }

    /// Enters what happened; returns whether the manifest is another one now.
    fn hear(&mut self, event: &Event) -> Result<bool, SweepError> {
        self.display.hear(event, &self.manifest);
        match event {
            Event::Ready { .. } | Event::Compiled { .. } | Event::Idle { .. } => return Ok(false),
            Event::Epoch { epoch, .. } => {
                self.journal.write(&journal::Event::Epoch {
                    id: &epoch.id,
                    epoch: epoch.epoch,
                    accuracy: epoch.validation_accuracy,
                })?;
                return Ok(false);
            }
            Event::Started { slot, entry } => {
                let entry = &mut self.manifest.runs[*entry];
                entry.attempts += 1;
                if entry.state != State::Done {
                    entry.state = State::Running;
                }
                self.journal.write(&journal::Event::Started {
                    id: &entry.run.id,
                    slot: *slot,
                    attempt: entry.attempts,
                })?;
            }
            Event::Done { entry, trained, .. } => {
                let entry = &mut self.manifest.runs[*entry];
                self.waited.waited_seconds += trained.waited_seconds;
                self.waited.run_seconds += trained.seconds;
                self.waited.runs += 1;
                entry.state = State::Done;
                let mut trained = (**trained).clone();
                if let Some(before) = &entry.trained {
                    // What was compiled for an earlier rung was compiled for this run.
                    trained.compile_seconds += before.compile_seconds;
                    trained.seconds += before.seconds;
                }
                self.journal.write(&journal::Event::Done {
                    id: &entry.run.id,
                    epochs: trained.epochs,
                    accuracy: trained.validation.accuracy,
                })?;
                entry.trained = Some(trained);
            }
            Event::Failed {
                entry,
                failed,
                again,
                ..
            } => {
                let entry = &mut self.manifest.runs[*entry];
                self.journal.write(&journal::Event::Failed {
                    id: &entry.run.id,
                    message: &failed.message,
                    again: *again,
                })?;
                let stopping = *self.stopping.borrow() != Stopping::No;
                entry.state = match (again, &entry.state) {
                    // Evaluating it failed, not training it.
                    (_, State::Done) => State::Done,
                    (true, _) => State::Waiting,
                    // Perhaps for no other reason than the stop.
                    (false, _) if stopping && failed.kind.may_pass() => State::Waiting,
                    (false, _) => State::Failed {
                        failed: failed.clone(),
                    },
                };
            }
            Event::Stopped { entry, .. } => {
                let entry = &mut self.manifest.runs[*entry];
                entry.state = State::Waiting;
                self.journal
                    .write(&journal::Event::Stopped { id: &entry.run.id })?;
            }
        }
        Ok(true)
    }

    /// Sends the better runs of a rung to the next one, in one writing: a sweep that is resumed
    /// finds all of them promoted, or none.
    fn promote(&mut self, rung: usize) -> Result<(), SweepError> {
        let rungs = &self.manifest.settings.rungs;
        let promoted_before = self.manifest.runs.iter().any(|entry| entry.rung > rung);
        let Some(this) = rungs
            .get(rung)
            .filter(|_| rung < rungs.last() && !promoted_before)
        else {
            return Ok(());
        };
        // ANCHOR: promote
        let ranked = selection::ranked(&self.manifest.runs, rung);
        let (go_on, stay) = ranked.split_at(this.keep.min(ranked.len()));
        for &at in go_on {
            let entry = &mut self.manifest.runs[at];
            (entry.rung, entry.state) = (rung + 1, State::Waiting);
        }
        for &at in stay {
            self.manifest.runs[at].state = State::Dropped;
        }
        self.folder.write(&self.manifest)?;
        // ANCHOR_END: promote
        let ids = go_on
            .iter()
            .map(|&at| self.manifest.runs[at].run.id.as_str());
        self.journal
            .write(&journal::Event::Promoted { ids: ids.collect() })?;
        Ok(())
    }

    /// Adds the leaders' repetitions with other seeds.
    fn repeat_leaders(&mut self) -> Result<(), SweepError> {
        let settings = &self.manifest.settings;
        let (seeds, last) = (settings.seeds as u64, settings.rungs.last());
        let repeated = self
            .manifest
            .runs
            .iter()
            .any(|entry| entry.repeats.is_some());
        if seeds < 2 || repeated {
            return Ok(());
        }
        let mut best = selection::ranked(&self.manifest.runs, last);
        best.truncate(settings.leaders);
        for at in best {
            let run = self.manifest.runs[at].run.clone();
            for more in 1..seeds {
                let repetition = run.with_seed(run.config.seed.wrapping_add(more));
                // The grid may have it already.
                if self.manifest.place(&repetition.id).is_none() {
                    let entry = Entry::new(repetition, Some(run.id.clone()), last);
                    self.manifest.runs.push(entry);
                }
            }
        }
        Ok(self.folder.write(&self.manifest)?)
    }

    /// Finds the winner, and asks the test rows once.
    async fn crown(&mut self, scheduler: &mut Scheduler) -> Result<bool, SweepError> {
        if self
            .manifest
            .winner
            .as_ref()
            .is_some_and(|winner| winner.test.is_some())
        {
            return Ok(true);
        }
        let last = self.manifest.settings.rungs.last();
        let Some(best) = selection::winner(&self.manifest.runs, last) else {
            return Ok(true);
        };
        let job = self.job(best, None, true);
        let before = self.manifest.runs[best].trained.clone();
        let (usage, waited) = (self.usage.clone(), self.waited);
        self.run_jobs(scheduler, vec![job]).await?;
        // The test belongs to no run's time.
        (self.usage, self.waited) = (usage, waited);
        let entry = &mut self.manifest.runs[best];
        let trained = std::mem::replace(&mut entry.trained, before);
        let (test, model) = trained.map_or((None, None), |trained| (trained.test, trained.model));
        let id = entry.run.id.clone();
        self.journal.write(&journal::Event::Winner { id: &id })?;
        self.manifest.winner = Some(Winner { id, test, model });
        self.folder.write(&self.manifest)?;
        Ok(*self.stopping.borrow() == Stopping::No)
    }
}
