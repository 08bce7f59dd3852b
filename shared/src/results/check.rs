//! What a result file must hold beyond its shape.

use std::collections::HashSet;

use serde_json::Value;

use super::{ResultError, ResultFile, Row, SCHEMA_VERSION, Status};
use crate::checkout::is_object_name;
use crate::environment::Environment;
use crate::privacy::is_telling;
use crate::timing::Samples;

/// Collects what is wrong, so that one error tells all of it.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn expect(&mut self, holds: bool, place: &str, expected: &str, got: impl std::fmt::Debug) {
        if !holds {
            let mut got = format!("{got:?}");
            // A megabyte of text in one field must not become the message.
            if got.len() > 80 {
                let end = (0..=80).rev().find(|&at| got.is_char_boundary(at));
                got.truncate(end.unwrap_or(0));
                got.push_str("...");
            }
            self.0
                .push(format!("{place}: expected {expected}, got {got}"));
        }
    }

    /// A text that may be published.
    fn expect_text(&mut self, place: &str, text: &str) {
        self.expect(
            !is_telling(text),
            place,
            "no absolute path and no user in a URL",
            text,
        );
    }

    fn expect_filled(&mut self, place: &str, text: &str) {
        self.expect(!text.trim().is_empty(), place, "some text", text);
        self.expect_text(place, text);
    }
}

const SECONDS: &str = "a finite number of at least 0";
const NAME: &str = "a name of lower-case letters, digits, dots, hyphens and underscores that \
                    starts with a letter or digit";

/// Whether this can be the name of a chapter, a measurement or a machine: a safe
/// file name on every system, at most 100 characters.
pub(crate) fn is_name(text: &str) -> bool {
    let tame = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= 100
        && text.bytes().next().is_some_and(tame)
        && text
            .bytes()
            .all(|b| tame(b) || matches!(b, b'.' | b'-' | b'_'))
}

/// Whether this is a path inside the checkout, as git writes it.
fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\\', '\0'])
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// `2025-11-21T10:58:00Z`, and a date that exists.
fn is_utc(text: &str) -> bool {
    text.len() == 20
        && text.ends_with('Z')
        && text.as_bytes().get(10) == Some(&b'T')
        && text.parse::<jiff::Timestamp>().is_ok()
}

impl ResultFile {
    /// Checks all values.
    ///
    /// # Errors
    /// [`ResultError::Version`] for another version of the shape, and
    /// [`ResultError::Invalid`], which lists every wrong value.
    pub fn validate(&self) -> Result<(), ResultError> {
        if self.schema_version != SCHEMA_VERSION {
            return Err(ResultError::Version {
                got: self.schema_version.to_string(),
                newer: self.schema_version > SCHEMA_VERSION,
            });
        }
        let mut problems = Problems::default();
        let p = &mut problems;
        p.expect(is_name(&self.chapter), "chapter", NAME, &self.chapter);
        p.expect(
            is_name(&self.measurement),
            "measurement",
            NAME,
            &self.measurement,
        );
        if let Some(title) = &self.title {
            p.expect_filled("title", title);
        }
        p.expect(
            is_utc(&self.created_utc),
            "created_utc",
            "a UTC time such as 2025-11-21T10:58:00Z",
            &self.created_utc,
        );
        p.expect(
            !self.command.is_empty(),
            "command",
            "the program's name and its arguments",
            &self.command,
        );
        for (index, argument) in self.command.iter().enumerate() {
            p.expect_text(&format!("command[{index}]"), argument);
        }
        if let Some(commit) = &self.commit {
            p.expect(
                is_object_name(commit),
                "commit",
                "40 or 64 hexadecimal digits",
                commit,
            );
        }
        p.expect(
            self.commit.is_some() == self.dirty.is_some(),
            "dirty",
            "true or false with a commit, null without",
            self.dirty,
        );
        for (index, path) in self.depends_on.iter().enumerate() {
            p.expect(
                is_inside(path),
                &format!("depends_on[{index}]"),
                "a path relative to the checkout's root, without . and ..",
                path,
            );
        }
        environment(p, &self.environment);
        for (index, note) in self.notes.iter().enumerate() {
            p.expect_filled(&format!("notes[{index}]"), note);
        }
        let mut ids = HashSet::new();
        for (index, row) in self.rows.iter().enumerate() {
            let place = format!("rows[{index}]");
            p.expect(
                ids.insert(row.id.as_str()),
                &format!("{place}.id"),
                "an id that no other row has",
                &row.id,
            );
            check_row(p, &place, row);
        }
        match problems.0.is_empty() {
            true => Ok(()),
            false => Err(ResultError::Invalid {
                problems: problems.0,
            }),
        }
    }
}

fn environment(p: &mut Problems, environment: &Environment) {
    let place = |field: &str| format!("environment.{field}");
    for (field, text) in [
        ("cpu_model", &environment.cpu_model),
        ("os", &environment.os),
        ("kernel", &environment.kernel),
        ("arch", &environment.arch),
    ] {
        p.expect_filled(&place(field), text);
    }
    p.expect(
        environment.cores >= 1,
        &place("cores"),
        "at least 1",
        environment.cores,
    );
    for (index, feature) in environment.cpu_features.iter().enumerate() {
        p.expect_filled(&place(&format!("cpu_features[{index}]")), feature);
    }
    for load in environment.load_at_start.iter().flatten() {
        p.expect(
            load.is_finite() && *load >= 0.0,
            &place("load_at_start"),
            SECONDS,
            load,
        );
    }
    if let Some(accelerator) = &environment.accelerator {
        p.expect_filled(&place("accelerator.name"), &accelerator.name);
        if let Some(driver) = &accelerator.driver {
            p.expect_filled(&place("accelerator.driver"), driver);
        }
    }
    for (name, version) in &environment.libraries {
        p.expect_filled(&place("libraries"), name);
        p.expect_filled(&place(&format!("libraries.{name}")), version);
    }
    if let Some(rustc) = &environment.rustc {
        p.expect_filled(&place("rustc"), rustc);
    }
}

fn check_row(p: &mut Problems, place: &str, row: &Row) {
    let at = |field: &str| format!("{place}.{field}");
    p.expect_filled(&at("id"), &row.id);
    p.expect(
        !row.id.contains(char::is_control),
        &at("id"),
        "one line",
        &row.id,
    );
    p.expect_filled(&at("label"), &row.label);
    for (name, value) in &row.workload {
        p.expect_filled(&at("workload"), name);
        match value {
            Value::Array(_) | Value::Object(_) => p.expect(
                false,
                &at(&format!("workload.{name}")),
                "a string, a number, true, false or null",
                value,
            ),
            Value::String(text) => p.expect_text(&at(&format!("workload.{name}")), text),
            _ => {}
        }
    }
    if let Some(reason) = &row.reason {
        p.expect_filled(&at("reason"), reason);
    }
    match row.status {
        Status::Ok => p.expect(
            !row.metrics.is_empty() || row.samples.as_ref().is_some_and(|s| !s.seconds.is_empty()),
            place,
            "samples or metrics in a row that is ok",
            &row.id,
        ),
        Status::Failed | Status::Skipped => p.expect(
            row.reason.is_some(),
            &at("reason"),
            "a reason unless the row is ok",
            &row.reason,
        ),
    }
    if let Some(samples) = &row.samples {
        check_samples(p, &at("samples"), samples);
    }
    for (name, value) in &row.metrics {
        p.expect_filled(&at("metrics"), name);
        p.expect(
            value.is_finite(),
            &at(&format!("metrics.{name}")),
            "a finite number",
            value,
        );
    }
}

fn check_samples(p: &mut Problems, place: &str, samples: &Samples) {
    p.expect(
        samples.items_per_sample >= 1,
        &format!("{place}.items_per_sample"),
        "at least 1",
        samples.items_per_sample,
    );
    for (field, seconds) in [
        ("warmup_seconds", &samples.warmup_seconds),
        ("seconds", &samples.seconds),
    ] {
        for (index, value) in seconds.iter().enumerate() {
            p.expect(
                value.is_finite() && *value >= 0.0,
                &format!("{place}.{field}[{index}]"),
                SECONDS,
                value,
            );
        }
    }
}
