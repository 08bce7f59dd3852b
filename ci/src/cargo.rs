//! Runs cargo in the project as a child process.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use anyhow::Context;

/// A cargo command in the project's root, with the cargo that started us.
pub fn command(root: &Path) -> Command {
    // cargo sets CARGO for what it runs: the same toolchain goes on.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    // An empty LIBTORCH would hide the project's own from cargo's [env] table.
    if std::env::var_os("LIBTORCH").is_some_and(|value| value.is_empty()) {
        command.env_remove("LIBTORCH");
    }
    command
}

/// Where cargo builds.
pub fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .filter(|folder| !folder.is_empty())
        .map_or_else(|| root.join("target"), |folder| root.join(folder))
}

/// Where a release build puts the program of a package.
pub fn program(root: &Path, package: &str) -> PathBuf {
    let name = format!("{package}{}", std::env::consts::EXE_SUFFIX);
    target(root).join("release").join(name)
}

/// Runs it to its end, output passed through.
///
/// # Errors
/// If the program cannot be started; how it ended is in the status.
pub fn status(command: &mut Command) -> anyhow::Result<ExitStatus> {
    command
        .status()
        .with_context(|| format!("cannot run {}", words(command)))
}

/// The command as one would type it, for messages.
pub fn words(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let mut text = name.to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}
