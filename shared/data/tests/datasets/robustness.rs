//! Outside bytes, mutated by a seeded generator: an error or a value, and never a panic.
//!
//! The same parsers have cargo-fuzz targets (`shared/fuzz`), which search longer; this runs with
//! every `cargo test`, with the same cases each time.

use datasets::checkpoint::Checkpoint;
use datasets::{cifar10, digits};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::checkpoint::file;
use crate::cifar10::records;

/// What stands in headers, and what should not.
const TOKENS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "0",
    "-1",
    "1e308",
    "18446744073709551615",
    "2305843009213693951",
    "4294967296",
    "null",
    "\"F32\"",
    "\"F4\"",
    "\"BOOL\"",
    "\"dtype\"",
    "\"shape\"",
    "\"data_offsets\"",
    "\"__metadata__\"",
    "\"\\u0000\"",
    "\u{feff}",
    "[[[[[[[[",
];

struct Mutator(ChaCha8Rng);

impl Mutator {
    fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound.max(1) as u64) as usize
    }

    /// One to eight changes: bits, bytes, tokens, cuts, copies.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(8) {
            let at = self.below(bytes.len() + 1);
            let until = (at + self.below(32)).min(bytes.len());
            match self.below(7) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                2 => {
                    let token = TOKENS[self.below(TOKENS.len())];
                    bytes.splice(at..at, token.bytes());
                }
                3 => {
                    let token = TOKENS[self.below(TOKENS.len())];
                    bytes.splice(at..until, token.bytes());
                }
                4 => bytes.truncate(at),
                5 => drop(bytes.drain(at..until)),
                _ => {
                    let copy = bytes[at..until].to_vec();
                    bytes.splice(at..at, copy);
                }
            }
        }
    }
}

#[test]
fn twenty_thousand_mutated_checkpoints() {
    let header = r#"{"__metadata__":{"arch":"resnet18","width":"16","mean":"[0.5]","std":"[0.25]",
"labels":"[\"a\",\"b\"]","channels":"1","classes":"2"},
"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},
"c":{"dtype":"I64","shape":[],"data_offsets":[32,40]}}"#;
    let mut mutator = Mutator(ChaCha8Rng::seed_from_u64(1));
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut text = header.as_bytes().to_vec();
        mutator.mutate(&mut text);
        let bytes = if mutator.below(4) == 0 {
            // Anything may be damaged, the length of the header, too.
            let mut bytes = file(header, 40);
            mutator.mutate(&mut bytes);
            bytes
        } else {
            // A true length, or nothing behind it would be looked at.
            let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(&text);
            bytes.extend_from_slice(&[7; 40]);
            bytes
        };
        match Checkpoint::parse(bytes) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(checkpoint) => {
                accepted += 1;
                for tensor in checkpoint.tensors() {
                    let elements: usize = tensor.shape.iter().product();
                    assert_eq!(elements * tensor.dtype.bitsize(), tensor.bytes.len() * 8);
                }
                let _ = checkpoint.check(&[]).map_err(|error| error.to_string());
                let _ = checkpoint.description.summary();
            }
        }
    }
    // Else the mutations are so wild that only the first check is tested.
    assert!(accepted > 100, "{accepted} were accepted");
}

#[test]
fn five_thousand_mutated_cifar_files() {
    let whole = records(&[0, 9, 5]);
    let mut mutator = Mutator(ChaCha8Rng::seed_from_u64(2));
    let mut accepted = 0;
    for _ in 0..5_000 {
        let mut bytes = whole.clone();
        mutator.mutate(&mut bytes);
        match cifar10::parse(&bytes) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(data) => {
                accepted += 1;
                assert_eq!(data.len() * cifar10::RECORD_BYTES, bytes.len());
                assert_eq!(data.images.len(), data.len() * cifar10::IMAGE_BYTES);
                assert!(data.labels.iter().all(|label| *label < 10));
            }
        }
    }
    assert!(accepted > 50, "{accepted} were accepted");
}

#[test]
fn five_thousand_mutated_tables_of_digits() {
    let table = include_str!("../../digits/digits.csv")
        .lines()
        .take(3)
        .collect::<Vec<_>>()
        .join("\n");
    let mut mutator = Mutator(ChaCha8Rng::seed_from_u64(3));
    for _ in 0..5_000 {
        let mut bytes = table.clone().into_bytes();
        mutator.mutate(&mut bytes);
        if let Ok(digits) = digits::parse(&String::from_utf8_lossy(&bytes)) {
            assert_eq!(digits.pixels.len(), digits.len() * digits::PIXELS);
        }
    }
}
