//! `cargo x tidy`: checks the project's own rules, then formatting and lints.
//!
//! One file a family of rules; [`rules`] holds the tables that say what is allowed where.

mod contents;
pub mod files;
mod manifests;
mod notices;
mod optional_feature;
mod rules;
mod rust_source;

use std::{fmt, path::Path, process::ExitCode};

use crate::{cargo, phases::Phases, setup};
use optional_feature::Outcome;

/// Options of `cargo x tidy`.
#[derive(clap::Args)]
pub struct Args {
    /// Only the project's own rules: no `cargo fmt --check`, no clippy.
    #[arg(long)]
    no_cargo: bool,
}

/// A broken rule.
#[derive(Debug, PartialEq)]
pub struct Problem {
    /// File, relative to the root.
    file: String,
    /// Line, from 1.
    line: Option<usize>,
    /// What is wrong and what to do.
    message: String,
}

impl Problem {
    fn in_file(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            message: message.into(),
        }
    }

    fn on_line(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            ..Self::in_file(file, message)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// Runs the command: exit code 1 if a rule is broken.
///
/// # Errors
/// If the files cannot be listed, or cargo cannot be run.
pub fn run(args: Args, root: &Path) -> anyhow::Result<ExitCode> {
    let mut phases = Phases::default();
    let problems = phases.time("rules", || problems(root))?;
    for problem in &problems {
        println!("{problem}");
    }
    let mut failed = Vec::new();
    if !problems.is_empty() {
        failed.push(format!("{} broken rule(s)", problems.len()));
    }
    if !args.no_cargo {
        // tch's build script, which clippy runs as well, needs libtorch.
        phases.time("setup", || setup::ensure(root, &[]))?;
        for (name, arguments) in CARGO_CHECKS {
            let mut command = cargo::command(root);
            command.args(*arguments);
            if !phases.time(name, || cargo::status(&mut command))?.success() {
                failed.push(format!("`{}`", cargo::words(&command)));
            }
        }
        match phases.time("xla-rs", || optional_feature::check(root))? {
            Outcome::Absent | Outcome::Fine => {}
            Outcome::Skipped(reason) => {
                println!("the feature xla-rs of tpu-training was not checked: {reason}");
            }
            Outcome::Failed(said) => {
                eprintln!("{said}");
                let command = optional_feature::command(root);
                failed.push(format!("`DOCS_RS=1 {}`", cargo::words(&command)));
            }
        }
    }
    eprintln!("{phases}");
    if failed.is_empty() {
        println!("tidy: all is well");
        return Ok(ExitCode::SUCCESS);
    }
    println!("tidy: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Release, as everything in this project: what clippy builds, the tests then need not.
const CARGO_CHECKS: &[(&str, &[&str])] = &[
    ("format", &["fmt", "--all", "--check"]),
    (
        "clippy",
        &[
            "clippy",
            "--quiet",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ],
    ),
];

fn problems(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let files = files::list(root)?;
    let mut problems = Vec::new();
    contents::check(root, &files, &mut problems);
    rust_source::check(root, &files, rules::UNSAFE_ALLOWED, &mut problems);
    manifests::check(root, &files, rules::MAY_DEPEND_ON, &mut problems);
    notices::check(root, &files, &mut problems);
    problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Ok(problems)
}

#[cfg(test)]
mod fixture {
    //! A small project on disk, for the tests of the rules.

    use super::*;

    pub struct Tree(tempfile::TempDir);

    impl Tree {
        pub fn new(files: &[(&str, &str)]) -> Self {
            let tree = Self(tempfile::tempdir().expect("a temporary folder"));
            for (path, text) in files {
                tree.write(path, text.as_bytes());
            }
            tree
        }

        pub fn write(&self, path: &str, bytes: &[u8]) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, bytes).expect("a file");
        }

        pub fn root(&self) -> &Path {
            self.0.path()
        }

        /// The problems that one family of rules finds, as text.
        pub fn check(&self, rule: impl FnOnce(&Path, &[String], &mut Vec<Problem>)) -> Vec<String> {
            let files = files::list(self.root()).expect("the files");
            let mut problems = Vec::new();
            rule(self.root(), &files, &mut problems);
            problems.iter().map(Problem::to_string).collect()
        }
    }
}
