//! Fetches one pinned wheel with `python3 -m pip download --require-hashes`.
//!
//! pip does the fetching so that its own configuration (mirrors, proxies, certificates)
//! counts. Nothing is installed, and no Python package is imported.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::native_pins::Wheel;

/// The wheels are for CPython 3.12; we only want what is in them, so any Python may fetch them.
const PYTHON_VERSION: &str = "3.12";

/// Why a wheel could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum PipError {
    /// pip refused the file that the index served.
    #[error(
        "pip refused {wheel}: expected SHA-256 {expected}, got {got}. Nothing was kept. \
         The index that pip uses serves another file: see `python3 -m pip config list`, \
         then run `cargo x setup` again"
    )]
    Hash {
        /// Name and version.
        wheel: String,
        /// The pin.
        expected: String,
        /// What pip got.
        got: String,
    },
    /// pip failed in another way.
    #[error(
        "pip could not fetch {wheel} ({status}). Its last words:\n{log}\n\
         Run `cargo x setup` again once that is mended; what was fetched before is kept"
    )]
    Failed {
        /// Name and version.
        wheel: String,
        /// How pip ended.
        status: std::process::ExitStatus,
        /// The end of its output.
        log: String,
    },
    /// pip ended well and left something else than one file.
    #[error("pip fetched {got} files for {wheel}: expected 1")]
    Count {
        /// Name and version.
        wheel: String,
        /// Number of files.
        got: usize,
    },
    /// A file or the program itself.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

fn io_error(what: String) -> impl FnOnce(io::Error) -> PipError {
    move |source| PipError::Io { what, source }
}

/// Stops pip when we end before it does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to stop.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Downloads `wheel` into the empty folder `work` and returns the file's path in it.
///
/// * `progress`: told the bytes that are there, several times a second
///
/// # Errors
/// If pip cannot be started, fails, or refuses the file for its hash.
pub fn download(
    wheel: &Wheel,
    work: &Path,
    mut progress: impl FnMut(u64),
) -> Result<PathBuf, PipError> {
    let folder = |name: &str| {
        let path = work.join(name);
        std::fs::create_dir_all(&path)
            .map_err(io_error(format!("cannot create {}", path.display())))?;
        Ok(path)
    };
    // pip's temporary files lie in our folder: they are swept with it, and /tmp may be small.
    let (arrived, temporary) = (folder("arrived")?, folder("tmp")?);
    let requirements = work.join("requirements.txt");
    let line = format!(
        "{}=={} --hash=sha256:{}\n",
        wheel.name, wheel.version, wheel.sha256
    );
    std::fs::write(&requirements, line)
        .map_err(io_error(format!("cannot write {}", requirements.display())))?;
    let log_path = work.join("pip.log");
    let open_log = || {
        let file = File::options().create(true).append(true).open(&log_path);
        file.map_err(io_error(format!("cannot write {}", log_path.display())))
    };

    let mut command = Command::new("python3");
    command
        .args(["-m", "pip", "download", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--progress-bar", "off"])
        .args(["--require-hashes", "--no-deps", "--only-binary=:all:"])
        .args(["--python-version", PYTHON_VERSION])
        .args(["--implementation", "cp"])
        .args(wheel.platforms.iter().flat_map(|tag| ["--platform", tag]))
        .arg("--dest")
        .arg(&arrived)
        .arg("--requirement")
        .arg(&requirements)
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .stdout(open_log()?)
        .stderr(open_log()?);
    let child = command
        .spawn()
        .map_err(io_error("cannot run python3".to_owned()))?;
    let mut child = Running(child);
    let status = loop {
        let ended = (child.0.try_wait()).map_err(io_error("cannot wait for pip".to_owned()))?;
        if let Some(status) = ended {
            break status;
        }
        // pip copies the finished file: the copy is no news.
        progress(bytes_below(work).min(wheel.bytes));
        std::thread::sleep(Duration::from_millis(100));
    };
    if !status.success() {
        let log = std::fs::read(&log_path).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        return Err(failure(wheel, status, &log));
    }
    let files: Vec<_> = std::fs::read_dir(&arrived)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(io_error(format!("cannot list {}", arrived.display())))?;
    match files.as_slice() {
        [file] => Ok(file.path()),
        _ => Err(PipError::Count {
            wheel: wheel.to_string(),
            got: files.len(),
        }),
    }
}

fn failure(wheel: &Wheel, status: std::process::ExitStatus, log: &str) -> PipError {
    // pip prints `Expected sha256 <hex>` and `     Got        <hex>`.
    let got = log
        .lines()
        .find_map(|line| line.trim().strip_prefix("Got "));
    if let (true, Some(got)) = (log.contains("DO NOT MATCH THE HASHES"), got) {
        return PipError::Hash {
            wheel: wheel.to_string(),
            expected: wheel.sha256.clone(),
            got: got.trim().to_owned(),
        };
    }
    let lines: Vec<_> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(12)..];
    PipError::Failed {
        wheel: wheel.to_string(),
        status,
        log: last.iter().map(|line| format!("  {line}\n")).collect(),
    }
}

/// Size of all files below a folder; what vanishes meanwhile counts as nothing.
fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    (entries.flatten())
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
