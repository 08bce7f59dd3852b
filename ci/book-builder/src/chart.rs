//! Charts as inline SVG, the same bytes for the same result files.
//!
//! Series differ by shape (filled or outlined bars; markers and dashes) and not
//! only by colour, every point's number stands beside it or in the table beneath,
//! and colours come from `theme/figures.css`, so that each theme has its own.
//! There is no blank line in the SVG: one would end the HTML block in CommonMark.

use std::fmt::Write;

use crate::{
    directive::{Chart, ChartKind},
    field::{self, Cell, Label},
    markup::html,
    measurement::{self, Measurement, Origin, Source},
    provenance,
    quantity::{self, Quantity, setting},
};

/// Width of every chart in user units. A phone shows it a little smaller, a wide
/// page a little larger (`max-width` in `theme/figures.css`).
const WIDTH: f64 = 420.0;

/// One number to draw.
pub(crate) struct Point {
    pub label: String,
    /// Value on the horizontal axis, where it has values.
    pub x: f64,
    pub value: f64,
    /// 25th and 75th percentile of the samples, or the ends of an interval.
    pub middle: Option<(f64, f64)>,
}

/// Points that belong together.
pub(crate) struct Series {
    pub name: String,
    pub origin: Origin,
    /// What the legend is sorted by: the number in the name, or 0 for a name without one.
    pub order: f64,
    pub points: Vec<Point>,
}

/// The axes of a chart with lines.
pub(crate) struct Axes<'a> {
    /// Field of the horizontal axis.
    pub x: &'a str,
    /// Field of the axis of values.
    pub field: &'a str,
    /// Whether the axis of values is logarithmic.
    pub logarithmic: bool,
    /// Whether points have their [`Point::middle`] drawn.
    pub whiskers: bool,
}

/// Renders a chart, its data as a folded table, and its provenance.
///
/// * `up`: the way from the page to the book's root
///
/// # Errors
/// One message for each row or field that the published file lacks, or that there
/// is nothing to draw.
pub fn render(chart: &Chart, measurement: &Measurement, up: &str) -> Result<String, Vec<String>> {
    let ids = measurement::select(measurement, &chart.selection).map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    let mut labels = Vec::new();
    let mut left_out = Vec::new();
    let mut series = Vec::new();
    for source in measurement.sources() {
        series.extend(read(
            chart,
            source,
            &ids,
            &mut labels,
            &mut left_out,
            &mut errors,
        ));
    }
    errors.sort();
    errors.dedup();
    if !errors.is_empty() {
        return Err(errors);
    }
    if series.iter().all(|series| series.points.is_empty()) {
        return Err(vec![format!(
            "nothing to draw: no row of {} has a number {:?}",
            measurement.name, chart.field
        )]);
    }
    let mut points = series.iter().flat_map(|series| &series.points);
    if let Some(point) = points.find(|point| chart.logarithmic && point.value <= 0.0) {
        return Err(vec![format!(
            "{} of {} is {}: it has no place on a logarithmic axis",
            chart.field, point.label, point.value
        )]);
    }
    let title = measurement.title(chart.title.as_deref());
    let unit = Quantity::of(&chart.field);
    let svg = match &chart.kind {
        ChartKind::Bar => bars(title, &chart.field, &unit, &series),
        ChartKind::Line { x, .. } => {
            let axes = Axes {
                x,
                field: &chart.field,
                logarithmic: chart.logarithmic,
                whiskers: false,
            };
            lines(title, &axes, &unit, &series)
        }
        ChartKind::Scatter { x, .. } => scatter(title, x, &chart.field, &unit, &series),
    };
    labels.sort_unstable();
    labels.dedup();
    let mut out = format!(
        "<figure class=\"figure chart\">\n<figcaption>{}</figcaption>\n{svg}",
        html(title)
    );
    for line in left_out {
        let _ = writeln!(out, "<p class=\"provenance\">{}</p>", html(&line));
    }
    out.push_str(&provenance::brief(measurement, &ids, &labels));
    out.push_str(&provenance::missing(measurement));
    let _ = writeln!(
        out,
        "<details><summary>The chart's numbers as a table, and how they were measured</summary>\n{}{}</details>",
        data_table(title, chart, &unit, &series),
        provenance::full(measurement, &ids, &labels, up)
    );
    out.push_str("</figure>\n");
    Ok(out)
}

fn read(
    chart: &Chart,
    source: &Source,
    ids: &[String],
    labels: &mut Vec<Label>,
    left_out: &mut Vec<String>,
    errors: &mut Vec<String>,
) -> Vec<Series> {
    let published = source.origin == Origin::Published;
    let mut all: Vec<Series> = Vec::new();
    for id in ids {
        let Some(row) = source.file.row(id) else {
            continue;
        };
        // Of all rows only those are meant that have what is drawn; a row that is named is missed.
        if chart.selection.rows.is_empty() && field::is_of_another_kind(row, &chart.field) {
            continue;
        }
        let mut number = |field: &str, labels: Option<&mut Vec<Label>>| match field::cell(
            &source.file,
            row,
            field,
        ) {
            Ok(Cell::Number(value, label)) => {
                if let Some(labels) = labels {
                    labels.push(label);
                }
                Some(value)
            }
            Ok(Cell::Absent(reason)) => {
                left_out.push(format!(
                    "Not drawn: {} ({}; {reason}).",
                    row.label,
                    class(source.origin)
                ));
                None
            }
            Ok(Cell::Text(text)) => {
                if published {
                    errors.push(format!("{field} of {id} is not a number: {text:?}"));
                }
                None
            }
            Err(error) => {
                if published {
                    errors.push(error);
                }
                None
            }
        };
        let Some(value) = number(&chart.field, Some(labels)) else {
            continue;
        };
        let (name, order, x) = match &chart.kind {
            ChartKind::Bar => (source.heading(), 0.0, 0.0),
            ChartKind::Line { x, series } | ChartKind::Scatter { x, series } => {
                // Where a line has sizes, a point has a second measured number.
                let measured = matches!(chart.kind, ChartKind::Scatter { .. });
                let Some(x) = number(x, measured.then_some(&mut *labels)) else {
                    continue;
                };
                let (name, order) = match series {
                    None => (source.heading(), 0.0),
                    Some(field) => match field::cell(&source.file, row, field) {
                        Ok(Cell::Text(text)) => (text, 0.0),
                        Ok(Cell::Number(value, _)) => {
                            let name = format!("{} {}", field.replace('_', " "), setting(value));
                            (name, value)
                        }
                        Ok(Cell::Absent(reason)) => (reason, 0.0),
                        Err(error) => {
                            if published {
                                errors.push(error);
                            }
                            continue;
                        }
                    },
                };
                let name = match (series, source.origin) {
                    (Some(_), Origin::Yours) => format!("{name}, yours"),
                    _ => name,
                };
                (name, order, x)
            }
        };
        let point = Point {
            label: row.label.clone(),
            x,
            value,
            middle: field::middle_half(row, &chart.field),
        };
        match all.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => all.push(Series {
                name,
                origin: source.origin,
                order,
                points: vec![point],
            }),
        }
    }
    for series in &mut all {
        if chart.kind.x().is_some() {
            series.points.sort_by(|a, b| a.x.total_cmp(&b.x));
        }
    }
    // Batch 16 before batch 32, whatever the order of the rows; names stay in their order.
    all.sort_by(|a, b| a.order.total_cmp(&b.order));
    all
}

/// The largest thing that must fit on the axis of values.
fn top(series: &[Series]) -> f64 {
    series
        .iter()
        .flat_map(|series| &series.points)
        .map(|point| {
            point
                .middle
                .map_or(point.value, |(_, high)| high.max(point.value))
        })
        .fold(0.0, f64::max)
}

/// The smallest value that must fit on a logarithmic axis.
fn bottom(series: &[Series]) -> f64 {
    let points = series.iter().flat_map(|series| &series.points);
    points
        .map(|point| point.value)
        .fold(f64::INFINITY, f64::min)
}

/// The axis of values: where its ticks are, in the field's own unit, with their
/// labels, and its heading.
fn value_axis(
    unit: &Quantity,
    field: &str,
    series: &[Series],
    logarithmic: bool,
) -> (Vec<(f64, String)>, String) {
    let top = top(series);
    let (divisor, heading) = unit.axis(field, top);
    let ticks = match logarithmic {
        true => logarithmic_ticks(bottom(series) / divisor, top / divisor),
        false => ticks(top / divisor),
    };
    let ticks = ticks
        .into_iter()
        .map(|tick| (tick * divisor, quantity::tick(tick)))
        .collect();
    (ticks, heading)
}

/// 1, 2 and 5 times powers of ten, from at or below `low` to at or above `high`; over
/// more than three powers of ten, only these.
fn logarithmic_ticks(low: f64, high: f64) -> Vec<f64> {
    if !(low.is_finite() && high.is_finite() && low > 0.0 && high >= low) {
        return vec![1.0, 10.0];
    }
    let factors: &[f64] = match high / low > 1e3 {
        true => &[1.0],
        false => &[1.0, 2.0, 5.0],
    };
    // Within f64's range these are small integers, so the casts are exact.
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let all: Vec<f64> = (first..=last)
        .flat_map(|power| {
            factors
                .iter()
                .map(move |factor| factor * 10_f64.powi(power))
        })
        .collect();
    // What is drawn on an edge may lie beside it by a rounding.
    let from = all.iter().rposition(|tick| *tick <= low * (1.0 + 1e-9));
    let to = all.iter().position(|tick| *tick >= high * (1.0 - 1e-9));
    let (from, to) = (from.unwrap_or(0), to.unwrap_or(all.len() - 1));
    match from < to {
        true => all[from..=to].to_vec(),
        // One value on a tick: an axis needs two.
        false => all[to.saturating_sub(1)..=(to + 1).min(all.len() - 1)].to_vec(),
    }
}

/// Round steps of 1, 2 or 5 times a power of ten from 0 to just above `top`.
fn ticks(top: f64) -> Vec<f64> {
    if !(top.is_finite() && top > 0.0) {
        return vec![0.0, 1.0];
    }
    let rough = top / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(power * 10.0);
    let count = (top / step * 0.999_999).ceil().max(1.0);
    // At most ten: `step` is at least a quarter of `top`, rounded up.
    (0..=count as usize)
        .map(|index| index as f64 * step)
        .collect()
}

/// Round steps that hold both ends. They begin at 0 unless all values are far from it: of a
/// point one reads the place, and not a length.
fn ticks_between(low: f64, high: f64) -> Vec<f64> {
    if !(low.is_finite() && high.is_finite() && low <= high) {
        return vec![0.0, 1.0];
    }
    let (low, high) = match low == high {
        true => (low - low.abs() / 10.0, high + high.abs() / 10.0),
        false => (low, high),
    };
    if low >= 0.0 && low < high / 2.0 || low == high {
        return ticks(high);
    }
    // Of ticks from 0 on: 0 and steps of which there are about four.
    let step = ticks(high - low).get(1).copied().unwrap_or(1.0);
    let (first, last) = (
        (low / step + 1e-6).floor() as i64,
        (high / step - 1e-6).ceil() as i64,
    );
    (first..=last).map(|index| index as f64 * step).collect()
}

/// A label in lines that fit the chart's width; what three lines cannot hold is in the
/// table beneath.
fn wrapped(label: &str) -> Vec<String> {
    // 13 px letters of the book's font are 7 units wide on average.
    const LETTERS: usize = 56;
    const LINES: usize = 3;
    let mut lines: Vec<String> = vec![String::new()];
    for word in label.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for part in letters.chunks(LETTERS) {
            let line = lines.last().map_or(0, |line| line.chars().count());
            if line > 0 && line + 1 + part.len() > LETTERS {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.extend(part);
            }
        }
    }
    if lines.len() > LINES {
        lines.truncate(LINES);
        if let Some(line) = lines.last_mut() {
            line.push('…');
        }
    }
    lines
}

/// * `x`: field of the horizontal axis, where its numbers are told, too
fn opening(
    title: &str,
    field: &str,
    x: Option<&str>,
    unit: &Quantity,
    series: &[Series],
    height: f64,
) -> String {
    let mut said = String::new();
    for series in series {
        let number = |point: &Point| {
            let at = x.map_or_else(String::new, |x| {
                format!(" at {}", Quantity::of(x).print(point.x))
            });
            format!("{} {}{at}", point.label, unit.print(point.value))
        };
        let numbers: Vec<String> = series.points.iter().map(number).collect();
        let _ = write!(said, "{}: {}. ", series.name, numbers.join("; "));
    }
    format!(
        "<svg role=\"img\" aria-label=\"{title}\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" xmlns=\"http://www.w3.org/2000/svg\">\n<title>{title}</title>\n<desc>{} in {}. {}</desc>\n",
        html(&field.replace('_', " ")),
        html(&unit.heading(field)),
        html(said.trim_end()),
        title = html(title),
    )
}

/// Horizontal bars, each under its label: a label of any length fits a phone.
fn bars(title: &str, field: &str, unit: &Quantity, series: &[Series]) -> String {
    const BAR: f64 = 16.0;
    const LABEL: f64 = 17.0;
    const GAP: f64 = 10.0;
    // Right of the longest bar stands its number.
    const NUMBER: f64 = 62.0;
    let mut names: Vec<&str> = Vec::new();
    for point in series.iter().flat_map(|series| &series.points) {
        if !names.contains(&point.label.as_str()) {
            names.push(&point.label);
        }
    }
    let legend = if series.len() > 1 {
        20.0 * series.len() as f64 + 6.0
    } else {
        0.0
    };
    let (ticks, axis) = value_axis(unit, field, series, false);
    let end = ticks.last().map_or(1.0, |(tick, _)| *tick);
    let left = 4.0;
    let scale = |value: f64| left + (WIDTH - left - NUMBER) * value / end;

    let mut body = String::new();
    let mut y = legend;
    for name in &names {
        for line in wrapped(name) {
            let _ = writeln!(
                body,
                "<text class=\"label\" x=\"{left:.1}\" y=\"{:.1}\">{}</text>",
                y + 12.0,
                html(&line)
            );
            y += LABEL;
        }
        for series in series {
            let Some(point) = series.points.iter().find(|point| point.label == *name) else {
                continue;
            };
            let right = scale(point.value);
            let _ = writeln!(
                body,
                "<rect class=\"bar {}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                class(series.origin),
                y + 1.0,
                (right - left).max(1.0),
                BAR - 2.0
            );
            let mut number_at = right;
            if let Some((low, high)) = point.middle {
                let middle = y + BAR / 2.0;
                let (low, high) = (scale(low), scale(high));
                number_at = number_at.max(high);
                let _ = writeln!(
                    body,
                    "<path class=\"whisker\" d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {0:.1}V{1:.1}M{high:.1} {0:.1}V{1:.1}\"/>",
                    middle - 3.0,
                    middle + 3.0
                );
            }
            let _ = writeln!(
                body,
                "<text class=\"number\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                number_at + 5.0,
                y + BAR - 4.0,
                html(&unit.print_bare(point.value))
            );
            y += BAR;
        }
        y += GAP;
    }
    let bottom = y;
    let height = bottom + 36.0;
    let mut out = opening(title, field, None, unit, series, height);
    if series.len() > 1 {
        for (index, series) in series.iter().enumerate() {
            let y = 20.0 * index as f64;
            let _ = writeln!(
                out,
                "<rect class=\"bar {}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"22\" height=\"11\"/>\n<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                class(series.origin),
                y + 2.0,
                left + 30.0,
                y + 12.0,
                html(&series.name)
            );
        }
    }
    for (tick, label) in &ticks {
        let x = scale(*tick);
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{x:.1} {legend:.1}V{bottom:.1}\"/>\n<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{}\">{}</text>",
            bottom + 14.0,
            if *tick == 0.0 { "start" } else { "middle" },
            html(label)
        );
    }
    let _ = writeln!(
        out,
        "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        left + (WIDTH - left - NUMBER) / 2.0,
        bottom + 31.0,
        html(&axis)
    );
    out.push_str(&body);
    out.push_str("</svg>\n");
    out
}

/// Lines over a numeric field, drawn at equal steps: batch sizes and thread
/// counts double, and even steps keep the small ones apart.
pub(crate) fn lines(title: &str, axes: &Axes<'_>, unit: &Quantity, series: &[Series]) -> String {
    const PLOT: f64 = 210.0;
    let field = axes.field;
    let legend = 20.0 * series.len() as f64 + 10.0;
    let (left, right) = (48.0, WIDTH - 14.0);
    let low = legend + 18.0 + PLOT;
    let height = low + 44.0;
    let mut positions: Vec<f64> = series
        .iter()
        .flat_map(|series| series.points.iter().map(|point| point.x))
        .collect();
    positions.sort_by(f64::total_cmp);
    positions.dedup();
    let step = (right - left - 24.0) / (positions.len().saturating_sub(1).max(1)) as f64;
    let place = |x: f64| {
        let index = positions.iter().position(|known| *known == x).unwrap_or(0);
        left + 12.0 + index as f64 * step
    };
    let (ticks, axis) = value_axis(unit, field, series, axes.logarithmic);
    let first = ticks.first().map_or(1.0, |(tick, _)| *tick);
    let end = ticks.last().map_or(1.0, |(tick, _)| *tick);
    let scale = |value: f64| {
        let share = match axes.logarithmic {
            true => (value / first).ln() / (end / first).ln(),
            false => value / end,
        };
        low - PLOT * share
    };

    let mut out = opening(title, field, None, unit, series, height);
    for (tick, label) in &ticks {
        let y = scale(*tick);
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>\n<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            y + 4.0,
            html(label)
        );
    }
    for position in &positions {
        let _ = writeln!(
            out,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            place(*position),
            low + 17.0,
            html(&setting(*position))
        );
    }
    let _ = writeln!(
        out,
        "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n<text class=\"tick\" x=\"2.0\" y=\"{:.1}\">{}</text>",
        (left + right) / 2.0,
        low + 36.0,
        html(&Quantity::of(axes.x).heading(axes.x)),
        legend + 4.0,
        html(&axis)
    );
    for (index, series) in series.iter().enumerate() {
        let style = index % 4;
        let mut path = String::new();
        for point in &series.points {
            let _ = write!(
                path,
                "{}{:.1} {:.1}",
                if path.is_empty() { 'M' } else { 'L' },
                place(point.x),
                scale(point.value)
            );
        }
        let _ = writeln!(
            out,
            "<path class=\"line line-{style} {}\" d=\"{path}\"/>",
            class(series.origin)
        );
        for point in &series.points {
            let x = place(point.x);
            if let Some((from, to)) = point.middle.filter(|_| axes.whiskers) {
                let (from, to) = (scale(from), scale(to));
                let _ = writeln!(
                    out,
                    "<path class=\"whisker\" d=\"M{x:.1} {from:.1}V{to:.1}M{0:.1} {from:.1}H{1:.1}M{0:.1} {to:.1}H{1:.1}\"/>",
                    x - 3.0,
                    x + 3.0
                );
            }
            out.push_str(&marker(style, x, scale(point.value), series.origin));
        }
        let y = 20.0 * index as f64 + 8.0;
        let _ = write!(
            out,
            "<path class=\"line line-{style} {}\" d=\"M4.0 {y:.1}H34.0\"/>\n{}<text class=\"label\" x=\"42.0\" y=\"{:.1}\">{}</text>\n",
            class(series.origin),
            marker(style, 19.0, y, series.origin),
            y + 4.0,
            html(&series.name)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// One point a row, over a second number of the row. Points of one series are not joined.
fn scatter(title: &str, x_field: &str, field: &str, unit: &Quantity, series: &[Series]) -> String {
    const PLOT: f64 = 230.0;
    let legend = 20.0 * series.len() as f64 + 10.0;
    let (left, right) = (48.0, WIDTH - 14.0);
    let high = legend + 18.0;
    let low = high + PLOT;
    let height = low + 44.0;
    let points = || series.iter().flat_map(|series| &series.points);
    let x_axis = place_axis(x_field, points().map(|point| point.x));
    let y_axis = place_axis(field, points().map(|point| point.value));
    // Room for a marker on either side.
    let place = |x: f64| left + 8.0 + (right - left - 16.0) * x_axis.share(x);
    let scale = |value: f64| low - PLOT * y_axis.share(value);

    let mut out = opening(title, field, Some(x_field), unit, series, height);
    for (tick, label) in &y_axis.ticks {
        let y = scale(*tick);
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>\n<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            y + 4.0,
            html(label)
        );
    }
    for (tick, label) in &x_axis.ticks {
        let x = place(*tick);
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{x:.1} {high:.1}V{low:.1}\"/>\n<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            low + 17.0,
            html(label)
        );
    }
    let _ = writeln!(
        out,
        "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n<text class=\"tick\" x=\"2.0\" y=\"{:.1}\">{}</text>",
        (left + right) / 2.0,
        low + 36.0,
        html(&x_axis.heading),
        legend + 4.0,
        html(&y_axis.heading)
    );
    for (index, series) in series.iter().enumerate() {
        let style = index % 4;
        for point in &series.points {
            let (x, y) = (place(point.x), scale(point.value));
            out.push_str(&marker(style, x, y, series.origin));
        }
        let y = 20.0 * index as f64 + 8.0;
        let _ = writeln!(
            out,
            "{}<text class=\"label\" x=\"24.0\" y=\"{:.1}\">{}</text>",
            marker(style, 10.0, y, series.origin),
            y + 4.0,
            html(&series.name)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// An axis on which values have a place.
struct PlaceAxis {
    /// In the field's own unit, with their labels.
    ticks: Vec<(f64, String)>,
    heading: String,
}

impl PlaceAxis {
    /// How far along the axis a value is, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let first = self.ticks.first().map_or(0.0, |(tick, _)| *tick);
        let end = self.ticks.last().map_or(1.0, |(tick, _)| *tick);
        (value - first) / (end - first)
    }
}

fn place_axis(field: &str, values: impl Iterator<Item = f64>) -> PlaceAxis {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let (divisor, heading) = Quantity::of(field).axis(field, high);
    let ticks = ticks_between(low / divisor, high / divisor);
    let ticks = ticks.into_iter();
    PlaceAxis {
        ticks: ticks
            .map(|tick| (tick * divisor, quantity::tick(tick)))
            .collect(),
        heading,
    }
}

/// Circle, square, triangle or diamond.
fn marker(style: usize, x: f64, y: f64, origin: Origin) -> String {
    let class = class(origin);
    let path = match style {
        0 => {
            return format!(
                "<circle class=\"marker line-0 {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>\n"
            );
        }
        1 => format!("M{:.1} {:.1}h7v7h-7z", x - 3.5, y - 3.5),
        2 => format!("M{x:.1} {:.1}l4.5 8h-9z", y - 5.0),
        _ => format!("M{x:.1} {:.1}l4.5 5l-4.5 5l-4.5 -5z", y - 5.0),
    };
    format!("<path class=\"marker line-{style} {class}\" d=\"{path}\"/>\n")
}

fn class(origin: Origin) -> &'static str {
    match origin {
        Origin::Published => "published",
        Origin::Yours => "yours",
    }
}

fn data_table(title: &str, chart: &Chart, unit: &Quantity, series: &[Series]) -> String {
    let sampled = series
        .iter()
        .flat_map(|series| &series.points)
        .any(|point| point.middle.is_some());
    let mut out = format!(
        "<div class=\"figure-scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{0}, numbers\">\n<table>\n<thead><tr><th scope=\"col\">what ran</th><th scope=\"col\">series</th>",
        html(title)
    );
    if let Some(x) = chart.kind.x() {
        let _ = write!(
            out,
            "<th scope=\"col\">{}</th>",
            html(&Quantity::of(x).heading(x))
        );
    }
    let _ = writeln!(
        out,
        "<th scope=\"col\">{}</th>{}</tr></thead>\n<tbody>",
        html(&unit.heading(&chart.field)),
        if sampled {
            "<th scope=\"col\">middle half</th>"
        } else {
            ""
        }
    );
    for series in series {
        for point in &series.points {
            let _ = write!(
                out,
                "<tr><th scope=\"row\">{}</th><td>{}</td>",
                html(&point.label),
                html(&series.name)
            );
            let at = match &chart.kind {
                ChartKind::Bar => None,
                ChartKind::Line { .. } => Some(setting(point.x)),
                ChartKind::Scatter { x, .. } => Some(Quantity::of(x).print_bare(point.x)),
            };
            if let Some(at) = at {
                let _ = write!(out, "<td class=\"number\">{}</td>", html(&at));
            }
            let _ = write!(
                out,
                "<td class=\"number\">{}</td>",
                html(&unit.print_bare(point.value))
            );
            if sampled {
                let middle = point.middle.map_or_else(String::new, |(low, high)| {
                    format!("{} to {}", unit.print_bare(low), unit.print_bare(high))
                });
                let _ = write!(out, "<td class=\"number\">{}</td>", html(&middle));
            }
            out.push_str("</tr>\n");
        }
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::{logarithmic_ticks, ticks, ticks_between, wrapped};

    #[test]
    fn long_labels_wrap() {
        assert_eq!(wrapped("a b"), ["a b"]);
        let long = format!("one {}", "x".repeat(60));
        assert_eq!(
            wrapped(&long),
            ["one".to_owned(), "x".repeat(56), "xxxx".to_owned()]
        );
        assert!(wrapped(&"word ".repeat(60))[2].ends_with('…'));
    }

    #[test]
    fn logarithmic_ticks_hold_both_ends() {
        for (low, high, expected) in [
            (1.5, 40.0, vec![1.0, 2.0, 5.0, 10.0, 20.0, 50.0]),
            (2.0, 10.0, vec![2.0, 5.0, 10.0]),
            (0.3, 900.0, vec![0.1, 1.0, 10.0, 100.0, 1000.0]),
            (10.0, 10.0, vec![10.0, 20.0]),
        ] {
            let got = logarithmic_ticks(low, high);
            assert_eq!(got.len(), expected.len(), "{low} to {high}: {got:?}");
            for (got, expected) in got.iter().zip(expected) {
                assert!((got / expected - 1.0).abs() < 1e-9, "{got} {expected}");
            }
        }
        for (low, high) in [
            (0.0, 1.0),
            (-1.0, 1.0),
            (f64::NAN, 1.0),
            (1.0, f64::INFINITY),
        ] {
            assert_eq!(logarithmic_ticks(low, high), [1.0, 10.0]);
        }
    }

    #[test]
    fn ticks_are_round_and_hold_the_top() {
        for (top, expected) in [
            (27.1, vec![0.0, 10.0, 20.0, 30.0]),
            (100.0, vec![0.0, 50.0, 100.0]),
            (0.9, vec![0.0, 0.5, 1.0]),
            (3445.0, vec![0.0, 1000.0, 2000.0, 3000.0, 4000.0]),
        ] {
            assert_eq!(ticks(top), expected, "{top}");
        }
        for odd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(ticks(odd), [0.0, 1.0]);
        }
    }

    #[test]
    fn ticks_of_places_need_not_begin_at_zero() {
        for (low, high, expected) in [
            (1.0, 100.0, vec![0.0, 50.0, 100.0]),
            (91.1, 98.9, vec![90.0, 92.0, 94.0, 96.0, 98.0, 100.0]),
            (0.0, 0.9, vec![0.0, 0.5, 1.0]),
            (-3.0, 4.0, vec![-4.0, -2.0, 0.0, 2.0, 4.0]),
            (5.0, 5.0, vec![4.5, 5.0, 5.5]),
            (0.0, 0.0, vec![0.0, 1.0]),
        ] {
            assert_eq!(ticks_between(low, high), expected, "{low} to {high}");
        }
        for (low, high) in [(f64::NAN, 1.0), (0.0, f64::INFINITY), (2.0, 1.0)] {
            assert_eq!(ticks_between(low, high), [0.0, 1.0]);
        }
    }
}
