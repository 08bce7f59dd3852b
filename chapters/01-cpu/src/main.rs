//! Sketch.
fn main() {}
