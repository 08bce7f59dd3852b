//! The UCI handwritten digits: 1,797 grey images of 8x8 pixels with labels, committed here.
//!
//! Small enough to be part of the program and real enough for an accuracy that means something,
//! so they are the default of every chapter where there is no network. Source and licence
//! (CC BY 4.0): `digits/README.md`. Which rows train and which test: [`crate::split`].

/// Width and height of an image, in pixels.
pub const SIDE: usize = 8;
/// Pixels of an image.
pub const PIXELS: usize = SIDE * SIDE;
/// How many classes there are: the digits 0 to 9.
pub const CLASSES: usize = 10;
/// The largest pixel value (full ink); the smallest is 0 (paper).
pub const MAX_PIXEL: u8 = 16;

/// The committed file; `digits/README.md` says where it comes from.
const CSV: &str = include_str!("../digits/digits.csv");

/// The digits, all in memory (115 KB).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digits {
    /// Pixels, `[images, 8, 8]` in row-major order, each in `0..=16`.
    pub pixels: Vec<u8>,
    /// Labels, `[images]`, each in `0..10`.
    pub labels: Vec<u8>,
}

impl Digits {
    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The pixels of image `index`, `[8, 8]` in row-major order.
    ///
    /// # Panics
    /// If `index` is not below [`Digits::len`], as a slice does.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * PIXELS..(index + 1) * PIXELS]
    }
}

/// Why a text is not a table of digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DigitsError {
    /// A line has too few or too many fields.
    #[error("digits, line {line}: expected 65 fields (64 pixels and a label), got {got}")]
    Fields {
        /// Line, from 1.
        line: usize,
        /// Fields on that line.
        got: usize,
    },
    /// A field is not a number, or not in its range.
    #[error("digits, line {line}, field {field}: expected {expected}, got {got:?}")]
    Value {
        /// Line, from 1.
        line: usize,
        /// Field, from 1.
        field: usize,
        /// What the field may hold.
        expected: &'static str,
        /// What it holds.
        got: String,
    },
    /// There is no line at all.
    #[error("digits: expected one image a line, got an empty text")]
    Empty,
}

/// The 1,797 committed digits.
///
/// # Errors
/// [`DigitsError`] if the committed file were damaged; the tests prove that it is not.
pub fn load() -> Result<Digits, DigitsError> {
    parse(CSV)
}

/// Reads the format of `digits.csv`: 64 pixels and a label a line, separated by commas.
///
/// # Errors
/// [`DigitsError`] names the first line that is not of that form.
pub fn parse(csv: &str) -> Result<Digits, DigitsError> {
    let mut digits = Digits {
        pixels: Vec::new(),
        labels: Vec::new(),
    };
    for (index, text) in csv.lines().enumerate() {
        let line = index + 1;
        let got = text.split(',').count();
        if got != PIXELS + 1 {
            return Err(DigitsError::Fields { line, got });
        }
        for (index, field) in text.split(',').enumerate() {
            let (most, expected) = if index < PIXELS {
                (MAX_PIXEL, "a pixel, 0 to 16")
            } else {
                (CLASSES as u8 - 1, "a label, 0 to 9")
            };
            let value = field
                .parse()
                .ok()
                .filter(|value| *value <= most)
                .ok_or_else(|| DigitsError::Value {
                    line,
                    field: index + 1,
                    expected,
                    got: field.to_owned(),
                })?;
            if index < PIXELS {
                digits.pixels.push(value);
            } else {
                digits.labels.push(value);
            }
        }
    }
    if digits.is_empty() {
        return Err(DigitsError::Empty);
    }
    Ok(digits)
}
