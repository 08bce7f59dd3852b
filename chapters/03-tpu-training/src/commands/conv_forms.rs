//! `tpu-training conv-forms`: how should a convolution be written down?

use crate::cli::ConvFormsArgs;

/// Runs the command.
///
/// # Errors
/// What failed.
pub fn run(_args: &ConvFormsArgs) -> anyhow::Result<u8> {
    todo!()
}
