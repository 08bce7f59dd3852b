//! `cpu-inference run`: classify pictures, and time each stage.

use crate::{cli::RunArgs, job::Job, setting, tch_engine::TchEngine};

/// Opens, loads, streams, tells.
///
/// # Errors
/// What was refused, or what failed.
// ANCHOR: run
pub fn run(args: RunArgs) -> anyhow::Result<u8> {
    let setting = setting::apply(&args.device, args.work.quiet)?;
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
