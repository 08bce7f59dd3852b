//! What the user sees while a sweep goes on: on a terminal a line for each worker and one for
//! the whole with the time that is left; elsewhere a line for each run that ends.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    time::Duration,
};

use accel::human;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{manifest::Manifest, scheduler::Event};

/// The lines on stderr.
pub struct Display {
    lines: MultiProgress,
    whole: ProgressBar,
    workers: BTreeMap<usize, ProgressBar>,
    quiet: bool,
    /// Epochs of each run that are counted in the whole.
    counted: BTreeMap<String, usize>,
}

impl Display {
    /// Starts it.
    ///
    /// * `quiet`: show warnings only
    pub fn new(quiet: bool) -> Self {
        let visible = !quiet && std::io::stderr().is_terminal();
        let target = match visible {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let lines = MultiProgress::with_draw_target(target);
        let style = "{elapsed_precise} [{wide_bar}] {pos}/{len} epochs, {msg}, {eta} left";
        let whole = lines.add(ProgressBar::new(0).with_style(template(style)));
        if visible {
            whole.enable_steady_tick(Duration::from_millis(500));
        }
        Display {
            lines,
            whole,
            workers: BTreeMap::new(),
            quiet,
            counted: BTreeMap::new(),
        }
    }

    /// What is to be done in all, and what is done already.
    pub fn begin(&mut self, manifest: &Manifest) {
        for entry in &manifest.runs {
            let done = entry.trained.as_ref().map_or(0, |trained| trained.epochs);
            self.counted.insert(entry.run.id.clone(), done);
        }
        self.tell_whole(manifest);
        self.whole.reset_eta();
    }

    /// A line of news.
    pub fn println(&self, line: &str) {
        if !self.quiet {
            self.print(line);
        }
    }

    /// A warning, also when quiet.
    pub fn warn(&self, line: &str) {
        self.print(&format!("warning: {line}"));
    }

    /// Something happened.
    ///
    /// * `manifest`: as it was before
    pub fn hear(&mut self, event: &Event, manifest: &Manifest) {
        match event {
            Event::Ready { .. } => {}
            Event::Started { slot, entry } => {
                let id = &manifest.runs[*entry].run.id;
                self.worker(*slot).set_message(format!("{id}: compiling"));
            }
            Event::Compiled { slot, compiled } => {
                let took = human::duration(compiled.seconds);
                let line = format!("{}: compiled in {took}", compiled.id);
                self.worker(*slot).set_message(line);
            }
            Event::Epoch { slot, epoch } => {
                let accuracy = 100.0 * epoch.validation_accuracy;
                let line = format!(
                    "{}: epoch {}/{}, validation {accuracy:.2}%",
                    epoch.id, epoch.epoch, epoch.of
                );
                self.worker(*slot).set_message(line);
                self.count(&epoch.id, epoch.epoch, manifest);
            }
            Event::Done { slot, trained, .. } => {
                self.worker(*slot).set_message("waiting");
                self.count(&trained.id, trained.epochs, manifest);
                let compiled = match trained.compile_seconds {
                    seconds if seconds < 0.1 => String::new(),
                    seconds => format!(", {} of it compiling", human::duration(seconds)),
                };
                self.println(&format!(
                    "{:<32} {:>3} epochs  validation {:>6.2}%  {}{compiled}",
                    trained.id,
                    trained.epochs,
                    100.0 * trained.validation.accuracy,
                    human::duration(trained.seconds),
                ));
            }
            Event::Failed {
                slot,
                failed,
                again,
                ..
            } => {
                self.worker(*slot).set_message("waiting");
                let next = if *again { "; it is tried again" } else { "" };
                self.warn(&format!("{}: {}{next}", failed.id, failed.message));
            }
            Event::Stopped { slot, entry } => {
                self.worker(*slot).finish_and_clear();
                self.println(&format!("{}: saved", manifest.runs[*entry].run.id));
            }
            Event::Idle { slot } => self.worker(*slot).set_message("nothing left to take"),
        }
    }

    /// Clears all lines.
    pub fn finish(&mut self) {
        for line in self.workers.values() {
            line.finish_and_clear();
        }
        self.whole.finish_and_clear();
    }

    fn count(&mut self, id: &str, epochs: usize, manifest: &Manifest) {
        let counted = self.counted.entry(id.to_owned()).or_default();
        *counted = (*counted).max(epochs);
        self.tell_whole(manifest);
    }

    fn tell_whole(&self, manifest: &Manifest) {
        let rungs = &manifest.settings.rungs;
        // Of a run that may yet be promoted nobody knows how far it will go.
        let epochs = manifest.runs.iter().map(|entry| {
            let whole = entry.run.config.epochs;
            let until = rungs.get(entry.rung).and_then(|rung| rung.epochs);
            until.unwrap_or(whole).min(whole)
        });
        self.whole.set_length(epochs.sum::<usize>() as u64);
        self.whole
            .set_position(self.counted.values().sum::<usize>() as u64);
        let (done, runs) = (manifest.done(), manifest.runs.len());
        self.whole.set_message(format!("{done}/{runs} runs"));
    }

    fn worker(&mut self, slot: usize) -> &ProgressBar {
        let (lines, whole) = (&self.lines, &self.whole);
        self.workers.entry(slot).or_insert_with(|| {
            let line = ProgressBar::no_length().with_style(template("{prefix} {msg}"));
            lines
                .insert_before(whole, line)
                .with_prefix(format!("worker {:>2}", slot + 1))
        })
    }

    fn print(&self, line: &str) {
        // Hidden lines drop what they are asked to print. `eprintln!` would panic where stderr
        // is closed.
        self.lines.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{line}");
        });
    }
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).unwrap_or_else(|_| ProgressStyle::default_bar())
}
