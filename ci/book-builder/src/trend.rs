//! How a figure went from publication to publication: a line a row, and a table that says
//! what else was different each time.

use std::{collections::BTreeSet, fmt::Write};

use accel::results::ResultFile;

use crate::{
    chart::{self, Axes, Point, Series},
    directive::Trend,
    field::{self, Cell, Label},
    markup::html,
    measurement::{self, Measurement, Origin, Source},
    provenance,
    quantity::Quantity,
};

/// What a publication says of a row.
struct Figure {
    value: f64,
    /// The middle half of the samples; for a ratio its 95% interval.
    range: Option<(f64, f64)>,
    /// How many samples it is made from.
    samples: Option<usize>,
    label: Label,
}

/// Renders the trend over all published results of the reference machine, oldest first.
///
/// * `up`: the way from the page to the book's root
///
/// # Errors
/// One message for each row that the newest published file lacks, or that has no such number
/// there: an older one may have had other rows.
pub fn render(trend: &Trend, measurement: &Measurement, up: &str) -> Result<String, Vec<String>> {
    let Some(newest) = &measurement.published else {
        return Err(vec![format!("no published result of {}", measurement.name)]);
    };
    let mut errors = Vec::new();
    let mut labels = Vec::new();
    for id in trend.rows.iter().chain(&trend.baseline) {
        if newest.file.row(id).is_none() {
            errors.push(measurement::no_row(measurement, id));
        }
    }
    for id in &trend.rows {
        match read(trend, &newest.file, id) {
            Ok(figure) => labels.push(figure.label),
            Err(reason) => errors.push(format!("{} of {id}: {reason}", trend.field)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    labels.sort_unstable();
    labels.dedup();

    let unit = Quantity::of(&trend.field);
    let title = measurement.title(trend.title.as_deref());
    let series = series(trend, measurement, &newest.file);
    let mut out = format!(
        "<figure class=\"figure chart\">\n<figcaption>{}</figcaption>\n",
        html(title)
    );
    // A line needs two points.
    if series.iter().any(|series| series.points.len() > 1) {
        let axes = Axes {
            x: "publication",
            field: &trend.field,
            logarithmic: false,
            whiskers: true,
        };
        out.push_str(&chart::lines(title, &axes, &unit, &series));
    }
    out.push_str(&table(trend, measurement, &series, title, &unit, up));
    let note = match &trend.baseline {
        Some(id) => format!(
            "Relative: rate over that of {} in the same run, median of the pairwise ratios with its 95% interval (derived).",
            row_label(&newest.file, id)
        ),
        None => "Beneath a number: the middle half of its samples, where it has any.".to_owned(),
    };
    let count = measurement.history().count();
    let _ = writeln!(
        out,
        "<p class=\"provenance\">{} {}; each date leads to all samples. The newest:</p>",
        html(&note),
        match count {
            1 => "One publication so far".to_owned(),
            _ => format!("{count} publications"),
        }
    );
    out.push_str(&provenance::brief_of(newest, &trend.rows, &labels));
    out.push_str("</figure>\n");
    Ok(out)
}

/// A row's number in one publication.
///
/// # Errors
/// Why there is none, for a reader.
fn read(trend: &Trend, file: &ResultFile, id: &str) -> Result<Figure, String> {
    const ABSENT: &str = "not measured";
    let row = file.row(id).ok_or(ABSENT)?;
    let samples = row.samples.as_ref().map(|samples| samples.seconds.len());
    if let Some(baseline) = &trend.baseline {
        let ratio = field::rate_ratio(row, file.row(baseline).ok_or(ABSENT)?)?;
        return Ok(Figure {
            value: ratio.median,
            range: Some((ratio.low, ratio.high)),
            samples,
            label: Label::Derived,
        });
    }
    match field::cell(file, row, &trend.field)? {
        Cell::Number(value, label) => {
            let range = field::middle_half(row, &trend.field);
            Ok(Figure {
                value,
                range,
                samples: samples.filter(|_| range.is_some()),
                label,
            })
        }
        Cell::Text(text) => Err(format!("expected a number, got {text:?}")),
        Cell::Absent(reason) => Err(reason),
    }
}

/// A line a row; the horizontal axis counts publications from 1.
fn series(trend: &Trend, measurement: &Measurement, newest: &ResultFile) -> Vec<Series> {
    let names: Vec<String> = (trend.rows.iter())
        .map(|id| row_label(newest, id))
        .collect();
    let distinct = names.iter().collect::<BTreeSet<_>>().len() == names.len();
    (trend.rows.iter().zip(names))
        .map(|(id, name)| Series {
            name: match distinct {
                true => name,
                false => format!("{name} ({id})"),
            },
            origin: Origin::Published,
            order: 0.0,
            points: (measurement.history().enumerate())
                .filter_map(|(index, source)| {
                    let figure = read(trend, &source.file, id).ok()?;
                    Some(Point {
                        label: format!("publication {} ({})", index + 1, provenance::date(source)),
                        x: (index + 1) as f64,
                        value: figure.value,
                        middle: figure.range,
                    })
                })
                .collect(),
        })
        .collect()
}

fn row_label(file: &ResultFile, id: &str) -> String {
    file.row(id)
        .map_or_else(|| id.to_owned(), |row| row.label.clone())
}

fn table(
    trend: &Trend,
    measurement: &Measurement,
    series: &[Series],
    title: &str,
    unit: &Quantity,
    up: &str,
) -> String {
    let mut out = format!(
        "<div class=\"figure-scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}, publications\">\n<table>\n<thead><tr><th scope=\"col\">publication</th>",
        html(title)
    );
    for series in series {
        let _ = write!(
            out,
            "<th scope=\"col\">{}: {}</th>",
            html(&series.name),
            html(&unit.heading(&trend.field))
        );
    }
    out.push_str("<th scope=\"col\">what else differs</th></tr></thead>\n<tbody>\n");
    let mut before: Option<&Source> = None;
    for (index, source) in measurement.history().enumerate() {
        let file = &source.file;
        let commit = file.commit.as_deref().unwrap_or("no commit");
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}. <a href=\"{up}{}\">{}, {}</a>{}</th>",
            index + 1,
            html(&source.link),
            html(provenance::date(source)),
            html(commit.get(..10).unwrap_or(commit)),
            match file.dirty {
                Some(true) => " with uncommitted changes",
                _ => "",
            }
        );
        for id in &trend.rows {
            let _ = match read(trend, file, id) {
                Ok(figure) => write!(out, "<td class=\"number\">{}</td>", cell(&figure, unit)),
                // Its file may list all fields there are: too much for a cell.
                Err(_) => write!(out, "<td class=\"absent\">not measured</td>"),
            };
        }
        let differs = match before {
            None => "the first".to_owned(),
            Some(before) => match differences(trend, &before.file, file).as_slice() {
                [] => "nothing that is noted".to_owned(),
                some => some.join("; "),
            },
        };
        let _ = writeln!(out, "<td>{}</td></tr>", html(&differs));
        before = Some(source);
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    out
}

fn cell(figure: &Figure, unit: &Quantity) -> String {
    let mut text = html(&unit.print_bare(figure.value));
    if let Some((low, high)) = figure.range {
        let samples = (figure.samples).map_or_else(String::new, |count| format!("; n = {count}"));
        let _ = write!(
            text,
            "<br><small>{} to {}{samples}</small>",
            html(&unit.print_bare(low)),
            html(&unit.print_bare(high))
        );
    }
    text
}

/// What two publications note differently besides the commit: versions, the system, the
/// command, and how the shown rows were measured.
fn differences(trend: &Trend, old: &ResultFile, new: &ResultFile) -> Vec<String> {
    let (was, is) = (&old.environment, &new.environment);
    let mut all = Vec::new();
    let names: BTreeSet<&String> = was.libraries.keys().chain(is.libraries.keys()).collect();
    let versions = (names.into_iter()).map(|name| {
        (
            name.as_str(),
            was.libraries.get(name),
            is.libraries.get(name),
        )
    });
    let system = [
        ("Rust", was.rustc.as_ref(), is.rustc.as_ref()),
        ("system", Some(&was.os), Some(&is.os)),
        ("kernel", Some(&was.kernel), Some(&is.kernel)),
    ];
    for (name, was, is) in versions.chain(system) {
        match (was, is) {
            (Some(was), Some(is)) if was != is => all.push(format!("{name}: {was} became {is}")),
            (Some(was), None) => all.push(format!("{name}: {was} is gone")),
            (None, Some(is)) => all.push(format!("{name}: {is} is new")),
            _ => {}
        }
    }
    if was.accelerator != is.accelerator {
        all.push("the accelerator or its driver".to_owned());
    }
    if words(old) != words(new) {
        all.push("the command".to_owned());
    }
    let mut workload: BTreeSet<&str> = BTreeSet::new();
    for id in trend.rows.iter().chain(&trend.baseline) {
        let (Some(was), Some(is)) = (old.row(id), new.row(id)) else {
            continue;
        };
        let keys = was.workload.keys().chain(is.workload.keys());
        workload.extend(
            keys.filter(|key| was.workload.get(*key) != is.workload.get(*key))
                .map(String::as_str),
        );
    }
    if !workload.is_empty() {
        let names: Vec<&str> = workload.into_iter().collect();
        all.push(format!("of the rows: {}", names.join(", ")));
    }
    all
}

/// The command, but for where its result went and what it said meanwhile.
fn words(file: &ResultFile) -> Vec<&str> {
    let words = file.command.iter().map(String::as_str);
    let mut words: Vec<&str> = words.filter(|word| *word != "--quiet").collect();
    if let Some(at) = words.iter().position(|word| *word == "--out") {
        words.drain(at..(at + 2).min(words.len()));
    }
    words
}
