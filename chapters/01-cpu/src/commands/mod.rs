//! One file a command.

pub mod ladder;
pub mod learn;
pub mod run;
pub mod shards;
pub mod worker;

use crate::chapter::Chapter;

/// Whose results the commands write.
pub const CHAPTER: Chapter = Chapter {
    name: "01-cpu",
    depends_on: &["chapters/01-cpu/src", "ci/native.toml", "Cargo.lock"],
};
