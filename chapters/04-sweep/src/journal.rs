//! What happened in a sweep, line by line: `journal.jsonl` in its folder.
//!
//! Nothing is read back from it. It is for people, and for who wants to know whether a run was
//! trained twice.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

/// The file's name.
pub const FILE: &str = "journal.jsonl";

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// The sweep begins, or goes on.
    Sweep {
        /// Runs in all.
        runs: usize,
        /// Workers at the same time.
        slots: usize,
        /// Whether it goes on from a manifest.
        resumed: bool,
    },
    /// A worker takes a run.
    Started {
        /// The run.
        id: &'a str,
        /// The worker's slot.
        slot: usize,
        /// From 1, over all that the sweep was resumed.
        attempt: u32,
    },
    /// An epoch is over and saved.
    Epoch {
        /// The run.
        id: &'a str,
        /// Epochs that are complete.
        epoch: usize,
        /// On the validation rows.
        accuracy: f64,
    },
    /// The run is trained as far as was asked.
    Done {
        /// The run.
        id: &'a str,
        /// Epochs that are complete.
        epochs: usize,
        /// On the validation rows.
        accuracy: f64,
    },
    /// An attempt failed.
    Failed {
        /// The run.
        id: &'a str,
        /// The reason.
        message: &'a str,
        /// Whether there will be another attempt.
        again: bool,
    },
    /// Saved before its end.
    Stopped {
        /// The run.
        id: &'a str,
    },
    /// Who goes on after a rung of successive halving.
    Promoted {
        /// The runs.
        ids: Vec<&'a str>,
    },
    /// The best run.
    Winner {
        /// The run.
        id: &'a str,
    },
}

/// The journal, open for writing.
#[derive(Debug)]
pub struct Journal {
    file: File,
}

impl Journal {
    /// Opens the journal of a sweep's folder; an older one goes on.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(FILE);
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file })
    }

    /// Writes a line, with the time.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn write(&mut self, event: &Event<'_>) -> io::Result<()> {
        #[derive(Serialize)]
        struct Entry<'a> {
            unix_seconds: f64,
            #[serde(flatten)]
            event: &'a Event<'a>,
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let unix_seconds = now.map_or(0.0, |now| (now.as_secs_f64() * 1e3).round() / 1e3);
        let mut line = serde_json::to_vec(&Entry {
            unix_seconds,
            event,
        })?;
        line.push(b'\n');
        // In one call: a kill leaves whole lines.
        self.file.write_all(&line)
    }
}
