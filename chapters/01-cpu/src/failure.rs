//! From an error to a line on stderr and an exit code.

use std::io::{self, Write};

pub use accel::stdout::{StdoutError, print_line};
use accel::{device::DeviceError, exit, learn::LearnError};
use datasets::{checkpoint::CheckpointError, images::ImagesError, serving::ServingError};

use crate::{
    engine::{EngineError, SetupError},
    model::ModelError,
    resnet::weights::WeightsError,
    source::SourceError,
    tch_engine::LoadError,
};

/// An input that was refused before work began.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Prints the error and its causes; returns the exit code.
pub fn report(error: &anyhow::Error) -> u8 {
    if closed_pipe(error) {
        // The reader has what it wanted (`| head`): nothing failed.
        return exit::OK;
    }
    // stderr may be closed, too; there is no one left to tell.
    let _ = writeln!(io::stderr(), "error: {error:#}");
    code(error)
}

fn closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<StdoutError>()
            .is_some_and(StdoutError::is_closed_pipe)
    })
}

/// The exit code for an error, by what is in its chain.
pub fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        let load = cause.downcast_ref::<LoadError>();
        let setup = cause.downcast_ref::<SetupError>();
        let engine = match (cause.downcast_ref(), load) {
            (Some(error), _) | (_, Some(LoadError::Device(error))) => Some(error),
            _ => None,
        };
        if cause.is::<DeviceError>()
            || matches!(load, Some(LoadError::Unsupported { .. }))
            || matches!(setup, Some(SetupError::Unavailable { .. }))
            || matches!(engine, Some(EngineError::DeviceLost { .. }))
        {
            return exit::DEVICE;
        }
        let refused = cause.is::<Refused>()
            || matches!(
                cause.downcast_ref(),
                Some(LearnError::NoSuchMeasurement { .. })
            )
            || cause.is::<CheckpointError>()
            || cause.is::<ImagesError>()
            || cause.is::<ServingError>()
            || cause.is::<WeightsError>()
            || matches!(load, Some(LoadError::Weights(_)))
            || matches!(setup, Some(SetupError::Model { .. }))
            || matches!(
                cause.downcast_ref::<ModelError>(),
                Some(
                    ModelError::Checkpoint(_) | ModelError::Weights(_) | ModelError::Differs { .. }
                )
            )
            || matches!(
                cause.downcast_ref::<SourceError>(),
                Some(SourceError::Images(_) | SourceError::Cifar(_))
            )
            || matches!(engine, Some(EngineError::Shape { .. }));
        if refused {
            return exit::USAGE;
        }
    }
    exit::FAILED
}
