//! `gpu-inference`: chapter 2 of the book. See `--help`.

use std::process::ExitCode;

use clap::Parser;
use gpu_inference::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => ExitCode::from(cpu_inference::failure::report(&error)),
    }
}
