//! What can be wrong with a checkpoint, in words that say what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensorError};

use super::difference::Problem;
use crate::atomic_file;

/// Why a checkpoint cannot be read, used or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is no such file.
    #[error("{}: no such checkpoint; give the path of a safetensors file", path.display())]
    NotFound {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The path names a folder, a device or a pipe.
    #[error("{}: expected a safetensors file, got {got}", path.display())]
    NotAFile {
        /// The path as it was given.
        path: PathBuf,
        /// What it is.
        got: &'static str,
    },
    /// The file cannot be read.
    #[error("{}: cannot read the checkpoint: {source}", path.display())]
    Read {
        /// The path as it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a whole and sound safetensors file.
    #[error("{origin}: {problem}")]
    Format {
        /// The path, or what stands for it.
        origin: String,
        /// What is wrong.
        problem: FormatError,
    },
    /// The file's tensors are not those of the model.
    #[error("{}", mismatch(origin, description, problems))]
    Mismatch {
        /// The path, or what stands for it.
        origin: String,
        /// What the file says it is, such as `resnet18, width 16`; empty if it says nothing.
        description: String,
        /// Every difference, in alphabetical order of the names.
        problems: Vec<Problem>,
    },
    /// A tensor or a metadata entry that cannot be written.
    #[error("{}: cannot write the checkpoint: {problem}", path.display())]
    Content {
        /// The path as it was given.
        path: PathBuf,
        /// What is wrong with it.
        problem: ContentError,
    },
    /// The file cannot be written; an older file of that name is as it was.
    #[error("{}: cannot write the checkpoint ({bytes} bytes): {source}{}", path.display(), atomic_file::remedy(source))]
    Write {
        /// The path as it was given.
        path: PathBuf,
        /// The size that the file would have.
        bytes: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// Why bytes are not a whole and sound safetensors file.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Too short for the header's length.
    #[error(
        "expected a safetensors file of at least 10 bytes, got {got}{}",
        hint(looks_like)
    )]
    TooShort {
        /// The file's size in bytes.
        got: u64,
        /// What the file seems to be instead.
        looks_like: Option<&'static str>,
    },
    /// The header claims a size that no header has.
    #[error(
        "not a safetensors file, or a damaged one: expected a header of at most {limit} bytes, \
         got {got}{}",
        hint(looks_like)
    )]
    HeaderTooLarge {
        /// The largest header that is accepted.
        limit: u64,
        /// The size that the file claims.
        got: u64,
        /// What the file seems to be instead.
        looks_like: Option<&'static str>,
    },
    /// The file ends inside the header.
    #[error(
        "truncated, or not a safetensors file: its header should end at byte {expected}, \
         and the file has {got} bytes; fetch or copy it again{}",
        hint(looks_like)
    )]
    HeaderTruncated {
        /// Where the header ends by its own account.
        expected: u64,
        /// The file's size in bytes.
        got: u64,
        /// What the file seems to be instead.
        looks_like: Option<&'static str>,
    },
    /// The header is not the JSON that the format asks for.
    #[error("expected a safetensors header (JSON), got something else: {reason}")]
    Header {
        /// What the JSON reader said.
        reason: String,
    },
    /// A tensor's size does not follow from its shape and type.
    #[error(
        "damaged header: tensor {name:?}, {dtype} {shape:?}, should have {expected} bytes, \
         its offsets {start}..{end} say otherwise"
    )]
    TensorSize {
        /// The tensor.
        name: String,
        /// The type of an element.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
        /// The bytes that shape and type ask for, or why there is no such number.
        expected: String,
        /// Where its bytes begin in the data.
        start: u64,
        /// Where they end.
        end: u64,
    },
    /// Tensors overlap, or leave bytes that belong to none.
    #[error(
        "damaged header: tensor {name:?} should begin at byte {expected} of the data, got {got}"
    )]
    Offset {
        /// The tensor.
        name: String,
        /// Where the tensor before it ended.
        expected: u64,
        /// Where it begins.
        got: u64,
    },
    /// The file ends before its tensors do.
    #[error(
        "truncated: its header asks for a file of {expected} bytes, got {got}; \
         fetch or copy it again"
    )]
    Truncated {
        /// The size that the header asks for, in bytes.
        expected: u64,
        /// The file's size in bytes.
        got: u64,
    },
    /// The file goes on after its tensors.
    #[error("damaged: its header asks for a file of {expected} bytes, got {got}")]
    TooLong {
        /// The size that the header asks for, in bytes.
        expected: u64,
        /// The file's size in bytes.
        got: u64,
    },
    /// The description in the metadata cannot be understood.
    #[error("metadata {key:?}: expected {expected}, got {got:?}")]
    Description {
        /// The metadata key.
        key: &'static str,
        /// What it may hold.
        expected: String,
        /// What it holds, shortened.
        got: String,
    },
    /// The safetensors crate refuses what passed the checks here.
    #[error("not a sound safetensors file: {source}")]
    Refused {
        /// What it said.
        source: SafeTensorError,
    },
}

/// What a safetensors file cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Two tensors of one name.
    #[error("two tensors are named {name:?}")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The format keeps this name for the metadata.
    #[error("a tensor cannot be named \"__metadata__\": the format keeps that name for itself")]
    ReservedName,
    /// A tensor's bytes do not fit its shape.
    #[error("tensor {name:?}, {dtype} {shape:?}: expected {expected} bytes, got {got}")]
    Size {
        /// The tensor.
        name: String,
        /// The type of an element.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
        /// The bytes that shape and type ask for, or why there is no such number.
        expected: String,
        /// The bytes that came.
        got: usize,
    },
    /// An extra metadata entry that the description already writes.
    #[error("the metadata entry {key:?} belongs to the description, not to the extra entries")]
    ReservedKey {
        /// The key.
        key: String,
    },
    /// A description that could not be read back.
    #[error("description, {key}: expected {expected}, got {got}")]
    Description {
        /// The metadata key.
        key: &'static str,
        /// What it may hold.
        expected: String,
        /// What came.
        got: String,
    },
}

impl CheckpointError {
    /// The error of reading `path`.
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            Self::NotFound { path }
        } else {
            Self::Read { path, source }
        }
    }
}

/// The text of [`CheckpointError::Mismatch`]: a line a difference, then what to do.
fn mismatch(origin: &str, description: &str, problems: &[Problem]) -> String {
    use fmt::Write;
    let count = problems.len();
    let differences = if count == 1 {
        "difference"
    } else {
        "differences"
    };
    let mut text = format!("{origin}: not the weights of this model, {count} {differences}:");
    for problem in problems {
        let _ = write!(text, "\n  {problem}");
    }
    if description.is_empty() {
        text.push_str("\nchoose the architecture, stem and classes that the file was made for");
    } else {
        let _ = write!(text, "\nthe file says that it is: {description}");
    }
    text
}

/// A clause on what the file seems to be.
fn hint(looks_like: &Option<&'static str>) -> String {
    looks_like.map_or_else(String::new, |what| format!(" (this looks like {what})"))
}
