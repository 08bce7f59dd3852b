//! `cargo x results`: which results are older than what they measured, and what else is
//! done with result files. `ci/RESULTS.md` tells how.
//!
//! - [`files`] finds them, [`depends`] tells what each is a measurement of
//! - [`stale`] compares that with the checkout, with git's help; [`matters`] tells which
//!   files cannot change a figure, [`lock`] which versions have changed
//! - [`submit`] takes a reader's files among the published ones
//! - [`export`] writes all samples as a table
//! - [`history`] tells how a figure went over time, and whether it has become worse
//! - [`restore`] brings back what was deleted of that history

mod depends;
mod export;
mod files;
mod history;
mod lock;
mod matters;
mod restore;
pub mod stale;
mod submit;

use std::{path::Path, process::ExitCode};

use accel::exit;

/// Options of `cargo x results`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Exit code 1 if a published result is stale or was deleted.
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
    /// Bring back published results that were deleted, from git's history.
    Restore,
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
        Some(Command::Restore) => restore::run(root),
        None => {
            let report = stale::look(root)?;
            stale::write(&report, root)?;
            print!("{report}");
            let fault = report.published_are_stale() || report.published_were_deleted();
            Ok(match args.check && fault {
                true => ExitCode::from(exit::FAILED),
                false => ExitCode::SUCCESS,
            })
        }
    }
}
