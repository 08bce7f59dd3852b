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
    forget_package(&mut command);
    // An empty LIBTORCH would hide the project's own from cargo's [env] table.
    if std::env::var_os("LIBTORCH").is_some_and(|value| value.is_empty()) {
        command.env_remove("LIBTORCH");
    }
    command
}

/// Hides what cargo says of the package that runs now from a command that calls cargo again: ring's
/// build script asks for it, and would be run anew, with all that stands on it, after each change
/// of hands between `cargo x` or a test and cargo itself.
pub fn forget_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}

/// `cargo VERB --release` for some programs, by their names and not by those of their packages. By
/// package, cargo would choose the features of dependencies for that one alone, and build again what
/// the whole workspace has with others.
pub fn programs<'a>(verb: &str, names: impl IntoIterator<Item = &'a str>, root: &Path) -> Command {
    let mut command = command(root);
    command.args([verb, "--release"]);
    for name in names {
        command.args(["--bin", name]);
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
