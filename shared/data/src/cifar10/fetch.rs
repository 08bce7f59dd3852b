//! Fetching CIFAR-10: nothing is unpacked before its hash is right, nothing half stays.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use accel::progress::Progress;
use flate2::read::GzDecoder;
use ureq::http::StatusCode;
use ureq::http::header::{CONTENT_RANGE, RANGE};

use super::{LABELS_FILE, TEST_FILE, TRAIN_FILES};
use crate::sha256;

/// The folder in the archive, and the one that [`fetch`] leaves.
const FOLDER: &str = "cifar-10-batches-bin";
/// What the archive is called while it is on the disk.
const ARCHIVE_NAME: &str = "cifar-10-binary.tar.gz";
/// The most that an archive may unpack to: the real one has 184 MB, a compressed bomb far more.
const MAX_UNPACKED_BYTES: u64 = 400_000_000;

/// An archive of CIFAR-10, told apart from any other by its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archive<'a> {
    /// Where it is fetched from.
    pub url: &'a str,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: &'a str,
}

/// The archive as its author publishes it.
///
/// Source of size and hash: tensorflow/datasets, `tensorflow_datasets/url_checksums/cifar10.txt`;
/// ankane/torchvision-ruby (`cifar10.rb`) and gomlx/gomlx (`cifar.go`) have the same hash. The
/// author's page gives only an MD5.
pub const OFFICIAL: Archive<'static> = Archive {
    url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    bytes: 170_052_171,
    sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
};

/// Why CIFAR-10 could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server cannot be reached, or the connection broke.
    #[error(
        "cannot fetch {url}: {reason}; what has arrived is kept, and the same command goes on \
         from there; or fetch it elsewhere and put it at {}", archive.display()
    )]
    Network {
        /// What was asked for.
        url: String,
        /// What went wrong.
        reason: String,
        /// Where a file that was fetched by hand is looked for.
        archive: PathBuf,
    },
    /// The server answers, but not with the file.
    #[error("cannot fetch {url}: expected status 200 or 206, got {status}; is the address right?")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The file's size is not the published one.
    #[error(
        "{from}: expected {expected} bytes, got {got}; the file was removed, because it is not \
         the published one: try again, or another address"
    )]
    Size {
        /// The address or the file.
        from: String,
        /// The published size in bytes.
        expected: u64,
        /// Bytes that came, at least.
        got: u64,
    },
    /// The file's hash is not the published one.
    #[error(
        "{from}: expected SHA-256 {expected}, got {got}; the file was removed, because it is \
         damaged or not the published one: try again, or another address"
    )]
    Hash {
        /// The address or the file.
        from: String,
        /// The published hash.
        expected: String,
        /// The hash of what came.
        got: String,
    },
    /// The archive holds something that it should not.
    #[error("{ARCHIVE_NAME}: refused to unpack {entry:?}: {reason}")]
    Entry {
        /// The entry's name in the archive.
        entry: String,
        /// Why it was refused.
        reason: &'static str,
    },
    /// The archive lacks files of the data set.
    #[error("{ARCHIVE_NAME}: expected {}, missing in the archive", missing.join(", "))]
    Incomplete {
        /// The files that are not there.
        missing: Vec<&'static str>,
    },
    /// The disk refuses: full, read-only, no permission.
    #[error("{}: cannot {action}: {source} (needs 360 MB of free disk)", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Brings CIFAR-10's binary files; does nothing if they are there.
///
/// * `dest`: a folder; it gets the folder `cifar-10-batches-bin`, whose path is returned
/// * `url_override`: another address of the same archive, such as a mirror
/// * `quiet`: show no progress
///
/// Says the size first, fetches 170 MB into `cifar-10-binary.tar.gz.part`, verifies size and
/// SHA-256, and only then unpacks (184 MB). An interrupted fetch goes on where it stopped. Two
/// programs that fetch at once wait for each other. The archive is removed in the end.
///
/// # Errors
/// [`FetchError`]. A file that is not the published one is removed.
pub fn fetch(dest: &Path, url_override: Option<&str>, quiet: bool) -> Result<PathBuf, FetchError> {
    fetch_archive(
        &Archive {
            url: url_override.unwrap_or(OFFICIAL.url),
            ..OFFICIAL
        },
        dest,
        quiet,
    )
}

/// [`fetch`] for any archive of that form: the tests have a small one.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_archive(archive: &Archive, dest: &Path, quiet: bool) -> Result<PathBuf, FetchError> {
    let folder = dest.join(FOLDER);
    if missing(&folder).is_empty() {
        return Ok(folder);
    }
    fs::create_dir_all(dest).map_err(disk(dest, "make the folder"))?;

    let lock_path = dest.join(".cifar-10.lock");
    let lock = File::create(&lock_path).map_err(disk(&lock_path, "make the lock file"))?;
    let progress = Progress::new(Some(archive.bytes), "bytes", quiet);
    if lock.try_lock().is_err() {
        progress.println("another program is fetching CIFAR-10; waiting for it");
        lock.lock().map_err(disk(&lock_path, "wait for the lock"))?;
    }
    // The program that was waited for may have brought it.
    if missing(&folder).is_empty() {
        return Ok(folder);
    }

    let path = dest.join(ARCHIVE_NAME);
    if path.exists() {
        // From a run that stopped between fetching and unpacking, or fetched by hand.
        verify(&path, &path.display().to_string(), archive)?;
    } else {
        let part = dest.join(format!("{ARCHIVE_NAME}.part"));
        progress.println(&format!(
            "fetching CIFAR-10: {:.0} MB from {}",
            archive.bytes as f64 / 1e6,
            archive.url
        ));
        download(archive, &part, &path, &progress)?;
        verify(&part, archive.url, archive)?;
        fs::rename(&part, &path).map_err(disk(&path, "rename the fetched file to"))?;
    }
    unpack(&path, dest, &folder)?;
    // Only now: what was fetched is not thrown away before it is of use.
    fs::remove_file(&path).map_err(disk(&path, "remove the archive"))?;
    progress.finish();
    Ok(folder)
}

/// The files of the data set that a folder lacks. Each is renamed into place when it is whole,
/// so that its name is proof enough.
fn missing(folder: &Path) -> Vec<&'static str> {
    TRAIN_FILES
        .into_iter()
        .chain([TEST_FILE, LABELS_FILE])
        .filter(|name| !folder.join(name).is_file())
        .collect()
}

/// Fetches into `part`, going on after what is there.
fn download(
    archive: &Archive,
    part: &Path,
    by_hand: &Path,
    progress: &Progress,
) -> Result<(), FetchError> {
    let network = |reason: String| FetchError::Network {
        url: archive.url.to_owned(),
        reason,
        archive: by_hand.to_owned(),
    };
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(part)
        .map_err(disk(part, "write the fetched file"))?;
    let mut have = file
        .metadata()
        .map_err(disk(part, "read the fetched file"))?
        .len();
    if have == archive.bytes {
        return Ok(());
    }
    if have > archive.bytes {
        file.set_len(0)
            .map_err(disk(part, "start the fetched file again"))?;
        have = 0;
    }

    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .build()
        .into();
    let mut request = agent.get(archive.url);
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let response = request.call().map_err(|error| network(error.to_string()))?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT if begins_at(response.headers(), have) => {}
        // A server that knows no ranges sends all of it.
        StatusCode::OK => {
            file.set_len(0)
                .map_err(disk(part, "start the fetched file again"))?;
            have = 0;
        }
        status => {
            return Err(FetchError::Status {
                url: archive.url.to_owned(),
                status: status.as_u16(),
            });
        }
    }
    progress.inc(have);

    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0_u8; 1 << 17];
    loop {
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(network(format!("after {have} bytes: {error}"))),
        };
        have += read as u64;
        if have > archive.bytes {
            // Whatever this is, it is not the archive; do not let it fill the disk.
            return Err(refuse(
                part,
                FetchError::Size {
                    from: archive.url.to_owned(),
                    expected: archive.bytes,
                    got: have,
                },
            ));
        }
        file.write_all(&buffer[..read])
            .map_err(disk(part, "write the fetched file"))?;
        progress.inc(read as u64);
    }
    if have < archive.bytes {
        return Err(network(format!(
            "the connection ended early: expected {} bytes, got {have}",
            archive.bytes
        )));
    }
    file.sync_all()
        .map_err(disk(part, "write the fetched file"))
}

/// Whether a partial answer begins at the byte that was asked for.
fn begins_at(headers: &ureq::http::HeaderMap, start: u64) -> bool {
    headers
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| {
            value
                .strip_prefix("bytes ")?
                .split('-')
                .next()?
                .trim()
                .parse()
                .ok()
        })
        == Some(start)
}

/// Compares a file with the published size and hash, and removes it if they differ.
fn verify(path: &Path, from: &str, archive: &Archive) -> Result<(), FetchError> {
    let got = fs::metadata(path).map_err(disk(path, "read"))?.len();
    if got != archive.bytes {
        let from = from.to_owned();
        return Err(refuse(
            path,
            FetchError::Size {
                from,
                expected: archive.bytes,
                got,
            },
        ));
    }
    let got = sha256::of_file(path).map_err(disk(path, "read"))?;
    if got != archive.sha256 {
        let (from, expected) = (from.to_owned(), archive.sha256.to_owned());
        return Err(refuse(
            path,
            FetchError::Hash {
                from,
                expected,
                got,
            },
        ));
    }
    Ok(())
}

/// Removes a file that is not what it should be, and gives the error back.
fn refuse(path: &Path, error: FetchError) -> FetchError {
    match fs::remove_file(path) {
        Ok(()) => error,
        Err(source) => FetchError::Disk {
            path: path.to_owned(),
            action: "remove this file, which is not the published one",
            source,
        },
    }
}

/// Unpacks the archive beside its place, then renames each file into `folder`.
fn unpack(archive: &Path, dest: &Path, folder: &Path) -> Result<(), FetchError> {
    let temporary = tempfile::Builder::new()
        .prefix(".cifar-10-unpacking-")
        .tempdir_in(dest)
        .map_err(disk(dest, "make a folder to unpack into, in"))?;
    unpack_into(archive, temporary.path())?;

    let unpacked = temporary.path().join(FOLDER);
    let missing = missing(&unpacked);
    if !missing.is_empty() {
        return Err(FetchError::Incomplete { missing });
    }
    fs::create_dir_all(folder).map_err(disk(folder, "make the folder"))?;
    for entry in fs::read_dir(&unpacked).map_err(disk(&unpacked, "read"))? {
        let entry = entry.map_err(disk(&unpacked, "read"))?;
        let to = folder.join(entry.file_name());
        fs::rename(entry.path(), &to).map_err(disk(&to, "rename the unpacked file to"))?;
    }
    Ok(())
}

/// Unpacks files and folders only, and only below [`FOLDER`].
///
/// The hash has been verified, so this is a second fence: an archive with the right hash is the
/// author's. Links are refused, which also closes the way out through a link of the archive.
fn unpack_into(archive: &Path, dest: &Path) -> Result<(), FetchError> {
    let read = disk(archive, "unpack");
    let file = File::open(archive).map_err(&read)?;
    let mut entries = tar::Archive::new(GzDecoder::new(io::BufReader::new(file)));
    let mut unpacked_bytes = 0_u64;
    for entry in entries.entries().map_err(&read)? {
        let mut entry = entry.map_err(&read)?;
        let path = entry.path().map_err(&read)?.into_owned();
        let refused = |reason| FetchError::Entry {
            entry: path.display().to_string(),
            reason,
        };

        let mut parts = path.components();
        if parts.next() != Some(Component::Normal(FOLDER.as_ref()))
            || !parts.all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(refused("expected a path inside cifar-10-batches-bin"));
        }
        let to = dest.join(&path);
        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                fs::create_dir_all(&to).map_err(disk(&to, "make the folder"))?;
            }
            tar::EntryType::Regular => {
                unpacked_bytes = unpacked_bytes.saturating_add(entry.size());
                if unpacked_bytes > MAX_UNPACKED_BYTES {
                    return Err(refused("expected at most 400 MB in all"));
                }
                if let Some(parent) = to.parent() {
                    fs::create_dir_all(parent).map_err(disk(parent, "make the folder"))?;
                }
                let mut file = File::create(&to).map_err(disk(&to, "unpack"))?;
                io::copy(&mut entry, &mut file).map_err(disk(&to, "unpack"))?;
                // Before the rename: a name must not reach the disk before its content.
                file.sync_all().map_err(disk(&to, "unpack"))?;
            }
            _ => {
                return Err(refused(
                    "expected only files and folders, got a link or a device",
                ));
            }
        }
    }
    Ok(())
}

/// Names the file and the action in an error of the disk.
fn disk(path: &Path, action: &'static str) -> impl Fn(io::Error) -> FetchError {
    move |source| FetchError::Disk {
        path: path.to_owned(),
        action,
        source,
    }
}
