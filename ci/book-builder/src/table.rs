//! Tables of result files: the published numbers, and the reader's beside them.

use std::fmt::Write;

use accel::results::Row;

use crate::{
    directive::Table,
    field::{self, Cell, Label},
    markup::html,
    measurement::{self, Measurement, Source},
    provenance,
    quantity::{Quantity, ratio},
};

/// Renders a table with its provenance, as HTML without blank lines.
///
/// * `up`: the way from the page to the book's root
///
/// # Errors
/// One message for each row, field or baseline that the result files lack.
pub fn render(table: &Table, measurement: &Measurement, up: &str) -> Result<String, Vec<String>> {
    let ids = measurement::select(measurement, &table.selection).map_err(|error| vec![error])?;
    let sources: Vec<&Source> = measurement.sources().collect();
    let mut errors = Vec::new();
    let mut labels: Vec<Label> = Vec::new();

    // What describes a row stands once; what was measured stands once a source.
    let (shared, measured): (Vec<&str>, Vec<&str>) = table
        .columns
        .iter()
        .map(String::as_str)
        .partition(|field| describes(&sources, field));
    if measured.is_empty() {
        return Err(vec![format!(
            "columns={} only describe the rows: name a measured field, too",
            table.columns.join(",")
        )]);
    }
    if shared.is_empty() {
        return Err(vec![
            "no column says which row is which: add label to columns=".to_owned(),
        ]);
    }
    if let Some(baseline) = &table.baseline
        && sources
            .first()
            .is_some_and(|source| source.file.row(baseline).is_none())
    {
        errors.push(measurement::no_row(measurement, baseline));
    }

    let title = measurement.title(table.title.as_deref());
    let mut out = format!(
        "<div class=\"figure\">\n<div class=\"figure-scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\">\n<table>\n<caption>{0}</caption>\n<thead>\n<tr>",
        html(title)
    );
    for field in &shared {
        let _ = write!(
            out,
            "<th scope=\"col\" rowspan=\"2\">{}</th>",
            html(&heading(field))
        );
    }
    for source in &sources {
        let _ = write!(
            out,
            "<th scope=\"colgroup\" colspan=\"{}\">{}</th>",
            measured.len(),
            html(&source.heading())
        );
    }
    out.push_str("</tr>\n<tr>");
    for _ in &sources {
        for field in &measured {
            let _ = write!(out, "<th scope=\"col\">{}</th>", html(&heading(field)));
        }
    }
    out.push_str("</tr>\n</thead>\n<tbody>\n");
    for id in &ids {
        out.push_str("<tr>");
        for (index, field) in shared.iter().enumerate() {
            let text = sources
                .iter()
                .find_map(|source| {
                    let row = source.file.row(id)?;
                    Some(field::cell(&source.file, row, field))
                })
                .map_or_else(String::new, |cell| match cell {
                    Ok(cell) => print(field, &cell, &mut labels, false),
                    Err(error) => {
                        errors.push(error);
                        String::new()
                    }
                });
            let number = text.starts_with(|c: char| c.is_ascii_digit());
            let _ = write!(
                out,
                "{}{text}{}",
                match (index, number) {
                    (0, _) => "<th scope=\"row\">",
                    (_, true) => "<td class=\"number\">",
                    (_, false) => "<td>",
                },
                if index == 0 { "</th>" } else { "</td>" }
            );
        }
        for source in &sources {
            let row = source.file.row(id);
            // A row that did not run says why once, not in every column.
            if let Some(reason) = row.map_or(Some("not measured".to_owned()), field::failure) {
                let _ = write!(
                    out,
                    "<td class=\"absent\" colspan=\"{}\">{}</td>",
                    measured.len(),
                    html(&reason)
                );
                continue;
            }
            for field in &measured {
                let text = row.map_or(Ok(String::new()), |row| {
                    measured_cell(table, source, row, field, &mut labels)
                });
                let text = text.unwrap_or_else(|error| {
                    errors.push(error);
                    String::new()
                });
                let _ = write!(out, "<td class=\"number\">{text}</td>");
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    if let Some(baseline) = &table.baseline {
        let _ = writeln!(
            out,
            "<p class=\"provenance\">Relative: rate over that of {}, median of the pairwise ratios with its 95% interval (derived).</p>",
            html(&baseline_label(&sources, baseline))
        );
    }
    labels.sort_unstable();
    labels.dedup();
    out.push_str(&provenance::lines(measurement, &ids, &labels, up));
    out.push_str("</div>\n");
    if errors.is_empty() {
        Ok(out)
    } else {
        errors.sort();
        errors.dedup();
        Err(errors)
    }
}

fn measured_cell(
    table: &Table,
    source: &Source,
    row: &Row,
    field: &str,
    labels: &mut Vec<Label>,
) -> Result<String, String> {
    if field == "relative" {
        let Some(baseline) = table.baseline.as_deref().and_then(|id| source.file.row(id)) else {
            return Ok("no baseline".into());
        };
        if baseline.id == row.id {
            return Ok("1".into());
        }
        labels.push(Label::Derived);
        return Ok(match field::rate_ratio(row, baseline) {
            Ok(interval) => format!(
                "{} ({} to {})",
                ratio(interval.median),
                ratio(interval.low),
                ratio(interval.high)
            ),
            Err(reason) => html(&reason),
        });
    }
    // A reader's file of another version may lack a field; that is no fault of the page.
    match field::cell(&source.file, row, field) {
        Ok(cell) => Ok(print(field, &cell, labels, true)),
        Err(_) if source.origin == measurement::Origin::Yours => Ok("not measured".into()),
        Err(error) => Err(error),
    }
}

/// Whether a field says which row this is, and not what was measured.
fn describes(sources: &[&Source], field: &str) -> bool {
    matches!(field, "label" | "id")
        || sources.iter().any(|source| {
            source
                .file
                .rows
                .iter()
                .any(|row| row.workload.contains_key(field))
        })
}

fn heading(field: &str) -> String {
    match field {
        "label" => "what ran".into(),
        _ => Quantity::of(field).heading(field),
    }
}

fn print(field: &str, cell: &Cell, labels: &mut Vec<Label>, measured: bool) -> String {
    match cell {
        Cell::Number(value, label) => {
            if measured {
                labels.push(*label);
            }
            Quantity::of(field).print_bare(*value)
        }
        Cell::Text(text) => html(text),
        Cell::Absent(reason) => html(reason),
    }
}

fn baseline_label(sources: &[&Source], id: &str) -> String {
    sources
        .iter()
        .find_map(|source| source.file.row(id))
        .map_or_else(|| id.to_owned(), |row| row.label.clone())
}
