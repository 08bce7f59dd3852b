//! The checkout that a program runs from, and its commit.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// The root of the project's checkout, or `None` when the program was carried
/// elsewhere.
///
/// Looks upward from the program's own file first (`target/release/...` lies in the
/// checkout that it was built from), then from the current folder (for a target
/// folder outside of the checkout).
pub fn checkout_root() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok();
    let current = std::env::current_dir().ok();
    [executable, current]
        .into_iter()
        .flatten()
        .find_map(|start| checkout_root_above(&start))
}

/// The first folder at or above `start` that is the root of this project's
/// workspace: its `Cargo.toml` has a `[workspace]` and `shared/` is a member.
pub fn checkout_root_above(start: &Path) -> Option<PathBuf> {
    start
        .ancestors()
        .find(|folder| is_workspace(folder))
        .map(Path::to_path_buf)
}

/// Whether this is our workspace, not another one that we happen to be run in.
fn is_workspace(folder: &Path) -> bool {
    let Ok(manifest) = std::fs::read_to_string(folder.join("Cargo.toml")) else {
        return false;
    };
    let Ok(manifest) = manifest.parse::<toml::Table>() else {
        return false;
    };
    manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("members"))
        .and_then(|members| members.as_array())
        .is_some_and(|members| {
            members
                .iter()
                .any(|member| member.as_str() == Some("shared"))
        })
        && folder.join("shared/result.schema.json").is_file()
}

/// The file in the root of a pack that names the commit which it was made from: where a
/// pack goes there is no repository.
pub const PACKED_COMMIT: &str = "packed-commit.json";

/// The commit that a checkout stands at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// The full object name, in hexadecimal.
    pub id: String,
    /// Whether a tracked file differs from it, published result files aside: a
    /// second measurement must not be called dirty because of the first.
    pub dirty: bool,
}

/// The commit of the checkout at `root`, by git, or of the pack, by its file.
///
/// `None` without git, without a commit, and where `root` is neither the top of the
/// repository (an unpacked archive inside another project's repository) nor a pack.
pub fn commit(root: &Path) -> Option<Commit> {
    from_git(root).or_else(|| packed(root))
}

fn packed(root: &Path) -> Option<Commit> {
    let bytes = std::fs::read(root.join(PACKED_COMMIT)).ok()?;
    let commit: Commit = serde_json::from_slice(&bytes).ok()?;
    is_object_name(&commit.id).then_some(commit)
}

fn from_git(root: &Path) -> Option<Commit> {
    let answer = git(root, &["rev-parse", "--show-toplevel", "HEAD"])?;
    let mut lines = answer.lines();
    let (top, id) = (lines.next()?, lines.next()?);
    if Path::new(top).canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    if !is_object_name(id) {
        return None;
    }
    let changes = git(
        root,
        &[
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--",
            ".",
            ":(exclude,glob)chapters/*/results/**",
        ],
    )?;
    Some(Commit {
        id: id.to_owned(),
        dirty: !changes.trim().is_empty(),
    })
}

/// Whether this is a full SHA-1 or SHA-256 object name.
pub(crate) fn is_object_name(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(arguments)
        // A git hook sets these for its own repository.
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        // Refreshing the index would take its lock from a git that runs beside us.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8(output.stdout).ok()
}
