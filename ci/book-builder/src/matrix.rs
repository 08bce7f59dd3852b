//! One field of a measurement as a table with a cell for each pair of two others:
//! engines down, devices and number formats across. A cell that nobody measured says
//! so, and a note beneath tells why, and what would fill it.

use std::fmt::Write;

use accel::results::{Row, Status};

use crate::{
    directive::Matrix,
    field::{self, Cell, Label},
    markup::html,
    measurement::{self, Measurement, Origin, Source},
    provenance,
    quantity::{Quantity, setting},
};

/// Renders one table a result file, with its notes and provenance, as HTML without
/// blank lines.
///
/// * `up`: the way from the page to the book's root
///
/// # Errors
/// One message for each field that the published file lacks, and for each cell that
/// more than one row would fill.
pub fn render(matrix: &Matrix, measurement: &Measurement, up: &str) -> Result<String, Vec<String>> {
    let ids = measurement::select(measurement, &matrix.selection).map_err(|error| vec![error])?;
    let title = measurement.title(matrix.title.as_deref());
    let quantity = Quantity::of(&matrix.field);
    let mut errors = Vec::new();
    let mut labels = Vec::new();
    let mut out = String::from("<div class=\"figure\">\n");
    for source in measurement.sources() {
        let grid = match Grid::of(matrix, source, &ids) {
            Ok(grid) => grid,
            Err(faults) => {
                // A reader's file of another version is no fault of the page.
                if source.origin == Origin::Published {
                    errors.extend(faults);
                }
                continue;
            }
        };
        let caption = format!(
            "{title}: {}. {}",
            quantity.heading(&matrix.field),
            source.heading()
        );
        let _ = write!(
            out,
            "<div class=\"figure-scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\">\n<table>\n<caption>{0}</caption>\n<thead>\n<tr><th scope=\"col\">{1}</th>",
            html(&caption),
            html(&matrix.line.replace('_', " "))
        );
        for column in &grid.columns {
            let _ = write!(out, "<th scope=\"col\">{}</th>", html(column));
        }
        out.push_str("</tr>\n</thead>\n<tbody>\n");
        let mut notes = Vec::new();
        for (line, cells) in grid.lines.iter().zip(&grid.cells) {
            let _ = write!(out, "<tr><th scope=\"row\">{}</th>", html(line));
            for cell in cells {
                match cell.map(|row| (row, field::cell(&source.file, row, &matrix.field))) {
                    Some((_, Ok(Cell::Number(value, label)))) => {
                        labels.push(label);
                        let _ = write!(
                            out,
                            "<td class=\"number\">{}</td>",
                            html(&quantity.print_bare(value))
                        );
                    }
                    Some((_, Ok(Cell::Text(text)))) => {
                        let _ = write!(out, "<td>{}</td>", html(&text));
                    }
                    Some((row, Ok(Cell::Absent(reason)))) => {
                        let _ = write!(out, "<td class=\"absent\">{}", word(row));
                        let number = note(&mut notes, row.reason.as_deref().unwrap_or(&reason));
                        let _ = write!(out, " ({number})</td>");
                    }
                    Some((_, Err(error))) if source.origin == Origin::Published => {
                        errors.push(error);
                    }
                    Some((_, Err(_))) => out.push_str("<td class=\"absent\">not measured</td>"),
                    None => out.push_str("<td class=\"absent\">not measured</td>"),
                }
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n</table>\n</div>\n");
        for (index, reason) in notes.iter().enumerate() {
            let _ = writeln!(
                out,
                "<p class=\"provenance\">({}) {}</p>",
                index + 1,
                html(reason)
            );
        }
    }
    if !errors.is_empty() {
        errors.sort();
        errors.dedup();
        return Err(errors);
    }
    if labels.is_empty() {
        labels.push(Label::Measured);
    }
    labels.sort_unstable();
    labels.dedup();
    out.push_str(&provenance::lines(measurement, &ids, &labels, up));
    out.push_str("</div>\n");
    Ok(out)
}

/// What a cell without a number says at first sight.
fn word(row: &Row) -> &'static str {
    match row.status {
        Status::Failed => "failed",
        Status::Ok | Status::Skipped => "not measured",
    }
}

/// The number of a note, from 1; the same reason has one note.
fn note(notes: &mut Vec<String>, reason: &str) -> usize {
    match notes.iter().position(|known| known == reason) {
        Some(index) => index + 1,
        None => {
            notes.push(reason.to_owned());
            notes.len()
        }
    }
}

/// The rows of one result file by line and column, both in the order of the file.
struct Grid<'a> {
    lines: Vec<String>,
    columns: Vec<String>,
    /// One list a line, one entry a column.
    cells: Vec<Vec<Option<&'a Row>>>,
}

impl<'a> Grid<'a> {
    fn of(matrix: &Matrix, source: &'a Source, ids: &[String]) -> Result<Self, Vec<String>> {
        let mut grid = Self {
            lines: Vec::new(),
            columns: Vec::new(),
            cells: Vec::new(),
        };
        let mut errors = Vec::new();
        let rows = (source.file.rows.iter()).filter(|row| ids.contains(&row.id));
        for row in rows {
            let name = |field: &str| name(source, row, field);
            let line = name(&matrix.line);
            let parts: Result<Vec<String>, String> =
                matrix.columns.iter().map(|field| name(field)).collect();
            let (line, column) = match (line, parts) {
                (Ok(line), Ok(parts)) => (line, parts.join(", ")),
                (Err(error), _) | (_, Err(error)) => {
                    errors.push(error);
                    continue;
                }
            };
            let (line, column) = (
                place(&mut grid.lines, line),
                place(&mut grid.columns, column),
            );
            grid.cells.resize(grid.lines.len(), Vec::new());
            for cells in &mut grid.cells {
                cells.resize(grid.columns.len(), None);
            }
            let cell = &mut grid.cells[line][column];
            match cell {
                Some(other) => errors.push(format!(
                    "{} and {} fall into one cell ({}; {}): choose with where= or rows=",
                    other.id, row.id, grid.lines[line], grid.columns[column]
                )),
                None => *cell = Some(row),
            }
        }
        if errors.is_empty() {
            Ok(grid)
        } else {
            Err(errors)
        }
    }
}

/// The index of a name, which is added if it is new.
fn place(names: &mut Vec<String>, name: String) -> usize {
    match names.iter().position(|known| *known == name) {
        Some(index) => index,
        None => {
            names.push(name);
            names.len() - 1
        }
    }
}

/// A field of a row as a heading.
fn name(source: &Source, row: &Row, field: &str) -> Result<String, String> {
    match field::cell(&source.file, row, field)? {
        Cell::Number(value, _) => Ok(format!("{} {}", field.replace('_', " "), setting(value))),
        Cell::Text(text) => Ok(text),
        Cell::Absent(_) => Err(format!(
            "{} has no {field}, which names its place: leave it out with where= or rows=",
            row.id
        )),
    }
}
