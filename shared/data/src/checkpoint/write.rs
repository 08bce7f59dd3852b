//! Writing a checkpoint that appears whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use super::description::{Description, KEYS};
use super::error::{CheckpointError, ContentError};
use super::header::{PREFIX_BYTES, byte_size};
use crate::atomic_file;

/// Writes tensors and their description as a safetensors file.
///
/// * `path`: missing folders are created; an older file of that name is replaced as a whole
/// * `tensors`: name, shape, type, and the elements in row-major order, little-endian
/// * `description`: what the weights are for
/// * `extra`: further metadata entries, such as the accuracy
///
/// The same content gives the same bytes (tensors by size of element and name, metadata by
/// key), so that a file can be compared by its hash. safetensors' own writer keeps metadata in
/// a hash map and does not, nor does it wait for the disk.
///
/// # Errors
/// [`CheckpointError::Content`] if the content cannot be a safetensors file;
/// [`CheckpointError::Write`] if the disk is full, the folder cannot be written, and the like.
/// An older file of that name is then as it was.
pub fn write(
    path: &Path,
    tensors: &[(String, Vec<usize>, Dtype, Vec<u8>)],
    description: &Description,
    extra: &BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let unsound = |problem| CheckpointError::Content {
        path: path.to_owned(),
        problem,
    };
    let metadata = metadata(description, extra).map_err(unsound)?;
    check(tensors).map_err(unsound)?;

    let mut in_order: Vec<_> = tensors.iter().collect();
    // Large elements first: then every tensor begins at a multiple of its element's size, and a
    // reader may use the bytes in place.
    in_order.sort_by(|(a_name, _, a_type, _), (b_name, _, b_type, _)| {
        b_type
            .bitsize()
            .cmp(&a_type.bitsize())
            .then_with(|| a_name.cmp(b_name))
    });
    let header = header(metadata, &in_order);
    let data_bytes: usize = in_order.iter().map(|(.., data)| data.len()).sum();

    atomic_file::write(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        in_order
            .iter()
            .try_for_each(|(.., data)| file.write_all(data))
    })
    .map_err(|source| CheckpointError::Write {
        path: path.to_owned(),
        bytes: (PREFIX_BYTES + header.len() + data_bytes) as u64,
        source,
    })
}

/// The metadata entries, without a clash between the description and the rest.
fn metadata(
    description: &Description,
    extra: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ContentError> {
    if let Some(key) = extra.keys().find(|key| KEYS.contains(&key.as_str())) {
        return Err(ContentError::ReservedKey { key: key.clone() });
    }
    // Hugging Face's libraries refuse a file that does not say whose layout it has.
    let mut entries = BTreeMap::from([(String::from("format"), String::from("pt"))]);
    entries.extend(extra.clone());
    entries.append(&mut description.to_metadata()?);
    Ok(entries)
}

/// Could a file hold these tensors?
fn check(tensors: &[(String, Vec<usize>, Dtype, Vec<u8>)]) -> Result<(), ContentError> {
    let mut names = BTreeSet::new();
    for (name, shape, dtype, data) in tensors {
        if name == "__metadata__" {
            return Err(ContentError::ReservedName);
        }
        if !names.insert(name) {
            return Err(ContentError::DuplicateName { name: name.clone() });
        }
        let size = byte_size(shape, *dtype);
        if size != Ok(data.len() as u64) {
            return Err(ContentError::Size {
                name: name.clone(),
                dtype: *dtype,
                shape: shape.clone(),
                expected: size.map_or_else(str::to_owned, |bytes| bytes.to_string()),
                got: data.len(),
            });
        }
    }
    Ok(())
}

/// The header, padded with spaces so that the data begin at a multiple of 8 bytes.
fn header(
    metadata: BTreeMap<String, String>,
    in_order: &[&(String, Vec<usize>, Dtype, Vec<u8>)],
) -> Vec<u8> {
    let mut entries = Map::new();
    entries.insert(String::from("__metadata__"), json!(metadata));
    let mut start = 0;
    for (name, shape, dtype, data) in in_order {
        let end = start + data.len();
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]});
        entries.insert(name.clone(), entry);
        start = end;
    }
    let mut header = Value::Object(entries).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    header
}
