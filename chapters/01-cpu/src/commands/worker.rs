//! `cpu-inference worker`: measurements on request, on the CPU.

use accel::{
    device::{self, CpuOnly},
    exit,
};

use crate::{cli::WorkerArgs, worker};

/// Answers requests until the input ends.
///
/// # Errors
/// Only if stdin or stdout break; a failed request is an answer.
pub fn run(args: WorkerArgs) -> anyhow::Result<u8> {
    let select = |request| device::select(request, &CpuOnly);
    worker::serve(
        &|request| worker::open_tch(request, &request.setting(&select)?),
        args.system_malloc,
    )?;
    Ok(exit::OK)
}
