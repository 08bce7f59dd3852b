//! `cargo x results export`: one line for each sample and each metric of all results, as JSON
//! lines or CSV, for DuckDB, BigQuery and the like.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use accel::{exit, results::Status};
use anyhow::Context;
use serde::Serialize;

use super::files::{self, Found};

/// Options of `cargo x results export`.
#[derive(clap::Args)]
pub struct Args {
    /// The file to write: .jsonl for JSON lines, .csv for CSV.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Your own results, too.
    #[arg(long)]
    local: bool,
}

/// A line: one value of one row of one result file. The columns are the same in every line
/// and in both formats.
#[derive(Serialize)]
struct Line<'a> {
    chapter: &'a str,
    measurement: &'a str,
    machine: &'a str,
    cpu_model: &'a str,
    cores: u64,
    accelerator: Option<&'a str>,
    created_utc: &'a str,
    commit: Option<&'a str>,
    dirty: Option<bool>,
    published: bool,
    row: &'a str,
    label: &'a str,
    /// JSON in a text: workloads differ from measurement to measurement.
    workload: &'a str,
    status: &'a str,
    reason: Option<&'a str>,
    /// "seconds" for a sample, else the metric's name, with its unit.
    name: Option<&'a str>,
    /// The sample's number in its row, from 0.
    sample: Option<usize>,
    items_per_sample: Option<usize>,
    value: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// If a result cannot be read or the file cannot be written.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let format = match args.to.extension().and_then(|ext| ext.to_str()) {
        Some("jsonl") => Format::JsonLines,
        Some("csv") => Format::Csv,
        _ => {
            eprintln!(
                "error: --to {}: expected a name that ends with .jsonl or .csv",
                args.to.display()
            );
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    let (mut found, faults) = files::all(root);
    if let Some(fault) = faults.into_iter().next() {
        return Err(fault).context("a result file that cannot be read");
    }
    found.retain(|one| one.published || args.local);
    let file = File::create(&args.to).with_context(|| format!("create {}", args.to.display()))?;
    let lines = write(&found, format, BufWriter::new(file))
        .with_context(|| format!("write {}", args.to.display()))?;
    eprintln!(
        "{lines} lines of {} results in {}",
        found.len(),
        args.to.display()
    );
    Ok(ExitCode::SUCCESS)
}

#[derive(Clone, Copy)]
enum Format {
    JsonLines,
    Csv,
}

/// Writes all lines; returns how many.
fn write(found: &[Found], format: Format, mut to: impl Write) -> anyhow::Result<usize> {
    let mut lines = 0;
    match format {
        Format::JsonLines => {
            each(found, |line| {
                lines += 1;
                serde_json::to_writer(&mut to, line)?;
                Ok(to.write_all(b"\n")?)
            })?;
            to.flush()?;
        }
        Format::Csv => {
            let mut csv = csv::Writer::from_writer(to);
            each(found, |line| {
                lines += 1;
                Ok(csv.serialize(line)?)
            })?;
            csv.flush()?;
        }
    }
    Ok(lines)
}

fn each(
    found: &[Found],
    mut take: impl FnMut(&Line<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for one in found {
        let file = &one.file;
        let machine = file.environment.machine_slug();
        for row in &file.rows {
            let workload = serde_json::to_string(&row.workload)?;
            let line = |name, sample, items_per_sample, value| Line {
                chapter: &file.chapter,
                measurement: &file.measurement,
                machine: &machine,
                cpu_model: &file.environment.cpu_model,
                cores: file.environment.cores as u64,
                accelerator: (file.environment.accelerator.as_ref())
                    .map(|accelerator| accelerator.name.as_str()),
                created_utc: &file.created_utc,
                commit: file.commit.as_deref(),
                dirty: file.dirty,
                published: one.published,
                row: &row.id,
                label: &row.label,
                workload: &workload,
                status: match row.status {
                    Status::Ok => "ok",
                    Status::Failed => "failed",
                    Status::Skipped => "skipped",
                },
                reason: row.reason.as_deref(),
                name,
                sample,
                items_per_sample,
                value,
            };
            let mut lines = Vec::new();
            if let Some(samples) = &row.samples {
                let items = Some(samples.items_per_sample);
                for (index, seconds) in samples.seconds.iter().enumerate() {
                    lines.push(line(Some("seconds"), Some(index), items, Some(*seconds)));
                }
            }
            for (name, value) in &row.metrics {
                lines.push(line(Some(name.as_str()), None, None, Some(*value)));
            }
            if lines.is_empty() {
                // A row that failed or was skipped is told, with its reason.
                lines.push(line(None, None, None, None));
            }
            for line in &lines {
                take(line)?;
            }
        }
    }
    Ok(())
}
