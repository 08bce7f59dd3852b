//! The cheat sheet's arithmetic with prices that the reader may change: a table that reads
//! without a script, and the same numbers as JSON for `book/theme/calculator.js`.

use std::fmt::Write;

use serde_json::json;

use crate::{
    cheat_sheet::Resolved,
    markup::html,
    quantity::{dollars, significant},
};

/// Images of the bill, unless the reader says another number.
const IMAGES: f64 = 1e6;

/// The calculator, as HTML without blank lines.
pub fn render(resolved: &Resolved<'_>, title: Option<&str>) -> String {
    let title = html(title.unwrap_or("What would it cost you?"));
    let [inference, training] = resolved.workloads().map(html);
    let mut out = format!(
        "<div class=\"figure calculator\">\n<div class=\"figure-scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{title}\">\n<table>\n<caption>{title}</caption>\n<thead>\n<tr><th scope=\"col\">device</th><th scope=\"col\">$ an hour</th><th scope=\"col\">{inference}: images/s</th><th scope=\"col\">$ for <span class=\"calculator-images\">1,000,000</span> images</th><th scope=\"col\">hours for them</th><th scope=\"col\">{training}: $ for one</th></tr>\n</thead>\n<tbody>\n"
    );
    let mut rows = Vec::new();
    for line in &resolved.lines {
        let absent = |label: &str| format!("<td class=\"absent\">{}</td>", html(label));
        let cell = |text: String| format!("<td class=\"number\">{text}</td>");
        // Another workload's numbers make no bill: they would look cheap beside the others.
        let rate = match line.inference.comparable() {
            Some(rate) => cell(format!(
                "{} <small class=\"label\">{}</small>",
                significant(rate),
                html(line.inference.label)
            )),
            None => absent(line.inference.absence()),
        };
        let bill = line.usd_per_million().map_or_else(
            || absent(line.inference.absence()),
            |usd| cell(dollars(usd)),
        );
        let hours = line.inference.comparable().map_or_else(
            || absent(line.inference.absence()),
            |rate| cell(significant(IMAGES / rate / 3600.0)),
        );
        let training = line
            .usd_per_training()
            .map_or_else(|| absent(line.training.absence()), |usd| cell(dollars(usd)));
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th>{}{rate}{bill}{hours}{training}</tr>",
            html(&line.name),
            cell(dollars(line.usd_per_hour))
        );
        rows.push(json!({
            "name": line.name,
            "usd_per_hour": line.usd_per_hour,
            "images_per_second": line.inference.comparable(),
            "training_seconds": line.training.comparable(),
        }));
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    let _ = writeln!(
        out,
        "<p class=\"provenance\">Derived: dollars an hour ÷ 3600 ÷ images a second × images; images ÷ images a second ÷ 3600; dollars an hour ÷ 3600 × seconds of one training. Where the numbers come from stands beneath the cheat sheet.</p>"
    );
    let data = json!({ "images": IMAGES, "rows": rows }).to_string();
    // The data must not end the element that holds it.
    let _ = writeln!(
        out,
        "<script type=\"application/json\" class=\"calculator-data\">{}</script>\n</div>",
        data.replace('<', "\\u003c")
    );
    out
}

#[cfg(test)]
mod tests {
    use accel::hardware::Hardware;

    use super::render;
    use crate::{cheat_sheet::CheatSheet, measurement::Measurements};

    #[test]
    fn the_table_reads_without_the_script_and_the_data_is_json() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("book")).unwrap();
        std::fs::write(
            folder.path().join(crate::cheat_sheet::FILE),
            r#"
            title = "T"
            baseline = "t4"
            inference = { workload = "ResNet-50" }
            training = { workload = "Training", images = 10 }
            [[row]]
            id = "t4"
            name = "T4 </script>"
            price = "T4"
            inference = { published = { device = "T4", workload = "resnet50" } }
            training = { not-measured = "x" }
            "#,
        )
        .unwrap();
        let sheet = CheatSheet::read(folder.path()).unwrap().unwrap();
        let hardware = Hardware::shipped().unwrap();
        let measurements = Measurements::default();
        let resolved = sheet.resolve(&measurements, &hardware).unwrap();
        let html = render(&resolved, Some("Bills"));
        assert!(html.contains("<caption>Bills</caption>"), "{html}");
        assert!(
            html.contains("<small class=\"label\">published</small>"),
            "{html}"
        );
        assert!(html.contains("not measured here"), "{html}");
        assert!(!html.contains("\n\n"), "{html}");
        assert_eq!(html.matches("</script>").count(), 1, "{html}");
        let data = html.split("calculator-data\">").nth(1).unwrap();
        let data = data.split("</script>").next().unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["images"], 1e6);
        assert_eq!(data["rows"][0]["name"], "T4 </script>");
        assert_eq!(data["rows"][0]["training_seconds"], serde_json::Value::Null);
        let usd = data["rows"][0]["usd_per_hour"].as_f64().unwrap();
        assert_eq!(
            Some(usd),
            hardware.price("T4").map(|price| price.usd_per_hour)
        );
    }
}
