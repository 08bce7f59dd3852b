//! `cargo x dry-run`: the whole path of every chapter on made-up data, without a download,
//! each within a limit of time.

use std::{
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use crate::{
    cargo,
    learn::{self, CHAPTERS, Chapter},
    phases::Phases,
    quantities, setup,
    verdict::{Verdict, conclude},
};

/// Options of `cargo x dry-run`.
#[derive(clap::Args)]
pub struct Args {
    /// Only this chapter, by its folder's name; may be given several times.
    #[arg(long, value_name = "NAME")]
    chapter: Vec<String>,
    /// A chapter that takes longer is stopped, and has failed.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    limit: u64,
    /// Run the programs as they lie in target/release, without building them.
    #[arg(long)]
    no_build: bool,
    /// A chapter that cannot run here is a failure.
    #[arg(long)]
    required: bool,
}

/// Runs the command: exit code 1 if a chapter failed or took too long.
///
/// # Errors
/// If a chapter is not known, or set-up or the build fails.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let chapters = chosen(&args.chapter)?;
    let mut phases = Phases::default();
    phases.time("setup", || setup::ensure(root, &[]))?;

    if !args.no_build {
        let names = chapters.iter().map(|chapter| chapter.package);
        let mut build = cargo::programs("build", names, root);
        let built = phases.time("build", || cargo::status(build.arg("--quiet")))?;
        ensure!(
            built.success(),
            "{} failed ({built}): see above",
            cargo::words(&build)
        );
    }

    let limit = Duration::from_secs(args.limit);
    let mut checks = Vec::new();
    for chapter in chapters {
        let verdict = match learn::lack(chapter, root) {
            Some(reason) => Verdict::Skipped(reason),
            None => phases.time(chapter.name, || dry_run(chapter, limit, root))?,
        };
        checks.push((chapter.name.to_owned(), verdict));
    }
    eprintln!("{phases}");
    Ok(conclude(&checks, args.required))
}

/// The chapters of these names; all, if there are none.
///
/// # Errors
/// If a name is no chapter's.
pub fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Chapter>> {
    let known = |name: &&String| CHAPTERS.iter().any(|chapter| chapter.name == **name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = CHAPTERS.iter().map(|chapter| chapter.name).collect();
        bail!("--chapter {name}: expected one of {}", all.join(", "));
    }
    let wanted = |chapter: &&Chapter| names.is_empty() || names.iter().any(|n| n == chapter.name);
    Ok(CHAPTERS.iter().filter(wanted).collect())
}

fn dry_run(chapter: &Chapter, limit: Duration, root: &Path) -> anyhow::Result<Verdict> {
    let out = tempfile::tempdir().context("a temporary folder")?;
    let mut command = Command::new(cargo::program(root, chapter.package));
    command
        .current_dir(root)
        .args(chapter.dry_run)
        .arg("--out")
        .arg(out.path())
        // Nothing may be fetched: what tries finds nobody at this address.
        .env("HF_ENDPOINT", "http://127.0.0.1:1")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let words = cargo::words(&command);
    let child = command
        .spawn()
        .with_context(|| format!("cannot run {words}"))?;
    Ok(match wait(child, limit)? {
        None => Verdict::Failed(format!(
            "`{words}` took longer than {}: see --limit",
            quantities::time(limit)
        )),
        Some(status) if !status.success() => {
            Verdict::Failed(format!("`{words}` ended with {status}, see above"))
        }
        Some(_) => Verdict::Passed,
    })
}

/// Waits for a child's end; one that takes longer than the limit is ended.
fn wait(mut child: Child, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("waiting for a chapter")? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            // It may have ended by itself meanwhile.
            let _ = child.kill();
            child.wait().context("waiting for a chapter")?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chapter_has_a_dry_run() {
        for chapter in CHAPTERS {
            assert!(chapter.dry_run.contains(&"--dry-run"), "{}", chapter.name);
        }
    }

    #[test]
    fn an_unknown_chapter_is_told() {
        let error = chosen(&["05-quantum".to_owned()])
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.starts_with("--chapter 05-quantum: expected one of 01-cpu, "),
            "{error}"
        );
        assert_eq!(chosen(&[]).unwrap().len(), CHAPTERS.len());
        assert_eq!(chosen(&["02-gpu".to_owned()]).unwrap()[0].name, "02-gpu");
    }

    #[cfg(unix)]
    #[test]
    fn what_hangs_is_ended() {
        let child = |seconds: &str| Command::new("sleep").arg(seconds).spawn().unwrap();
        let start = Instant::now();
        assert!(
            wait(child("60"), Duration::from_millis(50))
                .unwrap()
                .is_none()
        );
        assert!(start.elapsed() < Duration::from_secs(30));
        let ended = wait(child("0"), Duration::from_secs(30)).unwrap();
        assert!(ended.is_some_and(|status| status.success()));
    }
}
