//! `gpu-inference worker`: measurements on request, on the CPU or a GPU.

use accel::{device, exit};
use cpu_inference::worker;

use crate::{cli::WorkerArgs, contender, device::Libtorch, feed};

/// Answers requests until the input ends.
///
/// # Errors
/// Only if stdin or stdout break; a failed request is an answer.
pub fn run(args: &WorkerArgs) -> anyhow::Result<u8> {
    let select = |request| device::select(request, &Libtorch);
    worker::serve(
        &|request| {
            let setting = request.setting(&select)?;
            match request.engine.starts_with("tch-") {
                true => feed::open(request, &setting),
                false => contender::serve(request, &setting),
            }
        },
        args.system_malloc,
    )?;
    Ok(exit::OK)
}
