//! `cargo x outputs`: the outputs of commands that pages show.
//!
//! Each is a file in `book/outputs/`: its first line is the command behind `$ `, the rest what
//! the command prints. A page includes the file; nobody types an output. Only commands that
//! are quick, print the same on every machine and change nothing belong here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use accel::exit;
use anyhow::{Context, bail};

use crate::cargo;

/// Where the files lie, from the root.
const FOLDER: &str = "book/outputs";

/// Options of `cargo x outputs`.
#[derive(clap::Args)]
pub struct Args {
    /// Change nothing; exit code 1 if a file is not what its command prints.
    #[arg(long)]
    check: bool,
}

/// Runs each command, and writes what it printed or compares it.
///
/// # Errors
/// If a file cannot be read or written, or its command cannot be run or fails.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let mut differ = 0;
    for path in files(root)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let old = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let first = old.lines().next().unwrap_or_default();
        let new = format!("{first}\n{}", output(first, root).context(name.clone())?);
        if new == old {
            println!("current  {name}");
        } else if args.check {
            differ += 1;
            println!("differs  {name}: line {}", first_difference(&old, &new));
        } else {
            fs::write(&path, &new).with_context(|| path.display().to_string())?;
            println!("written  {name}");
        }
    }
    if differ > 0 {
        eprintln!("{differ} files are not what their commands print: cargo x outputs");
        return Ok(ExitCode::from(exit::FAILED));
    }
    Ok(ExitCode::SUCCESS)
}

/// The files, sorted; none if there is no folder.
fn files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = root.join(FOLDER);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "txt") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The arguments of `$ cargo ...`.
fn arguments(line: &str) -> anyhow::Result<Vec<&str>> {
    let Some(words) = line.strip_prefix("$ cargo ") else {
        bail!("expected a first line such as `$ cargo run --package X -- --help`, got {line:?}");
    };
    // No shell reads the line: what only a shell understands would be taken for an argument.
    if let Some(special) = words.find(['"', '\'', '\\', '|', '>', '<', '&', ';', '$', '*', '`']) {
        bail!(
            "{:?} needs a shell, which does not read this line",
            &words[special..]
        );
    }
    Ok(words.split_whitespace().collect())
}

/// What a command prints on stdout, without spaces at the ends of lines.
fn output(line: &str, root: &Path) -> anyhow::Result<String> {
    let mut command: Command = cargo::command(root);
    // The page shows how a reader types it; cargo's own news are not the program's output.
    command
        .args(arguments(line)?)
        .env("CARGO_TERM_QUIET", "true")
        .env("COLUMNS", "100")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", cargo::words(&command)))?;
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}",
            cargo::words(&command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let text = String::from_utf8(output.stdout).context("its output is not text")?;
    if text.trim().is_empty() {
        bail!("{} prints nothing", cargo::words(&command));
    }
    Ok(text
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect())
}

/// The first line that differs, from 1.
fn first_difference(old: &str, new: &str) -> usize {
    let same = old
        .lines()
        .zip(new.lines())
        .take_while(|(old, new)| old == new);
    same.count() + 1
}

#[cfg(test)]
mod tests {
    use super::{arguments, first_difference};

    #[test]
    fn only_plain_cargo_commands_are_run() {
        assert_eq!(
            arguments("$ cargo run -p x -- --help").unwrap(),
            ["run", "-p", "x", "--", "--help"]
        );
        for bad in [
            "cargo run",
            "$ rm -r x",
            "$ cargo run | head",
            "$ cargo run -- \"a b\"",
            "$ cargo run > x",
            "",
        ] {
            assert!(arguments(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn differences_have_a_line() {
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), 2);
        assert_eq!(first_difference("a\n", "a\nb\n"), 2);
    }
}
