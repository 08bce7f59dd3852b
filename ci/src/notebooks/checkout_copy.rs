//! A copy of a checkout in which cargo finds everything built.

use std::{fs, io, path::Path};

use anyhow::Context;

use crate::{installed, tidy};

/// Makes a folder with what git would clone, uncommitted changes included, and what is fetched
/// as a link.
///
/// Times of modification stay as they are: by them cargo sees that nothing has changed since it
/// built the original.
///
/// # Errors
/// If the files cannot be listed or copied.
pub fn make(root: &Path, to: &Path) -> anyhow::Result<()> {
    for file in tidy::files::list(root)? {
        copy_with_time(&root.join(&file), &to.join(&file))
            .with_context(|| format!("cannot copy {file} to {}", to.display()))?;
    }
    let native = root.join(".native");
    fs::create_dir_all(&native)
        .and_then(|()| installed::symbolic_link(&native, &to.join(".native")))
        .with_context(|| format!("cannot make a link to {}", native.display()))
}

fn copy_with_time(from: &Path, to: &Path) -> io::Result<()> {
    to.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::copy(from, to)?;
    let modified = from.metadata()?.modified()?;
    fs::File::options()
        .write(true)
        .open(to)?
        .set_modified(modified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_copy_has_the_files_their_times_and_what_was_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        for (file, text) in [
            ("a/b.rs", "b"),
            (".native/big", "fetched"),
            ("target/c", "built"),
            ("results-local/d.json", "mine"),
        ] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        let file = fs::File::options().write(true).open(root.join("a/b.rs"));
        file.unwrap().set_modified(old).unwrap();

        let copy = folder.path().join("copy");
        make(&root, &copy).unwrap();
        assert_eq!(fs::read_to_string(copy.join("a/b.rs")).unwrap(), "b");
        let metadata = copy.join("a/b.rs").metadata().unwrap();
        assert_eq!(metadata.modified().unwrap(), old);
        assert!(copy.join(".native").is_symlink());
        assert!(copy.join(".native/big").is_file());
        assert!(!copy.join("target").exists() && !copy.join("results-local").exists());

        // What is deleted with the copy is the link alone.
        fs::remove_dir_all(&copy).unwrap();
        assert!(root.join(".native/big").is_file());
    }
}
