//! A data set as the trainer wants it: all pixels in one array, labels, and
//! which rows train, validate and test.

use std::path::{Path, PathBuf};

use datasets::{
    cifar10::{self, Cifar10},
    digits, split,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Why a data set cannot be trained on.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The committed digits are not as they were.
    #[error(transparent)]
    Digits(#[from] digits::DigitsError),
    /// CIFAR-10's files.
    #[error(transparent)]
    Cifar(#[from] cifar10::CifarError),
    /// CIFAR-10's download.
    #[error(transparent)]
    Fetch(#[from] cifar10::FetchError),
    /// Another number of labels than images.
    #[error("{images} images and {labels} labels; expected as many of both")]
    Count {
        /// Images.
        images: usize,
        /// Labels.
        labels: usize,
    },
    /// A label that names no class.
    #[error("row {row} has label {label}; expected 0 to {}", classes - 1)]
    Label {
        /// The row, from 0.
        row: usize,
        /// Its label.
        label: i32,
        /// How many classes there are.
        classes: usize,
    },
    /// A part of the split names a row that is not there.
    #[error("the {part} rows name row {row}; the data set has {rows} rows")]
    Row {
        /// "training", "validation" or "test".
        part: &'static str,
        /// The row named.
        row: i32,
        /// How many rows there are.
        rows: usize,
    },
}

/// Where the pixels' values come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// Bytes; `value / scale` is in `0..=1`. Normalised on the device, where they
    /// take a quarter of the memory.
    U8 {
        /// `[rows, side, side, channels]`, row-major.
        bytes: Vec<u8>,
        /// The byte of full brightness.
        scale: f32,
    },
    /// Already normalised, `[rows, side, side, channels]`, row-major.
    F32(Vec<f32>),
}

/// Images with labels, NHWC.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSet {
    /// `digits`, `cifar10`, ...
    pub name: String,
    /// Height and width in pixels.
    pub side: usize,
    /// 1 for grey, 3 for colour.
    pub channels: usize,
    /// The images.
    pub pixels: Pixels,
    /// One label an image.
    pub labels: Vec<i32>,
    /// The classes' names.
    pub class_names: Vec<String>,
    /// Mean of each channel over the training rows, of pixels in `0..=1`.
    pub mean: Vec<f32>,
    /// Standard deviation of the same.
    pub std: Vec<f32>,
    /// Rows to learn from.
    pub train: Vec<i32>,
    /// Rows to choose by.
    pub validation: Vec<i32>,
    /// Rows to report, once.
    pub test: Vec<i32>,
}

/// What tells one data set from another: a run may go on from a checkpoint only on the data
/// that it began with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The data set's name.
    pub name: String,
    /// Rows to learn from.
    pub training_rows: usize,
    /// Rows to choose by.
    pub validation_rows: usize,
    /// Rows to report.
    pub test_rows: usize,
    /// SHA-256 of shape, pixels, labels and split, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

impl DataSet {
    /// The UCI handwritten digits, 1,797 grey images of 8x8, with the committed split.
    ///
    /// # Errors
    /// [`DataError::Digits`] if the committed file was changed.
    pub fn digits() -> Result<Self, DataError> {
        let data = digits::load()?;
        let rows = split::digits();
        let part = |rows: &[usize]| rows.iter().map(|&row| row as i32).collect::<Vec<_>>();
        DataSet {
            name: "digits".into(),
            side: digits::SIDE,
            channels: 1,
            pixels: Pixels::U8 {
                bytes: (0..data.len())
                    .flat_map(|row| data.image(row))
                    .copied()
                    .collect(),
                scale: 16.0,
            },
            labels: data.labels.iter().map(|&label| label.into()).collect(),
            class_names: (0..digits::CLASSES)
                .map(|digit| digit.to_string())
                .collect(),
            mean: vec![],
            std: vec![],
            train: part(&rows.train),
            validation: part(&rows.validation),
            test: part(&rows.test),
        }
        .normalised()
    }

    /// CIFAR-10: 60,000 colour images of 32x32. The last tenth of the training
    /// records, in the files' own shuffled order, validates.
    ///
    /// * `folder`: where its six binary files are; fetched into `cache` and verified if not given
    ///
    /// # Errors
    /// [`DataError::Fetch`] or [`DataError::Cifar`].
    pub fn cifar10(folder: Option<PathBuf>, cache: &Path, quiet: bool) -> Result<Self, DataError> {
        let folder = match folder {
            Some(folder) => folder,
            None => cifar10::fetch(cache, None, quiet)?,
        };
        let (train, test) = cifar10::read_folder(&folder)?;
        let class_names = cifar10::read_labels(&folder)?;
        let held_out = train.len() - train.len() / 10;
        let all = train.len() + test.len();
        let rows = |from: usize, to: usize| (from as i32..to as i32).collect::<Vec<_>>();
        let images = |data: &Cifar10| {
            (0..data.len())
                .flat_map(|row| interleaved(data.image(row)))
                .collect::<Vec<u8>>()
        };
        let mut bytes = images(&train);
        bytes.extend(images(&test));
        DataSet {
            name: "cifar10".into(),
            side: cifar10::SIDE,
            channels: 3,
            pixels: Pixels::U8 {
                bytes,
                scale: 255.0,
            },
            labels: train
                .labels
                .iter()
                .chain(&test.labels)
                .map(|&label| label.into())
                .collect(),
            class_names,
            mean: vec![],
            std: vec![],
            train: rows(0, held_out),
            validation: rows(held_out, train.len()),
            test: rows(train.len(), all),
        }
        .normalised()
    }

    /// Images that were never seen by a camera, for a dry run: each class is a brightness
    /// with noise. Half of the rows train, a quarter validates, a quarter tests.
    pub fn made_up(rows: usize, side: usize, channels: usize, classes: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let labels: Vec<i32> = (0..rows).map(|row| (row % classes) as i32).collect();
        let elements = side * side * channels;
        let pixel = |label: i32, random: &mut ChaCha8Rng| {
            let level = (label as f32 + 0.5) / classes as f32;
            (2.0 * level - 1.0) + random.random_range(-0.2f32..0.2)
        };
        let pixels = labels
            .iter()
            .flat_map(|&label| vec![label; elements])
            .map(|label| pixel(label, &mut random))
            .collect();
        let part = |from: usize, to: usize| (from as i32..to as i32).collect();
        DataSet {
            name: "made-up".into(),
            side,
            channels,
            pixels: Pixels::F32(pixels),
            labels,
            class_names: (0..classes).map(|class| class.to_string()).collect(),
            mean: vec![0.0; channels],
            std: vec![1.0; channels],
            train: part(0, rows / 2),
            validation: part(rows / 2, rows * 3 / 4),
            test: part(rows * 3 / 4, rows),
        }
    }

    /// How many images.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// How many classes.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Elements of one image.
    pub fn elements(&self) -> usize {
        self.side * self.side * self.channels
    }

    /// The images of some rows, normalised, `[rows, side, side, channels]`, row-major.
    ///
    /// # Panics
    /// If a row is not there; [`DataSet::check`] finds those of the split.
    pub fn normalised_images(&self, rows: &[i32]) -> Vec<f32> {
        let elements = self.elements();
        let images = rows.iter().map(|&row| row as usize * elements);
        match &self.pixels {
            Pixels::F32(values) => images
                .flat_map(|at| &values[at..at + elements])
                .copied()
                .collect(),
            Pixels::U8 { bytes, scale } => images
                .flat_map(|at| bytes[at..at + elements].iter().enumerate())
                .map(|(place, &byte)| {
                    let channel = place % self.channels;
                    (f32::from(byte) / scale - self.mean[channel]) / self.std[channel]
                })
                .collect(),
        }
    }

    /// Checks that labels and rows are in range: a device gathers out of range in
    /// silence.
    ///
    /// # Errors
    /// The first label, row or count that is wrong.
    pub fn check(&self) -> Result<(), DataError> {
        let elements = match &self.pixels {
            Pixels::U8 { bytes, .. } => bytes.len(),
            Pixels::F32(values) => values.len(),
        };
        if elements != self.rows() * self.elements() {
            return Err(DataError::Count {
                images: elements / self.elements().max(1),
                labels: self.rows(),
            });
        }
        let classes = self.classes();
        let wrong = |&(_, &label): &(usize, &i32)| label < 0 || label as usize >= classes;
        if let Some((row, &label)) = self.labels.iter().enumerate().find(wrong) {
            return Err(DataError::Label {
                row,
                label,
                classes,
            });
        }
        let parts = [
            ("training", &self.train),
            ("validation", &self.validation),
            ("test", &self.test),
        ];
        for (part, rows) in parts {
            let outside = |row: &&i32| **row < 0 || **row as usize >= self.rows();
            if let Some(&row) = rows.iter().find(outside) {
                return Err(DataError::Row {
                    part,
                    row,
                    rows: self.rows(),
                });
            }
        }
        Ok(())
    }

    /// What tells it from other data sets. Reads every pixel.
    pub fn identity(&self) -> Identity {
        let mut hash = Sha256::new();
        let mut numbers = |values: &mut dyn Iterator<Item = i32>| {
            let values: Vec<u8> = values.flat_map(i32::to_le_bytes).collect();
            // Its length first: what ends one list does not begin the next.
            hash.update((values.len() as u64).to_le_bytes());
            hash.update(&values);
        };
        numbers(&mut [self.side as i32, self.channels as i32].into_iter());
        for rows in [&self.labels, &self.train, &self.validation, &self.test] {
            numbers(&mut rows.iter().copied());
        }
        match &self.pixels {
            Pixels::U8 { bytes, scale } => {
                hash.update(scale.to_le_bytes());
                hash.update(bytes);
            }
            Pixels::F32(values) => values
                .iter()
                .for_each(|value| hash.update(value.to_le_bytes())),
        }
        Identity {
            name: self.name.clone(),
            training_rows: self.train.len(),
            validation_rows: self.validation.len(),
            test_rows: self.test.len(),
            sha256: hash
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        }
    }

    /// Fills in mean and deviation of the training rows, and checks the rest.
    fn normalised(mut self) -> Result<Self, DataError> {
        self.check()?;
        let Pixels::U8 { bytes, scale } = &self.pixels else {
            return Ok(self);
        };
        let (channels, elements) = (self.channels, self.elements());
        let mut sums = vec![(0f64, 0f64); channels];
        for &row in &self.train {
            let image = &bytes[row as usize * elements..][..elements];
            for (at, &byte) in image.iter().enumerate() {
                let value = f64::from(byte) / f64::from(*scale);
                sums[at % channels].0 += value;
                sums[at % channels].1 += value * value;
            }
        }
        let count = (self.train.len() * self.side * self.side) as f64;
        for (sum, squares) in sums {
            let mean = sum / count;
            self.mean.push(mean as f32);
            self.std.push((squares / count - mean * mean).sqrt() as f32);
        }
        Ok(self)
    }
}

/// From planes of colour, as CIFAR-10 stores them, to colours side by side.
fn interleaved(planes: &[u8]) -> Vec<u8> {
    let area = planes.len() / 3;
    (0..area)
        .flat_map(|at| [planes[at], planes[area + at], planes[2 * area + at]])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_whole_and_split_without_overlap() {
        let data = DataSet::digits().unwrap();
        let mut rows = [&data.train[..], &data.validation, &data.test].concat();
        rows.sort_unstable();
        assert_eq!(rows, (0..1797).collect::<Vec<_>>());
        assert_eq!((data.side, data.channels, data.classes()), (8, 1, 10));
        // The mean pixel of scikit-learn's copy is 4.88 of 16, its deviation 6.02.
        assert!((data.mean[0] - 4.88 / 16.0).abs() < 0.01, "{:?}", data.mean);
        assert!((data.std[0] - 6.02 / 16.0).abs() < 0.01, "{:?}", data.std);
    }

    #[test]
    fn what_a_device_would_gather_in_silence_is_refused() {
        let mut data = DataSet::digits().unwrap();
        data.labels[7] = 10;
        let error = data.check().unwrap_err().to_string();
        assert_eq!(error, "row 7 has label 10; expected 0 to 9");
        data.labels[7] = 3;
        data.test.push(1797);
        let error = data.check().unwrap_err().to_string();
        assert_eq!(
            error,
            "the test rows name row 1797; the data set has 1797 rows"
        );
        data.labels.pop();
        assert!(matches!(
            data.check(),
            Err(DataError::Count {
                images: 1797,
                labels: 1796
            })
        ));
    }

    #[test]
    fn another_pixel_label_or_split_is_another_data_set() {
        let data = DataSet::made_up(8, 2, 1, 2);
        let changed = |change: fn(&mut DataSet)| {
            let mut other = data.clone();
            change(&mut other);
            other.identity().sha256
        };
        assert_eq!(data.identity(), data.clone().identity());
        let all = [
            data.identity().sha256,
            changed(|data| match &mut data.pixels {
                Pixels::F32(values) => values[5] += 1.0,
                Pixels::U8 { .. } => unreachable!("made-up pixels are f32"),
            }),
            changed(|data| data.labels.swap(0, 1)),
            changed(|data| data.train.swap(0, 1)),
            // The same rows, divided elsewhere.
            changed(|data| {
                let row = data.validation.remove(0);
                data.train.push(row);
            }),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn planes_become_pixels() {
        assert_eq!(interleaved(&[1, 2, 3, 4, 5, 6]), [1, 3, 5, 2, 4, 6]);
    }
}
