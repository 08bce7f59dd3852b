//! Exit codes, the same in every program of the project.

/// Everything asked for was done.
pub const OK: u8 = 0;
/// A run failed, or some of its inputs were skipped.
pub const FAILED: u8 = 1;
/// Wrong usage, or an input refused before work began.
pub const USAGE: u8 = 2;
/// The device asked for, or a library that it needs, is not available.
pub const DEVICE: u8 = 3;
/// Interrupted by Ctrl-C (128 + SIGINT, as a shell reports it).
pub const INTERRUPTED: u8 = 130;
