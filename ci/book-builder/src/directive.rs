//! The directives that a page may hold: found in its text, and parsed strictly.
//!
//! A directive is `{{#name ...}}`; a block is closed by `{{/name}}`. Arguments
//! are words, `"words with spaces"`, `key=value`, `key="value with spaces"` and the flag
//! `optional`.
//! Whatever is not known is an error that says what is allowed, so that a typing
//! mistake never reaches the reader as an empty place.

use std::{collections::BTreeMap, ops::Range};

use crate::{page::Page, problem::Problem, settings::is_measurement};

/// A directive as it stands in the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it asks for.
    pub directive: Directive,
    /// Its bytes in the page, braces included.
    pub span: Range<usize>,
}

/// What a directive asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directive {
    /// Code of the repository: `{{#include ../../chapters/01-cpu/src/x.rs:anchor}}`.
    Include {
        /// Path relative to the page.
        path: String,
        /// The anchor; `None` for the whole file.
        anchor: Option<String>,
    },
    /// How two files of the repository differ.
    Difference(Difference),
    /// A table of a measurement.
    Table(Table),
    /// One field of a measurement, crossed by two of its workload's.
    Matrix(Matrix),
    /// A chart of a measurement.
    Chart(Chart),
    /// How a field of some rows went from publication to publication.
    Trend(Trend),
    /// One number of one row.
    Value {
        /// `chapter/measurement`.
        measurement: String,
        /// Id of the row.
        row: String,
        /// Name of the field.
        field: String,
        /// Whether a missing result is told instead of failing the gate.
        optional: bool,
    },
    /// How many times the rate of one row is that of another, with its interval.
    Ratio {
        /// `chapter/measurement`.
        measurement: String,
        /// Id of the row whose rate is above the line.
        numerator: String,
        /// Id of the row whose rate is below the line.
        denominator: String,
        /// Whether a missing result is told instead of failing the gate.
        optional: bool,
    },
    /// Where the numbers of a measurement come from.
    Provenance {
        /// `chapter/measurement`.
        measurement: String,
        /// Whether a missing result is told instead of failing the gate.
        optional: bool,
    },
    /// A number that somebody else published.
    Published {
        /// The number with its unit.
        value: String,
        /// Who says so, and where.
        source: String,
        /// Its address.
        url: Option<String>,
        /// When it was read or published: `YYYY`, `YYYY-MM` or `YYYY-MM-DD`.
        date: String,
    },
    /// A number that a tool estimated.
    Estimate {
        /// The number with its unit.
        value: String,
        /// The tool that estimated it.
        by: String,
    },
    /// A fact of a device or a machine, from `shared/hardware.toml`.
    Hardware {
        /// The device's or the machine's name.
        name: String,
        /// Which fact.
        field: String,
    },
    /// Facts of several devices.
    HardwareTable(HardwareTable),
    /// Cost against speed, from `book/cheat-sheet.toml`.
    CheatSheet {
        /// Caption, if not the file's.
        title: Option<String>,
    },
    /// The same with prices that the reader may change.
    Calculator {
        /// Caption, if not the file's.
        title: Option<String>,
    },
    /// A block opens.
    Open(Block, Option<String>),
    /// A block closes.
    Close(Block),
}

/// A block around Markdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// A prediction made on paper before measuring. Numbers may be typed in it.
    Prediction,
    /// Arithmetic on paper. Numbers may be typed in it.
    Derivation,
    /// What to remember of a page.
    Takeaway,
    /// A folded solution of an exercise.
    Solution,
}

impl Block {
    /// Its name in the page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prediction => "prediction",
            Self::Derivation => "derivation",
            Self::Takeaway => "takeaway",
            Self::Solution => "solution",
        }
    }

    /// Whether numbers worked out on paper may be typed in it.
    pub fn is_paper(self) -> bool {
        matches!(self, Self::Prediction | Self::Derivation)
    }

    fn named(name: &str) -> Option<Self> {
        [
            Self::Prediction,
            Self::Derivation,
            Self::Takeaway,
            Self::Solution,
        ]
        .into_iter()
        .find(|block| block.name() == name)
    }
}

/// How two files of the repository differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The file that is compared with, relative to the page.
    pub old: String,
    /// The file that differs from it, relative to the page.
    pub new: String,
    /// Most lines that may be removed and added together.
    pub limit: usize,
}

/// A table of devices' facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardwareTable {
    /// Names of devices and machines, in order.
    pub devices: Vec<String>,
    /// Facts, in order.
    pub columns: Vec<String>,
    /// Caption.
    pub title: Option<String>,
}

/// Which rows of a result file a table or a chart shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// These ids in this order; empty for all.
    pub rows: Vec<String>,
    /// Only rows whose workload has these values.
    pub filter: Vec<(String, String)>,
}

/// A table of a measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `chapter/measurement`.
    pub measurement: String,
    /// Fields, in order.
    pub columns: Vec<String>,
    /// Rows.
    pub selection: Selection,
    /// Id of the row that the column `relative` compares with.
    pub baseline: Option<String>,
    /// Caption, if not the measurement's title.
    pub title: Option<String>,
    /// Whether a missing result is told instead of failing the gate.
    pub optional: bool,
}

/// One field of a measurement as a table with a cell for each pair of two other fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrix {
    /// `chapter/measurement`.
    pub measurement: String,
    /// The field that names a line.
    pub line: String,
    /// The fields whose values together name a column.
    pub columns: Vec<String>,
    /// The field that fills the cells.
    pub field: String,
    /// Rows.
    pub selection: Selection,
    /// Caption, if not the measurement's title.
    pub title: Option<String>,
    /// Whether a missing result is told instead of failing the gate.
    pub optional: bool,
}

/// Which chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChartKind {
    /// One horizontal bar a row.
    Bar,
    /// One line a series over a numeric field.
    Line {
        /// Field of the horizontal axis.
        x: String,
        /// Workload field whose values make the series; `None` for one line.
        series: Option<String>,
    },
    /// One point a row: the field over another number of the same row.
    Scatter {
        /// Field of the horizontal axis.
        x: String,
        /// Workload field whose values make the series; `None` for one.
        series: Option<String>,
    },
}

impl ChartKind {
    /// Field of the horizontal axis, where it has values.
    pub fn x(&self) -> Option<&str> {
        match self {
            Self::Bar => None,
            Self::Line { x, .. } | Self::Scatter { x, .. } => Some(x),
        }
    }
}

/// A chart of a measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chart {
    /// `chapter/measurement`.
    pub measurement: String,
    /// Which chart.
    pub kind: ChartKind,
    /// The field that is drawn.
    pub field: String,
    /// Whether its axis is logarithmic.
    pub logarithmic: bool,
    /// Rows.
    pub selection: Selection,
    /// Title, if not the measurement's.
    pub title: Option<String>,
    /// Whether a missing result is told instead of failing the gate.
    pub optional: bool,
}

/// How a field of some rows went from publication to publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trend {
    /// `chapter/measurement`.
    pub measurement: String,
    /// Ids of the rows, at most [`TREND_ROWS`].
    pub rows: Vec<String>,
    /// The field.
    pub field: String,
    /// Id of the row that the field `relative` compares with.
    pub baseline: Option<String>,
    /// Title, if not the measurement's.
    pub title: Option<String>,
}

/// The most rows of a trend: each has a dash and a marker of its own.
pub const TREND_ROWS: usize = 4;

/// Every directive with its form, as an error prints it.
const FORMS: &[(&str, &str)] = &[
    ("include", "{{#include PATH[:ANCHOR]}}"),
    ("difference", "{{#difference OLD NEW limit=LINES}}"),
    (
        "table",
        "{{#table CHAPTER/MEASUREMENT columns=FIELD,... [rows=ID,...] [where=\"FIELD=VALUE ...\"] [baseline=ID] [title=\"...\"] [optional]}}",
    ),
    (
        "matrix",
        "{{#matrix CHAPTER/MEASUREMENT line=FIELD columns=FIELD,... field=FIELD [rows=ID,...] [where=\"FIELD=VALUE ...\"] [title=\"...\"] [optional]}}",
    ),
    (
        "chart",
        "{{#chart CHAPTER/MEASUREMENT kind=bar|line|scatter field=FIELD [x=FIELD] [series=FIELD] [scale=linear|log] [rows=ID,...] [where=\"FIELD=VALUE ...\"] [title=\"...\"] [optional]}}",
    ),
    (
        "trend",
        "{{#trend CHAPTER/MEASUREMENT rows=ID,... field=FIELD|relative [baseline=ID] [title=\"...\"]}}",
    ),
    (
        "value",
        "{{#value CHAPTER/MEASUREMENT row=ID field=FIELD [optional]}}",
    ),
    (
        "ratio",
        "{{#ratio CHAPTER/MEASUREMENT NUMERATOR-ID DENOMINATOR-ID [optional]}}",
    ),
    (
        "provenance",
        "{{#provenance CHAPTER/MEASUREMENT [optional]}}",
    ),
    (
        "published",
        "{{#published value=\"...\" source=\"...\" date=YYYY[-MM[-DD]] [url=\"https://...\"]}}",
    ),
    ("estimate", "{{#estimate value=\"...\" by=\"...\"}}"),
    ("hardware", "{{#hardware NAME FIELD}}"),
    (
        "hardware-table",
        "{{#hardware-table devices=\"NAME,...\" columns=FIELD,... [title=\"...\"]}}",
    ),
    ("cheat-sheet", "{{#cheat-sheet [title=\"...\"]}}"),
    ("calculator", "{{#calculator [title=\"...\"]}}"),
    (
        "prediction",
        "{{#prediction [title=\"...\"]}} ... {{/prediction}}",
    ),
    (
        "derivation",
        "{{#derivation [title=\"...\"]}} ... {{/derivation}}",
    ),
    (
        "takeaway",
        "{{#takeaway [title=\"...\"]}} ... {{/takeaway}}",
    ),
    (
        "solution",
        "{{#solution [title=\"...\"]}} ... {{/solution}}",
    ),
];

/// Finds and parses the directives of a page, in order.
///
/// Also checks where they stand: tables, charts, provenance lines and blocks
/// alone at the beginning of a line and outside code; includes alone on a line
/// of a fenced code block; blocks closed in the order they were opened.
pub fn find(page: &Page) -> (Vec<Found>, Vec<Problem>) {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    let code = page.code();
    let source = page.source.as_str();
    let mut at = 0;
    while let Some((start, closing)) = next_opening(source, at) {
        let line = page.line(start);
        let mut report = |text: String| problems.push(Problem::at(&page.name, line, text));
        let Some(end) = end_of(source, start) else {
            report(format!(
                "a directive is not closed: expected }}}} after {:?}",
                head(&source[start..])
            ));
            at = start + 3;
            continue;
        };
        at = end;
        let text = &source[start..end];
        if source[..start].ends_with('\\') {
            report(format!(
                "{text} is escaped with a backslash, which this book does not support: write the sentence without the directive"
            ));
            continue;
        }
        let directive = match parse(&text[3..text.len() - 2], closing) {
            Ok(directive) => directive,
            Err(reason) => {
                report(format!("{}: {reason}", head(text)));
                continue;
            }
        };
        let fence = code
            .blocks
            .iter()
            .find(|block| block.span.contains(&start))
            .map(|block| block.fenced);
        let in_code = fence.is_some() || code.spans.iter().any(|span| span.contains(&start));
        let line_start = source[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let rest = source[end..].split('\n').next().unwrap_or_default().trim();
        let alone = source[line_start..start].trim().is_empty() && rest.is_empty();
        match &directive {
            Directive::Include { .. } if !(alone && fence == Some(true)) => report(format!(
                "{text} must stand alone on a line of a fenced code block: the book shows files only as code"
            )),
            Directive::Include { .. } => {}
            _ if in_code => report(format!("{text} stands in code, where nothing is expanded")),
            Directive::Difference(_)
            | Directive::Table(_)
            | Directive::Matrix(_)
            | Directive::Chart(_)
            | Directive::Trend(_)
            | Directive::Provenance { .. }
            | Directive::HardwareTable(_)
            | Directive::CheatSheet { .. }
            | Directive::Calculator { .. }
            | Directive::Open(..)
            | Directive::Close(_)
                if !alone || start != line_start =>
            {
                report(format!(
                    "{} must stand alone at the beginning of a line",
                    head(text)
                ));
            }
            _ => {}
        }
        found.push(Found {
            directive,
            span: start..end,
        });
    }
    check_blocks(page, &found, &mut problems);
    (found, problems)
}

fn check_blocks(page: &Page, found: &[Found], problems: &mut Vec<Problem>) {
    let mut open: Vec<(Block, usize)> = Vec::new();
    for one in found {
        let line = page.line(one.span.start);
        match one.directive {
            Directive::Open(block, _) => open.push((block, line)),
            Directive::Close(block) => match open.pop() {
                Some((expected, _)) if expected == block => {}
                Some((expected, from)) => problems.push(Problem::at(
                    &page.name,
                    line,
                    format!(
                        "expected {{{{/{}}}}}, opened on line {from}, got {{{{/{}}}}}",
                        expected.name(),
                        block.name()
                    ),
                )),
                None => problems.push(Problem::at(
                    &page.name,
                    line,
                    format!("{{{{/{}}}}} closes nothing", block.name()),
                )),
            },
            _ => {}
        }
    }
    for (block, line) in open {
        problems.push(Problem::at(
            &page.name,
            line,
            format!(
                "{{{{#{0}}}}} is never closed: expected {{{{/{0}}}}}",
                block.name()
            ),
        ));
    }
}

/// The next `{{#` or `{{/` from an offset, and whether it is the latter.
fn next_opening(source: &str, from: usize) -> Option<(usize, bool)> {
    let rest = &source[from..];
    let open = rest.find("{{#").map(|at| (from + at, false));
    let close = rest.find("{{/").map(|at| (from + at, true));
    match (open, close) {
        (Some(open), Some(close)) => Some(open.min(close)),
        (one, other) => one.or(other),
    }
}

/// Where the directive that starts here ends: behind the first `}}` outside quotes.
fn end_of(source: &str, start: usize) -> Option<usize> {
    let mut quoted = false;
    let mut previous = ' ';
    for (at, character) in source[start + 3..].char_indices() {
        match character {
            '"' => quoted = !quoted,
            '}' if !quoted && previous == '}' => return Some(start + 3 + at + 1),
            // A paragraph ends every directive: a missing brace or quote must
            // not swallow the rest of the page.
            '\n' if previous == '\n' => return None,
            _ => {}
        }
        previous = character;
    }
    None
}

/// The beginning of a text, for an error message.
fn head(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= 70 {
        line.to_owned()
    } else {
        line.chars().take(67).chain("...".chars()).collect()
    }
}

/// Parses what stands between the braces.
fn parse(inner: &str, closing: bool) -> Result<Directive, String> {
    let inner = inner.trim();
    let name_end = inner
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .unwrap_or(inner.len());
    let (name, rest) = inner.split_at(name_end);
    if closing {
        return match Block::named(name) {
            Some(block) if rest.trim().is_empty() => Ok(Directive::Close(block)),
            Some(_) => Err(format!("expected {{{{/{name}}}}} and nothing more")),
            None => Err(format!(
                "no block named {name:?}: expected prediction, derivation, takeaway or solution"
            )),
        };
    }
    let Some((_, form)) = FORMS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = FORMS.iter().map(|(known, _)| *known).collect();
        return Err(format!(
            "no directive named {name:?}: expected one of {}",
            known.join(", ")
        ));
    };
    if name == "include" {
        return include(rest.trim());
    }
    let mut arguments = Arguments::lex(rest).map_err(|reason| format!("{reason}; form: {form}"))?;
    let parsed = if let Some(block) = Block::named(name) {
        Ok(Directive::Open(block, arguments.take("title")))
    } else {
        figure(name, &mut arguments)
    };
    parsed
        .and_then(|directive| arguments.finish().map(|()| directive))
        .map_err(|reason| format!("{reason}; form: {form}"))
}

fn include(target: &str) -> Result<Directive, String> {
    if target.is_empty() || target.contains(char::is_whitespace) {
        return Err(format!(
            "expected one path, with an anchor behind a colon, got {target:?}"
        ));
    }
    let (path, anchor) = match target.split_once(':') {
        None => (target, None),
        Some((path, anchor)) => (path, Some(anchor)),
    };
    if let Some(anchor) = anchor {
        let is_name = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        };
        if anchor.is_empty() || !is_name(anchor) || anchor.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!(
                "expected the name of an anchor behind the colon, got {anchor:?}: line numbers drift, so mark the lines with ANCHOR: name and ANCHOR_END: name"
            ));
        }
    }
    Ok(Directive::Include {
        path: path.to_owned(),
        anchor: anchor.map(str::to_owned),
    })
}

fn figure(name: &str, arguments: &mut Arguments) -> Result<Directive, String> {
    match name {
        "published" => {
            let date = arguments.need("date")?;
            if !is_date(&date) {
                return Err(format!(
                    "date: expected YYYY, YYYY-MM or YYYY-MM-DD, got {date:?}"
                ));
            }
            let url = arguments.take("url");
            if let Some(url) = &url
                && !url.starts_with("https://")
            {
                return Err(format!("url: expected https://..., got {url:?}"));
            }
            return Ok(Directive::Published {
                value: arguments.need("value")?,
                source: arguments.need("source")?,
                url,
                date,
            });
        }
        "difference" => {
            let (old, new) = (arguments.word("OLD")?, arguments.word("NEW")?);
            arguments.optional_read = false;
            let limit = arguments.need("limit")?;
            let limit = limit
                .parse()
                .map_err(|_| format!("limit: expected a number of lines, got {limit:?}"))?;
            return Ok(Directive::Difference(Difference { old, new, limit }));
        }
        "estimate" => {
            return Ok(Directive::Estimate {
                value: arguments.need("value")?,
                by: arguments.need("by")?,
            });
        }
        "hardware" => {
            // A name may have spaces, a field has none: the last word is the field.
            let mut words = Vec::from(std::mem::take(&mut arguments.words));
            let field = words.pop().ok_or("NAME and FIELD are missing")?;
            if words.is_empty() {
                return Err(format!("NAME is missing before {field:?}"));
            }
            return Ok(Directive::Hardware {
                name: words.join(" "),
                field,
            });
        }
        "hardware-table" => {
            return Ok(Directive::HardwareTable(HardwareTable {
                devices: arguments.need_list("devices")?,
                columns: arguments.need_list("columns")?,
                title: arguments.take("title"),
            }));
        }
        "cheat-sheet" => {
            return Ok(Directive::CheatSheet {
                title: arguments.take("title"),
            });
        }
        "calculator" => {
            return Ok(Directive::Calculator {
                title: arguments.take("title"),
            });
        }
        _ => {}
    }
    let measurement = arguments.word("CHAPTER/MEASUREMENT")?;
    if !is_measurement(&measurement) {
        return Err(format!(
            "expected CHAPTER/MEASUREMENT, such as 01-cpu/ladder, got {measurement:?}"
        ));
    }
    let optional = arguments.optional;
    Ok(match name {
        "table" => {
            let columns = arguments.need_list("columns")?;
            let relative = columns.iter().any(|column| column == "relative");
            let baseline = baseline(arguments, relative)?;
            Directive::Table(Table {
                measurement,
                columns,
                selection: selection(arguments)?,
                baseline,
                title: arguments.take("title"),
                optional,
            })
        }
        "matrix" => Directive::Matrix(Matrix {
            measurement,
            line: arguments.need("line")?,
            columns: arguments.need_list("columns")?,
            field: arguments.need("field")?,
            selection: selection(arguments)?,
            title: arguments.take("title"),
            optional,
        }),
        "chart" => {
            let kind = arguments.need("kind")?;
            // A bar begins at zero, which a logarithmic axis has not.
            let mut logarithmic = false;
            let kind = match kind.as_str() {
                "bar" => ChartKind::Bar,
                "line" => {
                    logarithmic = match arguments.take("scale").as_deref() {
                        None | Some("linear") => false,
                        Some("log") => true,
                        Some(other) => {
                            return Err(format!("scale: expected linear or log, got {other:?}"));
                        }
                    };
                    ChartKind::Line {
                        x: arguments.need("x")?,
                        series: arguments.take("series"),
                    }
                }
                "scatter" => ChartKind::Scatter {
                    x: arguments.need("x")?,
                    series: arguments.take("series"),
                },
                other => {
                    return Err(format!(
                        "kind: expected bar, line or scatter, got {other:?}"
                    ));
                }
            };
            Directive::Chart(Chart {
                measurement,
                kind,
                field: arguments.need("field")?,
                logarithmic,
                selection: selection(arguments)?,
                title: arguments.take("title"),
                optional,
            })
        }
        "trend" => {
            // A history that nobody has published is none.
            arguments.optional_read = false;
            let rows = arguments.need_list("rows")?;
            if rows.len() > TREND_ROWS {
                return Err(format!(
                    "rows: expected at most {TREND_ROWS}, got {}: take those that matter",
                    rows.len()
                ));
            }
            let field = arguments.need("field")?;
            let baseline = baseline(arguments, field == "relative")?;
            Directive::Trend(Trend {
                measurement,
                rows,
                field,
                baseline,
                title: arguments.take("title"),
            })
        }
        "value" => Directive::Value {
            measurement,
            row: arguments.need("row")?,
            field: arguments.need("field")?,
            optional,
        },
        "ratio" => Directive::Ratio {
            measurement,
            numerator: arguments.word("NUMERATOR-ID")?,
            denominator: arguments.word("DENOMINATOR-ID")?,
            optional,
        },
        _ => Directive::Provenance {
            measurement,
            optional,
        },
    })
}

/// The row that the field `relative` compares with.
fn baseline(arguments: &mut Arguments, relative: bool) -> Result<Option<String>, String> {
    let baseline = arguments.take("baseline");
    match (relative, &baseline) {
        (true, None) => Err("the field \"relative\" needs baseline=ID to compare with".into()),
        (false, Some(_)) => {
            Err("baseline= is for the field \"relative\", which is not asked for".into())
        }
        _ => Ok(baseline),
    }
}

fn selection(arguments: &mut Arguments) -> Result<Selection, String> {
    let rows = match arguments.take("rows") {
        None => Vec::new(),
        Some(list) => split_list("rows", &list)?,
    };
    let mut filter = Vec::new();
    if let Some(text) = arguments.take("where") {
        for pair in text.split_whitespace() {
            match pair.split_once('=') {
                Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                    filter.push((key.to_owned(), value.to_owned()));
                }
                _ => return Err(format!("where: expected FIELD=VALUE, got {pair:?}")),
            }
        }
    }
    Ok(Selection { rows, filter })
}

fn split_list(key: &str, list: &str) -> Result<Vec<String>, String> {
    let items: Vec<String> = list.split(',').map(|item| item.trim().to_owned()).collect();
    if items.iter().any(String::is_empty) {
        return Err(format!("{key}: an empty name in {list:?}"));
    }
    for (index, item) in items.iter().enumerate() {
        if items[..index].contains(item) {
            return Err(format!("{key}: {item:?} twice"));
        }
    }
    Ok(items)
}

fn is_date(text: &str) -> bool {
    let shape: String = text
        .chars()
        .map(|c| if c.is_ascii_digit() { '9' } else { c })
        .collect();
    matches!(shape.as_str(), "9999" | "9999-99" | "9999-99-99")
}

/// The arguments of one directive; each is taken once, and none may be left.
struct Arguments {
    words: std::collections::VecDeque<String>,
    named: BTreeMap<String, String>,
    optional: bool,
    asked: Vec<&'static str>,
    /// Whether an `optional` that was given means something to this directive.
    optional_read: bool,
}

impl Arguments {
    fn lex(text: &str) -> Result<Self, String> {
        let mut arguments = Self {
            words: std::collections::VecDeque::new(),
            named: BTreeMap::new(),
            optional: false,
            asked: Vec::new(),
            optional_read: false,
        };
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let word_end = rest
                .find(|c: char| c.is_whitespace() || c == '=' || c == '"')
                .unwrap_or(rest.len());
            let (word, tail) = rest.split_at(word_end);
            if let Some(value) = tail.strip_prefix('=') {
                let (value, tail) = if let Some(quoted) = value.strip_prefix('"') {
                    quoted
                        .split_once('"')
                        .ok_or_else(|| format!("{word}: a quote is not closed"))?
                } else {
                    value.split_at(value.find(char::is_whitespace).unwrap_or(value.len()))
                };
                let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
                if word.is_empty() || value.is_empty() {
                    return Err(format!("expected key=value, got {word:?}={value:?}"));
                }
                if arguments.named.insert(word.to_owned(), value).is_some() {
                    return Err(format!("{word} is given twice"));
                }
                if !tail.is_empty() && !tail.starts_with(char::is_whitespace) {
                    return Err(format!("expected a space before {:?}", head(tail)));
                }
                rest = tail.trim_start();
                continue;
            }
            if let Some(quoted) = tail.strip_prefix('"') {
                if !word.is_empty() {
                    return Err(format!("expected key=\"...\", got {:?}", head(tail)));
                }
                let (text, tail) = quoted.split_once('"').ok_or("a quote is not closed")?;
                if !tail.is_empty() && !tail.starts_with(char::is_whitespace) {
                    return Err(format!("expected a space before {:?}", head(tail)));
                }
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                arguments.words.push_back(text);
                rest = tail.trim_start();
                continue;
            }
            if word == "optional" {
                arguments.optional = true;
            } else {
                arguments.words.push_back(word.to_owned());
            }
            rest = tail.trim_start();
        }
        Ok(arguments)
    }

    fn word(&mut self, what: &str) -> Result<String, String> {
        // Only figures that read a result file take a word; those know `optional`.
        self.optional_read = true;
        self.words
            .pop_front()
            .ok_or_else(|| format!("{what} is missing"))
    }

    fn take(&mut self, key: &'static str) -> Option<String> {
        self.asked.push(key);
        self.named.remove(key)
    }

    fn need(&mut self, key: &'static str) -> Result<String, String> {
        self.take(key).ok_or_else(|| format!("{key}= is missing"))
    }

    fn need_list(&mut self, key: &'static str) -> Result<Vec<String>, String> {
        let list = self.need(key)?;
        split_list(key, &list)
    }

    fn finish(&self) -> Result<(), String> {
        if let Some(word) = self.words.front() {
            return Err(format!("{word:?} is one word too many"));
        }
        if let Some(key) = self.named.keys().next() {
            return Err(format!(
                "{key}= means nothing here: expected {}",
                self.asked.join(", ")
            ));
        }
        if self.optional && !self.optional_read {
            return Err("\"optional\" means nothing here".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, ChartKind, Difference, Directive, HardwareTable, Trend, find};
    use crate::page::Page;

    fn page(source: &str) -> Page {
        Page {
            name: "book/src/p.md".into(),
            path: "p.md".into(),
            source: source.into(),
        }
    }

    /// The only problem of a page.
    fn problem(source: &str) -> String {
        let (_, problems) = find(&page(source));
        assert_eq!(problems.len(), 1, "{source}: {problems:?}");
        problems[0].text.clone()
    }

    #[test]
    fn every_form_parses() {
        let source = "\
{{#table 01-cpu/ladder columns=label,images_per_second,relative\n  rows=a,b where=\"batch=8 dtype=f32\" baseline=a title=\"A }} B\" optional}}

{{#chart 01-cpu/ladder kind=line field=images_per_second x=batch series=engine scale=log}}

{{#matrix 01-cpu/ladder line=engine columns=device,dtype field=images_per_second}}

{{#difference ../../x.rs ../../y.rs limit=7}}

{{#provenance 01-cpu/ladder}}

Text {{#value 01-cpu/ladder row=a field=p50_ms}} and {{#ratio 01-cpu/peers a b optional}},
{{#published value=\"1 GB/s\" source=\"A datasheet\" date=2024-05 url=\"https://example.org/x\"}},
{{#estimate value=\"2 ms\" by=\"XLA\"}}.

{{#prediction title=\"First\"}}
Text.
{{/prediction}}

```rust
{{#include ../../x.rs:name}}
{{#include ../../y.rs}}
```

{{#hardware NVIDIA T4 memory_bytes}} {{#hardware \"NVIDIA T4\" memory_bytes}}

{{#hardware-table devices=\"NVIDIA T4, TPU v5e\" columns=memory_bytes,bf16}}

{{#cheat-sheet}}

{{#calculator title=\"Bills\"}}

{{#trend 01-cpu/ladder rows=a,b field=relative baseline=c}}
";
        let (found, problems) = find(&page(source));
        assert_eq!(problems, []);
        assert_eq!(found.len(), 19);
        assert_eq!(
            found[18].directive,
            Directive::Trend(Trend {
                measurement: "01-cpu/ladder".into(),
                rows: vec!["a".into(), "b".into()],
                field: "relative".into(),
                baseline: Some("c".into()),
                title: None
            })
        );
        assert_eq!(
            found[13].directive,
            Directive::Hardware {
                name: "NVIDIA T4".into(),
                field: "memory_bytes".into()
            }
        );
        assert_eq!(found[13].directive, found[14].directive);
        assert_eq!(
            found[15].directive,
            Directive::HardwareTable(HardwareTable {
                devices: vec!["NVIDIA T4".into(), "TPU v5e".into()],
                columns: vec!["memory_bytes".into(), "bf16".into()],
                title: None
            })
        );
        let Directive::Table(table) = &found[0].directive else {
            panic!("{:?}", found[0]);
        };
        assert_eq!(table.columns, ["label", "images_per_second", "relative"]);
        assert_eq!(table.title.as_deref(), Some("A }} B"));
        assert_eq!(table.selection.filter[1], ("dtype".into(), "f32".into()));
        assert!(table.optional);
        let Directive::Chart(chart) = &found[1].directive else {
            panic!("{:?}", found[1]);
        };
        assert!(
            matches!(&chart.kind, ChartKind::Line { x, series: Some(series) } if x == "batch" && series == "engine")
        );
        assert!(chart.logarithmic);
        let Directive::Matrix(matrix) = &found[2].directive else {
            panic!("{:?}", found[2]);
        };
        assert_eq!(matrix.columns, ["device", "dtype"]);
        assert_eq!(
            found[3].directive,
            Directive::Difference(Difference {
                old: "../../x.rs".into(),
                new: "../../y.rs".into(),
                limit: 7
            })
        );
        assert_eq!(
            found[9].directive,
            Directive::Open(Block::Prediction, Some("First".into()))
        );
    }

    #[test]
    fn errors_say_what_is_allowed() {
        for (source, part) in [
            (
                "{{#tabel 01-cpu/x columns=a}}",
                "expected one of include, difference, table",
            ),
            ("{{#table 01-cpu/x}}", "columns= is missing; form: {{#table"),
            (
                "{{#table 01-cpu/x columns=a colour=red}}",
                "colour= means nothing here: expected",
            ),
            ("{{#table 01-cpu/x columns=a,,b}}", "an empty name"),
            ("{{#table 01-cpu/x columns=a,a}}", "twice"),
            ("{{#table 01-cpu/x columns=relative}}", "needs baseline=ID"),
            (
                "{{#table 01-cpu/x columns=a baseline=b}}",
                "which is not asked for",
            ),
            (
                "{{#table ../../x columns=a}}",
                "expected CHAPTER/MEASUREMENT",
            ),
            (
                "{{#table 01-cpu/x columns=a where=batch}}",
                "expected FIELD=VALUE",
            ),
            (
                "{{#table 01-cpu/x columns=a title=\"x\"y}}",
                "expected a space",
            ),
            (
                "{{#chart 01-cpu/x kind=pie field=a}}",
                "expected bar, line or scatter",
            ),
            ("{{#chart 01-cpu/x kind=line field=a}}", "x= is missing"),
            ("{{#chart 01-cpu/x kind=scatter field=a}}", "x= is missing"),
            (
                "{{#chart 01-cpu/x kind=scatter field=a x=b scale=log}}",
                "scale= means nothing here",
            ),
            (
                "{{#chart 01-cpu/x kind=bar field=a x=b}}",
                "x= means nothing here",
            ),
            (
                "{{#chart 01-cpu/x kind=bar field=a scale=log}}",
                "scale= means nothing here",
            ),
            (
                "{{#chart 01-cpu/x kind=line field=a x=b scale=lg}}",
                "expected linear or log",
            ),
            ("{{#matrix 01-cpu/x columns=a field=b}}", "line= is missing"),
            ("{{#difference a.rs limit=3}}", "NEW is missing"),
            ("{{#difference a.rs b.rs}}", "limit= is missing"),
            (
                "{{#difference a.rs b.rs limit=-1}}",
                "expected a number of lines",
            ),
            (
                "{{#difference a.rs b.rs limit=3 optional}}",
                "\"optional\" means nothing here",
            ),
            (
                "text {{#difference a.rs b.rs limit=3}}",
                "alone at the beginning",
            ),
            ("{{#trend 01-cpu/x field=a}}", "rows= is missing"),
            (
                "{{#trend 01-cpu/x rows=a field=b optional}}",
                "\"optional\" means nothing here",
            ),
            (
                "{{#trend 01-cpu/x rows=a field=relative}}",
                "needs baseline=ID",
            ),
            (
                "{{#trend 01-cpu/x rows=a,b,c,d,e field=b}}",
                "at most 4, got 5",
            ),
            (
                "text {{#trend 01-cpu/x rows=a field=b}}",
                "alone at the beginning",
            ),
            ("{{#ratio 01-cpu/x a}}", "DENOMINATOR-ID is missing"),
            ("{{#hardware memory_bytes}}", "NAME is missing"),
            ("{{#hardware \"T4 memory_bytes}}", "not closed"),
            (
                "{{#hardware T4 memory_bytes optional}}",
                "\"optional\" means nothing here",
            ),
            ("{{#hardware-table columns=f32}}", "devices= is missing"),
            ("text {{#cheat-sheet}}", "alone at the beginning"),
            ("{{#calculator T4}}", "one word too many"),
            ("{{#ratio 01-cpu/x a b c}}", "one word too many"),
            ("{{#value 01-cpu/x row=a row=b field=c}}", "given twice"),
            ("{{#published value=1 source=x date=May}}", "expected YYYY"),
            (
                "{{#published value=1 source=x date=2024 url=http://x}}",
                "expected https://",
            ),
            (
                "{{#estimate value=1 by=x optional}}",
                "\"optional\" means nothing here",
            ),
            ("{{#table 01-cpu/x columns=a", "not closed"),
            (
                "{{#table 01-cpu/x columns=\"a}}\n\nmore \" }}",
                "not closed",
            ),
            ("\\{{#value 01-cpu/x row=a field=b}}", "backslash"),
            ("`{{#value 01-cpu/x row=a field=b}}`", "stands in code"),
            ("text {{#provenance 01-cpu/x}}", "alone at the beginning"),
            ("{{#include x.rs:a}}", "fenced code block"),
            ("```rust\n{{#include x.rs:1:3}}\n```", "line numbers drift"),
            ("```rust\n{{#include x.rs:7}}\n```", "line numbers drift"),
            ("```rust\n{{#playground x.rs}}\n```", "no directive named"),
            ("{{#prediction}}\nx", "never closed"),
            ("{{/prediction}}", "closes nothing"),
            ("{{/precition}}", "no block named"),
            (
                "{{#prediction}}\nx\n{{/takeaway}}",
                "expected {{/prediction}}",
            ),
        ] {
            let text = problem(source);
            assert!(text.contains(part), "{source}\n{text}");
        }
    }
}
