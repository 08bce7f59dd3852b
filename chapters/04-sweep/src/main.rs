//! `parallel-training`: chapter 4 of the book. See `--help`.

use std::process::ExitCode;

use clap::Parser;
use parallel_training::cli::Cli;

fn main() -> ExitCode {
    // While there is one thread.
    pjrt_runtime::quiet_plugins();
    match Cli::parse().run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => ExitCode::from(parallel_training::failure::report(&error)),
    }
}
