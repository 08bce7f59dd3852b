//! What an executed notebook must show.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

/// A chart's beginning in a page of the book; the notebooks look for the same.
const CHART: &str = "<figure class=\"figure chart\">";

/// A notebook of format 4, as much of it as is looked at.
#[derive(Deserialize)]
struct Notebook {
    cells: Vec<Cell>,
}

#[derive(Deserialize)]
struct Cell {
    id: String,
    cell_type: String,
    execution_count: Option<u32>,
    #[serde(default)]
    outputs: Vec<serde_json::Value>,
}

/// Whether every cell of code was executed and the last one shows charts with figures of this
/// machine: what is not so, if anything.
///
/// # Errors
/// If the notebook cannot be read.
pub fn look(path: &Path) -> anyhow::Result<Option<String>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let notebook: Notebook = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a notebook", path.display()))?;
    Ok(problem(&notebook))
}

fn problem(notebook: &Notebook) -> Option<String> {
    let code: Vec<&Cell> = (notebook.cells.iter())
        .filter(|cell| cell.cell_type == "code")
        .collect();
    if let Some(cell) = code.iter().find(|cell| cell.execution_count.is_none()) {
        return Some(format!("cell {} was not executed", cell.id));
    }
    let last = code.last()?;
    let html: String = last.outputs.iter().map(html).collect();
    let charts = html.split(CHART).skip(1);
    let (mut all, mut of_this_machine) = (0, 0);
    for chart in charts {
        all += 1;
        of_this_machine += usize::from(is_of_this_machine(chart));
    }
    if of_this_machine == 0 {
        return Some(format!(
            "cell {}: {all} charts, and none has a figure that was measured now",
            last.id
        ));
    }
    None
}

/// What an output shows as HTML, whole or in lines.
fn html(output: &serde_json::Value) -> String {
    match &output["data"]["text/html"] {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(lines) => lines.iter().filter_map(|line| line.as_str()).collect(),
        _ => String::new(),
    }
}

/// Whether a bar, a line or a marker of a chart is the reader's own: its class says so.
fn is_of_this_machine(chart: &str) -> bool {
    let classes = chart.split("class=\"").skip(1);
    classes
        .filter_map(|rest| rest.split('"').next())
        .any(|class| class.split(' ').any(|name| name == "yours"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(count: Option<u32>, html: serde_json::Value) -> Option<String> {
        let notebook = json!({"cells": [
            {"cell_type": "markdown", "id": "a"},
            {"cell_type": "code", "id": "b", "execution_count": 1},
            {"cell_type": "code", "id": "c", "execution_count": count, "outputs": [
                {"output_type": "stream", "text": "hello"},
                {"output_type": "display_data", "data": {"text/html": html}},
            ]},
        ]});
        problem(&serde_json::from_value(notebook).unwrap())
    }

    #[test]
    fn a_chart_must_show_what_was_measured_now() {
        let chart =
            |class: &str| format!("<h3>yours</h3>{CHART}<rect class=\"{class}\"/></figure>");
        assert_eq!(with(Some(2), json!(chart("bar yours"))), None);
        let lines = json!([chart("bar published"), chart("line line-1 yours")]);
        assert_eq!(with(Some(2), lines), None);
        let published = with(Some(2), json!(chart("bar published"))).unwrap();
        assert!(published.starts_with("cell c: 1 charts"), "{published}");
        let none = with(Some(2), json!("<p class=\"yours\">")).unwrap();
        assert!(none.starts_with("cell c: 0 charts"), "{none}");
        let left = with(None, json!(chart("bar yours"))).unwrap();
        assert_eq!(left, "cell c was not executed");
    }
}
