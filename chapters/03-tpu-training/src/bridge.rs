//! Between the graph's types and PJRT's: the only place that knows both.

use pjrt_runtime::{Buffer, Client, ElementType, HostArray};
use training_graph::{DType, Literal, TensorType};

/// The runtime's name of a graph's element type.
pub fn element_type(dtype: DType) -> ElementType {
    match dtype {
        DType::Pred => ElementType::Pred,
        DType::U8 => ElementType::U8,
        DType::I32 => ElementType::S32,
        DType::U32 => ElementType::U32,
        DType::Bf16 => ElementType::Bf16,
        DType::F32 => ElementType::F32,
    }
}

/// Copies a host array to device memory. Counted in [`Client::transfers`].
///
/// # Errors
/// The plugin's, such as no memory left on the device.
pub fn to_device(
    client: &Client,
    device: usize,
    literal: &Literal,
) -> Result<Buffer, pjrt_runtime::Error> {
    let TensorType { dtype, dims } = literal.ty();
    let array = HostArray {
        element_type: element_type(*dtype),
        dims,
        bytes: literal.as_bytes(),
    };
    client.buffer_from_host(array, device)
}

/// Copies f32 elements back to the host, row-major. Waits for the device.
///
/// # Errors
/// The plugin's; among them the failure of the computation that was to fill the buffer.
pub fn read_f32(buffer: &Buffer) -> Result<Vec<f32>, pjrt_runtime::Error> {
    Ok(floats(&buffer.to_host()?))
}

/// The f32 elements of little-endian bytes, as files and devices hold them.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    let elements = bytes.as_chunks::<4>().0.iter();
    elements
        .map(|element| f32::from_le_bytes(*element))
        .collect()
}
