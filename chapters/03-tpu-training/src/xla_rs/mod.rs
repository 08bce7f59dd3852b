//! The same program through the crate `xla`: a second front door to the same compiler.
//!
//! The chapter prints its graph as StableHLO text and hands it to a plugin that is
//! loaded when the program starts. The crate `xla` (0.5.4) is the other way: its
//! `XlaBuilder` makes XLA's own graph by one call an operation (`lower.rs`), and its
//! client, linked into the program, compiles and runs it (`run.rs`).
//!
//! Type-checked, never run here: the crate's C++ part is linked from an archive of its
//! own, a release download of 300 MB that no build of this project fetches. With the
//! archive unpacked, and a libclang for the crate's build script:
//!
//! ```text
//! XLA_EXTENSION_DIR=.../xla_extension cargo run --release -p tpu-training \
//!     --features xla-rs -- train --lower xla-rs --device cpu
//! ```
//!
//! What the crate binds is what can be said: no shifts, no `ReduceWindow`, no
//! `SelectAndScatter`. And not here: several steps a call, checkpoints, a model, a
//! result file, TPUs, a second GPU.

#[cfg(feature = "xla-rs")]
mod lower;
#[cfg(feature = "xla-rs")]
mod run;

#[cfg(feature = "xla-rs")]
pub use lower::{XlaRsError, element_type, lower};
#[cfg(feature = "xla-rs")]
pub use run::run;

/// Trains as `--lower xla-rs` asks.
///
/// # Errors
/// [`Unavailable`](crate::failure::Unavailable): this build has no crate xla.
#[cfg(not(feature = "xla-rs"))]
pub fn run(
    _args: &crate::cli::TrainArgs,
    _config: &crate::config::TrainConfig,
    _data: &crate::data_set::DataSet,
) -> anyhow::Result<u8> {
    Err(crate::failure::Unavailable(
        "--lower xla-rs needs the crate xla, whose C++ archive is a download of its own; set \
         XLA_EXTENSION_DIR and build with `--features xla-rs`, or leave the flag out"
            .into(),
    )
    .into())
}
