//! Checkpoints: weights as safetensors files, with torchvision's names and a description.
//!
//! A file is read in two steps. [`Checkpoint::open`] accepts or refuses the *file*: is it whole,
//! is its header sound. [`Checkpoint::check`] compares it with a *model*: the names, shapes and
//! types that the model needs, all differences in one error. [`fn@write`] makes a file that appears
//! whole or not at all.
//!
//! Format: <https://github.com/huggingface/safetensors#format>. Weights are data and never
//! code: a pickle (`.pt`, `.pth`) is refused, because to load one is to run what it says.
//!
//! | file | idea |
//! | --- | --- |
//! | `header.rs` | is this a whole, sound safetensors file |
//! | `description.rs` | what the weights are for, in the file's metadata |
//! | `difference.rs` | a file against what a model needs |
//! | `write.rs` | a file appears whole or not at all |

mod description;
mod difference;
mod error;
mod header;
mod write;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

pub use description::Description;
pub use difference::{Problem, Spec};
pub use error::{CheckpointError, ContentError, FormatError};
pub use safetensors::Dtype;
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
pub use write::write;

/// A safetensors file in memory, with its header checked.
#[derive(Debug)]
pub struct Checkpoint {
    /// What the weights are for, as far as the file says.
    pub description: Description,
    /// The other entries of the file's metadata.
    pub extra: BTreeMap<String, String>,
    /// The path, or what stands for it in errors.
    origin: String,
    bytes: Vec<u8>,
    /// Where the tensors' bytes begin: after the length and the header.
    data_start: usize,
    metadata: Metadata,
    /// Names in alphabetical order: the header's order differs from writer to writer.
    names: Vec<String>,
}

/// One tensor of a [`Checkpoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorView<'a> {
    /// Its name, such as `layer1.0.conv1.weight`.
    pub name: &'a str,
    /// Its shape; empty for a scalar.
    pub shape: &'a [usize],
    /// The type of an element.
    pub dtype: Dtype,
    /// Its elements in row-major order, little-endian.
    pub bytes: &'a [u8],
}

impl Checkpoint {
    /// Reads a file and checks its header.
    ///
    /// The header is checked against the file's size before the weights are read, so that a
    /// wrong file of many gigabytes is refused at once.
    ///
    /// # Errors
    /// [`CheckpointError`]: no such file, not a regular file, unreadable, or not a whole and
    /// sound safetensors file ([`CheckpointError::Format`] says what is wrong).
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let origin = path.display().to_string();
        let unreadable = |source| CheckpointError::read(path, source);
        let metadata = fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            // Checked before opening: to open a pipe would wait for a writer.
            let got = if metadata.is_dir() {
                "a folder"
            } else {
                "not a regular file"
            };
            return Err(CheckpointError::NotAFile {
                path: path.to_owned(),
                got,
            });
        }
        let file_bytes = metadata.len();
        let format = |problem| CheckpointError::Format {
            origin: origin.clone(),
            problem,
        };

        let mut file = File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        let start = file_bytes.min(header::PREFIX_BYTES as u64 + header::SNIFF_BYTES as u64);
        read_exactly(&mut file, &mut bytes, start).map_err(unreadable)?;
        let header_end = header::end(&bytes, file_bytes).map_err(format)?;
        read_exactly(&mut file, &mut bytes, header_end.saturating_sub(start))
            .map_err(unreadable)?;
        header::check(&bytes, file_bytes).map_err(format)?;
        let rest = file_bytes - bytes.len() as u64;
        read_exactly(&mut file, &mut bytes, rest).map_err(unreadable)?;
        Self::from_checked(origin, bytes)
    }

    /// Reads a checkpoint from the bytes of a file.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], without the file's own errors.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, CheckpointError> {
        let origin = String::from("the checkpoint");
        header::check(&bytes, bytes.len() as u64).map_err(|problem| CheckpointError::Format {
            origin: origin.clone(),
            problem,
        })?;
        Self::from_checked(origin, bytes)
    }

    /// `bytes` have passed [`header::check`].
    fn from_checked(origin: String, bytes: Vec<u8>) -> Result<Self, CheckpointError> {
        // The crate has the last word: what it would refuse elsewhere is refused here, too.
        let (header_bytes, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|source| CheckpointError::Format {
                origin: origin.clone(),
                problem: FormatError::Refused { source },
            })?;
        let entries = metadata.metadata().clone().unwrap_or_default();
        let (description, extra) =
            Description::from_metadata(entries).map_err(|problem| CheckpointError::Format {
                origin: origin.clone(),
                problem,
            })?;
        let mut names = metadata.offset_keys();
        names.sort_unstable();
        let data_start = header::PREFIX_BYTES + header_bytes;
        Ok(Self {
            description,
            extra,
            origin,
            bytes,
            data_start,
            metadata,
            names,
        })
    }

    /// The names of all tensors, in alphabetical order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// One tensor by its name; none if the file has no such name.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let name = &self.names[self
            .names
            .binary_search_by(|own| own.as_str().cmp(name))
            .ok()?];
        let info = self.metadata.info(name)?;
        let (start, end) = info.data_offsets;
        Some(TensorView {
            name,
            shape: &info.shape,
            dtype: info.dtype,
            bytes: &self.bytes[self.data_start + start..self.data_start + end],
        })
    }

    /// All tensors, in alphabetical order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.names.iter().filter_map(|name| self.tensor(name))
    }

    /// Compares the file with what a model needs.
    ///
    /// * `expected`: every tensor of the model, with its shape and type
    ///
    /// `num_batches_tracked`, a counter that only training reads, may be missing or there.
    ///
    /// # Errors
    /// [`CheckpointError::Mismatch`] lists *all* differences, expected against got: missing
    /// names, names that the model does not have, other shapes, other types.
    pub fn check(&self, expected: &[Spec]) -> Result<(), CheckpointError> {
        let problems = difference::between(self, expected);
        if problems.is_empty() {
            return Ok(());
        }
        Err(CheckpointError::Mismatch {
            origin: self.origin.clone(),
            description: self.description.summary(),
            problems,
        })
    }
}

/// Appends exactly `count` bytes of `file` to `bytes`.
fn read_exactly(file: &mut File, bytes: &mut Vec<u8>, count: u64) -> std::io::Result<()> {
    let size = usize::try_from(count).unwrap_or(usize::MAX);
    // A file may claim any size (a sparse one costs nothing); ask for the memory, don't assume it.
    bytes.try_reserve_exact(size).map_err(|_| {
        std::io::Error::new(
            std::io::ErrorKind::OutOfMemory,
            format!("its {count} bytes do not fit into memory"),
        )
    })?;
    let read = file.take(count).read_to_end(bytes)?;
    if (read as u64) < count {
        return Err(std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            format!(
                "the file became shorter while it was read: expected {count} bytes more, got {read}"
            ),
        ));
    }
    Ok(())
}
