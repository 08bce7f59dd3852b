//! `cpu-inference shards`: pictures on request, a shard at a time.

use std::time::Duration;

use accel::exit;

use crate::{
    cli::ShardsArgs,
    engine::Engine,
    model::{Model, Source, Wishes},
    pipeline::Settings,
    setting,
    shards::Classifier,
    tch_engine::TchEngine,
};

/// Answers requests until the input ends.
///
/// # Errors
/// What was refused before work began, or that stdin or stdout broke; a shard that fails is an
/// answer.
pub fn run(args: ShardsArgs) -> anyhow::Result<u8> {
    let setting = setting::apply(&args.device, true)?;
    let source = args.model.weights.clone().unwrap_or(Source::Imagenet);
    let wishes = Wishes {
        arch: args.model.arch,
        stem: args.model.stem,
        side: args.model.image,
        channels: None,
    };
    let model = Model::open(&source, wishes, true)?;
    let settings = Settings {
        batch: args.batch,
        max_pixels: None,
        // A shard is there as a whole: nothing is gained by not waiting for the rest of a batch.
        max_wait: Duration::MAX,
        decoders: args.device.threads.unwrap_or_else(setting::cores),
        top_k: args.top_k,
    };
    let load = |model: &Model| -> anyhow::Result<Box<dyn Engine>> {
        let engine = TchEngine::load(
            &model.config,
            &model.weights,
            model.side(),
            args.model.rung,
            args.model.dtype,
            setting.device,
        )?;
        eprintln!("model: {} ({})", model.origin, model.config.arch);
        Ok(Box::new(engine))
    };
    Classifier::new(&args.root, model, settings, &load)?.serve(&setting.device_name())?;
    Ok(exit::OK)
}
