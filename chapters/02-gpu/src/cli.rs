//! The command line.

use clap::{Parser, Subcommand};

/// ResNet inference on a GPU, and with other engines.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {}

impl Cli {
    /// Runs the command; the exit code is one of [`accel::exit`].
    ///
    /// # Errors
    /// What failed, on what value, what to do next.
    pub fn run(self) -> anyhow::Result<u8> {
        match self.command {}
    }
}
