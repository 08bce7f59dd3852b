//! Is this a whole and sound safetensors file? Answered before any weight is read.
//!
//! The safetensors crate checks the same, in words that do not say what was expected, and only
//! with the whole file in memory. One check it lacks (0.8.0): tensors whose sizes add up to
//! nearly 2^64 overflow its sum; here every offset is first held against the file's size.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::error::FormatError;

/// Bytes of the header's length, which begins the file: a little-endian `u64`.
pub(super) const PREFIX_BYTES: usize = 8;
/// Bytes after the prefix that are looked at to say what a wrong file is instead.
pub(super) const SNIFF_BYTES: usize = 16;
/// The largest header accepted, as in the format's own implementation.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Where the header ends in the file, after a look at its length only.
///
/// * `start`: at least the first 8 bytes of the file, if it has as many
/// * `file_bytes`: the size of the whole file
pub(super) fn end(start: &[u8], file_bytes: u64) -> Result<u64, FormatError> {
    let looks_like = looks_like(start);
    // The smallest file: the length, and `{}`.
    let Some(prefix) = start
        .first_chunk::<PREFIX_BYTES>()
        .filter(|_| file_bytes >= 10)
    else {
        return Err(FormatError::TooShort {
            got: file_bytes,
            looks_like,
        });
    };
    let header_bytes = u64::from_le_bytes(*prefix);
    if header_bytes > MAX_HEADER_BYTES {
        return Err(FormatError::HeaderTooLarge {
            limit: MAX_HEADER_BYTES,
            got: header_bytes,
            looks_like,
        });
    }
    let end = header_bytes + PREFIX_BYTES as u64;
    if end > file_bytes {
        return Err(FormatError::HeaderTruncated {
            expected: end,
            got: file_bytes,
            looks_like,
        });
    }
    Ok(end)
}

/// Checks length, header and every tensor's place against the file's size.
///
/// * `start`: the file at least to the end of its header
/// * `file_bytes`: the size of the whole file
pub(super) fn check(start: &[u8], file_bytes: u64) -> Result<(), FormatError> {
    let header_end = end(start, file_bytes)?;
    let header = &start[PREFIX_BYTES..header_end as usize];
    let header: Header = serde_json::from_slice(header).map_err(|error| FormatError::Header {
        reason: shortened(&error.to_string()),
    })?;

    let mut by_offset: Vec<(&String, &Entry)> = header.tensors.iter().collect();
    by_offset.sort_by_key(|(name, entry)| (entry.data_offsets, name.as_str()));
    let mut data_end = 0;
    for (name, entry) in by_offset {
        let (start, end) = entry.data_offsets;
        let size = byte_size(&entry.shape, entry.dtype);
        if start > end || size.as_ref().ok() != Some(&(end - start)) {
            return Err(FormatError::TensorSize {
                name: shortened(name),
                dtype: entry.dtype,
                shape: entry.shape.iter().copied().take(16).collect(),
                expected: size.map_or_else(str::to_owned, |bytes| bytes.to_string()),
                start,
                end,
            });
        }
        if start != data_end {
            return Err(FormatError::Offset {
                name: shortened(name),
                expected: data_end,
                got: start,
            });
        }
        data_end = end;
    }
    // The offsets are the file's word, up to 2^64 - 1: no overflow here.
    let expected = header_end.saturating_add(data_end);
    match file_bytes {
        got if got < expected => Err(FormatError::Truncated { expected, got }),
        got if got > expected => Err(FormatError::TooLong { expected, got }),
        _ => Ok(()),
    }
}

/// The bytes of a tensor, or why there is no such number.
pub(super) fn byte_size(shape: &[usize], dtype: Dtype) -> Result<u64, &'static str> {
    let bits = shape
        .iter()
        .try_fold(1_u64, |product, extent| product.checked_mul(*extent as u64))
        .and_then(|elements| elements.checked_mul(dtype.bitsize() as u64))
        .ok_or("more than 2^64")?;
    // Types of 4 and 6 bits exist; their tensors must still end on a byte.
    if bits % 8 == 0 {
        Ok(bits / 8)
    } else {
        Err("a whole number of")
    }
}

/// The header as the format defines it.
struct Header {
    tensors: BTreeMap<String, Entry>,
}

/// A tensor's entry in the header.
#[derive(Deserialize)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Header {
    /// By hand, to name the tensor in an error and to refuse a name that comes twice: a derived
    /// map keeps the last one silently.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object with an entry for each tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let shown = shortened(&name);
                    let in_entry =
                        |error: A::Error| A::Error::custom(format_args!("{shown:?}: {error}"));
                    if name == "__metadata__" {
                        map.next_value::<Option<HashMap<String, String>>>()
                            .map_err(in_entry)?;
                        continue;
                    }
                    let entry = map.next_value().map_err(in_entry)?;
                    if tensors.insert(name, entry).is_some() {
                        return Err(A::Error::custom(format_args!(
                            "two tensors are named {shown:?}"
                        )));
                    }
                }
                Ok(Header { tensors })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// What a file that is no safetensors file seems to be, by its first bytes.
fn looks_like(start: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 7] = [
        (
            b"PK\x03\x04",
            "a zip file, as torch.save writes; convert it with safetensors.torch.save_file in Python",
        ),
        (
            b"\x80\x02",
            "a pickle, as old PyTorch writes; convert it with safetensors.torch.save_file in Python",
        ),
        (
            b"version https://git-lfs",
            "a Git LFS pointer; run \"git lfs pull\" for the file itself",
        ),
        (b"<", "an HTML or XML page, such as an error of a server"),
        (b"GGUF", "a GGUF file"),
        (b"\x89HDF", "an HDF5 file"),
        (b"{", "JSON text"),
    ];
    // A header shorter than 256 bytes begins with its length as a byte, which may be one of
    // these letters; the seven bytes after it are then zero.
    if start.get(4..8) == Some(&[0; 4]) {
        return None;
    }
    known
        .iter()
        .find(|(magic, _)| start.starts_with(magic))
        .map(|(_, what)| *what)
}

/// At most 200 characters of a text that comes from the file.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
