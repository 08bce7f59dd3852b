//! A page with every directive replaced, or the list of what is wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use accel::hardware::Hardware;

use crate::{
    calculator, chart,
    cheat_sheet::{self, CheatSheet},
    difference,
    directive::{self, Block, Directive, Found},
    field::Label,
    hardware, listing,
    markup::html,
    matrix,
    measurement::{Measurement, Measurements},
    page::Page,
    problem::Problem,
    provenance, sentence, table, trend, typed_numbers,
};

/// What the pages of a book need besides their text.
#[derive(Debug)]
pub struct Material<'a> {
    /// The repository, canonical.
    pub root: &'a Path,
    /// The result files.
    pub measurements: &'a Measurements,
    /// What is published about devices.
    pub hardware: &'a Hardware,
    /// `book/cheat-sheet.toml`, where there is one.
    pub cheat_sheet: Option<&'a CheatSheet>,
}

/// What expanding all pages gave.
#[derive(Debug, Default)]
pub struct Expanded {
    /// Page (relative to `book/src`) to its Markdown.
    pub pages: BTreeMap<String, String>,
    /// Everything wrong with any page.
    pub problems: Vec<Problem>,
    /// Result files that figures link to: their path in the rendered book, and where they lie.
    pub raw_files: BTreeMap<String, PathBuf>,
    /// How many figures were made.
    pub figures: usize,
    /// Measurements that a page shows and nobody has measured.
    pub not_measured: BTreeSet<String>,
}

impl Expanded {
    /// Checks a page by every gate that reads its source, and expands it.
    pub fn add(&mut self, page: &Page, material: &Material<'_>) {
        let (found, problems) = directive::find(page);
        self.problems.extend(problems);
        self.problems.extend(listing::check_blocks(page));
        self.problems.extend(typed_numbers::check(page, &found));

        let mut text = String::with_capacity(page.source.len() * 2);
        let mut at = 0;
        for one in &found {
            text.push_str(&page.source[at..one.span.start]);
            match self.replace(one, page, material) {
                Ok(replacement) => text.push_str(&replacement),
                Err(reasons) => {
                    let line = page.line(one.span.start);
                    self.problems.extend(
                        reasons
                            .into_iter()
                            .map(|reason| Problem::at(&page.name, line, reason)),
                    );
                }
            }
            at = one.span.end;
        }
        text.push_str(&page.source[at..]);
        self.pages.insert(page.path.clone(), text);
    }

    fn replace(
        &mut self,
        found: &Found,
        page: &Page,
        material: &Material<'_>,
    ) -> Result<String, Vec<String>> {
        let up = page.up();
        match &found.directive {
            Directive::Include { path, anchor } => {
                let code = listing::read(material.root, page, path, anchor.as_deref())
                    .map_err(|reason| vec![reason])?;
                // The fence may stand in a list: all lines get the first one's indentation.
                let line_start = page.source[..found.span.start]
                    .rfind('\n')
                    .map_or(0, |newline| newline + 1);
                let indent = &page.source[line_start..found.span.start];
                Ok(code.replace('\n', &format!("\n{indent}")))
            }
            Directive::Difference(one) => {
                difference::render(one, material.root, page).map_err(|reason| vec![reason])
            }
            Directive::Open(block, title) => Ok(open(*block, title.as_deref())),
            Directive::Close(block) => Ok(close(*block)),
            Directive::Published {
                value,
                source,
                url,
                date,
            } => Ok(sentence::published(value, source, url.as_deref(), date)),
            Directive::Estimate { value, by } => Ok(sentence::estimate(value, by)),
            Directive::Hardware { name, field } => {
                hardware::fact(material.hardware, name, field).map_err(|reason| vec![reason])
            }
            Directive::HardwareTable(one) => {
                self.figures += 1;
                hardware::table(material.hardware, one)
            }
            Directive::CheatSheet { title } => self.sheet(material, |sheet| {
                cheat_sheet::render(sheet, title.as_deref(), &up)
            }),
            Directive::Calculator { title } => self.sheet(material, |sheet| {
                calculator::render(sheet, title.as_deref())
            }),
            Directive::Table(one) => self.figure(
                material,
                &one.measurement,
                one.optional,
                |measurement| table::render(one, measurement, &up),
                |measurement| {
                    provenance::not_measured(measurement, measurement.title(one.title.as_deref()))
                },
            ),
            Directive::Matrix(one) => self.figure(
                material,
                &one.measurement,
                one.optional,
                |measurement| matrix::render(one, measurement, &up),
                |measurement| {
                    provenance::not_measured(measurement, measurement.title(one.title.as_deref()))
                },
            ),
            Directive::Chart(one) => self.figure(
                material,
                &one.measurement,
                one.optional,
                |measurement| chart::render(one, measurement, &up),
                |measurement| {
                    provenance::not_measured(measurement, measurement.title(one.title.as_deref()))
                },
            ),
            Directive::Trend(one) => {
                let shown = self.figure(
                    material,
                    &one.measurement,
                    false,
                    |measurement| trend::render(one, measurement, &up),
                    |measurement| provenance::not_measured(measurement, measurement.title(None)),
                )?;
                // Each publication leads to its samples.
                let measurement = material.measurements.get(&one.measurement);
                for source in measurement.iter().flat_map(|one| one.history()) {
                    self.raw_files
                        .insert(source.link.clone(), source.path.clone());
                }
                Ok(shown)
            }
            Directive::Provenance {
                measurement,
                optional,
            } => self.figure(
                material,
                measurement,
                *optional,
                |measurement| Ok(provenance::lines(measurement, &[], &[Label::Measured], &up)),
                |measurement| provenance::not_measured(measurement, measurement.title(None)),
            ),
            Directive::Value {
                measurement,
                row,
                field,
                optional,
            } => self.figure(
                material,
                measurement,
                *optional,
                |measurement| {
                    sentence::value(measurement, row, field).map_err(|reason| vec![reason])
                },
                sentence::not_measured,
            ),
            Directive::Ratio {
                measurement,
                numerator,
                denominator,
                optional,
            } => self.figure(
                material,
                measurement,
                *optional,
                |measurement| {
                    sentence::rate_ratio(measurement, numerator, denominator)
                        .map_err(|reason| vec![reason])
                },
                sentence::not_measured,
            ),
        }
    }

    /// A figure of the cheat sheet's data.
    fn sheet(
        &mut self,
        material: &Material<'_>,
        render: impl FnOnce(&cheat_sheet::Resolved<'_>) -> String,
    ) -> Result<String, Vec<String>> {
        self.figures += 1;
        let sheet = material.cheat_sheet.ok_or_else(|| {
            vec![format!(
                "no {}: it says what the table's rows are",
                cheat_sheet::FILE
            )]
        })?;
        let resolved = sheet.resolve(material.measurements, material.hardware)?;
        for source in resolved.sources() {
            self.raw_files
                .insert(source.link.clone(), source.path.clone());
        }
        Ok(render(&resolved))
    }

    /// A figure of a measurement, or what stands in its place.
    ///
    /// A figure needs a published result. Where its directive says `optional`, the
    /// reader's own will do, and without either the page tells how to make one.
    fn figure(
        &mut self,
        material: &Material<'_>,
        name: &str,
        optional: bool,
        render: impl FnOnce(&Measurement) -> Result<String, Vec<String>>,
        absent: impl FnOnce(&Measurement) -> String,
    ) -> Result<String, Vec<String>> {
        let measurement = material
            .measurements
            .get(name)
            .map_err(|reason| vec![reason])?;
        self.figures += 1;
        if measurement.published.is_none() && !optional {
            return Err(vec![format!(
                "no published result of {name} in chapters/*/results of its reference machine: \
                 measure it with `{}` and publish it, or say optional",
                measurement.known.command
            )]);
        }
        for source in measurement.sources() {
            self.raw_files
                .insert(source.link.clone(), source.path.clone());
        }
        if measurement.sources().next().is_none() {
            self.not_measured.insert(name.to_owned());
            return Ok(absent(measurement));
        }
        render(measurement)
    }
}

fn open(block: Block, title: Option<&str>) -> String {
    let title = html(title.unwrap_or(match block {
        Block::Prediction => "Prediction, worked out on paper",
        Block::Derivation => "Worked out on paper",
        Block::Takeaway => "Takeaway",
        Block::Solution => "Solution",
    }));
    let name = block.name();
    match block {
        Block::Solution => {
            format!("<details class=\"aside {name}\"><summary>{title}</summary>\n\n")
        }
        _ => format!("<div class=\"aside {name}\">\n<p class=\"aside-title\">{title}</p>\n\n"),
    }
}

fn close(block: Block) -> String {
    match block {
        Block::Solution => "\n\n</details>\n".to_owned(),
        _ => "\n\n</div>\n".to_owned(),
    }
}
