//! A wheel as a file: its hash, and the files that are kept of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::native_pins::{Wheel, is_inside};

/// Why a wheel was refused or could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    /// The bytes are not the pinned ones.
    #[error("{wheel} is not the pinned file: expected SHA-256 {expected}, got {got}")]
    Hash {
        /// Name and version.
        wheel: String,
        /// The pin.
        expected: String,
        /// The file.
        got: String,
    },
    /// Not a readable zip file.
    #[error("{wheel} cannot be read as a wheel")]
    Zip {
        /// Name and version.
        wheel: String,
        /// Why.
        source: zip::result::ZipError,
    },
    /// An entry that would leave the folder it is unpacked to.
    #[error(
        "{wheel} holds an entry that is refused: {entry:?}: expected relative paths \
         without `..`, and files or folders only"
    )]
    Entry {
        /// Name and version.
        wheel: String,
        /// The entry's name.
        entry: String,
    },
    /// A kept file is not in the wheel.
    #[error("{wheel} holds no {path}, which ci/native.toml keeps")]
    Absent {
        /// Name and version.
        wheel: String,
        /// The path as pinned.
        path: String,
    },
    /// Two kept files would have one name.
    #[error("{wheel}: {path} would be written twice")]
    Twice {
        /// Name and version.
        wheel: String,
        /// The path in the part.
        path: String,
    },
    /// The wheel cannot be read or a file cannot be written.
    #[error("{wheel}: {path}")]
    Io {
        /// Name and version.
        wheel: String,
        /// The file concerned.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn io_error(wheel: &Wheel, path: &Path) -> impl FnOnce(io::Error) -> WheelError {
    let (wheel, path) = (wheel.to_string(), path.to_owned());
    move |source| WheelError::Io {
        wheel,
        path,
        source,
    }
}

/// SHA-256 of a file, in lower-case hexadecimal.
///
/// # Errors
/// If the file cannot be read.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Checks a file against its pin.
///
/// # Errors
/// [`WheelError::Hash`] if the bytes differ, [`WheelError::Io`] if it cannot be read.
pub fn verify(wheel: &Wheel, path: &Path) -> Result<(), WheelError> {
    let got = sha256(path).map_err(io_error(wheel, path))?;
    if got == wheel.sha256 {
        return Ok(());
    }
    Err(WheelError::Hash {
        wheel: wheel.to_string(),
        expected: wheel.sha256.clone(),
        got,
    })
}

/// Writes the kept files of a wheel below `folder`; adds each path, relative to `folder`,
/// and its size to `files`.
///
/// # Errors
/// If the wheel holds an unsafe entry (kept or not), lacks a kept one, is damaged, or if a
/// file cannot be written.
pub fn unpack(
    wheel: &Wheel,
    path: &Path,
    folder: &Path,
    files: &mut BTreeMap<String, u64>,
) -> Result<(), WheelError> {
    let zip_error = |source| WheelError::Zip {
        wheel: wheel.to_string(),
        source,
    };
    let file = File::open(path).map_err(io_error(wheel, path))?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(zip_error)?;
    let mut unused: BTreeSet<&str> = wheel.keep.keys().map(String::as_str).collect();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(zip_error)?;
        let name = entry.name().map_err(zip_error)?.into_owned();
        if !is_inside(&name) || entry.is_symlink() {
            return Err(WheelError::Entry {
                wheel: wheel.to_string(),
                entry: name,
            });
        }
        if entry.is_dir() {
            continue;
        }
        let Some((from, to)) = destination(wheel, &name) else {
            continue;
        };
        unused.remove(from);
        let target = folder.join(&to);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(io_error(wheel, parent))?;
        }
        // create_new: an entry that is there twice must not win by coming last.
        let out = File::create_new(&target).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => WheelError::Twice {
                wheel: wheel.to_string(),
                path: to.clone(),
            },
            _ => io_error(wheel, &target)(error),
        })?;
        let mut out = BufWriter::with_capacity(1 << 20, out);
        let bytes = io::copy(&mut entry, &mut out).map_err(io_error(wheel, &target))?;
        out.flush().map_err(io_error(wheel, &target))?;
        if entry.unix_mode().is_some_and(|mode| mode & 0o111 != 0) {
            make_executable(&target).map_err(io_error(wheel, &target))?;
        }
        files.insert(to, bytes);
    }
    match unused.first() {
        None => Ok(()),
        Some(path) => Err(WheelError::Absent {
            wheel: wheel.to_string(),
            path: (*path).to_owned(),
        }),
    }
}

/// A wheel's programs (ptxas) are run, and a zip reader does not set modes.
fn make_executable(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        Ok(())
    }
}

/// The rule that keeps an entry, and where the entry goes.
fn destination<'w>(wheel: &'w Wheel, name: &str) -> Option<(&'w str, String)> {
    wheel.keep.iter().find_map(|(from, to)| {
        if from.ends_with('/') {
            let rest = name.strip_prefix(from.as_str())?;
            Some((from.as_str(), format!("{to}{rest}")))
        } else {
            (name == from).then(|| (from.as_str(), to.clone()))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zip::write::SimpleFileOptions;

    fn pin(keep: &[(&str, &str)]) -> Wheel {
        Wheel {
            name: "tiny".to_owned(),
            version: "1.0".to_owned(),
            platforms: vec!["any".to_owned()],
            sha256: "0".repeat(64),
            bytes: 1,
            keep: (keep.iter())
                .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
                .collect(),
        }
    }

    fn write_zip(path: &Path, entries: &[(&str, &str)]) {
        let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
        for (name, text) in entries {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
    }

    fn unpacked(
        keep: &[(&str, &str)],
        entries: &[(&str, &str)],
    ) -> Result<BTreeMap<String, u64>, WheelError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.whl");
        write_zip(&path, entries);
        let mut files = BTreeMap::new();
        unpack(&pin(keep), &path, &folder.path().join("out"), &mut files)?;
        for (name, bytes) in &files {
            let metadata = folder.path().join("out").join(name).metadata().unwrap();
            assert_eq!(metadata.len(), *bytes);
        }
        Ok(files)
    }

    #[test]
    fn keeps_what_the_pins_say() {
        let files = unpacked(
            &[("t/include/", "include/"), ("t/lib/a.so", "lib/a.so")],
            &[
                ("t/include/x/y.h", "header"),
                ("t/lib/a.so", "a"),
                ("t/lib/b.so", "b"),
            ],
        );
        let expected = [("include/x/y.h".to_owned(), 6), ("lib/a.so".to_owned(), 1)];
        assert_eq!(files.unwrap(), BTreeMap::from(expected));
    }

    #[cfg(unix)]
    #[test]
    fn programs_stay_programs() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.whl");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        for (name, mode) in [("ptxas", 0o755), ("notes", 0o644)] {
            let options = SimpleFileOptions::default().unix_permissions(mode);
            zip.start_file(name, options).unwrap();
        }
        zip.finish().unwrap();
        let wheel = pin(&[("ptxas", "ptxas"), ("notes", "notes")]);
        unpack(&wheel, &path, folder.path(), &mut Default::default()).unwrap();
        let mode = |name: &str| {
            let metadata = folder.path().join(name).metadata().unwrap();
            metadata.permissions().mode() & 0o111
        };
        assert_eq!((mode("ptxas"), mode("notes")), (0o111, 0));
    }

    #[test]
    fn refuses_entries_that_leave_the_folder() {
        for name in [
            "../escape",
            "t/../../escape",
            "/absolute",
            "t\\..\\..\\escape",
        ] {
            let error = unpacked(&[("a", "a")], &[("a", ""), (name, "")]).unwrap_err();
            assert!(matches!(error, WheelError::Entry { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn refuses_symbolic_links() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.whl");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        let options = SimpleFileOptions::default();
        zip.add_symlink("lib", "/etc", options).unwrap();
        zip.finish().unwrap();
        let out = folder.path().join("out");
        let error = unpack(
            &pin(&[("lib", "lib")]),
            &path,
            &out,
            &mut Default::default(),
        );
        assert!(matches!(error, Err(WheelError::Entry { .. })));
        assert!(!out.exists());
    }

    #[test]
    fn says_what_the_wheel_lacks() {
        let error = unpacked(&[("t/lib/a.so", "a.so")], &[("t/lib/b.so", "")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tiny 1.0 holds no t/lib/a.so, which ci/native.toml keeps"
        );
    }

    #[test]
    fn names_both_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.whl");
        std::fs::write(&path, "hello").unwrap();
        let error = verify(&pin(&[("a", "a")]), &path).unwrap_err().to_string();
        // printf hello | sha256sum
        let got = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert!(error.contains(&"0".repeat(64)), "{error}");
        assert!(error.contains(got), "{error}");
    }

    #[test]
    fn a_truncated_wheel_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.whl");
        write_zip(&path, &[("a", "some text")]);
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let out = folder.path().join("out");
            let result = unpack(&pin(&[("a", "a")]), &path, &out, &mut Default::default());
            assert!(result.is_err(), "{length} of {} bytes", bytes.len());
            let _ = std::fs::remove_dir_all(&out);
        }
    }
}
