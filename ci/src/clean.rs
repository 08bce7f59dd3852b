//! `cargo x clean`: what can be made again is deleted, after saying how much that frees.
//!
//! Never outside of the project's folder: what is a symbolic link is left alone, and so is a
//! target folder elsewhere.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};

use crate::{disk::bytes_below, quantities::size};

/// Options of `cargo x clean`.
#[derive(clap::Args)]
pub struct Args {
    /// Delete what was fetched as well: it would be fetched again.
    #[arg(long)]
    all: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Only say what would be deleted.
    #[arg(long)]
    dry_run: bool,
}

/// What is made again by building, and how.
const BUILT: [(&str, &str); 4] = [
    ("target", "what cargo has built"),
    ("book/html", "the rendered book"),
    ("book/generated", "the book's expanded pages"),
    ("dist", "what `cargo x release` has made"),
];

/// What is fetched again.
const FETCHED: [(&str, &str); 1] = [(".native", "fetched libraries, data sets and tools")];

/// What an interrupted or a generous set-up has left in .native, by the beginning of its name.
const LEFTOVERS: [(&str, &str); 2] = [
    ("wheels", "wheels that were kept"),
    (".setup-", "what an interrupted set-up has left"),
];

/// A thing that is deleted.
#[derive(Debug, PartialEq)]
struct Item {
    /// Relative to the root.
    path: PathBuf,
    what: &'static str,
    bytes: u64,
}

/// Runs the command: exit code 1 if something could not be deleted, or nobody could be asked.
///
/// # Errors
/// What could not be looked at or deleted.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let (items, left_alone) = items(root, args.all)?;
    for reason in &left_alone {
        println!("left alone: {reason}");
    }
    for item in &items {
        println!(
            "{:>8}  {}: {}",
            size(item.bytes),
            item.path.display(),
            item.what
        );
    }
    let total = items.iter().map(|item| item.bytes).sum();
    if items.is_empty() {
        println!("nothing to delete");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:>8}  in all; results-local/ stays", size(total));
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes && !agreed()? {
        println!("nothing was deleted");
        return Ok(ExitCode::SUCCESS);
    }
    for item in &items {
        let path = root.join(&item.path);
        let deleted = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        deleted.with_context(|| format!("cannot delete {}", path.display()))?;
    }
    println!("freed {}", size(total));
    Ok(ExitCode::SUCCESS)
}

fn agreed() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("nobody to ask: say --yes to delete, or --dry-run to look");
    }
    print!("delete? [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What is there to delete, and what looks like it and is left alone.
fn items(root: &Path, all: bool) -> anyhow::Result<(Vec<Item>, Vec<String>)> {
    let mut wanted: Vec<(PathBuf, &'static str)> = Vec::new();
    let own = |(path, what): (&str, &'static str)| (PathBuf::from(path), what);
    wanted.extend(BUILT.map(own));
    if all {
        wanted.extend(FETCHED.map(own));
    } else if let Ok(entries) = std::fs::read_dir(root.join(".native")) {
        let linked = root.join(".native").is_symlink();
        for entry in entries.flatten().filter(|_| !linked) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some((_, what)) = LEFTOVERS.iter().find(|(start, _)| name.starts_with(start)) {
                wanted.push((Path::new(".native").join(name), what));
            }
        }
    }
    let (mut items, mut left_alone) = (Vec::new(), Vec::new());
    for (path, what) in wanted {
        let place = root.join(&path);
        let Ok(metadata) = place.symlink_metadata() else {
            continue;
        };
        if let Some(link) = link_on_the_way(root, &path) {
            left_alone.push(format!("{} is a link to another place", link.display()));
            continue;
        }
        let bytes = match metadata.is_dir() {
            true => bytes_below(&place)?,
            false => metadata.len(),
        };
        items.push(Item { path, what, bytes });
    }
    if let Some(folder) = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty()) {
        let folder = root.join(folder);
        if folder != root.join("target") {
            left_alone.push(format!(
                "{} (CARGO_TARGET_DIR) may be others' too",
                folder.display()
            ));
        }
    }
    Ok((items, left_alone))
}

/// The first part of a path that is a symbolic link: deleting below it would leave the project.
fn link_on_the_way(root: &Path, path: &Path) -> Option<PathBuf> {
    let mut parts: Vec<&Path> = path
        .ancestors()
        .filter(|part| *part != Path::new(""))
        .collect();
    parts.reverse();
    let link = parts
        .into_iter()
        .find(|part| root.join(part).is_symlink())?;
    Some(link.to_owned())
}
