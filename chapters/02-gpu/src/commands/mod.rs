//! One file a command.

pub mod ladder;
pub mod learn;
pub mod roofline;
pub mod run;
pub mod tune;
pub mod worker;

/// What the figures of this chapter depend on: if one has changed, they are stale.
pub fn depends_on() -> Vec<String> {
    [
        "chapters/01-cpu/src",
        "chapters/02-gpu/src",
        "chapters/02-gpu/crates",
        "ci/native.toml",
        "Cargo.lock",
    ]
    .map(str::to_owned)
    .to_vec()
}
