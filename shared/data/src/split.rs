//! Which digits train, which validate and which test: one committed file for every chapter.
//!
//! The file is the authority; [`stratified`] is the generator that made it. Chapters compare
//! accuracies with each other only because all of them leave the same rows out of training.

use std::sync::LazyLock;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// Seed of the committed split of the digits.
pub const DIGITS_SEED: u64 = 1797;

/// The committed file.
const DIGITS_JSON: &str = include_str!("../digits/split.json");

/// Rows of a data set in three parts without overlap; each part in rising order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Rows to train on.
    pub train: Vec<usize>,
    /// Rows to choose by: when to stop, which configuration is best.
    pub validation: Vec<usize>,
    /// Rows to report the accuracy on, and to look at for nothing else.
    pub test: Vec<usize>,
}

/// The committed split of [`crate::digits`]: 1,259, 269 and 269 rows.
pub fn digits() -> Split {
    static SPLIT: LazyLock<Split> = LazyLock::new(|| {
        // A part of the program, not input: a test reads it and compares it with the generator.
        serde_json::from_str(DIGITS_JSON).expect("digits/split.json is a split")
    });
    SPLIT.clone()
}

/// Splits rows into 70, 15 and 15 percent of each class, by a seed.
///
/// * `labels`: the class of each row
/// * `seed`: the same seed gives the same split on every machine and in every release
///
/// Validation and test get 15 percent of each class, rounded to the nearest row; training gets
/// the rest.
///
/// The generator is ChaCha with 8 rounds, whose output is fixed by its definition and which
/// `rand_chacha` promises to keep; `rand`'s `StdRng` and `shuffle` may change with a release of
/// that crate. The shuffle is therefore written out here: Fisher and Yates, with bounds by
/// rejection, so that no row is likelier than another.
pub fn stratified(labels: &[u8], seed: u64) -> Split {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut split = Split {
        train: Vec::new(),
        validation: Vec::new(),
        test: Vec::new(),
    };
    for class in 0..=u8::MAX {
        let mut rows: Vec<usize> = (0..labels.len())
            .filter(|row| labels[*row] == class)
            .collect();
        for last in (1..rows.len()).rev() {
            rows.swap(last, below(&mut generator, last as u64 + 1) as usize);
        }
        let held_out = (rows.len() * 15 + 50) / 100;
        split.test.extend_from_slice(&rows[..held_out]);
        split
            .validation
            .extend_from_slice(&rows[held_out..2 * held_out]);
        split.train.extend_from_slice(&rows[2 * held_out..]);
    }
    for part in [&mut split.train, &mut split.validation, &mut split.test] {
        part.sort_unstable();
    }
    split
}

/// A number in `0..bound`, each equally likely. `bound` is at least 1.
fn below(generator: &mut impl RngCore, bound: u64) -> u64 {
    // The last, incomplete stretch of `bound` values below 2^64 would favour small numbers.
    let limit = u64::MAX - u64::MAX % bound;
    loop {
        let value = generator.next_u64();
        if value < limit {
            return value % bound;
        }
    }
}

/// The text of `digits/split.json`: a part a line, so that a change of one part shows as one line.
pub fn to_json(split: &Split) -> String {
    let line = |rows: &[usize]| {
        let rows: Vec<String> = rows.iter().map(usize::to_string).collect();
        format!("[{}]", rows.join(","))
    };
    format!(
        "{{\n\"train\": {},\n\"validation\": {},\n\"test\": {}\n}}\n",
        line(&split.train),
        line(&split.validation),
        line(&split.test)
    )
}
