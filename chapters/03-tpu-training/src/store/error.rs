//! What can go wrong with a place, in words that say what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::place::Scheme;

/// Why a place cannot be understood, reached, read or written.
///
/// No variant holds a password, a token or a server's full answer, which may repeat them: a
/// remote error is text that has been cleaned, not the error of the library below.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The text names no place.
    #[error("{text:?}: {problem}; expected a path, gs://BUCKET/PREFIX or s3://BUCKET/PREFIX")]
    Address {
        /// The text, or the part of it that cannot hold a secret.
        text: String,
        /// What is wrong with it.
        problem: AddressProblem,
    },
    /// There is no such file or object.
    #[error("{address}: no such file")]
    NotFound {
        /// Its path or URL.
        address: String,
    },
    /// Something of another kind has the name.
    #[error("{}: expected {expected}, got {got}", path.display())]
    Kind {
        /// Its path.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        got: &'static str,
    },
    /// The file system refuses.
    #[error("{}: cannot {action}: {cause}{}", path.display(), io_hint(cause))]
    Io {
        /// What was tried.
        action: Action,
        /// On what.
        path: PathBuf,
        /// What the system said. Not a `source`: it is in the text, and would be told twice.
        cause: io::Error,
    },
    /// Another run has the folder.
    #[error(
        "{}: in use by another run{}; wait for it, stop it, or choose another folder",
        path.display(),
        pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process that has it, as far as it says.
        pid: Option<u32>,
    },
    /// The object store refuses, or cannot be reached.
    #[error("{url}: cannot {action}: {problem}; {}", kind.advice(*scheme))]
    Remote {
        /// What was tried.
        action: Action,
        /// On what.
        url: String,
        /// Whose store it is.
        scheme: Scheme,
        /// What sort of failure it is.
        kind: RemoteKind,
        /// What the store or the network said, shortened, without secrets.
        problem: String,
    },
}

/// What is wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressProblem {
    /// No text at all.
    #[error("empty")]
    Empty,
    /// A scheme with one slash or none.
    #[error("two slashes are missing after the colon")]
    Slashes,
    /// Neither `gs` nor `s3`.
    #[error("this kind of address is not known")]
    Scheme,
    /// No bucket, or a name that no bucket has.
    #[error("the bucket's name is missing, or holds other characters than a-z, 0-9, '.', '-', '_'")]
    Bucket,
    /// Empty parts, `.` or `..`.
    #[error("the prefix has an empty part, '.', '..', or characters that objects' names lack")]
    Prefix,
    /// A user or password before the bucket.
    #[error("credentials do not belong into an address; set them in the environment")]
    Credentials,
    /// `?` or `#`.
    #[error("'?' and '#' have no meaning here")]
    Query,
}

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// To connect to it.
    Open,
    /// To make the folder.
    Make,
    /// To lock it.
    Lock,
    /// To list what is in it.
    List,
    /// To read it.
    Read,
    /// To write it.
    Write,
    /// To remove it.
    Remove,
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Open => "open",
            Self::Make => "make the folder",
            Self::Lock => "lock",
            Self::List => "list",
            Self::Read => "read",
            Self::Write => "write",
            Self::Remove => "remove",
        })
    }
}

/// The sorts of failure that differ in what to do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteKind {
    /// No credentials, or wrong ones.
    Credentials,
    /// The credentials are good for less than this.
    Permission,
    /// No such bucket.
    Bucket,
    /// A setting in the environment makes no sense.
    Setting,
    /// No answer, or none that is understood.
    Connection,
}

impl RemoteKind {
    /// What to do.
    fn advice(self, scheme: Scheme) -> &'static str {
        match (self, scheme) {
            (Self::Credentials, Scheme::S3) => {
                "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION \
                 (and AWS_ENDPOINT for a store that is not Amazon's)"
            }
            (Self::Credentials, Scheme::Gs) => {
                "set GOOGLE_APPLICATION_CREDENTIALS to the path of a key file, \
                 or type \"gcloud auth application-default login\""
            }
            (Self::Permission, _) => {
                "these credentials may not do that: reading, writing, listing and removing are needed"
            }
            (Self::Bucket, Scheme::S3) => {
                "make the bucket first; AWS_REGION must be the bucket's, \
                 and AWS_ENDPOINT must name a store that is not Amazon's"
            }
            (Self::Bucket, Scheme::Gs) => "make the bucket first",
            (Self::Setting, Scheme::S3) => "look at the variables AWS_* of the environment",
            (Self::Setting, Scheme::Gs) => "look at the variables GOOGLE_* of the environment",
            (Self::Connection, Scheme::S3) => {
                "look at the connection, and at AWS_REGION and AWS_ENDPOINT"
            }
            (Self::Connection, Scheme::Gs) => "look at the connection",
        }
    }
}

impl StoreError {
    /// Wraps an error of the file system.
    pub(super) fn io(action: Action, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| {
            if cause.kind() == io::ErrorKind::NotFound && action == Action::Read {
                return Self::NotFound {
                    address: path.display().to_string(),
                };
            }
            Self::Io {
                action,
                path: path.to_owned(),
                cause,
            }
        }
    }
}

/// What to do about an error of the file system, where there is something to do.
fn io_hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "; make room on that disk, or choose another folder"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a folder that you may write to"
        }
        _ => "",
    }
}
