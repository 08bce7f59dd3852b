//! The line under every figure: who measured it, how often, when, with what.

use std::fmt::Write;

use accel::results::Row;

use crate::{
    field::{Label, is_ok},
    markup::html,
    measurement::{Measurement, Source},
    quantity::Quantity,
};

/// The provenance of the rows that a figure shows, one paragraph a result file,
/// and the command that fills what is missing.
///
/// * `ids`: the rows shown; empty for all
/// * `labels`: where the figure's numbers come from
/// * `up`: the way from the page to the book's root
pub fn lines(measurement: &Measurement, ids: &[String], labels: &[Label], up: &str) -> String {
    let mut out = full(measurement, ids, labels, up);
    out.push_str(&missing(measurement));
    out
}

/// All that is known of the result files, one paragraph each.
pub fn full(measurement: &Measurement, ids: &[String], labels: &[Label], up: &str) -> String {
    measurement
        .sources()
        .map(|source| line(source, ids, labels, up) + "\n")
        .collect()
}

/// What a reader needs at first sight, one paragraph a result file: under a chart,
/// which has the rest in its folded table.
pub fn brief(measurement: &Measurement, ids: &[String], labels: &[Label]) -> String {
    (measurement.sources())
        .map(|source| brief_of(source, ids, labels))
        .collect()
}

/// The same of one result file.
pub fn brief_of(source: &Source, ids: &[String], labels: &[Label]) -> String {
    let mut parts = vec![format!("{}: {}", source.heading(), words(labels))];
    parts.extend(samples(&rows(source, ids)));
    parts.push(date(source).to_owned());
    format!(
        "<p class=\"provenance\">{}.{}</p>\n",
        html(&parts.join("; ")),
        badge(source)
    )
}

/// The command that fills what nobody has measured.
pub fn missing(measurement: &Measurement) -> String {
    let mut out = String::new();
    if measurement.published.is_none() {
        out.push_str("<p class=\"provenance\">Published: not measured here.</p>\n");
    }
    if measurement.yours.is_none() {
        let _ = writeln!(
            out,
            "<p class=\"provenance\">Yours: not measured here. To fill it: <code>{}</code></p>",
            html(&measurement.known.command)
        );
    }
    out
}

/// What stands where a figure would, when nobody measured it.
pub fn not_measured(measurement: &Measurement, title: &str) -> String {
    format!(
        "<div class=\"figure not-measured\">\n<p><strong>{}</strong></p>\n<p>Not measured here. To fill it: <code>{}</code></p>\n</div>\n",
        html(title),
        html(&measurement.known.command)
    )
}

fn line(source: &Source, ids: &[String], labels: &[Label], up: &str) -> String {
    let file = &source.file;
    let environment = &file.environment;
    let mut parts = vec![format!("{}: {}", source.heading(), words(labels))];
    parts.push(format!(
        "{} cores, {}, {} {}",
        environment.cores,
        Quantity::Bytes.print(environment.memory_bytes as f64),
        environment.os,
        environment.kernel
    ));
    if let Some(accelerator) = environment
        .accelerator
        .as_ref()
        .filter(|_| source.ran_on_accelerator())
    {
        parts.push(format!("with {}", environment.cpu_model));
        if let Some(driver) = &accelerator.driver {
            parts.push(format!("driver {driver}"));
        }
    }
    parts.extend(samples(&rows(source, ids)));
    parts.push(date(source).to_owned());
    parts.push(match (&file.commit, file.dirty) {
        (Some(commit), dirty) => format!(
            "commit {}{}",
            commit.get(..10).unwrap_or(commit),
            if dirty == Some(true) {
                " with uncommitted changes"
            } else {
                ""
            }
        ),
        (None, _) => "no commit known".to_owned(),
    });
    let mut versions: Vec<String> = environment
        .libraries
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    versions.extend(environment.rustc.clone());
    if !versions.is_empty() {
        parts.push(versions.join(", "));
    }
    format!(
        "<p class=\"provenance\">{}; command: <code>{}</code>; <a href=\"{up}{}\">all samples</a>.{}</p>",
        html(&parts.join("; ")),
        html(&file.command.join(" ")),
        html(&source.link),
        badge(source)
    )
}

/// What has changed since a result was measured; empty if nothing is known to have.
fn badge(source: &Source) -> String {
    source.stale.as_ref().map_or_else(String::new, |what| {
        format!(" <span class=\"badge stale\">Stale: {}</span>", html(what))
    })
}

/// The rows of a figure that hold a measurement.
fn rows<'a>(source: &'a Source, ids: &[String]) -> Vec<&'a Row> {
    source
        .file
        .rows
        .iter()
        .filter(|row| is_ok(row) && (ids.is_empty() || ids.contains(&row.id)))
        .collect()
}

fn words(labels: &[Label]) -> String {
    let mut words: Vec<&str> = labels.iter().map(|label| label.word()).collect();
    words.dedup();
    words.join(" and ")
}

/// The day, of `2026-01-31T10:58:00Z`.
pub fn date(source: &Source) -> &str {
    let created = &source.file.created_utc;
    created.get(..10).unwrap_or(created)
}

/// How many samples the rows have, and how far they spread; empty without samples.
fn samples(rows: &[&Row]) -> Vec<String> {
    let mut parts = Vec::new();
    let counts: Vec<usize> = rows
        .iter()
        .filter_map(|row| row.samples.as_ref().map(|samples| samples.seconds.len()))
        .collect();
    if let (Some(&low), Some(&high)) = (counts.iter().min(), counts.iter().max()) {
        parts.push(if low == high {
            format!("n = {low} samples a row")
        } else {
            format!("n = {low} to {high} samples a row")
        });
    }
    let spread = rows
        .iter()
        .filter_map(|row| row.samples.as_ref()?.summary())
        .map(|summary| summary.relative_iqr())
        .filter(|spread| spread.is_finite())
        .fold(None, |widest: Option<f64>, spread| {
            Some(widest.map_or(spread, |widest| widest.max(spread)))
        });
    if let Some(spread) = spread {
        parts.push(format!(
            "spread (interquartile range over median) at most {}",
            Quantity::Share.print(spread)
        ));
    }
    parts
}
