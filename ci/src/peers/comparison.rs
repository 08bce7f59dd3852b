//! Ratios of contenders with their intervals, and the table that is printed.

use accel::{
    human,
    results::{ResultFile, Row, Status},
    timing::{Interval, Summary, paired_ratio},
};

use super::rounds::rounds_of;

/// Load averages over 1, 5 and 15 minutes; `None` where the system does not say.
pub fn load_average() -> Option<[f64; 3]> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let mut values = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || values.next()?.ok();
    Some([next()?, next()?, next()?])
}

/// The median of each round. Samples of one round are not independent of each other,
/// so that a ratio's interval has to be made from rounds.
fn round_medians(row: &Row) -> Option<Vec<f64>> {
    let seconds = &row.samples.as_ref()?.seconds;
    let rounds = rounds_of(&row.workload)?;
    if rounds == 0 || seconds.is_empty() || seconds.len() % rounds != 0 {
        return None;
    }
    seconds
        .chunks(seconds.len() / rounds)
        .map(|round| Some(Summary::of(round)?.median))
        .collect()
}

/// Rate of `row` over the rate of `other`, paired by round; above 1, `row` is faster.
pub fn rate_ratio(row: &Row, other: &Row) -> Option<Interval> {
    // Rates are reciprocal seconds: the ratio turns around.
    paired_ratio(&round_medians(other)?, &round_medians(row)?)
}

fn is_ours(row: &Row) -> bool {
    row.workload
        .get("ours")
        .and_then(serde_json::Value::as_bool)
        == Some(true)
}

fn median(row: &Row) -> Option<f64> {
    Some(row.samples.as_ref()?.summary()?.median)
}

fn fastest<'a>(rows: impl Iterator<Item = &'a Row>) -> Option<&'a Row> {
    rows.filter(|row| row.status == Status::Ok && median(row).is_some())
        .min_by(|a, b| {
            median(a)
                .unwrap_or(f64::INFINITY)
                .total_cmp(&median(b).unwrap_or(f64::INFINITY))
        })
}

/// The fastest of the peers that were measured.
pub fn best_peer(file: &ResultFile) -> Option<&Row> {
    fastest(file.rows.iter().filter(|row| !is_ours(row)))
}

/// The fastest of ours that were measured.
pub fn best_of_ours(file: &ResultFile) -> Option<&Row> {
    fastest(file.rows.iter().filter(|row| is_ours(row)))
}

/// The result as text: rate of each contender, its ratio to the best peer, and the
/// ratio of our best to it, each with its 95% interval.
///
/// * `items`: what a sample counts: "images"
pub fn table(file: &ResultFile, items: &str) -> String {
    let best_peer = best_peer(file);
    let best_of_ours = best_of_ours(file);
    let mut lines = vec![[
        "contender".to_owned(),
        format!("{items}/s"),
        "spread".to_owned(),
        "over best peer".to_owned(),
        "best of ours over it".to_owned(),
    ]];
    let mut reasons = Vec::new();
    let interval = |ratio: Option<Interval>| match ratio {
        Some(r) => format!("{:.3} ({:.3} to {:.3})", r.median, r.low, r.high),
        None => String::new(),
    };
    for row in &file.rows {
        let samples = row.samples.as_ref().filter(|_| row.status == Status::Ok);
        let Some((samples, summary)) = samples.and_then(|s| Some((s, s.summary()?))) else {
            let status = match row.status {
                Status::Skipped => "skipped",
                Status::Ok | Status::Failed => "failed",
            };
            reasons.push(format!(
                "{} {status}: {}",
                row.id,
                row.reason.as_deref().unwrap_or("no samples")
            ));
            let blank = String::new;
            lines.push([row.id.clone(), status.to_owned(), blank(), blank(), blank()]);
            continue;
        };
        lines.push([
            row.id.clone(),
            human::three_digits(samples.items_per_second().unwrap_or(f64::NAN)),
            format!("{:.1}%", 100.0 * summary.relative_iqr()),
            interval(best_peer.and_then(|peer| rate_ratio(row, peer))),
            interval(
                best_of_ours
                    .filter(|_| !is_ours(row))
                    .and_then(|ours| rate_ratio(ours, row)),
            ),
        ]);
    }
    let mut widths = [0; 5];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = format!("{}\n", file.title.as_deref().unwrap_or(&file.measurement));
    for line in &lines {
        let cells: Vec<_> = line
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                1 | 2 => format!("{cell:>width$}"),
                _ => format!("{cell:width$}"),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    for reason in reasons {
        text.push_str(&format!("{reason}\n"));
    }
    let names = |row: Option<&Row>| row.map_or("none", |row| row.id.as_str()).to_owned();
    text.push_str(&format!(
        "best peer: {}; best of ours: {}; ratios of rates, median of the rounds with 95% interval\n",
        names(best_peer),
        names(best_of_ours)
    ));
    for note in file
        .notes
        .iter()
        .filter(|note| note.starts_with("load average"))
    {
        text.push_str(&format!("{note}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use accel::{environment::Environment, timing::Samples};

    fn row(id: &str, ours: bool, seconds: &[f64]) -> Row {
        Row::ok(id, id)
            .with("ours", ours)
            .with("rounds", 3)
            .with_samples(Samples {
                items_per_sample: 8,
                warmup_seconds: Vec::new(),
                seconds: seconds.to_vec(),
            })
    }

    #[test]
    fn ratios_are_of_rates_and_paired_by_round() {
        // Twice as fast in each round, whatever the machine did in the second.
        let fast = row("fast", true, &[1.0, 1.0, 4.0, 4.0, 1.0, 1.0]);
        let slow = row("slow", false, &[2.0, 2.0, 8.0, 8.0, 2.0, 2.0]);
        let ratio = rate_ratio(&fast, &slow).unwrap();
        assert_eq!((ratio.low, ratio.median, ratio.high), (2.0, 2.0, 2.0));
        assert_eq!(rate_ratio(&slow, &fast).unwrap().median, 0.5);
        // Rows that do not divide into rounds have no ratio.
        assert!(rate_ratio(&fast, &row("odd", false, &[1.0, 1.0])).is_none());
    }

    #[test]
    fn the_table_names_the_best_of_both_sides() {
        let mut file = ResultFile::new("01-cpu", "peers-test", Environment::collect());
        file.rows = vec![
            row("rung-a", true, &[1.0, 1.0, 1.0]),
            row("rung-b", true, &[0.5, 0.5, 0.5]),
            row("peer-a", false, &[1.0, 1.0, 1.0]),
            row("peer-b", false, &[0.25, 0.25, 0.25]),
            Row::failed("peer-c", "peer-c", "died at load"),
        ];
        let table = table(&file, "images");
        assert!(
            table.contains("best peer: peer-b; best of ours: rung-b"),
            "{table}"
        );
        assert!(table.contains("peer-c failed: died at load"), "{table}");
        let peer = table
            .lines()
            .find(|line| line.starts_with("peer-b"))
            .unwrap();
        assert!(
            peer.contains("32.0") && peer.contains("0.500 (0.500 to 0.500)"),
            "{table}"
        );
    }

    #[test]
    fn a_table_without_any_figure() {
        let mut file = ResultFile::new("01-cpu", "peers-test", Environment::collect());
        file.rows = vec![Row::skipped("peer", "peer", "no bf16")];
        assert!(table(&file, "images").contains("best peer: none; best of ours: none"));
    }
}
