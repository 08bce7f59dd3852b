//! Published facts about devices and machines, with their source and its date: one in a
//! sentence, several in a table.

use std::fmt::Write;

use accel::hardware::{DeviceFacts, Dtype, Hardware, MachineFacts};

use crate::{
    directive::HardwareTable,
    markup::{html, inline},
    quantity::{dollars, si},
};

/// Facts by their names in a page, with their headings.
const FIELDS: &[(&str, &str)] = &[
    ("memory_bytes", "memory"),
    ("memory_bytes_per_second", "memory bandwidth"),
    ("f32", "f32 peak"),
    ("tf32", "TF32 peak"),
    ("f16", "f16 peak"),
    ("bf16", "bf16 peak"),
    ("int8", "INT8 peak"),
    ("dollars_per_hour", "dollars an hour"),
    ("resnet50_images_per_second", "ResNet-50, images/s"),
    ("vcpus", "virtual processors"),
];

/// One fact and where it comes from.
#[derive(Debug, PartialEq)]
struct Fact {
    /// With its unit.
    text: String,
    url: String,
    date: String,
    /// What a reader should know of it.
    note: Option<String>,
}

/// A device or a machine.
#[derive(Clone, Copy)]
enum Known<'a> {
    Device(&'a DeviceFacts),
    Machine(&'a MachineFacts),
}

impl Known<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Device(device) => &device.name,
            Self::Machine(machine) => &machine.name,
        }
    }

    /// The fact of this name; `None` if nobody has published it.
    fn fact(&self, field: &str) -> Option<Fact> {
        let price = match self {
            Self::Device(device) => device.price.as_ref(),
            Self::Machine(machine) => Some(&machine.price),
        };
        if field == "dollars_per_hour" {
            return price.map(|price| Fact {
                text: dollars(price.usd_per_hour),
                url: price.source.clone(),
                date: price.date.clone(),
                note: price.note.clone(),
            });
        }
        match self {
            Self::Machine(machine) => {
                let text = match field {
                    "memory_bytes" => si(machine.memory_bytes as f64, "B"),
                    "vcpus" => machine.vcpus.to_string(),
                    _ => return None,
                };
                Some(Fact {
                    text,
                    url: machine.price.source.clone(),
                    date: machine.price.date.clone(),
                    note: machine.note.clone(),
                })
            }
            Self::Device(device) => {
                if let Some(workload) = field.strip_suffix("_images_per_second") {
                    let one = device.throughput(workload)?;
                    return Some(Fact {
                        text: format!(
                            "{} images/s",
                            crate::quantity::significant(one.images_per_second)
                        ),
                        url: one.source.clone(),
                        date: one.date.clone(),
                        note: Some(one.what.clone()),
                    });
                }
                let text = match field {
                    "memory_bytes" => si(device.memory_bytes? as f64, "B"),
                    "memory_bytes_per_second" => si(device.memory_bytes_per_second, "B/s"),
                    _ => {
                        let (dtype, unit) = peak(field)?;
                        si(*device.operations_per_second.get(&dtype)?, unit)
                    }
                };
                Some(Fact {
                    text,
                    url: device.source.clone(),
                    date: device.date.clone(),
                    note: device.note.clone(),
                })
            }
        }
    }
}

/// The type that a field names, and the unit of its operations.
fn peak(field: &str) -> Option<(Dtype, &'static str)> {
    Some(match field {
        "f32" => (Dtype::F32, "FLOP/s"),
        "tf32" => (Dtype::Tf32, "FLOP/s"),
        "f16" => (Dtype::F16, "FLOP/s"),
        "bf16" => (Dtype::Bf16, "FLOP/s"),
        "int8" => (Dtype::Int8, "OP/s"),
        _ => return None,
    })
}

fn known<'a>(hardware: &'a Hardware, name: &str) -> Result<Known<'a>, String> {
    (hardware.find(name).map(Known::Device))
        .or_else(|| hardware.machine(name).map(Known::Machine))
        .ok_or_else(|| {
            let names: Vec<&str> = hardware.names().collect();
            format!(
                "no device or machine named {name:?}: shared/hardware.toml has {}",
                names.join(", ")
            )
        })
}

/// A field by its name; `f32_operations_per_second` is another one for `f32`.
fn field_named(field: &str) -> Result<(&'static str, &'static str), String> {
    let short = field
        .strip_suffix("_operations_per_second")
        .unwrap_or(field);
    (FIELDS.iter().find(|(name, _)| *name == short))
        .copied()
        .ok_or_else(|| {
            let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
            format!(
                "no fact named {field:?}: expected one of {}",
                names.join(", ")
            )
        })
}

/// Where an address leads, for people: its host.
pub fn host(url: &str) -> &str {
    let rest = url.strip_prefix("https://").unwrap_or(url);
    let host = rest.split('/').next().unwrap_or(rest);
    host.strip_prefix("www.").unwrap_or(host)
}

/// A fact in a sentence: `320 GB/s (published: host, 2026-11-21)`.
///
/// # Errors
/// What there is, for a name or a field that is not there, and for a fact that nobody has
/// published.
pub fn fact(hardware: &Hardware, name: &str, field: &str) -> Result<String, String> {
    let known = known(hardware, name)?;
    let (field, heading) = field_named(field)?;
    let fact = known.fact(field).ok_or_else(|| {
        format!(
            "shared/hardware.toml has no {field} of {}: nobody has published it, or it has to be added there",
            known.name()
        )
    })?;
    let note = fact.note.as_ref().map_or_else(String::new, |note| {
        format!(" title=\"{}: {}\"", html(heading), html(note))
    });
    Ok(format!(
        "<span class=\"value\"{note}>{}</span> (published: <a href=\"{}\">{}</a>, {})",
        inline(&fact.text),
        html(&fact.url),
        inline(host(&fact.url)),
        inline(&fact.date)
    ))
}

/// A table of facts, each column with the label "published", each line with its sources.
///
/// # Errors
/// One message for each name and field that is not there.
pub fn table(hardware: &Hardware, table: &HardwareTable) -> Result<String, Vec<String>> {
    let mut errors = Vec::new();
    let mut columns = Vec::new();
    for column in &table.columns {
        match field_named(column) {
            Ok(column) => columns.push(column),
            Err(error) => errors.push(error),
        }
    }
    let mut devices = Vec::new();
    for name in &table.devices {
        match known(hardware, name) {
            Ok(known) => devices.push(known),
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let title = html(table.title.as_deref().unwrap_or("Published facts"));
    let mut out = format!(
        "<div class=\"figure\">\n<div class=\"figure-scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{title}\">\n<table>\n<caption>{title}</caption>\n<thead>\n<tr><th scope=\"col\">device</th>"
    );
    for (_, heading) in &columns {
        let _ = write!(out, "<th scope=\"col\">{}</th>", html(heading));
    }
    out.push_str("</tr>\n</thead>\n<tbody>\n");
    // A source stands once beneath, with its number in the cells that are from it.
    let mut sources: Vec<(String, String)> = Vec::new();
    let mut notes: Vec<String> = Vec::new();
    for known in &devices {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", html(known.name()));
        for (field, heading) in &columns {
            let Some(fact) = known.fact(field) else {
                out.push_str("<td class=\"absent\">not published</td>");
                continue;
            };
            let source = (fact.url, fact.date);
            let number = sources
                .iter()
                .position(|one| *one == source)
                .unwrap_or_else(|| {
                    sources.push(source.clone());
                    sources.len() - 1
                });
            let _ = write!(
                out,
                "<td class=\"number\">{} <a class=\"source\" href=\"{}\" aria-label=\"source {} of {}, {}\">[{}]</a></td>",
                html(&fact.text),
                html(&source.0),
                number + 1,
                html(known.name()),
                html(heading),
                number + 1
            );
            if let Some(note) = fact.note {
                let note = format!("{}: {note}", known.name());
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n<p class=\"provenance\">Published by others, not measured here:</p>\n<ol class=\"provenance sources\">\n");
    for (url, date) in &sources {
        let _ = writeln!(
            out,
            "<li><a href=\"{}\">{}</a>, {}</li>",
            html(url),
            html(host(url)),
            html(date)
        );
    }
    out.push_str("</ol>\n");
    if !notes.is_empty() {
        out.push_str("<details class=\"provenance\"><summary>What the sources say and do not say</summary>\n<ul>\n");
        for note in &notes {
            let _ = writeln!(out, "<li>{}</li>", html(note));
        }
        out.push_str("</ul>\n</details>\n");
    }
    out.push_str("</div>\n");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use accel::hardware::Hardware;

    use super::{fact, host, table};
    use crate::directive::HardwareTable;

    fn hardware() -> Hardware {
        Hardware::parse(
            r#"
            [[device]]
            name = "Fast 1"
            also = ["F1"]
            kind = "gpu"
            memory_bytes = 16_000_000_000
            memory_bytes_per_second = 320e9
            operations_per_second = { f32 = 8.1e12, int8 = 130e12 }
            price = { usd_per_hour = 0.35, source = "https://shop.example/f1", date = "2026-01-02", note = "alone" }
            source = "https://www.maker.example/f1"
            date = "2026-01-01"
            [[machine]]
            name = "Small"
            vcpus = 2
            memory_bytes = 8_000_000_000
            price = { usd_per_hour = 0.1, source = "https://shop.example/s", date = "2026-01-03" }
            "#,
        )
        .unwrap()
    }

    #[test]
    fn a_fact_has_its_source_and_date() {
        let hardware = hardware();
        let text = fact(&hardware, "f1", "memory_bytes_per_second").unwrap();
        assert_eq!(
            text,
            "<span class=\"value\">320 GB/s</span> (published: <a href=\"https://www.maker.example/f1\">maker.example</a>, 2026-01-01)"
        );
        let text = fact(&hardware, "Fast 1", "f32_operations_per_second").unwrap();
        assert!(text.contains(">8.1 TFLOP/s<"), "{text}");
        let text = fact(&hardware, "Fast 1", "dollars_per_hour").unwrap();
        assert!(
            text.contains("title=\"dollars an hour: alone\">$0.35<"),
            "{text}"
        );
        assert!(
            text.contains("shop.example") && text.contains("2026-01-02"),
            "{text}"
        );
        let text = fact(&hardware, "small", "vcpus").unwrap();
        assert!(text.contains(">2<"), "{text}");
    }

    #[test]
    fn what_is_not_there_is_told() {
        let hardware = hardware();
        let error = fact(&hardware, "Slow", "f32").unwrap_err();
        assert!(error.contains("has Fast 1, Small"), "{error}");
        let error = fact(&hardware, "F1", "colour").unwrap_err();
        assert!(error.contains("expected one of memory_bytes"), "{error}");
        let error = fact(&hardware, "F1", "bf16").unwrap_err();
        assert!(error.contains("no bf16 of Fast 1"), "{error}");
    }

    #[test]
    fn a_table_names_each_source_once() {
        let wanted = HardwareTable {
            devices: vec!["F1".into(), "Small".into()],
            columns: vec![
                "memory_bytes".into(),
                "f32".into(),
                "dollars_per_hour".into(),
            ],
            title: Some("A & B".into()),
        };
        let html = table(&hardware(), &wanted).unwrap();
        assert!(html.contains("<caption>A &amp; B</caption>"), "{html}");
        assert_eq!(html.matches("<li><a href=\"https://www.maker").count(), 1);
        assert_eq!(html.matches("not published").count(), 1, "{html}");
        assert!(html.contains("Published by others"), "{html}");
        assert!(
            !html.contains("\n\n"),
            "a blank line ends the block: {html}"
        );
        let wanted = HardwareTable {
            devices: vec!["F2".into()],
            columns: vec!["weight".into()],
            title: None,
        };
        assert_eq!(table(&hardware(), &wanted).unwrap_err().len(), 2);
    }

    #[test]
    fn hosts_are_short() {
        assert_eq!(host("https://www.a.example/x/y"), "a.example");
        assert_eq!(host("https://b.example"), "b.example");
    }
}
