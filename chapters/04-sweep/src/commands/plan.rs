//! `parallel-training plan`.

use accel::{exit, stdout::print_line};

use super::sweep::planned;
use crate::cli::PlanArgs;

/// Prints the runs of a grid.
///
/// # Errors
/// What is wrong with the grid.
pub fn run(args: &PlanArgs) -> anyhow::Result<u8> {
    for run in planned(&args.grid, false, false)? {
        print_line(&serde_json::to_string(&run)?)?;
    }
    Ok(exit::OK)
}
