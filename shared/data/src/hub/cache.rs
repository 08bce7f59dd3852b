//! The hub's cache: is what lies there what it should be?
//!
//! Its layout is `huggingface_hub`'s: `snapshots/<commit>/<file>` is a link to
//! `blobs/<etag>`, and the etag of a large file is the SHA-256 of its content.

use std::fs;
use std::io;
use std::path::Path;

use super::{HubError, Weights};
use crate::sha256;

/// Compares a file of the cache with its size and hash, and removes it if they differ.
///
/// Where no hash is known, the name of the blob is one for large files.
pub(super) fn verify(weights: &Weights, pointer: &Path) -> Result<(), HubError> {
    let disk = HubError::disk(pointer);
    let blob = fs::canonicalize(pointer).map_err(&disk)?;
    let from = || pointer.display().to_string();
    let refuse = |error: HubError| {
        remove(pointer)?;
        remove(&blob)?;
        Err(error)
    };

    let got = fs::metadata(&blob).map_err(&disk)?.len();
    if got != weights.bytes {
        return refuse(HubError::Size {
            from: from(),
            expected: weights.bytes,
            got,
        });
    }
    let name = blob
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let expected = weights
        .sha256
        .clone()
        .or(name.filter(|name| sha256::is_sha256(name)));
    let Some(expected) = expected else {
        return Ok(());
    };
    let got = sha256::of_file(&blob).map_err(&disk)?;
    if !got.eq_ignore_ascii_case(&expected) {
        return refuse(HubError::Hash {
            from: from(),
            expected,
            got,
        });
    }
    Ok(())
}

/// Removes a file or a link; a missing one is fine.
pub(super) fn remove(path: &Path) -> Result<(), HubError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HubError::disk(path)(error)),
        _ => Ok(()),
    }
}
