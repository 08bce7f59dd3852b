//! Why weights could not be had, each with the way around it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::sync::ApiError;

use super::{Location, Weights};

/// How to go on without the hub.
const INSTEAD: &str = "; or fetch it in a browser and give it with --weights FILE";

/// Why weights could not be had from the hub.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Neither `HF_HOME` nor a home folder.
    #[error("no home folder for the hub's cache; set HF_HOME to a folder, or give --weights FILE")]
    NoHome,
    /// `HF_ENDPOINT` is not an address.
    #[error(
        "expected an address that begins with http:// or https://, got {url:?}; \
         set HF_ENDPOINT to one, unset it for https://huggingface.co, or give --weights FILE"
    )]
    Endpoint {
        /// The address of the file, as made from the endpoint.
        url: String,
    },
    /// The server does not answer.
    #[error(
        "cannot reach {url}: {reason}; is there a network? HF_ENDPOINT sets a mirror, \
         HTTPS_PROXY a proxy{INSTEAD}"
    )]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The connection broke while the file came.
    #[error("{url}: the connection broke: {reason}; the same command goes on from there{INSTEAD}")]
    Broken {
        /// What was asked for.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The server does not have the file.
    #[error(
        "{url}: no such file on this server (404); does HF_ENDPOINT name a mirror that lacks it?{INSTEAD}"
    )]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// The server answers with another status.
    #[error("{url}: expected status 200, got {status}{INSTEAD}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer is not the hub's.
    #[error("{url}: not the answer of a Hugging Face hub: {reason}{INSTEAD}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server has another revision.
    #[error("{url}: expected revision {expected}, got {got:?}{INSTEAD}")]
    Revision {
        /// What was asked for.
        url: String,
        /// The pinned commit.
        expected: String,
        /// The commit that the server names.
        got: String,
    },
    /// The file has another size; it was not fetched, or removed.
    #[error("{from}: expected {expected} bytes, got {got}; it is not used{INSTEAD}")]
    Size {
        /// The address or the file.
        from: String,
        /// The pinned size in bytes.
        expected: u64,
        /// The size that came or was announced.
        got: u64,
    },
    /// The file has another content; it was not fetched, or removed.
    #[error("{from}: expected SHA-256 {expected}, got {got}; it is not used{INSTEAD}")]
    Hash {
        /// The address or the file.
        from: String,
        /// The pinned hash, or the one that the hub sent.
        expected: String,
        /// The hash that came or was announced.
        got: String,
    },
    /// Another program holds the lock.
    #[error(
        "{}: another program has been fetching this for {} s; wait for it, or end it",
        part.display(), waited.as_secs()
    )]
    Busy {
        /// The file that it writes.
        part: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The disk refuses: full, read-only, no permission.
    #[error("{}: {source}; set HF_HOME to a folder with room that you may write to", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl HubError {
    /// Names the path in an error of the disk.
    pub(super) fn disk(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Disk {
            path: path.to_owned(),
            source,
        }
    }

    /// What hf-hub says, in this crate's words.
    pub(super) fn from_api(error: ApiError, weights: &Weights, location: &Location) -> Self {
        let url = weights.url(location);
        match error {
            ApiError::RequestError(error) => match *error {
                ureq::Error::StatusCode(404) => Self::NotFound { url },
                ureq::Error::StatusCode(status) => Self::Status { url, status },
                error => Self::Unreachable {
                    url,
                    reason: error.to_string(),
                },
            },
            // Two kinds of errors come in this one: of the disk, and of reading the answer.
            ApiError::IoError(source) => match source.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::TimedOut
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::Other => Self::Broken {
                    url,
                    reason: source.to_string(),
                },
                _ => Self::Disk {
                    path: location.cache.clone(),
                    source,
                },
            },
            ApiError::TooManyRetries(error) => Self::from_api(*error, weights, location),
            error => Self::Answer {
                url,
                reason: error.to_string(),
            },
        }
    }
}
