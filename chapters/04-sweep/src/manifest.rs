//! How far each run of a sweep is: `manifest.json` in its folder.
//!
//! It is replaced as a whole, and by one process at a time. Whatever it says of a run has
//! happened; what has happened since its last writing is found again in the runs' own folders.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tpu_training::store::{Lock, Place, Store, StoreError};

use crate::{
    halving::Rungs,
    protocol::{Failed, Score, Trained},
    run::Run,
};

/// The file's name.
pub const FILE: &str = "manifest.json";

/// The version of its format that this program writes, and the only one that it reads.
pub const VERSION: u64 = 1;

/// Why there is no manifest to go on from.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No sweep has begun here.
    #[error("{folder}: there is no sweep to resume; leave out --resume to begin one")]
    None {
        /// The folder.
        folder: String,
    },
    /// A sweep has begun here.
    #[error(
        "{folder}: there is a sweep of {runs} runs, {done} of them done; --resume goes on with it, \
         another --out begins a new one"
    )]
    Occupied {
        /// The folder.
        folder: String,
        /// Runs in all.
        runs: usize,
        /// Runs that are done.
        done: usize,
    },
    /// It is of another version.
    #[error(
        "{path}: version {got} of the manifest; this program reads {VERSION}: resume with the \
         program that began the sweep, or begin anew with another --out"
    )]
    Version {
        /// The file.
        path: String,
        /// Its version.
        got: u64,
    },
    /// It is not what was written.
    #[error(
        "{path} is damaged: {problem}; the runs' checkpoints are whole: begin the same sweep anew \
         in another folder, or mend the file"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// `--resume` with another sweep's flags.
    #[error(
        "{folder}: the sweep there has {what} = {expected}, and this command {got}; leave the flag \
         out to go on as it began"
    )]
    Other {
        /// The folder.
        folder: String,
        /// What differs.
        what: &'static str,
        /// What the manifest says.
        expected: String,
        /// What the flags say.
        got: String,
    },
}

/// A sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    pub manifest_version: u64,
    /// The program and its version, for people.
    pub written_by: String,
    /// What changes results and is the same for all runs.
    pub settings: Settings,
    /// The runs, in the grid's order; those that repeat the leaders come last.
    pub runs: Vec<Entry>,
    /// The best run, once it is found.
    pub winner: Option<Winner>,
}

/// What changes results and is the same for all runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `cpu`, `cuda:0`, `tpu`.
    pub device: String,
    /// Threads of each worker: sums of several threads differ in their last bits.
    pub threads: Option<usize>,
    /// Who goes on when.
    pub rungs: Rungs,
    /// Trainings of each leader, with different seeds.
    pub seeds: usize,
    /// Runs that are repeated.
    pub leaders: usize,
    /// Whether the images are made up.
    pub made_up: bool,
}

/// A run, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The run.
    pub run: Run,
    /// The run that this one repeats with another seed.
    pub repeats: Option<String>,
    /// The rung that it was promoted to, from 0.
    pub rung: usize,
    /// Times that a worker has taken it.
    pub attempts: u32,
    /// How far it is.
    pub state: State,
    /// What came of it last.
    pub trained: Option<Trained>,
}

// ANCHOR: state
/// How far a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum State {
    /// No worker has it.
    Waiting,
    /// A worker has it.
    Running,
    /// It is trained as far as its rung goes.
    Done,
    /// It was not promoted.
    Dropped,
    /// It failed, and is not tried again.
    Failed {
        /// Why.
        failed: Failed,
    },
}
// ANCHOR_END: state

/// The best run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Winner {
    /// Its id.
    pub id: String,
    /// On the test rows, asked once.
    pub test: Option<Score>,
    /// Its model's file.
    pub model: Option<String>,
}

impl Entry {
    /// A run that has not begun.
    pub fn new(run: Run, repeats: Option<String>, rung: usize) -> Self {
        Entry {
            run,
            repeats,
            rung,
            attempts: 0,
            state: State::Waiting,
            trained: None,
        }
    }

    /// Whether it came to its end, with or without a result.
    pub fn is_over(&self) -> bool {
        !matches!(self.state, State::Waiting | State::Running)
    }

    /// The failure, if it failed.
    pub fn failure(&self) -> Option<&Failed> {
        match &self.state {
            State::Failed { failed } => Some(failed),
            _ => None,
        }
    }
}

impl Manifest {
    /// A sweep that has not begun.
    pub fn new(settings: Settings, runs: Vec<Run>) -> Self {
        let entries = runs.into_iter().map(|run| Entry::new(run, None, 0));
        Manifest {
            manifest_version: VERSION,
            written_by: concat!("parallel-training ", env!("CARGO_PKG_VERSION")).to_owned(),
            settings,
            runs: entries.collect(),
            winner: None,
        }
    }

    /// The place of a run.
    pub fn place(&self, id: &str) -> Option<usize> {
        self.runs.iter().position(|entry| entry.run.id == id)
    }

    /// Runs that are done, on whatever rung.
    pub fn done(&self) -> usize {
        let done = |entry: &&Entry| matches!(entry.state, State::Done | State::Dropped);
        self.runs.iter().filter(done).count()
    }

    fn check(&self) -> Result<(), String> {
        for entry in &self.runs {
            let run = &entry.run;
            if !run.is_genuine() {
                return Err(format!("{:?} is not the id of its configuration", run.id));
            }
            let trained = entry.trained.as_ref();
            if trained.is_some_and(|trained| trained.id != run.id) {
                return Err(format!("{} has the result of another run", run.id));
            }
            if entry.rung >= self.settings.rungs.len() {
                return Err(format!(
                    "{} is on rung {}, and there are {}",
                    run.id,
                    entry.rung,
                    self.settings.rungs.len()
                ));
            }
            if matches!(entry.state, State::Done | State::Dropped) && trained.is_none() {
                return Err(format!("{} is done and has no result", run.id));
            }
        }
        match &self.winner {
            Some(winner) if self.place(&winner.id).is_none() => {
                Err(format!("the winner {:?} is none of the runs", winner.id))
            }
            _ => Ok(()),
        }
    }
}

/// The folder of a sweep, taken by this process.
pub struct SweepFolder {
    path: PathBuf,
    store: Box<dyn Store>,
    _lock: Lock,
}

impl SweepFolder {
    /// Makes the folder if it is missing, and takes it.
    ///
    /// # Errors
    /// [`ManifestError::Store`]: another sweep has it, or it cannot be written.
    pub fn open(path: &Path) -> Result<Self, ManifestError> {
        let store = Place::from(path).open()?;
        store.prepare()?;
        let lock = store.lock()?;
        Ok(Self {
            path: path.to_owned(),
            store,
            _lock: lock,
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the runs' folders.
    pub fn runs(&self) -> PathBuf {
        self.path.join("runs")
    }

    /// Its manifest, if a sweep has begun here.
    ///
    /// # Errors
    /// [`ManifestError::Damaged`], [`ManifestError::Version`], or what the file system says.
    pub fn manifest(&self) -> Result<Option<Manifest>, ManifestError> {
        if !self.store.exists(FILE)? {
            return Ok(None);
        }
        let path = self.store.address(FILE);
        let content = self.store.read(FILE)?;
        parse(&path, &content).map(Some)
    }

    /// Replaces the manifest, and waits for the disk.
    ///
    /// # Errors
    /// What the file system says; the manifest is then as it was.
    pub fn write(&self, manifest: &Manifest) -> Result<(), ManifestError> {
        let mut text =
            serde_json::to_vec_pretty(manifest).map_err(|error| ManifestError::Damaged {
                path: self.store.address(FILE),
                problem: error.to_string(),
            })?;
        text.push(b'\n');
        Ok(self.store.write(FILE, &text)?)
    }

    /// Writes any other file of the sweep, whole or not at all.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_file(&self, name: &str, content: &[u8]) -> Result<String, ManifestError> {
        self.store.write(name, content)?;
        Ok(self.store.address(name))
    }
}

/// A manifest of its text.
fn parse(path: &str, content: &[u8]) -> Result<Manifest, ManifestError> {
    let damaged = |problem: String| ManifestError::Damaged {
        path: path.to_owned(),
        problem,
    };
    #[derive(Deserialize)]
    struct Version {
        manifest_version: u64,
    }
    // First the version alone: what else there is may be another version's.
    let Version {
        manifest_version: got,
    } = serde_json::from_slice(content).map_err(|error| {
        damaged(format!(
            "expected a JSON object with manifest_version: {error}"
        ))
    })?;
    if got != VERSION {
        let path = path.to_owned();
        return Err(ManifestError::Version { path, got });
    }
    let manifest: Manifest =
        serde_json::from_slice(content).map_err(|error| damaged(error.to_string()))?;
    manifest.check().map_err(damaged)?;
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use tpu_training::data_set::DataSet;

    use super::*;
    use crate::grid::Grid;

    fn manifest() -> Manifest {
        let runs = Grid::eighteen().runs(18, |_| DataSet::digits()).unwrap();
        let settings = Settings {
            device: "cpu".into(),
            threads: Some(1),
            rungs: Rungs::single(),
            seeds: 1,
            leaders: 3,
            made_up: false,
        };
        Manifest::new(settings, runs)
    }

    #[test]
    fn a_manifest_survives_its_file() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = SweepFolder::open(scratch.path()).unwrap();
        assert_eq!(folder.manifest().unwrap(), None);
        let manifest = manifest();
        folder.write(&manifest).unwrap();
        assert_eq!(folder.manifest().unwrap(), Some(manifest));
        let second = SweepFolder::open(scratch.path());
        assert!(matches!(
            second.err(),
            Some(ManifestError::Store(StoreError::InUse { .. }))
        ));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let text = serde_json::to_string(&manifest()).unwrap();
        let id = &manifest().runs[3].run.id;
        let cut = &text[..text.len() / 2];
        let message = |text: &str| parse("m", text.as_bytes()).unwrap_err().to_string();
        assert!(
            message(cut).starts_with("m is damaged: expected a JSON object"),
            "{}",
            message(cut)
        );
        assert!(message("").contains("damaged"));
        let newer = text.replace(r#""manifest_version":1"#, r#""manifest_version":2,"new":0"#);
        assert!(message(&newer).starts_with("m: version 2 of the manifest; this program reads 1"));
        for (from, to, part) in [
            (id.as_str(), "../../x", "is not the id of its configuration"),
            (
                r#""rung":0"#,
                r#""rung":5"#,
                "is on rung 5, and there are 1",
            ),
            (
                r#""name":"waiting""#,
                r#""name":"done""#,
                "is done and has no result",
            ),
            (
                r#""winner":null"#,
                r#""winner":{"id":"x","test":null,"model":null}"#,
                "is none of the runs",
            ),
            (r#""device""#, r#""unknown""#, "unknown field"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert!(message(&changed).contains(part), "{}", message(&changed));
        }
    }
}
