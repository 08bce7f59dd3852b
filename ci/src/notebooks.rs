//! `cargo x notebooks`: checks the companion notebooks, and executes them on the CPU.
//!
//! nbconvert executes each beside a copy of this checkout, as a reader's runtime has one, with the
//! chapter's own programs and `cpu` for the device. So a reader's results and book stay as they
//! are. What is not executed is what is there already: Rust's installer, and `git clone`.

mod checkout_copy;
mod executed;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::SystemTime,
};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::{
    book, cargo, dry_run,
    learn::{self, Chapter},
    phases::Phases,
    python_environment::NOTEBOOKS,
    setup,
    toolchain::{self, Tool},
    verdict::{self, Verdict, conclude},
};

/// Where the notebooks are, from the root.
const FOLDER: &str = "book/notebooks";
/// What writes them.
const SCRIPT: &str = "book/notebooks/make_notebooks.py";
/// The check of what it writes.
const AS_WRITTEN: &str = "as make_notebooks.py writes them";
/// The check that executing left alone what others are linked with.
const NOTHING_ANEW: &str = "nothing is built anew";
/// What executes one.
const EXECUTE: &str = "ci/notebooks/execute.py";
/// Where they go with their outputs: git ignores it.
const EXECUTED: &str = "book/generated/notebooks";
/// Where cargo is told which variables builds find.
const CARGO_CONFIG: &str = ".cargo/config.toml";
/// The copy's name: the notebooks clone into a folder of this name, unless it is there.
const CHECKOUT: &str = "checkout";

/// Options of `cargo x notebooks`.
#[derive(clap::Args)]
pub struct Args {
    /// Only this chapter's, by its folder's name; may be given several times.
    #[arg(long, value_name = "NAME")]
    chapter: Vec<String>,
    /// Execute none: only see whether they are what make_notebooks.py writes.
    #[arg(long)]
    check: bool,
    /// What the chapter's `learn` is given, as one text.
    #[arg(
        long,
        value_name = "FLAGS",
        default_value = "--quick",
        allow_hyphen_values = true
    )]
    learn: String,
    /// A notebook that takes longer is stopped, and has failed.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, value_parser = clap::value_parser!(u64).range(1..=86400))]
    limit: u64,
    /// What cannot be checked or executed here is a failure.
    #[arg(long)]
    required: bool,
}

/// Runs the command: exit code 1 if a notebook differs from what is written, or failed.
///
/// # Errors
/// If a chapter is not known, set-up fails, or a file cannot be read or written.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let chapters = dry_run::chosen(&args.chapter)?;
    let mut phases = Phases::default();
    let mut checks = vec![(AS_WRITTEN.to_owned(), as_written(root)?)];
    if !args.check {
        let verdicts = match phases.time("jupyter", || jupyter(root)) {
            Err(reason) => (chapters.iter())
                .map(|_| Verdict::Skipped(reason.clone()))
                .collect(),
            Ok(python) => {
                let built = phases.time("build", || build(root))?;
                let verdicts = execute_all(&chapters, &python, args, root, &mut phases)?;
                checks.push((NOTHING_ANEW.to_owned(), nothing_anew(&built, root)?));
                verdicts
            }
        };
        let names = chapters.iter().map(|chapter| chapter.name.to_owned());
        checks.extend(names.zip(verdicts));
        eprintln!("{phases}");
    }
    Ok(conclude(&checks, args.required))
}

/// Whether the committed notebooks are what the script writes, byte for byte.
fn as_written(root: &Path) -> anyhow::Result<Verdict> {
    if toolchain::found(Tool::Python).is_none() {
        let install = toolchain::install_command(Tool::Python);
        return Ok(Verdict::Skipped(format!("Python 3; `{install}`")));
    }
    let mut command = Command::new("python3");
    command
        .arg(root.join(SCRIPT))
        .arg("--check")
        .stdin(Stdio::null());
    Ok(verdict::of_status(cargo::status(&mut command)?))
}

/// A Python with nbconvert, after making its environment where it is missing.
///
/// # Errors
/// Why there is none here, as the reason of a skip.
fn jupyter(root: &Path) -> Result<PathBuf, String> {
    // A notebook that finds no cargo installs one, and this command installs nothing.
    if std::env::var_os("CARGO").is_none()
        && toolchain::first_line("cargo", &["--version"]).is_none()
    {
        return Err("cargo on PATH; run this as `cargo x notebooks`".to_owned());
    }
    (NOTEBOOKS.ready(root, false)).map_err(|error| format!("Jupyter: {error:#}"))
}

/// Compiled libraries, and when each was written.
type Libraries = BTreeMap<PathBuf, SystemTime>;

/// Builds every program here, so that cargo finds them built in the copy.
fn build(root: &Path) -> anyhow::Result<Libraries> {
    setup::ensure(root, &[])?;
    let names = learn::CHAPTERS.iter().map(|chapter| chapter.package);
    let mut build = cargo::programs("build", names.chain([book::PROGRAM, "x"]), root);
    let status = cargo::status(&mut build)?;
    anyhow::ensure!(
        status.success(),
        "{} ended with {status}, see above",
        cargo::words(&build)
    );
    libraries(root)
}

fn libraries(root: &Path) -> anyhow::Result<Libraries> {
    let folder = cargo::target(root).join("release/deps");
    let read = || -> std::io::Result<Libraries> {
        let mut found = Libraries::new();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|name| name == "rlib") {
                let written = path.metadata()?.modified()?;
                found.insert(path, written);
            }
        }
        Ok(found)
    };
    read().with_context(|| format!("cannot read {}", folder.display()))
}

/// Whether all libraries are as they were. A `cargo test` that runs this goes on to link with
/// them, and cannot with those that cargo has built again in the copy.
fn nothing_anew(built: &Libraries, root: &Path) -> anyhow::Result<Verdict> {
    let now = libraries(root)?;
    let changed: Vec<_> = (built.iter())
        .filter(|(path, written)| now.get(*path) != Some(*written))
        .filter_map(|(path, _)| path.file_name()?.to_str())
        .collect();
    Ok(match changed.is_empty() {
        true => Verdict::Passed,
        false => Verdict::Failed(format!("in the copy, cargo built {}", changed.join(", "))),
    })
}

/// Executes the notebooks one after the other, all beside the same copy.
fn execute_all(
    chapters: &[&Chapter],
    python: &Path,
    args: &Args,
    root: &Path,
    phases: &mut Phases,
) -> anyhow::Result<Vec<Verdict>> {
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let copy = folder.path().join(CHECKOUT);
    phases.time("copy", || checkout_copy::make(root, &copy))?;
    let executed = root.join(EXECUTED);
    std::fs::create_dir_all(&executed)
        .with_context(|| format!("cannot create {}", executed.display()))?;
    let mut verdicts = Vec::new();
    for chapter in chapters {
        verdicts.push(match learn::lack(chapter, root) {
            Some(reason) => Verdict::Skipped(reason),
            None => {
                eprintln!("== {FOLDER}/{}.ipynb", chapter.name);
                let work = || execute(chapter, python, args, root, folder.path());
                phases.time(chapter.name, work)?
            }
        });
    }
    Ok(verdicts)
}

/// What `execute.py` says of a cell that failed.
#[derive(Deserialize)]
struct Failure {
    cell: String,
    error: String,
    output: String,
}

fn execute(
    chapter: &Chapter,
    python: &Path,
    args: &Args,
    root: &Path,
    folder: &Path,
) -> anyhow::Result<Verdict> {
    let name = format!("{}.ipynb", chapter.name);
    let to = root.join(EXECUTED).join(&name);
    let mut command = Command::new(python);
    command
        .arg(root.join(EXECUTE))
        .arg(root.join(FOLDER).join(&name))
        .arg("--folder")
        .arg(folder)
        .arg("--to")
        .arg(&to)
        .args(["--limit", &args.limit.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    environment(&mut command, args, root, folder)?;
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", cargo::words(&command)))?;
    if output.status.success() {
        return Ok(match executed::look(&to)? {
            None => Verdict::Passed,
            Some(problem) => Verdict::Failed(problem),
        });
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let Ok(failure) = serde_json::from_str::<Failure>(said.trim()) else {
        bail!(
            "{} ended with {}, see above",
            cargo::words(&command),
            output.status
        );
    };
    let Failure {
        cell,
        error,
        output,
    } = failure;
    let output = output.replace('\n', "\n    ");
    Ok(Verdict::Failed(format!(
        "cell {cell}: {error}\n    {output}\n  all outputs are in {EXECUTED}/{name}"
    )))
}

/// What the kernel, and what it starts, find in the environment.
fn environment(
    command: &mut Command,
    args: &Args,
    root: &Path,
    folder: &Path,
) -> anyhow::Result<()> {
    cargo::forget_package(command);
    command
        .env("NOTEBOOK_DEVICE", "cpu")
        // What a GPU or a TPU takes would be gigabytes for nothing.
        .env("NOTEBOOK_SETUP", "")
        .env("NOTEBOOK_LEARN", &args.learn)
        // Built once: the copy is built where this checkout is.
        .env("CARGO_TARGET_DIR", cargo::target(root))
        .env_remove("PYTHONPATH")
        .env_remove("PYTHONHOME");
    // As cargo has them here: with other paths to the same folders it would build all C++ again.
    for (name, value) in relative_to(root)? {
        if std::env::var_os(&name).is_none_or(|given| given.is_empty()) {
            command.env(name, value);
        }
    }
    // The cargo that runs this, before any other.
    if let Some(cargo) = std::env::var_os("CARGO") {
        let own = Path::new(&cargo).parent().map(Path::to_path_buf);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)))
            .context("PATH")?;
        command.env("PATH", path);
    }
    // A user's own settings and kernels change nothing here.
    for (name, place) in [
        ("JUPYTER_CONFIG_DIR", "jupyter/config"),
        ("JUPYTER_DATA_DIR", "jupyter/data"),
        ("JUPYTER_RUNTIME_DIR", "jupyter/runtime"),
        ("IPYTHONDIR", "jupyter/ipython"),
    ] {
        command.env(name, folder.join(place));
    }
    command.env_remove("JUPYTER_PATH");
    command.env_remove("JUPYTER_CONFIG_PATH");
    std::fs::create_dir_all(folder.join("jupyter")).context("a folder for Jupyter")
}

/// The variables that cargo sets in a checkout by `.cargo/config.toml`, with paths of this one.
fn relative_to(root: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let path = root.join(CARGO_CONFIG);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let config: toml::Table = text
        .parse()
        .with_context(|| format!("cannot parse {}", path.display()))?;
    let variables = config.get("env").and_then(toml::Value::as_table);
    let relative = |(name, entry): (&String, &toml::Value)| {
        let is_relative = entry.get("relative").and_then(toml::Value::as_bool) == Some(true);
        let value = entry.get("value").and_then(toml::Value::as_str)?;
        is_relative.then(|| (name.clone(), root.join(value)))
    };
    Ok(variables
        .into_iter()
        .flatten()
        .filter_map(relative)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chapter_has_a_notebook() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for chapter in learn::CHAPTERS {
            let path = root.join(FOLDER).join(format!("{}.ipynb", chapter.name));
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(
                text.contains(&format!("--bin {}", chapter.package)),
                "{path:?}"
            );
        }
    }

    #[test]
    fn builds_find_the_folders_of_this_checkout() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let variables = relative_to(&root).unwrap();
        let place = root.join(".native/libtorch/cpu");
        assert!(
            variables.contains(&("LIBTORCH".to_owned(), place)),
            "{variables:?}"
        );
    }

    #[test]
    fn a_notebook_reads_what_is_set_for_it() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut command = Command::new("python3");
        let args = Args {
            chapter: vec![],
            check: false,
            learn: "--quick --only a".to_owned(),
            limit: 1,
            required: false,
        };
        let folder = tempfile::tempdir().unwrap();
        environment(&mut command, &args, &root, folder.path()).unwrap();
        let set: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)))
            .filter(|(name, _)| name.starts_with("NOTEBOOK_"))
            .collect();
        assert_eq!(set.len(), 3, "{set:?}");
        for chapter in learn::CHAPTERS {
            let path = root.join(FOLDER).join(format!("{}.ipynb", chapter.name));
            let text = std::fs::read_to_string(&path).unwrap();
            for (name, _) in &set {
                assert!(text.contains(name), "{name} in {path:?}");
            }
        }
    }
}
