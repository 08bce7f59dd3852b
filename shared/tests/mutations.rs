//! A fuzz test that needs no fuzzer: mutations of a valid result file, the same
//! ones every time. `shared/fuzz` searches further, with coverage.

mod sample;

use accel::results::ResultFile;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Pieces that break parsers more often than random bytes do.
const PIECES: &[&str] = &[
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "-1e999",
    "1e-999",
    "-0.0",
    "0.1e1",
    "NaN",
    "Infinity",
    "18446744073709551616",
    "9223372036854775808",
    "4294967296",
    "\"\"",
    "\"/home/anne\"",
    "\"https://a:b@c\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\u{202e}é\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "{\"a\":",
    "}",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\u{0}",
    "\u{feff}",
    "/*",
    "//",
    "\n\n",
];

fn mutate(valid: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.random_range(0..bytes.len());
        let end = (at + rng.random_range(1..=32)).min(bytes.len());
        match rng.random_range(0..8) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                let target = rng.random_range(0..=bytes.len());
                drop(bytes.splice(target..target, copy));
            }
            // A whole value for another: what a bit flip almost never makes.
            5 | 6 => {
                let piece = PIECES.choose(rng).copied().unwrap_or_default();
                let value_end = bytes[at..]
                    .iter()
                    .position(|b| matches!(b, b',' | b'\n' | b']'))
                    .map_or(end, |length| at + length);
                let value_start = bytes[..at]
                    .iter()
                    .rposition(|b| matches!(b, b':' | b',' | b'['))
                    .map_or(at, |position| position + 1);
                drop(bytes.splice(value_start..value_end, piece.bytes()));
            }
            _ => {
                let piece = PIECES.choose(rng).copied().unwrap_or_default();
                drop(bytes.splice(at..at, piece.bytes()));
            }
        }
    }
    bytes
}

#[test]
fn no_mutation_panics_and_what_is_accepted_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    let mut file = sample::full();
    // Fixed, so that the cases do not depend on the day or the machine.
    file.created_utc = "2026-11-21T10:58:00Z".to_owned();
    file.environment.cpu_features = vec!["avx2".to_owned()];
    file.environment.load_at_start = Some([0.25, 0.5, 1.0]);
    file.notes = vec!["a note".to_owned()];
    file.write(&path).unwrap();
    let valid = std::fs::read(&path).unwrap();

    let mut rng = ChaCha8Rng::seed_from_u64(2026);
    let (mut accepted, mut refused) = (0, 0);
    for case in 0..20_000 {
        let bytes = mutate(&valid, &mut rng);
        match ResultFile::parse(&bytes) {
            Ok(file) => {
                accepted += 1;
                file.validate()
                    .unwrap_or_else(|error| panic!("case {case} was accepted: {error}"));
                // What was accepted can be written and means the same.
                if accepted % 50 == 0 {
                    file.write(&path).unwrap();
                    assert_eq!(ResultFile::read(&path).unwrap(), file, "case {case}");
                }
            }
            Err(error) => {
                refused += 1;
                let message = error.to_string();
                assert!(
                    message.len() < 5_000,
                    "case {case}: {} bytes",
                    message.len()
                );
            }
        }
    }
    // Both happen, or the mutations test nothing.
    assert!(
        accepted > 200 && refused > 10_000,
        "{accepted} accepted, {refused} refused"
    );
}
