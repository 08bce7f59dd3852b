//! `parallel-training cost`: what a sweep would take and cost on several workers.

use accel::{exit, hardware::Price, results::ResultFile, stdout::print_line};
use anyhow::Context;

use crate::{
    cli::CostArgs,
    cost::{Measured, Placement},
    failure::Refused,
};

/// One vCPU with 4 GB as a worker of a batch job on Dataflow in us-central1: 0.056 USD an hour and
/// 0.003557 for each GB, as Beam's own cost benchmarks count.
const USD_PER_HOUR: f64 = 0.056 + 4.0 * 0.003557;
const PRICE_SOURCE: &str = "https://github.com/apache/beam/blob/v2.77.0/sdks/python/apache_beam/testing/load_tests/dataflow_cost_consts.py";
/// When the source was read.
const PRICE_DATE: &str = "2026-11-22";

/// Runs the command.
///
/// # Errors
/// The result cannot be read, or is none of a whole sweep.
pub fn run(args: &CostArgs) -> anyhow::Result<u8> {
    let sweep = ResultFile::read(&args.result)
        .map_err(|error| Refused(format!("{error}; give the result.json of a sweep")))?;
    let measured = Measured::of(&sweep)
        .map_err(|error| Refused(format!("{}: {error}", args.result.display())))?;
    let file = table(args, &sweep, &measured);
    if let Some(path) = &args.out {
        file.write(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    match args.json {
        true => print_line(&serde_json::to_string(&file)?)?,
        false => print(&file)?,
    }
    Ok(exit::OK)
}

fn price(args: &CostArgs) -> Price {
    let given = |text: &Option<String>, usual: &str| text.clone().unwrap_or(usual.to_owned());
    Price {
        usd_per_hour: args.usd_per_hour.unwrap_or(USD_PER_HOUR),
        source: given(&args.price_source, PRICE_SOURCE),
        date: given(&args.price_date, PRICE_DATE),
        note: None,
    }
}

/// The derived file: a row for each number of workers and each start-up time. It has the machine,
/// the versions and the dependencies of the sweep that it was computed from.
fn table(args: &CostArgs, sweep: &ResultFile, measured: &Measured) -> ResultFile {
    let price = price(args);
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
            file.rows.push(placement.row(workers, start, &price));
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
