//! A pull request with what was written, by git and GitHub's own program `gh`.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};

use crate::toolchain;

/// Its branch: a new request takes the place of one that nobody has merged.
const BRANCH: &str = "bump";
/// What may have been changed.
const FILES: [&str; 2] = ["ci/native.toml", "Cargo.lock"];

/// Whether a request could be opened, before minutes of work.
///
/// # Errors
/// If gh is missing, or the checkout has changes of its own.
pub fn check(root: &Path) -> anyhow::Result<()> {
    ensure!(
        toolchain::first_line("gh", &["--version"]).is_some(),
        "--pull-request: no program gh here; see https://cli.github.com"
    );
    let changed = git(root, &["status", "--porcelain", "--untracked-files=no"])?;
    ensure!(
        changed.is_empty(),
        "--pull-request: commit or put away these changes first:\n{changed}"
    );
    Ok(())
}

/// Commits what was written to a branch of its own, sends it, and opens the request; as a draft
/// if the tests failed.
///
/// # Errors
/// If git or gh fails.
pub fn open(root: &Path, body: &str, tests: bool) -> anyhow::Result<()> {
    git(root, &["switch", "--force-create", BRANCH])?;
    git(root, &[&["add", "--"], &FILES[..]].concat())?;
    git(root, &["commit", "--quiet", "--message", "Newer versions"])?;
    // gh's own credentials: none are kept in the checkout.
    let helper = "credential.helper=!gh auth git-credential";
    git(root, &["-c", helper, "push", "--force", "origin", BRANCH])?;
    let mut file = tempfile::NamedTempFile::new().context("a temporary file")?;
    std::io::Write::write_all(&mut file, body.as_bytes()).context("a temporary file")?;
    let path = file.path().to_string_lossy().into_owned();
    let open = said(
        root,
        "gh",
        &["pr", "view", BRANCH, "--json", "state", "--jq", ".state"],
    );
    if open.is_ok_and(|state| state.trim() == "OPEN") {
        said(root, "gh", &["pr", "edit", BRANCH, "--body-file", &path])?;
        return Ok(());
    }
    let mut words = vec![
        "pr",
        "create",
        "--head",
        BRANCH,
        "--title",
        "Newer versions",
        "--body-file",
        &path,
    ];
    if !tests {
        words.push("--draft");
    }
    print!("{}", said(root, "gh", &words)?);
    Ok(())
}

fn git(root: &Path, words: &[&str]) -> anyhow::Result<String> {
    said(root, "git", words)
}

fn said(root: &Path, program: &str, words: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.current_dir(root).args(words).stdin(Stdio::null());
    let output = command
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{program} {}` failed ({}): {}",
            words.join(" "),
            output.status,
            error.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
