//! `gpu-inference run`: classify pictures, and time each stage.

use crate::{cli::RunArgs, device};
use cpu_inference::{job::Job, tch_engine::TchEngine};

/// Opens, loads, streams, tells.
///
/// # Errors
/// What was refused, or what failed.
// ANCHOR: run
pub fn run(args: RunArgs) -> anyhow::Result<u8> {
    let setting = device::apply(&args.device, args.work.quiet)?;
    let work = args.work.model.clone();
    let job = Job::open(super::CHAPTER, args.work, args.out)?;
    let engine = TchEngine::load(
        &job.model.config,
        &job.model.weights,
        job.model.side(),
        work.rung,
        work.dtype,
        setting.device,
    )?;
    let outcome = job.stream(engine, &setting)?;
    outcome.tell()
}
// ANCHOR_END: run
