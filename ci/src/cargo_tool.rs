//! Programs that extend cargo, in one version, built into `.native/tools`.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::{cargo, toolchain};

/// A program that `cargo install` builds.
pub struct CargoTool {
    /// Its crate and program.
    pub name: &'static str,
    /// The version that is built and no other.
    pub version: &'static str,
    /// What makes it say its version.
    pub ask: &'static [&'static str],
}

/// The path of the program, built first if it is not there. A program of the same version
/// that is on PATH will do.
///
/// # Errors
/// Why it cannot be had here, as the reason of a skip.
pub fn ready(root: &Path, tool: &CargoTool) -> Result<PathBuf, String> {
    let own = root.join(".native/tools/bin").join(tool.name);
    let candidates = [own.clone(), PathBuf::from(tool.name)];
    if let Some(found) = candidates.into_iter().find(|path| is(path, tool)) {
        return Ok(found);
    }
    let (name, version) = (tool.name, tool.version);
    eprintln!("building {name} {version} into .native/tools: some minutes, once");
    let mut command = cargo::command(root);
    command
        .args([
            "install",
            "--quiet",
            "--locked",
            "--force",
            "--root",
            ".native/tools",
        ])
        .args(["--version", &format!("={version}"), name])
        .stdin(Stdio::null())
        .stdout(std::io::stderr());
    let built = cargo::status(&mut command).is_ok_and(|status| status.success());
    if built && is(&own, tool) {
        return Ok(own);
    }
    Err(format!("{name} {version}; `{}`", cargo::words(&command)))
}

/// Whether the program runs and has the version.
fn is(path: &Path, tool: &CargoTool) -> bool {
    let Some(path) = path.to_str() else {
        return false;
    };
    let line = toolchain::first_line(path, tool.ask);
    line.is_some_and(|line| line.split_whitespace().any(|word| word == tool.version))
}
