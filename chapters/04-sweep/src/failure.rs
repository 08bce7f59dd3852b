//! From an error to a line on stderr and an exit code.

use accel::{exit, learn::LearnError};
use datasets::serving::ServingError;
use tpu_training::{data_set::DataError, store::StoreError};

use crate::{
    grid::GridError, manifest::ManifestError, scheduler::SchedulerError, sweep::SweepError,
};

/// An input that was refused before work began.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Prints the error and its causes; returns the exit code.
pub fn report(error: &anyhow::Error) -> u8 {
    tpu_training::failure::report_as(error, code)
}

fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        let scheduler = match cause.downcast_ref() {
            Some(SweepError::Scheduler(error)) => Some(error),
            _ => cause.downcast_ref::<SchedulerError>(),
        };
        if let Some(error) = scheduler {
            return error.code();
        }
        let manifest = match cause.downcast_ref() {
            Some(SweepError::Manifest(error)) => Some(error),
            _ => cause.downcast_ref::<ManifestError>(),
        };
        let refused = cause.is::<Refused>()
            || cause.is::<GridError>()
            || cause.is::<DataError>()
            || matches!(cause.downcast_ref(), Some(SweepError::Refused(_)))
            || matches!(
                cause.downcast_ref(),
                Some(LearnError::NoSuchMeasurement { .. })
            )
            || cause.downcast_ref().is_some_and(refused_serving)
            || manifest.is_some_and(refused_manifest);
        if refused {
            return exit::USAGE;
        }
    }
    tpu_training::failure::code(error)
}

/// Whether the folder was refused before work began.
fn refused_manifest(error: &ManifestError) -> bool {
    match error {
        ManifestError::Store(error) => {
            matches!(error, StoreError::Address { .. } | StoreError::InUse { .. })
        }
        _ => true,
    }
}

/// Whether the serving folder was refused. What cannot be written failed: a full disk, a folder
/// that is read-only.
fn refused_serving(error: &ServingError) -> bool {
    !matches!(
        error,
        ServingError::Read { .. } | ServingError::Write { .. }
    )
}
