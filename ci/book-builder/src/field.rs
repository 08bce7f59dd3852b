//! What a row says of a field: a number of its samples, a metric, or a part of its
//! workload, and the ratio of two rows.

use accel::{
    results::{ResultFile, Row, Status},
    timing::{self, Interval},
};

/// Where a number comes from, as its label says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// Read off a clock, counted, or computed from that in one step.
    Measured,
    /// Computed from measured numbers by a formula.
    Derived,
    /// A tool's estimate.
    Estimate,
}

impl Label {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Derived => "derived",
            Self::Estimate => "estimate",
        }
    }
}

/// What a row says of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A number and where it comes from.
    Number(f64, Label),
    /// A name.
    Text(String),
    /// The row failed or was skipped, or has no such number: why.
    Absent(String),
}

/// Fields computed from a row's samples.
const FROM_SAMPLES: &[&str] = &[
    "images_per_second",
    "items_per_second",
    "steps_per_second",
    "ms_per_image",
    "ms_per_item",
    "ms_per_step",
    "min_ms",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "max_ms",
    "samples",
    "spread",
];

/// A field of a row: its label, a number of its samples, a metric, or an entry
/// of its workload, in this order.
///
/// # Errors
/// The fields there are, if no row of the file has this one.
pub fn cell(file: &ResultFile, row: &Row, field: &str) -> Result<Cell, String> {
    match field {
        "id" => return Ok(Cell::Text(row.id.clone())),
        "label" => return Ok(Cell::Text(row.label.clone())),
        _ => {}
    }
    if let Some(value) = row.workload.get(field) {
        return Ok(match value {
            serde_json::Value::Number(number) => number.as_f64().map_or_else(
                || Cell::Text(number.to_string()),
                |n| Cell::Number(n, Label::Measured),
            ),
            serde_json::Value::String(text) => Cell::Text(text.clone()),
            serde_json::Value::Bool(yes) => Cell::Text(if *yes { "yes" } else { "no" }.into()),
            serde_json::Value::Null => Cell::Absent("none".into()),
            other => Cell::Text(other.to_string()),
        });
    }
    let known_somewhere = FROM_SAMPLES.contains(&field)
        || file
            .rows
            .iter()
            .any(|row| row.metrics.contains_key(field) || row.workload.contains_key(field));
    if !known_somewhere {
        return Err(no_field(file, field));
    }
    if let Some(reason) = failure(row) {
        return Ok(Cell::Absent(reason));
    }
    if let Some(&value) = row.metrics.get(field) {
        let label = if field.ends_with("_estimate") || field.starts_with("estimated_") {
            Label::Estimate
        } else {
            Label::Measured
        };
        return Ok(Cell::Number(value, label));
    }
    Ok(from_samples(row, field).map_or_else(
        || Cell::Absent("not in this row".into()),
        |v| Cell::Number(v, Label::Measured),
    ))
}

/// Whether a row went well and has no such number: it is a row of another kind.
pub fn is_of_another_kind(row: &Row, field: &str) -> bool {
    failure(row).is_none()
        && !row.metrics.contains_key(field)
        && !row.workload.contains_key(field)
        && from_samples(row, field).is_none()
}

fn no_field(file: &ResultFile, field: &str) -> String {
    let mut known: Vec<&str> = vec!["id", "label"];
    known.extend(FROM_SAMPLES);
    for row in &file.rows {
        known.extend(row.metrics.keys().map(String::as_str));
        known.extend(row.workload.keys().map(String::as_str));
    }
    let mut once = Vec::new();
    for name in known {
        if !once.contains(&name) {
            once.push(name);
        }
    }
    format!("no field {field:?}: expected one of {}", once.join(", "))
}

fn from_samples(row: &Row, field: &str) -> Option<f64> {
    let samples = row.samples.as_ref()?;
    let summary = samples.summary()?;
    let items = samples.items_per_sample.max(1) as f64;
    Some(match field {
        "images_per_second" | "items_per_second" | "steps_per_second" => {
            samples.items_per_second()?
        }
        "ms_per_image" | "ms_per_item" | "ms_per_step" => summary.median * 1e3 / items,
        "min_ms" => summary.min * 1e3,
        "p50_ms" => summary.p50 * 1e3,
        "p95_ms" => summary.p95 * 1e3,
        "p99_ms" => summary.p99 * 1e3,
        "max_ms" => summary.max * 1e3,
        "samples" => summary.n as f64,
        "spread" => summary.relative_iqr(),
        _ => return None,
    })
    .filter(|value| value.is_finite())
}

/// The middle half of a sampled field: its 25th and 75th percentile; `None` for
/// a field without samples.
pub fn middle_half(row: &Row, field: &str) -> Option<(f64, f64)> {
    if row.metrics.contains_key(field) || row.workload.contains_key(field) || !is_ok(row) {
        return None;
    }
    let samples = row.samples.as_ref()?;
    let mut seconds = samples.seconds.clone();
    seconds.sort_by(f64::total_cmp);
    let low = timing::percentile(&seconds, 0.25);
    let high = timing::percentile(&seconds, 0.75);
    let items = samples.items_per_sample.max(1) as f64;
    let pair = match field {
        "images_per_second" | "items_per_second" | "steps_per_second" => {
            (items / high, items / low)
        }
        "ms_per_image" | "ms_per_item" | "ms_per_step" => (low * 1e3 / items, high * 1e3 / items),
        "p50_ms" => (low * 1e3, high * 1e3),
        _ => return None,
    };
    (pair.0.is_finite() && pair.1.is_finite()).then_some(pair)
}

/// How many times the rate of one row is that of another, pair by pair, with
/// its 95% interval.
///
/// # Errors
/// Why there is no ratio, for a reader.
pub fn rate_ratio(numerator: &Row, denominator: &Row) -> Result<Interval, String> {
    let per_item = |row: &Row| -> Result<Vec<f64>, String> {
        let samples = row
            .samples
            .as_ref()
            .filter(|_| is_ok(row))
            .ok_or_else(|| format!("{} has no samples", row.id))?;
        let items = samples.items_per_sample.max(1) as f64;
        Ok(samples
            .seconds
            .iter()
            .map(|seconds| seconds / items)
            .collect())
    };
    let (above, below) = (per_item(numerator)?, per_item(denominator)?);
    // A ratio of rates is the inverse ratio of times.
    timing::paired_ratio(&below, &above).ok_or_else(|| {
        format!(
            "{} and {} cannot be paired: {} and {} samples",
            numerator.id,
            denominator.id,
            above.len(),
            below.len()
        )
    })
}

/// Whether a row holds a measurement.
pub fn is_ok(row: &Row) -> bool {
    matches!(row.status, Status::Ok)
}

/// Why a row holds no measurement: "skipped: no avx512_bf16"; `None` if it does.
pub fn failure(row: &Row) -> Option<String> {
    let status = match row.status {
        Status::Ok => return None,
        Status::Failed => "failed",
        Status::Skipped => "skipped",
    };
    Some(match &row.reason {
        Some(reason) => format!("{status}: {reason}"),
        None => status.to_owned(),
    })
}
