//! `cargo x pack`: a folder that makes the GPU measurements on a machine without cargo.
//!
//! Stripped programs, the peers' scripts, what they read, and one script that runs all of it
//! within a time limit. A machine with a GPU need not have a compiler or a network.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use accel::checkout;
use anyhow::{Context, bail};

use crate::{cargo, disk::bytes_below, quantities::size, setup, tidy, toolchain};

/// The folder must stay below this, so that it travels easily.
const LARGEST: u64 = 60_000_000;

/// The packages whose programs are packed, besides this one.
const PACKAGES: [&str; 3] = ["gpu-inference", "tpu-training", "parallel-training"];

/// The script that makes the measurements, in the project and in the folder: a folder that
/// has it is a pack.
const SCRIPT: (&str, &str) = ("ci/pack/measure.py", "measure.py");

/// What a reader of the folder looks for first.
const README: (&str, &str) = ("ci/pack/README.md", "README.md");

/// Files or folders (with a trailing `/`) that the programs and scripts read, at the same
/// place below the folder. The manifest and the schema mark it as the project's root.
const INPUTS: [&str; 7] = [
    "Cargo.toml",
    "ci/native.toml",
    "ci/peers/",
    "shared/result.schema.json",
    "shared/data/digits/",
    "chapters/01-cpu/samples/",
    "chapters/01-cpu/weights/digits.safetensors",
];

/// Options of `cargo x pack`.
#[derive(clap::Args)]
pub struct Args {
    /// The folder to make; an older pack there is replaced.
    #[arg(long, value_name = "DIR", default_value = "target/pack")]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// If something cannot be built, copied or stripped, the folder to make is another one's,
/// or it would be too large.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    if !cfg!(target_os = "linux") {
        bail!("a pack is for Linux machines with NVIDIA GPUs: make it on Linux");
    }
    // Before minutes of building.
    let out = std::path::absolute(root.join(&args.out)).context("--out")?;
    if out.exists() && !out.join(SCRIPT.1).is_file() {
        bail!(
            "--out {}: it is there and is no pack; give a folder that is not there yet",
            out.display()
        );
    }
    let files = tidy::files::list(root)?;
    let inputs = inputs(&files)?;
    setup::ensure(root, &[])?;
    let built = build(root)?;

    let parent = out.parent().unwrap_or(root);
    std::fs::create_dir_all(parent)
        .with_context(|| format!("cannot create {}", parent.display()))?;
    let work = tempfile::Builder::new()
        .prefix(".pack-")
        .tempdir_in(parent)
        .with_context(|| format!("cannot create a folder in {}", parent.display()))?;
    let fresh = work.path().join("pack");
    for (from, to) in &inputs {
        copy(&root.join(from), &fresh.join(to))?;
    }
    for program in &built {
        let name = program.file_name().context("a program's name")?;
        strip(program, &fresh.join("bin").join(name))?;
    }
    // There is no git where it goes: results name the commit by this file.
    if let Some(commit) = checkout::commit(root) {
        let path = fresh.join(checkout::PACKED_COMMIT);
        std::fs::write(&path, serde_json::to_vec(&commit)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let bytes = bytes_below(&fresh)?;
    if bytes > LARGEST {
        bail!(
            "the pack has {}, at most {} is wanted: look for large files among ci/src/pack.rs's INPUTS",
            size(bytes),
            size(LARGEST)
        );
    }
    let swap = || -> std::io::Result<()> {
        if out.exists() {
            std::fs::rename(&out, work.path().join("old"))?;
        }
        std::fs::rename(&fresh, &out)
    };
    swap().with_context(|| format!("cannot put {} into place", out.display()))?;
    println!(
        "{}: {}\non a machine with a GPU: python3 {} --dry-run, then without --dry-run",
        out.display(),
        size(bytes),
        SCRIPT.1
    );
    Ok(ExitCode::SUCCESS)
}

/// Every file to copy: its path in the project, and in the folder.
fn inputs(files: &[String]) -> anyhow::Result<Vec<(&str, &str)>> {
    let mut inputs = vec![SCRIPT, README];
    for place in INPUTS {
        let inside =
            |file: &&String| *file == place || (place.ends_with('/') && file.starts_with(place));
        let before = inputs.len();
        inputs.extend(
            files
                .iter()
                .filter(inside)
                .map(|f| (f.as_str(), f.as_str())),
        );
        if inputs.len() == before {
            bail!("no {place} in this project: the measurements read it");
        }
    }
    Ok(inputs)
}

/// Builds the packages; their programs, and this one.
fn build(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut command = cargo::programs("build", PACKAGES, root);
    let status = cargo::status(&mut command)?;
    if !status.success() {
        bail!("`{}` failed ({status}): see above", cargo::words(&command));
    }
    let mut programs = vec![std::env::current_exe().context("cannot find this program")?];
    programs.extend(PACKAGES.map(|package| cargo::program(root, package)));
    for program in &programs {
        if !program.is_file() {
            bail!("no {} after the build", program.display());
        }
    }
    Ok(programs)
}

/// Copies a file, with the folders above it.
///
/// # Errors
/// If it cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = || -> std::io::Result<()> {
        to.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::copy(from, to).map(drop)
    };
    copied().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// Writes the program without its symbols, which take more room than the rest.
///
/// # Errors
/// If it cannot be copied, or `strip` is missing or fails.
pub fn strip(program: &Path, to: &Path) -> anyhow::Result<()> {
    copy(program, to)?;
    let mut command = Command::new("strip");
    command.arg("--strip-all").arg(to);
    let install = toolchain::install_command(toolchain::Tool::Cxx);
    let status = command.status().with_context(|| {
        format!("cannot run strip, which comes with the compiler's tools: `{install}`")
    })?;
    if !status.success() {
        bail!("`{}` failed ({status})", cargo::words(&command));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_read_is_there_and_small() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let files = tidy::files::list(&root).unwrap();
        let inputs = inputs(&files).unwrap();
        let has = |name: &str| inputs.iter().any(|(_, to)| *to == name);
        for name in [
            "measure.py",
            "ci/peers/protocol.py",
            "shared/data/digits/split.json",
        ] {
            assert!(has(name), "{name}");
        }
        let bytes: u64 = (inputs.iter())
            .map(|(from, _)| root.join(from).metadata().unwrap().len())
            .sum();
        // What is left for the programs.
        assert!(bytes < LARGEST / 4, "{bytes}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = inputs(&["Cargo.toml".to_owned()]).unwrap_err();
        assert!(
            error.to_string().starts_with("no ci/native.toml in"),
            "{error}"
        );
    }
}
