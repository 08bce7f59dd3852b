//! Cost against speed: a line for each device, from `book/cheat-sheet.toml`, which says for
//! each number where it comes from. What is derived from them is computed here.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write,
    fs,
    path::Path,
};

use accel::hardware::Hardware;
use serde::Deserialize;

use crate::{
    error::BuildError,
    field::{self, Cell, Label},
    hardware::host,
    markup::html,
    measurement::{Measurement, Measurements, Source, no_row},
    provenance,
    quantity::{Quantity, dollars, ratio, significant},
};

/// Where the file lies, from the root.
pub const FILE: &str = "book/cheat-sheet.toml";

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CheatSheet {
    title: String,
    /// What stands beneath the table.
    #[serde(default)]
    note: Option<String>,
    /// Id of the row that speed-ups compare with.
    baseline: String,
    inference: Column,
    training: Column,
    row: Vec<Row>,
}

/// What a column of speeds is about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Column {
    /// The work that cells are compared for.
    workload: String,
    /// Images in one training, by which a rate becomes a time.
    #[serde(default)]
    images: Option<f64>,
}

/// A device.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Row {
    id: String,
    name: String,
    /// The device or machine of `shared/hardware.toml` whose price it is.
    price: String,
    /// Why that one's.
    #[serde(default)]
    price_note: Option<String>,
    inference: Origin,
    training: Origin,
}

/// Where a number comes from: exactly one of the first four.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Origin {
    /// A result file's number.
    #[serde(default)]
    measured: Option<Named>,
    /// A tool's estimate in a result file.
    #[serde(default)]
    estimate: Option<Named>,
    /// A throughput in `shared/hardware.toml`.
    #[serde(default)]
    published: Option<Published>,
    /// The command that would measure it.
    #[serde(default)]
    not_measured: Option<String>,
    /// How this cell did the column's work: number format, engine.
    #[serde(default)]
    how: Option<String>,
    /// Work other than the column's: such a number is compared with none.
    #[serde(default)]
    other_workload: Option<String>,
}

/// A number in a result file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Named {
    measurement: String,
    row: String,
    field: String,
}

/// A number that somebody else published.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Published {
    device: String,
    workload: String,
}

/// The file with its numbers.
#[derive(Debug)]
pub struct Resolved<'a> {
    sheet: &'a CheatSheet,
    /// Lines, the reader's own beneath the published ones.
    pub lines: Vec<Line<'a>>,
    shown: Vec<Shown<'a>>,
}

/// A measurement that numbers are from.
#[derive(Debug)]
struct Shown<'a> {
    measurement: &'a Measurement,
    ids: Vec<String>,
    labels: Vec<Label>,
}

/// A device with its numbers.
#[derive(Debug)]
pub struct Line<'a> {
    id: &'a str,
    /// The device's name; of the reader's own, with ", yours" behind it.
    pub name: String,
    /// US dollars for an hour.
    pub usd_per_hour: f64,
    /// Whose price, where it is from, and what it includes.
    price: Sourced,
    /// Images a second.
    pub inference: Number,
    /// Seconds for one training.
    pub training: Number,
}

/// An outside number's source.
#[derive(Debug, Clone)]
struct Sourced {
    note: String,
    url: String,
    date: String,
}

/// A number, or why there is none.
#[derive(Debug)]
pub struct Number {
    /// Images a second, or seconds.
    pub value: Option<f64>,
    /// "measured", "published", "estimate", "not measured here".
    pub label: &'static str,
    how: String,
    other_workload: bool,
    source: Option<Sourced>,
    command: Option<String>,
}

impl CheatSheet {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// `BuildError::Io` if it cannot be read, `BuildError::Settings` if its shape is
    /// another one.
    pub fn read(root: &Path) -> Result<Option<Self>, BuildError> {
        let path = root.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(BuildError::io("read", &path))?;
        Self::parse(&text)
            .map(Some)
            .map_err(|reason| BuildError::Settings { path, reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let sheet: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut ids = HashSet::new();
        for row in &sheet.row {
            if !ids.insert(&row.id) {
                return Err(format!("row {:?} twice", row.id));
            }
            for (name, origin) in [("inference", &row.inference), ("training", &row.training)] {
                let given = [
                    origin.measured.is_some(),
                    origin.estimate.is_some(),
                    origin.published.is_some(),
                    origin.not_measured.is_some(),
                ];
                if given.into_iter().filter(|given| *given).count() != 1 {
                    return Err(format!(
                        "row {:?}, {name}: expected exactly one of measured, estimate, published, not-measured",
                        row.id
                    ));
                }
            }
        }
        if !ids.contains(&sheet.baseline) {
            return Err(format!("baseline: no row {:?}", sheet.baseline));
        }
        if sheet.training.images.is_none_or(|images| images < 1.0) {
            return Err("training.images: expected the images of one training".to_owned());
        }
        Ok(sheet)
    }

    /// Finds every number.
    ///
    /// # Errors
    /// One message for each that is not where the file says.
    pub fn resolve<'a>(
        &'a self,
        measurements: &'a Measurements,
        hardware: &Hardware,
    ) -> Result<Resolved<'a>, Vec<String>> {
        let mut errors = Vec::new();
        let mut lines = Vec::new();
        let mut shown: BTreeMap<&str, Shown<'_>> = BTreeMap::new();
        for row in &self.row {
            let Some(price) = hardware.price(&row.price) else {
                errors.push(format!(
                    "{FILE}: row {:?}: shared/hardware.toml has no price of {:?}",
                    row.id, row.price
                ));
                continue;
            };
            let notes: Vec<&str> = [price.note.as_deref(), row.price_note.as_deref()]
                .into_iter()
                .flatten()
                .collect();
            let price = (
                price.usd_per_hour,
                Sourced {
                    note: format!("{}: {}", row.price, notes.join("; ")),
                    url: price.source.clone(),
                    date: price.date.clone(),
                },
            );
            let mut inference = Vec::new();
            let mut training = Vec::new();
            for (origin, column, numbers) in [
                (&row.inference, &self.inference, &mut inference),
                (&row.training, &self.training, &mut training),
            ] {
                match origin.numbers(column, measurements, hardware) {
                    Ok(found) => *numbers = found,
                    Err(error) => errors.push(format!("{FILE}: row {:?}: {error}", row.id)),
                }
                if let Some(named) = origin.measured.as_ref().or(origin.estimate.as_ref())
                    && let Ok(measurement) = measurements.get(&named.measurement)
                {
                    let shown = shown.entry(&named.measurement).or_insert(Shown {
                        measurement,
                        ids: Vec::new(),
                        labels: Vec::new(),
                    });
                    if !shown.ids.contains(&named.row) {
                        shown.ids.push(named.row.clone());
                    }
                    let label = origin.label();
                    if !shown.labels.contains(&label) {
                        shown.labels.push(label);
                    }
                }
            }
            // The reader's own stand on a line of their own, beneath.
            let own = (inference.len() > 1).then(|| inference.remove(1));
            let own_training = (training.len() > 1).then(|| training.remove(1));
            let mut push = |name: String, inference: Option<Number>, training: Option<Number>| {
                lines.push(Line {
                    id: &row.id,
                    name,
                    usd_per_hour: price.0,
                    price: price.1.clone(),
                    inference: inference.unwrap_or_else(Number::none),
                    training: training.unwrap_or_else(Number::none),
                });
            };
            push(row.name.clone(), inference.pop(), training.pop());
            if own.is_some() || own_training.is_some() {
                push(format!("{}, yours", row.name), own, own_training);
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Resolved {
            sheet: self,
            lines,
            shown: shown.into_values().collect(),
        })
    }
}

impl Origin {
    /// What the file calls a number of a result file.
    fn label(&self) -> Label {
        match self.measured.is_some() {
            true => Label::Measured,
            false => Label::Estimate,
        }
    }

    /// The number, and behind it the reader's own where there is one.
    fn numbers(
        &self,
        column: &Column,
        measurements: &Measurements,
        hardware: &Hardware,
    ) -> Result<Vec<Number>, String> {
        let number = |value, label, source| Number {
            value,
            label,
            how: (self.other_workload.as_ref().or(self.how.as_ref()))
                .cloned()
                .unwrap_or_default(),
            other_workload: self.other_workload.is_some(),
            source,
            command: self.not_measured.clone(),
        };
        if let Some(published) = &self.published {
            let one = hardware
                .find(&published.device)
                .and_then(|device| device.throughput(&published.workload))
                .ok_or_else(|| {
                    format!(
                        "shared/hardware.toml has no throughput {:?} of {:?}",
                        published.workload, published.device
                    )
                })?;
            let value = column.convert("images_per_second", one.images_per_second)?;
            let source = Sourced {
                note: one.what.clone(),
                url: one.source.clone(),
                date: one.date.clone(),
            };
            return Ok(vec![number(Some(value), "published", Some(source))]);
        }
        let Some(named) = self.measured.as_ref().or(self.estimate.as_ref()) else {
            return Ok(vec![number(None, "not measured here", None)]);
        };
        let measurement = measurements.get(&named.measurement)?;
        let mut numbers = Vec::new();
        let published = measurement.published.as_ref().ok_or_else(|| {
            format!(
                "no published result of {}: measure it with `{}` and publish it, or say not-measured",
                measurement.name, measurement.known.command
            )
        })?;
        for source in [Some(published), measurement.yours.as_ref()]
            .into_iter()
            .flatten()
        {
            let is_ours = std::ptr::eq(source, published);
            let row = source.file.row(&named.row);
            let cell = row.map(|row| field::cell(&source.file, row, &named.field));
            let (value, label) = match cell {
                Some(Ok(Cell::Number(value, label))) => (value, label),
                _ if !is_ours => continue,
                None => return Err(no_row(measurement, &named.row)),
                Some(Err(error)) => return Err(error),
                Some(Ok(_)) => {
                    return Err(format!("{} has no number {}", named.row, named.field));
                }
            };
            // An estimate must not pass for a measurement, nor the other way round.
            let said = self.label();
            if label != said {
                return Err(format!(
                    "{} {} is {} by its name, and the file says {}",
                    named.measurement,
                    named.field,
                    label.word(),
                    said.word()
                ));
            }
            let value = column.convert(&named.field, value)?;
            numbers.push(number(Some(value), label.word(), None));
        }
        Ok(numbers)
    }
}

impl Column {
    /// A rate stays one in the column of rates; in the column of trainings it becomes the
    /// time for all images.
    fn convert(&self, field: &str, value: f64) -> Result<f64, String> {
        let wrong = |expected: &str| Err(format!("field {field}: expected {expected}"));
        match (self.images, Quantity::of(field)) {
            (None, Quantity::Rate(_)) => Ok(value),
            (None, _) => wrong("a rate, ..._per_second"),
            (Some(images), Quantity::Rate(_)) => Ok(images / value),
            (Some(_), Quantity::Time("s")) => Ok(value),
            (Some(_), _) => wrong("seconds or a rate"),
        }
    }
}

impl Number {
    /// The number, if it is of the column's workload: another's is compared with none, and
    /// makes no bill for this one.
    pub fn comparable(&self) -> Option<f64> {
        self.value.filter(|_| !self.other_workload)
    }

    /// What stands in place of what would be derived from it.
    pub fn absence(&self) -> &'static str {
        match self.other_workload {
            true => "other workload",
            false => self.label,
        }
    }

    fn none() -> Self {
        Self {
            value: None,
            label: "not measured here",
            how: String::new(),
            other_workload: false,
            source: None,
            command: None,
        }
    }
}

impl Line<'_> {
    /// Dollars for a million images of the column's workload.
    pub fn usd_per_million(&self) -> Option<f64> {
        Some(self.usd_per_hour / 3600.0 / self.inference.comparable()? * 1e6)
    }

    /// Dollars for one training of the column's workload.
    pub fn usd_per_training(&self) -> Option<f64> {
        Some(self.usd_per_hour / 3600.0 * self.training.comparable()?)
    }
}

impl Resolved<'_> {
    /// The result files that the numbers are from.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.shown
            .iter()
            .flat_map(|shown| shown.measurement.sources())
    }

    /// The caption, the page's or the file's.
    pub fn title<'a>(&'a self, own: Option<&'a str>) -> &'a str {
        own.unwrap_or(&self.sheet.title)
    }

    /// The work of the two columns.
    pub fn workloads(&self) -> [&str; 2] {
        [
            &self.sheet.inference.workload,
            &self.sheet.training.workload,
        ]
    }
}

/// Formulas of the derived columns, as headings carry them.
const FORMULAS: [(&str, &str); 4] = [
    (
        "$ per million images",
        "dollars an hour ÷ 3600 ÷ images a second × 1,000,000",
    ),
    (
        "$ per training",
        "dollars an hour ÷ 3600 × seconds of one training",
    ),
    ("speed-up, inference", "images a second ÷ the baseline's"),
    (
        "speed-up, training",
        "the baseline's seconds ÷ seconds of one training",
    ),
];

/// The table, as HTML without blank lines.
///
/// * `up`: the way from the page to the book's root
pub fn render(resolved: &Resolved<'_>, title: Option<&str>, up: &str) -> String {
    let title = html(resolved.title(title));
    let [inference, training] = resolved.workloads().map(html);
    let mut out = format!(
        "<div class=\"figure cheat-sheet\">\n<div class=\"figure-scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{title}\">\n<table>\n<caption>{title}</caption>\n<thead>\n<tr><th scope=\"col\">device</th><th scope=\"col\">{inference}: images/s</th><th scope=\"col\">{training}: time</th><th scope=\"col\">$ an hour</th>"
    );
    for (heading, formula) in FORMULAS {
        let _ = write!(
            out,
            "<th scope=\"col\" title=\"{0}\">{1}</th>",
            html(formula),
            html(heading)
        );
    }
    out.push_str("</tr>\n</thead>\n<tbody>\n");
    let baseline = resolved
        .lines
        .iter()
        .find(|line| line.id == resolved.sheet.baseline);
    for line in &resolved.lines {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", html(&line.name));
        for (number, unit) in [(&line.inference, ""), (&line.training, " s")] {
            out.push_str(&given(number, unit));
        }
        let _ = write!(
            out,
            "<td class=\"number\" title=\"{}\">{} {}</td>",
            html(&line.price.note),
            dollars(line.usd_per_hour),
            label("published")
        );
        for (value, number) in [
            (line.usd_per_million(), &line.inference),
            (line.usd_per_training(), &line.training),
        ] {
            out.push_str(&derived(value.map(dollars), number));
        }
        let rate = |line: &Line<'_>| line.inference.comparable();
        let speed = |line: &Line<'_>| line.training.comparable().map(|seconds| 1.0 / seconds);
        for (number, base, own) in [
            (&line.inference, baseline.and_then(rate), rate(line)),
            (&line.training, baseline.and_then(speed), speed(line)),
        ] {
            let value = base
                .zip(own)
                .map(|(base, own)| format!("{}×", ratio(own / base)));
            out.push_str(&derived(value, number));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    out.push_str(&notes(resolved, up));
    out.push_str("</div>\n");
    out
}

/// A cell whose number is as somebody gave it.
fn given(number: &Number, unit: &str) -> String {
    let Some(value) = number.value else {
        return format!("<td class=\"absent\">{}</td>", html(number.label));
    };
    let how = match number.how.as_str() {
        "" => String::new(),
        how => format!("<br><small>{}</small>", html(how)),
    };
    let text = format!("{}{unit}", significant(value));
    let text = match &number.source {
        Some(source) => format!("<a href=\"{}\">{text}</a>", html(&source.url)),
        None => text,
    };
    format!(
        "<td class=\"number\">{text} {}{how}</td>",
        label(number.label)
    )
}

/// A cell that is computed from a given one.
fn derived(value: Option<String>, number: &Number) -> String {
    match value {
        None => format!("<td class=\"absent\">{}</td>", html(number.absence())),
        // From an estimate comes an estimate.
        Some(text) if number.label == "estimate" => {
            format!(
                "<td class=\"number\">{text} {}</td>",
                label("from an estimate")
            )
        }
        Some(text) => format!("<td class=\"number\">{text} {}</td>", label("derived")),
    }
}

fn label(word: &str) -> String {
    format!("<small class=\"label\">{}</small>", html(word))
}

/// Formulas, sources and commands beneath the table.
fn notes(resolved: &Resolved<'_>, up: &str) -> String {
    let mut out = String::from("<p class=\"provenance\">Derived: ");
    let formulas: Vec<String> = FORMULAS
        .iter()
        .map(|(heading, formula)| format!("{heading} = {formula}"))
        .collect();
    let baseline = resolved
        .lines
        .iter()
        .find(|line| line.id == resolved.sheet.baseline)
        .map_or("", |line| line.name.as_str());
    let _ = writeln!(
        out,
        "{}. The baseline is {}.</p>",
        html(&formulas.join("; ")),
        html(baseline)
    );
    if let Some(note) = &resolved.sheet.note {
        let _ = writeln!(out, "<p class=\"provenance\">{}</p>", html(note));
    }
    for line in &resolved.lines {
        for (number, workload) in [&line.inference, &line.training]
            .into_iter()
            .zip(resolved.workloads())
        {
            if let Some(command) = &number.command {
                let _ = writeln!(
                    out,
                    "<p class=\"provenance\">{}, {}: not measured here. To fill it: <code>{}</code></p>",
                    html(&line.name),
                    html(workload),
                    html(command)
                );
            }
        }
    }
    out.push_str("<details class=\"provenance\"><summary>Where each number comes from</summary>\n");
    for shown in &resolved.shown {
        out.push_str(&provenance::full(
            shown.measurement,
            &shown.ids,
            &shown.labels,
            up,
        ));
    }
    out.push_str("<ul>\n");
    let mut told = HashSet::new();
    for line in &resolved.lines {
        let mut tell = |what: &str, source: &Sourced| {
            let text = format!(
                "<li>{what}: {}; <a href=\"{}\">{}</a>, {}</li>\n",
                html(&source.note),
                html(&source.url),
                html(host(&source.url)),
                html(&source.date)
            );
            if told.insert(text.clone()) {
                out.push_str(&text);
            }
        };
        tell("price", &line.price);
        for number in [&line.inference, &line.training] {
            if let Some(source) = &number.source {
                tell(&format!("{}, published", html(&line.name)), source);
            }
        }
    }
    out.push_str("</ul>\n</details>\n");
    out
}

#[cfg(test)]
mod tests {
    use accel::hardware::Hardware;

    use super::{CheatSheet, render};
    use crate::measurement::Measurements;

    const HARDWARE: &str = r#"
        [[device]]
        name = "Slow"
        kind = "gpu"
        memory_bytes_per_second = 1e11
        operations_per_second = { f32 = 1e13 }
        price = { usd_per_hour = 0.36, source = "https://shop.example/s", date = "2026-01-02" }
        source = "https://maker.example/s"
        date = "2026-01-01"
        throughput = [{ workload = "resnet50", what = "ResNet-50, f32", dtype = "f32", operations_per_image = 8.2e9, images_per_second = 100.0, source = "https://bench.example/s", date = "2026-01-03" }]
        [[device]]
        name = "Fast"
        kind = "gpu"
        memory_bytes_per_second = 1e12
        operations_per_second = { f32 = 1e14 }
        price = { usd_per_hour = 7.2, source = "https://shop.example/f", date = "2026-01-02" }
        source = "https://maker.example/f"
        date = "2026-01-01"
        throughput = [{ workload = "resnet50", what = "ResNet-50, f32", dtype = "f32", operations_per_image = 8.2e9, images_per_second = 1000.0, source = "https://bench.example/f", date = "2026-01-03" }]
    "#;

    const SHEET: &str = r#"
        title = "Cost and speed"
        baseline = "slow"
        inference = { workload = "ResNet-50" }
        training = { workload = "Training", images = 50000 }
        [[row]]
        id = "slow"
        name = "The slow one"
        price = "Slow"
        inference = { published = { device = "Slow", workload = "resnet50" }, how = "f32" }
        training = { not-measured = "cargo x learn" }
        [[row]]
        id = "fast"
        name = "The fast one"
        price = "Fast"
        inference = { published = { device = "Fast", workload = "resnet50" } }
        training = { published = { device = "Fast", workload = "resnet50" }, other-workload = "only forward" }
    "#;

    #[test]
    fn derived_columns_follow_their_formulas() {
        let sheet = CheatSheet::parse(SHEET).unwrap();
        let hardware = Hardware::parse(HARDWARE).unwrap();
        let measurements = Measurements::default();
        let resolved = sheet.resolve(&measurements, &hardware).unwrap();
        // 0.36 dollars an hour are a ten-thousandth a second, for 100 images.
        let about = |value: Option<f64>, expected: f64| {
            let value = value.unwrap();
            assert!((value - expected).abs() < 1e-9 * expected, "{value}");
        };
        about(resolved.lines[0].usd_per_million(), 1.0);
        assert_eq!(resolved.lines[0].usd_per_training(), None);
        about(resolved.lines[1].usd_per_million(), 2.0);
        about(resolved.lines[1].training.value, 50.0);
        // Of another workload, so that it makes no bill and no speed-up for this one.
        assert_eq!(resolved.lines[1].usd_per_training(), None);
        let html = render(&resolved, None, "");
        assert!(
            html.contains("10.0× <small class=\"label\">derived"),
            "{html}"
        );
        assert!(html.contains("$1.00 <small"), "{html}");
        assert_eq!(html.matches("other workload").count(), 2, "{html}");
        assert!(
            html.contains(
                "The slow one, Training: not measured here. To fill it: <code>cargo x learn</code>"
            ),
            "{html}"
        );
        assert!(html.contains("https://bench.example/f"), "{html}");
        assert!(
            !html.contains("\n\n"),
            "a blank line ends the block: {html}"
        );
        // No cell with a number is without its label.
        for cell in html.split("<td class=\"number\"").skip(1) {
            let cell = cell.split("</td>").next().unwrap();
            assert!(cell.contains("class=\"label\""), "{cell}");
        }
    }

    #[test]
    fn a_wrong_file_is_refused() {
        for (from, to, part) in [
            (
                "baseline = \"slow\"",
                "baseline = \"none\"",
                "no row \"none\"",
            ),
            ("id = \"fast\"", "id = \"slow\"", "twice"),
            (", images = 50000", "", "the images of one training"),
            (
                "{ not-measured = \"cargo x learn\" }",
                "{ how = \"f32\" }",
                "exactly one of",
            ),
            (
                "not-measured = \"cargo x learn\"",
                "not-measured = \"x\", published = { device = \"Slow\", workload = \"resnet50\" }",
                "exactly one of",
            ),
            ("how = \"f32\"", "colour = \"red\"", "colour"),
        ] {
            let text = SHEET.replacen(from, to, 1);
            assert_ne!(text, SHEET, "{from}");
            let error = CheatSheet::parse(&text).unwrap_err();
            assert!(error.contains(part), "{to}: {error}");
        }
    }

    #[test]
    fn a_number_that_is_not_there_is_told() {
        let hardware = Hardware::parse(HARDWARE).unwrap();
        let measurements = Measurements::default();
        for (from, to, part) in [
            (
                "price = \"Slow\"",
                "price = \"None\"",
                "no price of \"None\"",
            ),
            (
                "workload = \"resnet50\"",
                "workload = \"vgg\"",
                "no throughput \"vgg\"",
            ),
            (
                "not-measured = \"cargo x learn\"",
                "measured = { measurement = \"a/b\", row = \"c\", field = \"d\" }",
                "no measurement \"a/b\"",
            ),
        ] {
            let sheet = CheatSheet::parse(&SHEET.replacen(from, to, 1)).unwrap();
            let errors = sheet.resolve(&measurements, &hardware).unwrap_err();
            assert!(errors[0].contains(part), "{errors:?}");
        }
    }
}
