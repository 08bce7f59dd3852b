//! The pictures: a folder, a data set, or made up.

use std::path::{Path, PathBuf};

use accel::checkout::checkout_root;
use datasets::{cifar10, digits, images, split};
use thiserror::Error;

use crate::{
    pipeline::{Input, Item},
    preprocess::Picture,
};

/// A data set that the program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DataSet {
    /// The UCI handwritten digits, committed: 8x8, grey, 10 classes.
    Digits,
    /// CIFAR-10's test split, fetched on demand: 32x32, colour, 10 classes.
    Cifar10,
    /// Noise in the size that the model takes: for load, not for labels.
    Synthetic,
}

/// Pictures, with how many there are and what their labels mean.
pub struct Pictures {
    /// Asked for one at a time.
    pub items: Box<dyn Iterator<Item = Item> + Send>,
    /// How many there will be.
    pub count: usize,
    /// Where they come from, for people.
    pub origin: String,
    /// What was left out, by name and reason.
    pub skipped: Vec<(String, String)>,
}

/// Why there are no pictures.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The folder.
    #[error(transparent)]
    Images(#[from] images::ImagesError),
    /// The digits.
    #[error(transparent)]
    Digits(#[from] digits::DigitsError),
    /// CIFAR-10's records.
    #[error(transparent)]
    Cifar(#[from] cifar10::CifarError),
    /// CIFAR-10's archive.
    #[error(transparent)]
    Fetch(#[from] cifar10::FetchError),
}

/// The pictures of a folder, `repeat` times over.
///
/// * `labels`: the model's class names; a subfolder of such a name is a label
///
/// # Errors
/// [`SourceError`]; no picture was opened yet.
pub fn folder(dir: &Path, labels: &[String], repeat: usize) -> Result<Pictures, SourceError> {
    let listing = images::list(dir)?;
    let classes: Vec<Option<usize>> = listing
        .classes
        .iter()
        .map(|name| labels.iter().position(|label| label == name))
        .collect();
    let name = |path: &Path| {
        let below = path.strip_prefix(dir).unwrap_or(path);
        below.display().to_string()
    };
    let skipped = listing
        .skipped
        .iter()
        .map(|s| (name(&s.path), s.reason.to_owned()))
        .collect();
    let count = listing.images.len() * repeat;
    let found: Vec<(PathBuf, String, Option<usize>)> = listing
        .images
        .into_iter()
        .map(|image| {
            let label = image
                .class
                .and_then(|class| classes.get(class).copied().flatten());
            let name = name(&image.path);
            (image.path, name, label)
        })
        .collect();
    let items = (0..count).map(move |index| {
        let (path, name, label) = &found[index % found.len()];
        Item {
            index,
            name: name.clone(),
            label: *label,
            input: Input::File(path.clone()),
        }
    });
    Ok(Pictures {
        items: Box::new(items),
        count,
        origin: format!("{count} pictures of {}", dir.display()),
        skipped,
    })
}

/// The held-out digits, or as many of all digits as asked for.
/// Those that were trained on count as well then: for load, not for accuracy.
///
/// * `count`: `None` for the test split; otherwise all digits, over and over
///
/// # Errors
/// [`SourceError`].
pub fn digits(count: Option<usize>) -> Result<Pictures, SourceError> {
    let data = digits::load()?;
    let rows: Vec<usize> = match count {
        None => split::digits().test,
        Some(_) => (0..data.len()).collect(),
    };
    let which = match count {
        None => "held out from training",
        Some(_) => "all of them, over and over",
    };
    let count = count.unwrap_or(rows.len());
    let items = (0..count).map(move |index| {
        let row = rows[index % rows.len()];
        // 0..=16 in the data set, 0..=255 in a picture.
        let pixels = data
            .image(row)
            .iter()
            .map(|&v| (u16::from(v) * 255 / 16) as u8);
        Item {
            index,
            name: format!("digits/{row}"),
            label: Some(usize::from(data.labels[row])),
            input: Input::Picture(Picture {
                width: digits::SIDE as u32,
                height: digits::SIDE as u32,
                channels: 1,
                pixels: pixels.collect(),
            }),
        }
    });
    Ok(Pictures {
        items: Box::new(items),
        count,
        origin: format!("{count} handwritten digits (UCI, {which})"),
        skipped: vec![],
    })
}

/// CIFAR-10's test images, fetched if they are not there.
///
/// * `folder`: where the data lies or is to lie; `None` for the project's own
/// * `count`: `None` for each image once; otherwise so many, over and over
///
/// # Errors
/// [`SourceError`].
pub fn cifar10(
    folder: Option<&Path>,
    count: Option<usize>,
    quiet: bool,
) -> Result<Pictures, SourceError> {
    let own = || {
        checkout_root()
            .unwrap_or_default()
            .join(".native/data/cifar10")
    };
    let folder = folder.map_or_else(own, Path::to_owned);
    let folder = if folder.join("test_batch.bin").is_file() {
        folder
    } else {
        cifar10::fetch(&folder, None, quiet)?
    };
    let (_, test) = cifar10::read_folder(&folder)?;
    let count = count.unwrap_or(test.len());
    let items = (0..count).map(move |index| {
        let row = index % test.len();
        Item {
            index,
            name: format!("cifar10/test/{row}"),
            label: Some(usize::from(test.labels[row])),
            input: Input::Picture(Picture {
                width: 32,
                height: 32,
                channels: 3,
                pixels: interleave(test.image(row)),
            }),
        }
    });
    Ok(Pictures {
        items: Box::new(items),
        count,
        origin: format!("{count} test images of CIFAR-10"),
        skipped: vec![],
    })
}

/// Planes (CHW) to pixels (HWC), three channels.
fn interleave(planes: &[u8]) -> Vec<u8> {
    let size = planes.len() / 3;
    (0..planes.len())
        .map(|i| planes[i % 3 * size + i / 3])
        .collect()
}

/// Noise: `count` pictures of `side` x `side` pixels, the same in every run.
pub fn synthetic(count: usize, side: u32, channels: usize, seed: u64) -> Pictures {
    let items = (0..count).map(move |index| {
        // SplitMix64 (Steele, Lea, Flood 2014): eight pixels a step.
        let mut state = seed ^ (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let values = (side * side) as usize * channels;
        let mut pixels = Vec::with_capacity(values + 8);
        while pixels.len() < values {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            pixels.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
        }
        pixels.truncate(values);
        Item {
            index,
            name: format!("synthetic/{index}"),
            label: None,
            input: Input::Picture(Picture {
                width: side,
                height: side,
                channels,
                pixels,
            }),
        }
    });
    Pictures {
        items: Box::new(items),
        count,
        origin: format!("{count} synthetic pictures of {side} x {side} pixels"),
        skipped: vec![],
    }
}
