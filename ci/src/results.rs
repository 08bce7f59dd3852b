//! `cargo x results`: which results are older than what they measured, and what else is
//! done with result files. `ci/RESULTS.md` tells how.
//!
//! - [`files`] finds them, [`depends`] tells what each is a measurement of
//! - [`stale`] compares that with the checkout, with git's help
//! - [`submit`] takes a reader's files among the published ones
//! - [`export`] writes all samples as a table
//! - [`history`] tells how a figure went over time, and whether it has become worse

mod depends;
mod export;
mod files;
mod history;
mod lock;
pub mod stale;
mod submit;

use std::{path::Path, process::ExitCode};

use accel::exit;

/// Options of `cargo x results`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Exit code 1 if a published result is stale.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Copy your results among the published ones, and say how to send them.
    Submit(submit::Args),
    /// Write all samples of all results into one table.
    Export(export::Args),
    /// Print a measurement's medians over time.
    Trend(history::TrendArgs),
    /// Compare two results of the same machine; exit code 1 if a row has become slower.
    Compare(history::CompareArgs),
}

/// Runs the command.
///
/// # Errors
/// If a file cannot be read or written.
pub fn run(args: Args, root: &Path) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(Command::Submit(args)) => submit::run(&args, root),
        Some(Command::Export(args)) => export::run(&args, root),
        Some(Command::Trend(args)) => history::trend(&args, root),
        Some(Command::Compare(args)) => history::compare(&args),
        None => {
            let report = stale::look(root)?;
            stale::write(&report, root)?;
            print!("{report}");
            Ok(match args.check && report.published_are_stale() {
                true => ExitCode::from(exit::FAILED),
                false => ExitCode::SUCCESS,
            })
        }
    }
}
