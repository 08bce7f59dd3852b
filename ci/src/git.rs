//! Asks git, where there is one.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// A git command in the project, deaf to a hook's variables.
fn command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .arg("-C")
        .arg(root)
        .args(arguments)
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        // Refreshing the index would take its lock from a git that runs beside us.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// What git answers; `None` without git, and where it fails.
pub fn ask(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = command(root, arguments).output().ok()?;
    (output.status.success()).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether the project's root is the top of a git repository: an unpacked archive inside
/// another project's repository is none.
pub fn is_repository(root: &Path) -> bool {
    let Some(top) = ask(root, &["rev-parse", "--show-toplevel"]) else {
        return false;
    };
    match (Path::new(top.trim()).canonicalize(), root.canonicalize()) {
        (Ok(top), Ok(root)) => top == root,
        _ => false,
    }
}

/// Whether this repository has a commit of that name.
pub fn has_commit(root: &Path, commit: &str) -> bool {
    ask(root, &["cat-file", "-e", &format!("{commit}^{{commit}}")]).is_some()
}
