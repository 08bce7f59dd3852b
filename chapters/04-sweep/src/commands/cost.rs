//! `parallel-training cost`: what a sweep would take and cost on several workers.

use accel::{
    exit,
    hardware::{Hardware, Price},
    results::ResultFile,
    stdout::print_line,
};
use anyhow::Context;

use crate::{
    cli::CostArgs,
    cost::{Measured, Placement},
    failure::Refused,
    report,
};

/// Whose price it is if none is given, in `shared/hardware.toml`.
const WORKER: &str = "dataflow-1-4";

/// Runs the command.
///
/// # Errors
/// The result cannot be read, or is none of a whole sweep.
pub fn run(args: &CostArgs) -> anyhow::Result<u8> {
    let sweep = ResultFile::read(&args.result)
        .map_err(|error| Refused(format!("{error}; give the result.json of a sweep")))?;
    let measured = Measured::of(&sweep)
        .map_err(|error| Refused(format!("{}: {error}", args.result.display())))?;
    let file = table(args, &price(args)?, &sweep, &measured);
    report::hand_over(&file, args.out.as_deref(), args.json, || print(&file))?;
    Ok(exit::OK)
}

fn price(args: &CostArgs) -> anyhow::Result<Price> {
    if let (Some(usd_per_hour), Some(source), Some(date)) =
        (args.usd_per_hour, &args.price_source, &args.price_date)
    {
        return Ok(Price {
            usd_per_hour,
            source: source.clone(),
            date: date.clone(),
            note: None,
        });
    }
    let hardware = Hardware::shipped()?;
    let price = hardware.price(WORKER).cloned();
    price.with_context(|| format!("shared/hardware.toml has no price of {WORKER}"))
}

/// The derived file: a row for each number of workers and each start-up time. It has the machine,
/// the versions and the dependencies of the sweep that it was computed from.
fn table(args: &CostArgs, price: &Price, sweep: &ResultFile, measured: &Measured) -> ResultFile {
    let mut file = ResultFile::new("04-sweep", "cost-model", sweep.environment.clone());
    let runs = measured.jobs.len();
    file.title = Some(format!("What {runs} runs take and cost on several workers"));
    file.depends_on.clone_from(&sweep.depends_on);
    let commit = sweep.commit.as_deref().unwrap_or("an unknown commit");
    file.notes.push(format!(
        "derived, not measured: from the runs of {} of {} at {commit}; each run goes to the worker \
         that would end it first, the longest run first; a worker is a process with {} threads on \
         its own core",
        sweep.measurement,
        sweep.created_utc,
        sweep
            .row("sweep")
            .and_then(|row| row.workload.get("threads"))
            .map_or("its".to_owned(), ToString::to_string),
    ));
    for &start in &args.start_seconds {
        for &workers in &args.workers {
            let placement = Placement::of(measured, workers, start);
            file.rows.push(placement.row(workers, start, price));
        }
    }
    file
}

fn print(file: &ResultFile) -> anyhow::Result<()> {
    print_line(&format!(
        "{:<28} {:>10} {:>14} {:>13} {:>9} {:>14}",
        "estimated", "wall (s)", "workers' (s)", "compilations", "cents", "cents if held"
    ))?;
    for row in &file.rows {
        let metric = |name: &str| row.metrics[name];
        print_line(&format!(
            "{:<28} {:>10.1} {:>14.1} {:>13.0} {:>9.3} {:>14.3}",
            row.label,
            metric("estimated_wall_seconds"),
            metric("estimated_worker_seconds"),
            metric("estimated_compilations"),
            metric("estimated_cents"),
            metric("estimated_cents_if_held"),
        ))?;
    }
    Ok(())
}
