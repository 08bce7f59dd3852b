//! A model as ONNX files, each written once, when an engine first asks for it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use cpu_inference::{engine::Batch, model::Model, preprocess::Picture, resnet::seeded};
use datasets::{digits, split};
use inference_engines::{
    calibration::{Ranges, Rule, observe},
    folded::Folded,
    onnx::{self, Form},
};

/// Which of the values seen while calibrating the 8 bits must hold.
pub const RULE: Rule = Rule::MinMax;
/// Batches of noise to calibrate on, and images in each: for models without data here.
const NOISE_BATCHES: u32 = 4;
const NOISE_BATCH: usize = 4;
/// Training digits to calibrate on.
const DIGITS: usize = 512;

/// The ONNX files of one model, in a folder that goes when this is dropped.
#[derive(Debug)]
pub struct Exports<'a> {
    model: &'a Model,
    folder: tempfile::TempDir,
    folded: Folded,
    ranges: Option<Ranges>,
    files: BTreeMap<String, PathBuf>,
}

impl<'a> Exports<'a> {
    /// Folds the model's batch norms.
    ///
    /// # Errors
    /// If a tensor is missing, or there is no room for files.
    pub fn new(model: &'a Model) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("onnx-").tempdir();
        Ok(Exports {
            model,
            folder: folder.context("cannot make a folder for ONNX files")?,
            folded: Folded::new(&model.config, &model.weights)?,
            ranges: None,
            files: BTreeMap::new(),
        })
    }

    /// The model that is exported.
    pub fn model(&self) -> &'a Model {
        self.model
    }

    /// The bytes of a file; calibrates first where it has 8 bits.
    ///
    /// # Errors
    /// libtorch's, while it calibrates.
    pub fn bytes(&mut self, form: Form) -> anyhow::Result<Vec<u8>> {
        if matches!(form, Form::Int8(_)) && self.ranges.is_none() {
            self.ranges = Some(calibrate(self.model, &self.folded)?);
        }
        let none = Ranges::default();
        let ranges = self.ranges.as_ref().unwrap_or(&none);
        Ok(onnx::file(&self.folded, self.model.side(), form, ranges)?)
    }

    /// The file of a form; written if it is not there yet.
    ///
    /// # Errors
    /// As [`Exports::bytes`], or if it cannot be written.
    pub fn file(&mut self, form: Form) -> anyhow::Result<PathBuf> {
        let name = format!("{form:?}");
        if let Some(path) = self.files.get(&name) {
            return Ok(path.clone());
        }
        let path = self
            .folder
            .path()
            .join(format!("{}.onnx", self.files.len()));
        write(&path, &self.bytes(form)?)?;
        self.files.insert(name, path.clone());
        Ok(path)
    }
}

/// Writes an ONNX file.
///
/// # Errors
/// Which path, and why not.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// What the model is calibrated on, in words.
pub fn calibrated_on(model: &Model) -> String {
    let images = match is_for_digits(model) {
        true => format!("{DIGITS} training digits"),
        false => format!("{} images of noise", NOISE_BATCHES as usize * NOISE_BATCH),
    };
    format!("8 bits: {} of {images}", RULE.name())
}

fn is_for_digits(model: &Model) -> bool {
    model.config.channels == 1 && model.config.classes == digits::CLASSES
}

/// Digits that were trained on, for a model of digits; noise for others, whose data is not here.
fn calibrate(model: &Model, folded: &Folded) -> anyhow::Result<Ranges> {
    let (side, channels) = (model.side(), model.config.channels);
    if is_for_digits(model) {
        let (pixels, images) = training_digits(model)?;
        let shape = [images, channels, side, side];
        return Ok(observe(
            folded,
            [Batch {
                pixels: &pixels,
                shape,
            }],
            RULE,
        )?);
    }
    let shape = [NOISE_BATCH, channels, side, side];
    // Seed 0 is the noise that engines are measured and compared on.
    let noise: Vec<Vec<f32>> = (1..=NOISE_BATCHES)
        .map(|seed| seeded::tensor(seed, "input", &shape))
        .collect();
    let batches = noise.iter().map(|pixels| Batch { pixels, shape });
    Ok(observe(folded, batches, RULE)?)
}

/// Normalised pixels of training digits, and how many they are.
fn training_digits(model: &Model) -> anyhow::Result<(Vec<f32>, usize)> {
    let data = digits::load()?;
    let rows: Vec<usize> = split::digits().train.into_iter().take(DIGITS).collect();
    let side = model.side();
    let mut pixels = vec![0.0; rows.len() * side * side];
    for (row, out) in rows.iter().zip(pixels.chunks_mut(side * side)) {
        // 0..=16 in the data set, 0..=255 in a picture.
        let grey = data
            .image(*row)
            .iter()
            .map(|&v| (u16::from(v) * 255 / 16) as u8);
        let picture = Picture {
            width: digits::SIDE as u32,
            height: digits::SIDE as u32,
            channels: 1,
            pixels: grey.collect(),
        };
        let picture = model.transform.resize(&mut Default::default(), picture)?;
        model.transform.normalise(&picture, out);
    }
    Ok((pixels, rows.len()))
}
