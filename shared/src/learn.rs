//! A chapter in one go: its measurements one after the other, each by the chapter's own
//! program in a process of its own, each with a result file.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::checkout::checkout_root;
use crate::exit;
use crate::results::{ResultError, ResultFile, published_dir};
use crate::stdout::{StdoutError, print_line};

/// One measurement of a chapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The name of its file.
    pub measurement: &'static str,
    /// What it asks, for the reader.
    pub question: &'static str,
    /// The arguments that a reader would type. Words in capitals stand for what only the
    /// machine knows.
    pub command: &'static str,
    /// What quick mode adds; a flag that is given again replaces the first.
    /// `None`: left out of quick mode.
    pub quick: Option<&'static str>,
}

impl Step {
    /// The arguments, with quick mode's where it is asked for.
    ///
    /// * `place`: what a word in capitals stands for here
    pub fn words(&self, quick: bool, place: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let mut words: Vec<String> = self
            .command
            .split_whitespace()
            .map(|word| place(word).unwrap_or_else(|| word.to_owned()))
            .collect();
        let quick: Vec<&str> = match (quick, self.quick) {
            (true, Some(quick)) => quick.split_whitespace().collect(),
            _ => vec![],
        };
        for flag in quick.iter().filter(|word| word.starts_with("--")) {
            if let Some(at) = words.iter().position(|word| word == flag) {
                words.drain(at..(at + 2).min(words.len()));
            }
        }
        words.extend(quick.into_iter().map(str::to_owned));
        words
    }
}

/// How a chapter is gone through.
#[derive(Clone, Copy, Debug)]
pub struct Learn<'a> {
    /// The chapter's folder below `chapters/`.
    pub chapter: &'a str,
    /// The program's name, as a reader types it.
    pub program: &'a str,
    /// Folder for the result files of this machine.
    pub out: &'a Path,
    /// Short measurements.
    pub quick: bool,
    /// Write the files as the book publishes them.
    pub publish: bool,
    /// Only the measurement of this name; where none has it, those whose name has it in it.
    pub only: Option<&'a str>,
}

/// Why a chapter was not gone through to its end.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// `--only` matches nothing.
    #[error("--only {only}: no such measurement; expected a part of one of {possible}")]
    NoSuchMeasurement {
        /// What was asked for.
        only: String,
        /// The names that there are.
        possible: String,
    },
    /// The program cannot be started.
    #[error("cannot start {program}")]
    Start {
        /// The chapter's program.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A measurement failed.
    #[error("measuring {measurement} failed ({status})")]
    Failed {
        /// Its name.
        measurement: &'static str,
        /// How its process ended.
        status: ExitStatus,
    },
    /// The result of an earlier run is in the way.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A result file cannot be read or written.
    #[error("measuring {measurement}")]
    Result {
        /// Its name.
        measurement: &'static str,
        /// Which file, and why.
        source: ResultError,
    },
    /// Nothing can be printed.
    #[error("cannot tell what is measured")]
    Stdout(#[from] StdoutError),
}

impl Learn<'_> {
    /// Runs the steps that are asked for. One that needs a device or a library which is not
    /// here is left out and named; with some bad items, and a result, the rest goes on.
    ///
    /// * `arguments`: of a step, with the flags that make the program write `result.json` into
    ///   the folder given
    ///
    /// Returns one of [`exit`]'s codes.
    ///
    /// # Errors
    /// [`LearnError`], or those of `arguments`; the steps before it are written.
    pub fn run<E: From<LearnError>>(
        &self,
        steps: &[Step],
        mut arguments: impl FnMut(&Step, &Path) -> Result<Vec<String>, E>,
    ) -> Result<u8, E> {
        let root = checkout_root();
        let possible = || (steps.iter()).filter(|step| !self.quick || step.quick.is_some());
        let wanted: Vec<&Step> = possible().filter(self.asked(steps)).collect();
        if wanted.is_empty() {
            let names: Vec<_> = possible().map(|step| step.measurement).collect();
            return Err(E::from(LearnError::NoSuchMeasurement {
                only: self.only.unwrap_or_default().to_owned(),
                possible: names.join(", "),
            }));
        }
        let mut left_out = vec![];
        let mut code = exit::OK;
        for step in &wanted {
            let folder = self.out.join(step.measurement);
            let words = arguments(step, &folder)?;
            match self.measure(step, &words, &folder)? {
                exit::INTERRUPTED => return Ok(exit::INTERRUPTED),
                exit::DEVICE => left_out.push(step.measurement),
                ended => {
                    self.keep(step, &folder, root.as_deref())?;
                    code = code.max(ended);
                }
            }
        }
        if !left_out.is_empty() {
            let names = left_out.join(", ");
            print_line(&format!("\nleft out, for the reasons above: {names}"))
                .map_err(LearnError::from)?;
        }
        match left_out.len() == wanted.len() {
            true => Ok(exit::DEVICE),
            false => Ok(code),
        }
    }

    /// Whether a step is one that `only` leaves.
    fn asked(&self, steps: &[Step]) -> impl Fn(&&Step) -> bool {
        let only = self.only;
        // Some names begin with another's.
        let exact = steps.iter().any(|step| Some(step.measurement) == only);
        move |step| match only {
            None => true,
            Some(name) if exact => step.measurement == name,
            Some(part) => step.measurement.contains(part),
        }
    }

    /// Runs the program for one step; the exit code is one that can be gone on from.
    fn measure(&self, step: &Step, words: &[String], folder: &Path) -> Result<u8, LearnError> {
        let (program, question) = (self.program, step.question);
        print_line(&format!("\n{question}\n$ {program} {}", words.join(" ")))?;
        let path = folder.join("result.json");
        // Else a step that fails would hand on the result of an earlier run.
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(LearnError::Remove { path, source });
            }
            _ => {}
        }
        // A process of its own: memory and malloc start afresh, Ctrl-C reaches it, and the
        // file has the command that a reader can type.
        let status = std::env::current_exe()
            .and_then(|program| Command::new(program).args(words).status())
            .map_err(|source| LearnError::Start {
                program: program.to_owned(),
                source,
            })?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        match code {
            Some(code @ (exit::OK | exit::DEVICE | exit::INTERRUPTED)) => Ok(code),
            Some(exit::FAILED) if path.is_file() => Ok(exit::FAILED),
            _ => Err(LearnError::Failed {
                measurement: step.measurement,
                status,
            }),
        }
    }

    /// Writes a step's result under its own name. Published: by date and commit. A reader's
    /// own: `<slug>/<measurement>.json`.
    fn keep(&self, step: &Step, folder: &Path, root: Option<&Path>) -> Result<(), LearnError> {
        let measurement = step.measurement;
        let failed = |source| LearnError::Result {
            measurement,
            source,
        };
        let mut file = ResultFile::read(folder.join("result.json")).map_err(failed)?;
        measurement.clone_into(&mut file.measurement);
        let slug = file.environment.machine_slug();
        let path = match self.publish {
            true => published_dir(
                root.unwrap_or(Path::new(".")),
                self.chapter,
                &slug,
                measurement,
            )
            .join(file.published_name()),
            false => self.out.join(slug).join(format!("{measurement}.json")),
        };
        file.write(path).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Step = Step {
        measurement: "ladder",
        question: "How fast?",
        command: "ladder --batch 8 --images SAMPLES --publish",
        quick: Some("--quick --batch 2 --publish"),
    };

    fn place(word: &str) -> Option<String> {
        (word == "SAMPLES").then(|| "a folder".to_owned())
    }

    fn learn(only: &str, quick: bool) -> Result<u8, LearnError> {
        let learn = Learn {
            chapter: "01-cpu",
            program: "cpu-inference",
            out: Path::new("nowhere"),
            quick,
            publish: false,
            only: Some(only),
        };
        let full = Step {
            measurement: "memory",
            quick: None,
            ..STEP
        };
        learn.run(&[STEP, full], |_, _| unreachable!("nothing is measured"))
    }

    #[test]
    fn words_in_capitals_stand_for_what_the_machine_knows() {
        let words = STEP.words(false, place);
        assert_eq!(
            words,
            [
                "ladder",
                "--batch",
                "8",
                "--images",
                "a folder",
                "--publish"
            ]
        );
    }

    #[test]
    fn quick_mode_replaces_what_it_gives_again() {
        let words = STEP.words(true, place);
        let wanted = [
            "ladder",
            "--images",
            "a folder",
            "--quick",
            "--batch",
            "2",
            "--publish",
        ];
        assert_eq!(words, wanted);
    }

    #[test]
    fn a_whole_name_means_that_one_alone() {
        let longer = Step {
            measurement: "ladder-digits",
            ..STEP
        };
        let steps = [STEP, longer];
        for (only, wanted) in [
            (None, vec!["ladder", "ladder-digits"]),
            (Some("ladder"), vec!["ladder"]),
            (Some("lad"), vec!["ladder", "ladder-digits"]),
            (Some("digits"), vec!["ladder-digits"]),
        ] {
            let learn = Learn {
                chapter: "01-cpu",
                program: "cpu-inference",
                out: Path::new("nowhere"),
                quick: false,
                publish: false,
                only,
            };
            let asked = steps.iter().filter(learn.asked(&steps));
            let names: Vec<_> = asked.map(|step| step.measurement).collect();
            assert_eq!(names, wanted);
        }
    }

    #[test]
    fn a_name_that_matches_nothing_is_told_with_those_that_are() {
        let message = learn("x", false).unwrap_err().to_string();
        assert!(message.contains("--only x"), "{message}");
        assert!(message.contains("ladder, memory"), "{message}");
        let message = learn("memory", true).unwrap_err().to_string();
        assert!(message.ends_with("one of ladder"), "{message}");
    }
}
