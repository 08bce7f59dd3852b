//! `tpu-training evaluate`.

use std::{collections::BTreeMap, path::Path};

use accel::{exit, human, progress::Progress, stdout::print_line};
use anyhow::Context;
use datasets::{
    checkpoint::{self, Checkpoint, Description, Dtype},
    resnet::{Config as Network, Stem},
};
use serde_json::json;

use crate::{
    bridge,
    cli::EvaluateArgs,
    commands::train::{data_set, open},
    config::{LoopStyle, TrainConfig},
    data_set::DataSet,
    failure::Refused,
    parameters::Parameter,
    trainer::{Driving, Snapshot, Trainer},
};

/// Runs the command.
///
/// # Errors
/// What failed, on what value, what to do next.
pub fn run(args: &EvaluateArgs) -> anyhow::Result<u8> {
    let progress = Progress::new(None, "images", args.quiet);
    let file = Checkpoint::open(&args.model)?;
    let network = described(&file.description)
        .with_context(|| format!("{} does not say what it is", args.model.display()))?;
    file.check(&network.specs())?;
    let data = data_set(args.data, args.data_dir.clone(), args.quiet)?;
    let opened = open(&args.device, &progress)?;
    let mut config = TrainConfig::digits();
    config.network = network;
    let driving = Driving {
        steps_per_call: 1,
        loop_style: LoopStyle::While,
    };
    let mut trainer = Trainer::new(&opened.client, opened.ordinal, &config, &data, driving)?;
    let untrained = trainer.snapshot()?;
    let tensors = trainer.parameters().iter();
    trainer.restore(&Snapshot {
        tensors: tensors.map(|parameter| values(&file, parameter)).collect(),
        ..untrained
    })?;

    let test = trainer.evaluate(&data.test)?;
    if let Some(path) = &args.logits {
        write_logits(path, &mut trainer, &data)?;
    }
    if args.json {
        return print_line(
            &json!({
                "schema_version": 1,
                "accuracy": test.accuracy,
                "loss": test.loss,
                "images": test.images,
            })
            .to_string(),
        )
        .map(|()| Ok(exit::OK))?;
    }
    print_line(&format!(
        "test accuracy {:.2}%, loss {} nats, {} images held out",
        100.0 * test.accuracy,
        human::three_digits(test.loss),
        test.images
    ))?;
    Ok(exit::OK)
}

/// The network that a file's metadata describes.
fn described(description: &Description) -> Result<Network, Refused> {
    let lacks = |what: &str| {
        Refused(format!(
            "metadata entry {what:?} is missing; expected a file that train wrote"
        ))
    };
    let word = |value: &Option<String>, what: &str| value.clone().ok_or_else(|| lacks(what));
    let stem: Stem = word(&description.stem, "stem")?.parse().map_err(Refused)?;
    Ok(Network {
        arch: word(&description.arch, "arch")?.parse().map_err(Refused)?,
        stem,
        width: description.width.ok_or_else(|| lacks("width"))?,
        channels: description.channels.ok_or_else(|| lacks("channels"))?,
        classes: description.classes.ok_or_else(|| lacks("classes"))?,
    })
}

/// A tensor's elements. The file was checked: it has the name and the shape.
fn values(file: &Checkpoint, parameter: &Parameter) -> Vec<f32> {
    let view = file.tensor(&parameter.name);
    bridge::floats(view.map_or(&[], |view| view.bytes))
}

/// Images (NCHW), labels and logits of the test rows.
fn write_logits(path: &Path, trainer: &mut Trainer, data: &DataSet) -> anyhow::Result<()> {
    let pixels = data.normalised_images(&data.test);
    let logits = trainer.logits(&pixels, data.side)?;
    let (rows, area) = (data.test.len(), data.side * data.side);
    let planes = pixels.chunks(area * data.channels).flat_map(|image| {
        (0..data.channels).flat_map(move |c| image.iter().skip(c).step_by(data.channels))
    });
    let bytes = |values: &mut dyn Iterator<Item = f32>| -> Vec<u8> {
        values.flat_map(f32::to_le_bytes).collect()
    };
    let labels = data
        .test
        .iter()
        .flat_map(|&row| data.labels[row as usize].to_le_bytes());
    let images = vec![rows, data.channels, data.side, data.side];
    let tensors = [
        (
            "images".to_owned(),
            images,
            Dtype::F32,
            bytes(&mut planes.copied()),
        ),
        (
            "labels".to_owned(),
            vec![rows],
            Dtype::I32,
            labels.collect(),
        ),
        (
            "logits".to_owned(),
            vec![rows, data.classes()],
            Dtype::F32,
            bytes(&mut logits.iter().copied()),
        ),
    ];
    checkpoint::write(path, &tensors, &Description::default(), &BTreeMap::new())?;
    Ok(())
}
