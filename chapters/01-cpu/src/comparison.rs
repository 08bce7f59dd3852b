//! What makes engines comparable: the same input, and two questions about the
//! answers. Are they the same numbers, and are they right?

use crate::{
    engine::{Batch, Engine, Logits},
    model::Model,
    pipeline::{Input, top},
    preprocess::Picture,
    resnet::seeded,
    source,
};

/// Images with their right answers: pixels `[images, channels, height, width]`,
/// f32, normalised, and one label an image.
pub type Labelled = (Vec<f32>, Vec<usize>);

/// The same noise in every run, for a batch: NCHW f32, and its shape.
pub fn noise(model: &Model, batch: usize) -> (Vec<f32>, [usize; 4]) {
    let shape = [batch, model.config.channels, model.side(), model.side()];
    (seeded::tensor(0, "input", &shape), shape)
}

/// Largest difference of a logit, over the largest logit of the reference.
pub fn relative_difference(logits: &Logits, reference: &Logits) -> f64 {
    let largest = reference.values.iter().fold(0f32, |m, v| m.max(v.abs()));
    let difference = logits
        .values
        .iter()
        .zip(&reference.values)
        .fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    f64::from(difference / largest)
}

/// The held-out digits, if the model is one for digits.
///
/// # Errors
/// If the digits cannot be read or prepared.
pub fn held_out(model: &Model) -> anyhow::Result<Option<Labelled>> {
    if model.config.channels != 1 || model.config.classes != 10 {
        return Ok(None);
    }
    let side = model.side();
    let (mut pixels, mut labels) = (vec![], vec![]);
    for item in source::digits(None)?.items {
        let Input::Picture(picture) = item.input else {
            continue;
        };
        pixels.extend(prepared(model, picture, side)?);
        labels.extend(item.label);
    }
    Ok(Some((pixels, labels)))
}

fn prepared(model: &Model, picture: Picture, side: usize) -> anyhow::Result<Vec<f32>> {
    let picture = model.transform.resize(&mut Default::default(), picture)?;
    let mut out = vec![0.0; side * side];
    model.transform.normalise(&picture, &mut out);
    Ok(out)
}

/// Share of the images whose first class is right, `0..=1`.
///
/// # Errors
/// The engine's.
pub fn accuracy(engine: &mut dyn Engine, pixels: &[f32], labels: &[usize]) -> anyhow::Result<f64> {
    let [channels, height, width] = engine.image_shape();
    let logits = engine.infer(Batch {
        pixels,
        shape: [labels.len(), channels, height, width],
    })?;
    let right = logits
        .rows()
        .zip(labels)
        .filter(|(row, label)| top(row, 1).first().is_some_and(|s| s.class == **label))
        .count();
    Ok(right as f64 / labels.len() as f64)
}
