//! Numbers inside sentences: values, ratios, and what others say.

use accel::results::Row;

use crate::{
    field::{self, Cell, Label},
    markup::{html, inline},
    measurement::{self, Measurement, Origin, Source},
    quantity::{Quantity, ratio},
};

/// One number of one row, with its unit: `25.6 images/s (yours: 18.2 images/s)`.
///
/// # Errors
/// The rows or fields there are, if the published file lacks this one.
pub fn value(measurement: &Measurement, row: &str, field: &str) -> Result<String, String> {
    let one = |source: &Source| -> Result<Option<(String, Label)>, String> {
        let Some(row) = find(source, measurement, row)? else {
            return Ok(None);
        };
        let quantity = Quantity::of(field);
        match field::cell(&source.file, row, field) {
            Ok(Cell::Number(value, label)) => Ok(Some((quantity.print(value), label))),
            Ok(Cell::Text(text)) => Ok(Some((text, Label::Measured))),
            Ok(Cell::Absent(reason)) if source.origin == Origin::Published => Err(format!(
                "{} has no {field} to print in a sentence: {reason}",
                row.id
            )),
            Err(error) if source.origin == Origin::Published => Err(error),
            Ok(Cell::Absent(_)) | Err(_) => Ok(None),
        }
    };
    both(measurement, one)
}

/// How many times the rate of one row is that of another:
/// `1.02× (95% interval 0.99 to 1.05)`.
///
/// # Errors
/// The rows there are, or why the two cannot be paired.
pub fn rate_ratio(
    measurement: &Measurement,
    numerator: &str,
    denominator: &str,
) -> Result<String, String> {
    let one = |source: &Source| -> Result<Option<(String, Label)>, String> {
        let above = find(source, measurement, numerator)?;
        let below = find(source, measurement, denominator)?;
        let (Some(above), Some(below)) = (above, below) else {
            return Ok(None);
        };
        match field::rate_ratio(above, below) {
            Ok(interval) => Ok(Some((
                format!(
                    "{}× (95% interval {} to {})",
                    ratio(interval.median),
                    ratio(interval.low),
                    ratio(interval.high)
                ),
                Label::Derived,
            ))),
            Err(error) if source.origin == Origin::Published => Err(error),
            Err(_) => Ok(None),
        }
    };
    both(measurement, one)
}

/// What stands in a sentence for a number that nobody measured.
pub fn not_measured(measurement: &Measurement) -> String {
    format!(
        "<span class=\"not-measured\">(not measured here; to fill it: <code>{}</code>)</span>",
        inline(&measurement.known.command)
    )
}

/// A number that somebody else published, with its source and date.
pub fn published(value: &str, source: &str, url: Option<&str>, date: &str) -> String {
    let source = match url {
        Some(url) => format!("<a href=\"{}\">{}</a>", html(url), inline(source)),
        None => inline(source),
    };
    format!(
        "<span class=\"value\">{}</span> (published: {source}, {})",
        inline(value),
        inline(date)
    )
}

/// A number that a tool estimated.
pub fn estimate(value: &str, by: &str) -> String {
    format!(
        "<span class=\"value\">{}</span> (estimate, by {})",
        inline(value),
        inline(by)
    )
}

/// The published number first, the reader's behind it.
fn both(
    measurement: &Measurement,
    one: impl Fn(&Source) -> Result<Option<(String, Label)>, String>,
) -> Result<String, String> {
    let mut texts = Vec::new();
    for source in measurement.sources() {
        if let Some((text, label)) = one(source)? {
            texts.push((source, text, label));
        }
    }
    let span = |source: &Source, text: &str, label: Label| {
        format!(
            "<span class=\"value\" title=\"{}; {}\">{}</span>",
            label.word(),
            html(&source.heading()),
            inline(text)
        )
    };
    Ok(match texts.as_slice() {
        [] => not_measured(measurement),
        [(source, text, label)] if source.origin == Origin::Yours => {
            format!("{} (yours)", span(source, text, *label))
        }
        [(source, text, label)] => span(source, text, *label),
        [(first, text, label), (second, yours, own), ..] => format!(
            "{} (yours: {})",
            span(first, text, *label),
            span(second, yours, *own)
        ),
    })
}

/// A row of a source. The published file must have it, the reader's need not.
fn find<'a>(
    source: &'a Source,
    measurement: &Measurement,
    id: &str,
) -> Result<Option<&'a Row>, String> {
    match source.file.row(id) {
        Some(row) => Ok(Some(row)),
        None if source.origin == Origin::Published => Err(measurement::no_row(measurement, id)),
        None => Ok(None),
    }
}
