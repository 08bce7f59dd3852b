//! From an error to a line on stderr and an exit code.

use std::io::{self, Write};

use accel::{device::DeviceError, exit, learn::LearnError, stdout::StdoutError};

use crate::{
    checkpoint::CheckpointError, config::ConfigError, data_set::DataError, device::OpenError,
    network::UnsupportedArch, schedule::ScheduleError, store::StoreError, trainer::TrainError,
    training_run::RunError,
};

/// An input that was refused before work began.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Something that this build or this machine lacks.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Prints the error and its causes; returns the exit code.
pub fn report(error: &anyhow::Error) -> u8 {
    report_as(error, code)
}

/// As [`report`], for a program with errors of its own.
///
/// * `code`: the exit code of an error
pub fn report_as(error: &anyhow::Error, code: impl Fn(&anyhow::Error) -> u8) -> u8 {
    let closed = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref()
            .is_some_and(StdoutError::is_closed_pipe)
    };
    if error.chain().any(closed) {
        // The reader has what it wanted (`| head`): nothing failed.
        return exit::OK;
    }
    // stderr may be closed, too; there is no one left to tell.
    let _ = writeln!(io::stderr(), "error: {}", text(error));
    code(error)
}

/// The error and its causes in one line, without those that its text has already: many errors
/// tell their cause themselves.
pub fn text(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The exit code of an error.
pub fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<DeviceError>() || cause.is::<OpenError>() || cause.is::<Unavailable>() {
            return exit::DEVICE;
        }
        let refused = cause.is::<Refused>()
            || matches!(
                cause.downcast_ref(),
                Some(LearnError::NoSuchMeasurement { .. })
            )
            || cause.is::<ConfigError>()
            || cause.is::<ScheduleError>()
            || cause.is::<UnsupportedArch>()
            || cause.is::<DataError>()
            || cause.downcast_ref().is_some_and(refused_tensors)
            || cause.downcast_ref().is_some_and(refused_place)
            || cause.downcast_ref().is_some_and(refused_checkpoint)
            || cause.downcast_ref().is_some_and(refused_training)
            || matches!(
                cause.downcast_ref(),
                Some(RunError::Train(error)) if refused_training(error)
            )
            || matches!(
                cause.downcast_ref(),
                Some(RunError::Checkpoint(error)) if refused_checkpoint(error)
            );
        if refused {
            return exit::USAGE;
        }
    }
    exit::FAILED
}

/// Whether the training was refused before it began.
fn refused_training(error: &TrainError) -> bool {
    matches!(
        error,
        TrainError::Config(_)
            | TrainError::Schedule(_)
            | TrainError::Arch(_)
            | TrainError::Data(_)
            | TrainError::Mismatch { .. }
    )
}

/// Whether a file of tensors was refused. What cannot be written failed: a full disk.
fn refused_tensors(error: &datasets::checkpoint::CheckpointError) -> bool {
    use datasets::checkpoint::CheckpointError as Tensors;
    !matches!(error, Tensors::Content { .. } | Tensors::Write { .. })
}

/// Whether the folder was refused before training began.
fn refused_checkpoint(error: &CheckpointError) -> bool {
    matches!(
        error,
        CheckpointError::NoCheckpoint { .. }
            | CheckpointError::AllDamaged { .. }
            | CheckpointError::Occupied { .. }
            | CheckpointError::OtherWriter { .. }
            | CheckpointError::Newer { .. }
            | CheckpointError::OtherRun { .. }
            | CheckpointError::Config { .. }
    ) || matches!(error, CheckpointError::Store(error) if refused_place(error))
}

/// Whether the place is none, or is another run's.
fn refused_place(error: &StoreError) -> bool {
    matches!(error, StoreError::Address { .. } | StoreError::InUse { .. })
}
