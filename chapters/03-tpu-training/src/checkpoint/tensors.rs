//! Tensors to safetensors and back.

use std::collections::BTreeMap;
use std::path::Path;

use datasets::checkpoint::{self as safetensors, Checkpoint, Description, Dtype};

use super::error::{CheckpointError, Damage};
use super::state::NamedTensor;

/// Writes tensors as a safetensors file, on the disk when this returns.
///
/// * `description`, `extra`: go into the file's metadata
///
/// # Errors
/// [`CheckpointError::Tensors`]: two tensors of one name, data that do not fit the shape, a full
/// disk, and the like.
pub(super) fn write(
    path: &Path,
    tensors: &[NamedTensor],
    description: &Description,
    extra: &BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let tensors: Vec<_> = tensors
        .iter()
        .map(|tensor| {
            let bytes = tensor.data.iter().flat_map(|value| value.to_le_bytes());
            (
                tensor.name.clone(),
                tensor.dims.clone(),
                Dtype::F32,
                bytes.collect(),
            )
        })
        .collect();
    Ok(safetensors::write(path, &tensors, description, extra)?)
}

/// Reads the tensors of a safetensors file, in alphabetical order, and its description.
///
/// * `file`: its name, for the error
///
/// # Errors
/// [`Damage::Tensors`]: not a whole and sound safetensors file, or a type other than f32.
pub(super) fn read(
    file: &'static str,
    content: Vec<u8>,
) -> Result<(Vec<NamedTensor>, Description), Damage> {
    let unsound = |problem| Damage::Tensors { file, problem };
    let checkpoint = Checkpoint::parse(content).map_err(|error| unsound(error.to_string()))?;
    let tensors = checkpoint
        .tensors()
        .map(|tensor| {
            if tensor.dtype != Dtype::F32 {
                return Err(unsound(format!(
                    "tensor {:?}: expected F32, got {}",
                    tensor.name, tensor.dtype
                )));
            }
            let (values, _) = tensor.bytes.as_chunks::<4>();
            Ok(NamedTensor {
                name: tensor.name.to_owned(),
                dims: tensor.shape.to_vec(),
                data: values.iter().copied().map(f32::from_le_bytes).collect(),
            })
        })
        .collect::<Result<_, _>>()?;
    Ok((tensors, checkpoint.description))
}
