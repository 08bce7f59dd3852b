//! Prints `digits/split.json` as the seeded generator makes it.
//!
//! `cargo run -p datasets --example make_digits_split > shared/data/digits/split.json`
//!
//! A test compares the committed file with what this prints, so it is only needed if the split
//! is to change; every accuracy that was published before then stands for another test set.

use std::io::Write;

use datasets::{digits, split};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let digits = digits::load()?;
    let split = split::stratified(&digits.labels, split::DIGITS_SEED);
    std::io::stdout().write_all(split::to_json(&split).as_bytes())?;
    Ok(())
}
