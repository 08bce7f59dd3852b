//! One file a command.

use cpu_inference::chapter::Chapter;

pub mod engines;
pub mod export;
pub mod ladder;
pub mod learn;
pub mod roofline;
pub mod run;
pub mod tune;
pub mod worker;

/// Whose results the commands write.
pub const CHAPTER: Chapter = Chapter {
    name: "02-gpu",
    depends_on: &[
        "chapters/01-cpu/src",
        "chapters/02-gpu/src",
        "chapters/02-gpu/crates",
        "ci/native.toml",
        "Cargo.lock",
    ],
};
