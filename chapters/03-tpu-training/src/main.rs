//! `tpu-training`: chapter 3 of the book. See `--help`.

use std::process::ExitCode;

use clap::Parser;
use tpu_training::cli::Cli;

fn main() -> ExitCode {
    // While there is one thread.
    pjrt_runtime::quiet_plugins();
    match Cli::parse().run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => ExitCode::from(tpu_training::failure::report(&error)),
    }
}
