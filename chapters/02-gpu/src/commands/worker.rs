//! `gpu-inference worker`: measurements on request, on the CPU or a GPU.

use accel::{device, exit};
use cpu_inference::worker;

use crate::{cli::WorkerArgs, device::Libtorch, feed};

/// Answers requests until the input ends.
///
/// # Errors
/// Only if stdin or stdout break; a failed request is an answer.
pub fn run(args: &WorkerArgs) -> anyhow::Result<u8> {
    let select = |request| device::select(request, &Libtorch);
    worker::serve(
        &|request| feed::open(request, &request.setting(&select)?),
        args.system_malloc,
    )?;
    Ok(exit::OK)
}
