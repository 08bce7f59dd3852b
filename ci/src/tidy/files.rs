//! Lists the files that the rules apply to.

use std::{path::Path, process::Command};

use anyhow::{Context, bail};

/// Folders that git ignores, for a project without git (an unpacked archive).
const IGNORED: &[&str] = &[
    ".git",
    "target",
    ".native",
    "results-local",
    "html",
    "generated",
    "__pycache__",
    "dist",
];

/// Paths relative to the root, sorted: tracked files and new ones that git does not ignore.
///
/// # Errors
/// If git fails, or a folder cannot be listed.
pub fn list(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = if root.join(".git").exists() {
        from_git(root)?
    } else {
        let mut files = Vec::new();
        walk(root, "", &mut files)?;
        files
    };
    files.sort_unstable();
    files.dedup();
    Ok(files)
}

fn from_git(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others"])
        .arg("--exclude-standard")
        .output()
        .context("cannot run git")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("git ls-files failed in {}: {error}", root.display());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    // A file that is tracked and deleted in the work tree is still listed.
    let present = |path: &&str| !path.is_empty() && root.join(path).is_file();
    Ok(text
        .split('\0')
        .filter(present)
        .map(str::to_owned)
        .collect())
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<String>) -> anyhow::Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !IGNORED.contains(&name.as_str()) {
                walk(&entry.path(), &format!("{prefix}{name}/"), files)?;
            }
        } else {
            files.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Tree;
    use super::*;

    #[test]
    fn without_git_the_ignored_folders_are_left_out() {
        let tree = Tree::new(&[("a/b.rs", ""), ("target/c.rs", ""), ("book/html/d", "")]);
        assert_eq!(list(tree.root()).unwrap(), ["a/b.rs"]);
    }

    #[test]
    fn with_git_new_files_count_and_ignored_ones_do_not() {
        let tree = Tree::new(&[("a.rs", ""), ("b.log", ""), (".gitignore", "*.log\n")]);
        let init = Command::new("git")
            .current_dir(tree.root())
            .args(["init", "--quiet"])
            .status();
        assert!(init.is_ok_and(|status| status.success()));
        assert_eq!(list(tree.root()).unwrap(), [".gitignore", "a.rs"]);
    }
}
