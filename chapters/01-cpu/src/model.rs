//! Which model: weights from the committed checkpoint, a file, the hub or a
//! seed, and what the checkpoint says of itself.

use std::path::PathBuf;

use datasets::{
    checkpoint::{Checkpoint, CheckpointError},
    hub,
};
use thiserror::Error;

use crate::{
    preprocess::{IMAGENET_MEAN, IMAGENET_STD, Transform},
    resnet::{
        config::{Arch, Config, Stem},
        weights::{Weights, WeightsError},
    },
};

/// The digits checkpoint, part of the binary: it works wherever the binary does.
static DIGITS: &[u8] = include_bytes!("../weights/digits.safetensors");

/// Seed of `random` weights.
const SEED: u32 = 0;

/// Where weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The committed checkpoint that was trained on the handwritten digits.
    Digits,
    /// torchvision's ImageNet weights, from the Hugging Face hub.
    Imagenet,
    /// Made from a seed: right for timing, useless for labels.
    Random,
    /// A safetensors file with torchvision's names.
    File(PathBuf),
}

impl std::str::FromStr for Source {
    type Err = std::convert::Infallible;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(match s {
            "digits" => Source::Digits,
            "imagenet" => Source::Imagenet,
            "random" => Source::Random,
            path => Source::File(path.into()),
        })
    }
}

/// A model that can be loaded by an engine.
#[derive(Debug)]
pub struct Model {
    /// Its shape.
    pub config: Config,
    /// Its tensors.
    pub weights: Weights,
    /// How its pictures are prepared.
    pub transform: Transform,
    /// Names of its classes, or none.
    pub labels: Vec<String>,
    /// Where it came from, for people.
    pub origin: String,
}

/// Why there is no model.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The file is not a fitting checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The tensors do not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The hub did not give them.
    #[error(transparent)]
    Hub(#[from] hub::HubError),
    /// The checkpoint says something else than was asked for.
    #[error("{origin}: expected {what} {expected}, got {got}")]
    Differs {
        /// The checkpoint.
        origin: String,
        /// What differs.
        what: &'static str,
        /// As asked for, or as it must be.
        expected: String,
        /// As the checkpoint says.
        got: String,
    },
}

/// What is asked of a model besides where it comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// Depth; needed for random and ImageNet weights, ResNet-50 if not given.
    pub arch: Option<Arch>,
    /// First layers.
    pub stem: Option<Stem>,
    /// Height and width of the images in pixels.
    pub side: Option<u32>,
    /// Channels of random weights.
    pub channels: Option<usize>,
}

impl Model {
    /// Reads, fetches or makes the weights and checks them.
    ///
    /// # Errors
    /// [`ModelError`]; nothing was run yet.
    pub fn open(source: &Source, wishes: Wishes, quiet: bool) -> Result<Self, ModelError> {
        match source {
            Source::Digits => Self::from_checkpoint(
                &Checkpoint::parse(DIGITS.to_vec())?,
                "the committed digits checkpoint",
                wishes,
            ),
            Source::File(path) => {
                let origin = path.file_name().unwrap_or(path.as_os_str());
                Self::from_checkpoint(&Checkpoint::open(path)?, &origin.to_string_lossy(), wishes)
            }
            Source::Imagenet => {
                let arch = wishes.arch.unwrap_or(Arch::Resnet50);
                // Every architecture of this chapter has a pin: see the tests of the hub.
                let pin = hub::imagenet(arch.name()).ok_or_else(|| ModelError::Differs {
                    origin: "the hub".into(),
                    what: "an architecture with pinned weights, not",
                    expected: "resnet18, resnet34 or resnet50".into(),
                    got: arch.to_string(),
                })?;
                let path = hub::fetch(&pin, quiet)?;
                let origin = format!("{} at revision {}", pin.repo, pin.revision);
                let mut model = Self::from_checkpoint(&Checkpoint::open(&path)?, &origin, wishes)?;
                model.labels = datasets::imagenet::classes()
                    .into_iter()
                    .map(str::to_owned)
                    .collect();
                Ok(model)
            }
            Source::Random => {
                let stem = wishes.stem.unwrap_or(Stem::Imagenet);
                let config = Config {
                    stem,
                    channels: wishes.channels.unwrap_or(3),
                    ..Config::imagenet(wishes.arch.unwrap_or(Arch::Resnet50))
                };
                Ok(Model {
                    weights: Weights::seeded(&config, SEED)?,
                    transform: transform(&config, None, None, wishes.side),
                    labels: vec![],
                    origin: format!("random weights (seed {SEED}): the labels mean nothing"),
                    config,
                })
            }
        }
    }

    fn from_checkpoint(
        checkpoint: &Checkpoint,
        origin: &str,
        wishes: Wishes,
    ) -> Result<Self, ModelError> {
        let about = &checkpoint.description;
        let config = infer_config(checkpoint, wishes);
        let differs = |what, expected: String, got: String| ModelError::Differs {
            origin: origin.to_owned(),
            what,
            expected,
            got,
        };
        if let (Some(wish), Some(said)) = (wishes.arch, &about.arch)
            && wish.name() != said
        {
            return Err(differs("architecture", wish.to_string(), said.clone()));
        }
        if let (Some(wish), Some(said)) = (wishes.stem, &about.stem)
            && wish.name() != said
        {
            return Err(differs("stem", wish.to_string(), said.clone()));
        }
        let labels = about.labels.clone().unwrap_or_default();
        if !labels.is_empty() && labels.len() != config.classes {
            return Err(differs(
                "names of classes:",
                config.classes.to_string(),
                labels.len().to_string(),
            ));
        }
        if ![1, 3].contains(&config.channels) {
            return Err(differs(
                "channels",
                "1 (grey) or 3 (RGB)".into(),
                config.channels.to_string(),
            ));
        }
        for (what, values) in [("means:", &about.mean), ("deviations:", &about.std)] {
            if let Some(values) = values
                && values.len() != config.channels
            {
                return Err(differs(
                    what,
                    config.channels.to_string(),
                    values.len().to_string(),
                ));
            }
        }
        if let Some(zero) = about
            .std
            .iter()
            .flatten()
            .find(|s| s.is_nan() || **s <= 0.0)
        {
            return Err(differs("deviations above", "0".into(), zero.to_string()));
        }
        Ok(Model {
            weights: Weights::from_checkpoint(&config, checkpoint)?,
            transform: transform(&config, about.mean.clone(), about.std.clone(), wishes.side),
            labels,
            origin: origin.to_owned(),
            config,
        })
    }

    /// Height and width of its images in pixels.
    pub fn side(&self) -> usize {
        self.transform.crop as usize
    }
}

/// What the tensors are like, from the description, the wishes, or the
/// shapes; [`Checkpoint::check`] then says all that does not fit.
fn infer_config(checkpoint: &Checkpoint, wishes: Wishes) -> Config {
    let about = &checkpoint.description;
    let shape = |name: &str, axis: usize| {
        checkpoint
            .tensor(name)
            .and_then(|t| t.shape.get(axis).copied())
    };
    let arch = about
        .arch
        .as_deref()
        .and_then(|name| name.parse().ok())
        .or(wishes.arch)
        .unwrap_or_else(|| {
            let has = |name: &str| checkpoint.tensor(name).is_some();
            if has("layer1.0.conv3.weight") {
                Arch::Resnet50
            } else if has("layer1.2.conv1.weight") {
                Arch::Resnet34
            } else {
                Arch::Resnet18
            }
        });
    let stem = about
        .stem
        .as_deref()
        .and_then(|name| name.parse().ok())
        .or(wishes.stem)
        .unwrap_or(match shape("conv1.weight", 2) {
            Some(3) => Stem::Small,
            _ => Stem::Imagenet,
        });
    // A width that no memory holds is left to the check of shapes.
    let small = |n: usize| Some(n).filter(|n| (1..=4096).contains(n));
    let known = |said: Option<usize>, found: Option<usize>, usual| {
        said.or(found).and_then(small).unwrap_or(usual)
    };
    Config {
        arch,
        stem,
        width: known(about.width, shape("conv1.weight", 0), 64),
        channels: known(about.channels, shape("conv1.weight", 1), 3),
        classes: about
            .classes
            .or(shape("fc.weight", 0))
            .filter(|n| (1..=1 << 20).contains(n))
            .unwrap_or(1000),
    }
}

fn transform(
    config: &Config,
    mean: Option<Vec<f32>>,
    std: Option<Vec<f32>>,
    side: Option<u32>,
) -> Transform {
    let usual = |values: [f32; 3], grey: f32| match config.channels {
        3 => values.to_vec(),
        n => vec![grey; n],
    };
    let crop = side.unwrap_or(match config.stem {
        Stem::Imagenet => 224,
        Stem::Small if config.channels == 1 => 8,
        Stem::Small => 32,
    });
    Transform {
        // torchvision's proportion, 256 to 224; small images are not cut.
        resize: match config.stem {
            Stem::Imagenet => Some(crop * 256 / 224),
            Stem::Small => Some(crop),
        },
        crop,
        mean: mean.unwrap_or_else(|| usual(IMAGENET_MEAN, 0.5)),
        std: std.unwrap_or_else(|| usual(IMAGENET_STD, 0.5)),
    }
}
