//! Which libtorch the build will use: the project's own, or the user's by LIBTORCH.

use std::path::{Path, PathBuf};

/// The project's own libtorch, relative to the root, as `.cargo/config.toml` has it.
pub const OWN: &str = ".native/libtorch/cpu";

/// The user's LIBTORCH; `None` if it is unset, empty or the project's own.
///
/// `cargo x` is started by cargo, which sets LIBTORCH from the project's `[env]` table
/// unless the user has: so the value alone tells whose it is.
pub fn of_the_user(root: &Path) -> Option<PathBuf> {
    choose(std::env::var_os("LIBTORCH").map(PathBuf::from), root)
}

fn choose(value: Option<PathBuf>, root: &Path) -> Option<PathBuf> {
    let value = value.filter(|path| !path.as_os_str().is_empty())?;
    let own = root.join(OWN);
    // The own folder need not be there yet, so compare its parts: `root` is canonical, cargo's may not be.
    let canonical = |path: &Path| {
        let existing = path.ancestors().find(|path| path.exists())?;
        let rest = path.strip_prefix(existing).ok()?;
        Some(existing.canonicalize().ok()?.join(rest))
    };
    let is_own = value == own || canonical(&value).is_some_and(|v| Some(v) == canonical(&own));
    (!is_own).then_some(value)
}

/// Why a folder is no libtorch of the wanted version.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum NotLibtorch {
    /// A file is missing.
    #[error("{0} is not there")]
    Absent(PathBuf),
    /// Neither `build-version` nor `version.h` tells a version.
    #[error("neither build-version nor {VERSION_HEADER} tells its version")]
    NoVersion,
    /// Another version.
    #[error("expected version {expected}, got {got}")]
    Version {
        /// The version that the project's tch is made for.
        expected: String,
        /// The version found.
        got: String,
    },
}

const TORCH_HEADER: &str = "include/torch/csrc/api/include/torch/torch.h";
const VERSION_HEADER: &str = "include/torch/csrc/api/include/torch/version.h";

/// Checks that `folder` looks like libtorch `expected`: headers, library, version.
///
/// # Errors
/// The first thing that is not as expected.
pub fn check(folder: &Path, expected: &str) -> Result<(), NotLibtorch> {
    let library = format!("lib/libtorch_cpu{}", std::env::consts::DLL_SUFFIX);
    for file in [TORCH_HEADER, &library] {
        let path = folder.join(file);
        if !path.is_file() {
            return Err(NotLibtorch::Absent(path));
        }
    }
    let got = version(folder).ok_or(NotLibtorch::NoVersion)?;
    // `2.11.0+cu130`: what follows + is the build, not the version.
    if got.split('+').next() != Some(expected) {
        return Err(NotLibtorch::Version {
            expected: expected.to_owned(),
            got,
        });
    }
    Ok(())
}

fn version(folder: &Path) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    // A libtorch inside a Python installation has no build-version.
    let header = std::fs::read_to_string(folder.join(VERSION_HEADER)).ok()?;
    let number = |name: &str| {
        let prefix = format!("#define TORCH_VERSION_{name} ");
        header
            .lines()
            .find_map(|line| line.strip_prefix(&prefix)?.trim().parse::<u32>().ok())
    };
    let (major, minor, patch) = (number("MAJOR")?, number("MINOR")?, number("PATCH")?);
    Some(format!("{major}.{minor}.{patch}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_folder_is_not_the_users() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let own = root.join(OWN);
        assert_eq!(choose(None, &root), None);
        assert_eq!(choose(Some(PathBuf::new()), &root), None);
        assert_eq!(choose(Some(own.clone()), &root), None);
        assert_eq!(choose(Some(own.join(".")), &root), None);
        let other = PathBuf::from("/opt/libtorch");
        assert_eq!(choose(Some(other.clone()), &root), Some(other));
        let link = root.join("link");
        std::fs::create_dir_all(root.join("real")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(&root, &link).unwrap();
        assert_eq!(choose(Some(link.join(OWN)), &root), None);
    }

    #[test]
    fn a_libtorch_is_known_by_header_library_and_version() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let write = |path: &str, text: &str| {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let absent = NotLibtorch::Absent(folder.join(TORCH_HEADER));
        assert_eq!(check(folder, "2.11.0"), Err(absent));
        write(TORCH_HEADER, "");
        let library = format!("lib/libtorch_cpu{}", std::env::consts::DLL_SUFFIX);
        assert_eq!(
            check(folder, "2.11.0"),
            Err(NotLibtorch::Absent(folder.join(&library)))
        );
        write(&library, "");
        assert_eq!(check(folder, "2.11.0"), Err(NotLibtorch::NoVersion));
        write(
            VERSION_HEADER,
            "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 10\n#define TORCH_VERSION_PATCH 1\n",
        );
        let error = check(folder, "2.11.0").unwrap_err();
        assert_eq!(error.to_string(), "expected version 2.11.0, got 2.10.1");
        write("build-version", "2.11.0+cu130\n");
        assert_eq!(check(folder, "2.11.0"), Ok(()));
    }
}
