//! `cargo x workflows`: checks `.github/workflows`, by actionlint, by zizmor, and by rules of
//! our own.

mod rules;

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, bail};

use crate::{
    cargo, linters, tidy,
    verdict::{self, Verdict, conclude},
};

const FOLDER: &str = ".github/workflows/";

/// Options of `cargo x workflows`.
#[derive(clap::Args)]
pub struct Args {
    /// A check that cannot run here is a failure.
    #[arg(long)]
    required: bool,
}

/// Runs the command: exit code 1 if something was found.
///
/// # Errors
/// If the files cannot be read, or a program that is there cannot be run.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let files: Vec<String> = tidy::files::list(root)?
        .into_iter()
        .filter(|file| file.starts_with(FOLDER) && file.ends_with(".yml"))
        .collect();
    if files.is_empty() {
        bail!("no {FOLDER}*.yml in {}", root.display());
    }
    let mut found = 0;
    for file in &files {
        let text = std::fs::read_to_string(root.join(file))
            .with_context(|| format!("cannot read {file}"))?;
        for problem in rules::check(&text) {
            println!("{file}:{problem}");
            found += 1;
        }
    }
    let rules = match found {
        0 => Verdict::Passed,
        number => Verdict::Failed(format!("{number} broken rule(s), see above")),
    };
    let mut checks = vec![("rules".to_owned(), rules)];
    for (name, arguments) in [
        // What else is on PATH must not change the outcome from machine to machine.
        (
            "actionlint",
            &["-no-color", "-shellcheck=", "-pyflakes="][..],
        ),
        (
            "zizmor",
            &["--offline", "--no-progress", "--color=never"][..],
        ),
    ] {
        let verdict = match linters::program(root, name) {
            Err(reason) => Verdict::Skipped(reason),
            Ok(program) => {
                let mut command = Command::new(program);
                command.current_dir(root).args(arguments).args(&files);
                verdict::of_status(cargo::status(&mut command)?)
            }
        };
        checks.push((name.to_owned(), verdict));
    }
    Ok(conclude(&checks, args.required))
}
