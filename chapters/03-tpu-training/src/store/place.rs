//! What the user typed after `--out`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::credentials::Environment;
use super::error::{AddressProblem, StoreError};
use super::{LocalFolder, ObjectFolder, Store};

/// A folder on this machine, or a prefix in an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A path, which need not exist yet.
    Local(PathBuf),
    /// `gs://bucket/prefix` or `s3://bucket/prefix`.
    Objects(ObjectUrl),
}

/// A prefix in a bucket of an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectUrl {
    /// Whose store it is.
    pub scheme: Scheme,
    /// The bucket's name.
    pub bucket: String,
    /// The prefix, without a slash at either end; empty for the whole bucket.
    pub prefix: String,
}

/// The object stores that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Google Cloud Storage.
    Gs,
    /// Amazon S3, and what speaks its protocol.
    S3,
}

impl Scheme {
    /// The text before `://`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gs => "gs",
            Self::S3 => "s3",
        }
    }
}

impl Place {
    /// Reads a place from text.
    ///
    /// Text without `://` is a local path.
    ///
    /// # Errors
    /// [`StoreError::Address`]: empty text, another scheme, no bucket, a prefix with empty or
    /// dotted parts, or an address that holds credentials. These are not repeated in the error.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let refuse = |shown: &str, problem| {
            Err(StoreError::Address {
                text: shown.to_owned(),
                problem,
            })
        };
        if text.is_empty() {
            return refuse(text, AddressProblem::Empty);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            // `s3:/bucket` would otherwise make a folder of that name, and the bucket stay empty.
            return match text.split_once(':') {
                Some(("s3" | "gs", _)) => refuse(text, AddressProblem::Slashes),
                _ => Ok(Self::Local(PathBuf::from(text))),
            };
        };
        // Shown up to where credentials could stand: `user:password@`, `?token=`.
        let authority = rest.split('/').next().unwrap_or_default();
        if authority.contains('@') {
            return refuse(&format!("{scheme}://..."), AddressProblem::Credentials);
        }
        if let Some(end) = rest.find(['?', '#']) {
            let shown = format!("{scheme}://{}...", &rest[..end]);
            return refuse(&shown, AddressProblem::Query);
        }
        let scheme = match scheme {
            "gs" => Scheme::Gs,
            "s3" => Scheme::S3,
            _ => return refuse(text, AddressProblem::Scheme),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if authority.is_empty() || !authority.chars().all(allowed) {
            return refuse(text, AddressProblem::Bucket);
        }
        let prefix = rest[authority.len()..]
            .trim_start_matches('/')
            .trim_end_matches('/');
        if !prefix.is_empty() && object_store::path::Path::parse(prefix).is_err() {
            return refuse(text, AddressProblem::Prefix);
        }
        Ok(Self::Objects(ObjectUrl {
            scheme,
            bucket: authority.to_owned(),
            prefix: prefix.to_owned(),
        }))
    }

    /// Whether this is a folder of this machine.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// A folder or file inside.
    ///
    /// * `name`: one or more parts with `/` between them
    pub fn join(&self, name: &str) -> Self {
        match self {
            Self::Local(path) => Self::Local(path.join(name)),
            Self::Objects(url) => Self::Objects(url.join(name)),
        }
    }

    /// Opens the place, with the settings and credentials of this process's environment.
    ///
    /// Nothing is made and no connection opened yet.
    ///
    /// # Errors
    /// [`StoreError::Remote`]: the environment's settings for the object store make no sense.
    pub fn open(&self) -> Result<Box<dyn Store>, StoreError> {
        match self {
            Self::Local(path) => Ok(Box::new(LocalFolder::new(path))),
            Self::Objects(url) => Ok(Box::new(ObjectFolder::connect(
                url,
                &Environment::of_this_process(url.scheme),
            )?)),
        }
    }
}

impl ObjectUrl {
    /// The URL of an object or prefix inside; this one for `""`.
    pub fn join(&self, name: &str) -> Self {
        let prefix = match (self.prefix.as_str(), name) {
            (prefix, "") => prefix.to_owned(),
            ("", name) => name.to_owned(),
            (prefix, name) => format!("{prefix}/{name}"),
        };
        Self {
            prefix,
            ..self.clone()
        }
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.scheme.name(), self.bucket)?;
        if self.prefix.is_empty() {
            return Ok(());
        }
        write!(formatter, "/{}", self.prefix)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(formatter),
            Self::Objects(url) => url.fmt(formatter),
        }
    }
}

impl FromStr for Place {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        Self::parse(text)
    }
}

impl From<PathBuf> for Place {
    fn from(path: PathBuf) -> Self {
        Self::Local(path)
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::Local(path.to_owned())
    }
}
