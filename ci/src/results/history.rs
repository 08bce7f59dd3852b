//! `cargo x results trend` and `compare`: how a figure went over time, and whether a newer
//! result is slower than an older one by more than noise explains.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use accel::{
    exit,
    results::{ResultFile, Row, Status},
    timing::{Interval, percentile},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::files;

/// Options of `cargo x results trend`.
#[derive(clap::Args)]
pub struct TrendArgs {
    /// CHAPTER/MEASUREMENT, such as 01-cpu/ladder.
    measurement: String,
    /// Only this row.
    #[arg(long, value_name = "ID")]
    row: Option<String>,
}

/// Options of `cargo x results compare`.
#[derive(clap::Args)]
pub struct CompareArgs {
    /// The older result file.
    old: PathBuf,
    /// The newer one, of the same measurement on the same machine.
    new: PathBuf,
    /// How many times the old time a row may take: slower than that with 95% confidence is a
    /// regression.
    #[arg(long, default_value_t = 1.05, value_name = "RATIO", value_parser = threshold)]
    threshold: f64,
}

fn threshold(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (1.0..=100.0).contains(&ratio) => Ok(ratio),
        _ => Err(format!("expected a ratio from 1 to 100, got {text:?}")),
    }
}

/// Prints the medians of all results of a measurement, machine by machine.
///
/// # Errors
/// None so far; a file that cannot be read is told and left out.
pub fn trend(args: &TrendArgs, root: &Path) -> anyhow::Result<ExitCode> {
    let (all, faults) = files::all(root);
    for fault in faults {
        eprintln!("left out: {fault}");
    }
    // Machine and row to its points, oldest first.
    let mut series: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut known: Vec<String> = all.iter().map(files::Found::name).collect();
    for found in all.iter().filter(|found| found.name() == args.measurement) {
        let file = &found.file;
        for row in &file.rows {
            if args.row.as_ref().is_some_and(|wanted| *wanted != row.id) {
                continue;
            }
            let Some(summary) = row.samples.as_ref().and_then(|samples| samples.summary()) else {
                continue;
            };
            let commit = file.commit.as_deref().unwrap_or("no commit");
            let point = format!(
                "{}  {}  {:>12} s  n = {:<4} spread {:.1}%{}{}",
                file.created_utc.get(..10).unwrap_or(&file.created_utc),
                commit.get(..10).unwrap_or(commit),
                four_digits(summary.median),
                summary.n,
                summary.relative_iqr() * 100.0,
                if file.dirty == Some(true) {
                    "  uncommitted changes"
                } else {
                    ""
                },
                if found.published { "" } else { "  yours" },
            );
            let key = (file.environment.machine_slug(), row.id.clone());
            series.entry(key).or_default().push(point);
        }
    }
    if series.is_empty() {
        known.sort();
        known.dedup();
        eprintln!(
            "error: no samples of {}{}; there are results of {}",
            args.measurement,
            args.row
                .as_ref()
                .map_or_else(String::new, |row| format!(", row {row}")),
            known.join(", ")
        );
        return Ok(ExitCode::from(exit::USAGE));
    }
    for ((machine, row), points) in series {
        println!("{row} on {machine}: median seconds of a sample");
        for point in points {
            println!("  {point}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Four significant digits.
fn four_digits(value: f64) -> String {
    if value <= 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let decimals = (3 - value.log10().floor() as i32).clamp(0, 12);
    format!("{value:.*}", usize::try_from(decimals).unwrap_or_default())
}

/// What became of a row.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// The interval of the ratio is above the threshold.
    Slower(Interval),
    /// It is below one over the threshold.
    Faster(Interval),
    /// Neither: the difference is small, or drowns in noise.
    Same(Interval),
    /// It ran before and does not any more.
    Broken(String),
    /// There is nothing to compare, and why.
    Incomparable(String),
}

/// Compares row by row.
///
/// # Errors
/// If a file cannot be read.
pub fn compare(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let old = ResultFile::read(&args.old)?;
    let new = ResultFile::read(&args.new)?;
    if let Err(reason) = comparable(&old, &new) {
        eprintln!("error: {reason}");
        return Ok(ExitCode::from(exit::USAGE));
    }
    let mut worse = 0;
    for row in &old.rows {
        let verdict = judge(row, new.row(&row.id), args.threshold);
        let ratio = |word: &str, ratio: &Interval| {
            format!(
                "{word}  {}: {:.3} times the time (95% interval {:.3} to {:.3})",
                row.id, ratio.median, ratio.low, ratio.high
            )
        };
        match &verdict {
            Verdict::Slower(interval) => println!("{}", ratio("slower", interval)),
            Verdict::Faster(interval) => println!("{}", ratio("faster", interval)),
            Verdict::Same(interval) => println!("{}", ratio("same  ", interval)),
            Verdict::Broken(reason) => println!("broken  {}: {reason}", row.id),
            Verdict::Incomparable(reason) => println!("-       {}: {reason}", row.id),
        }
        worse += usize::from(matches!(verdict, Verdict::Slower(_) | Verdict::Broken(_)));
    }
    for row in new.rows.iter().filter(|row| old.row(&row.id).is_none()) {
        println!("new     {}", row.id);
    }
    println!(
        "{worse} of {} rows worse by more than {} times and noise",
        old.rows.len(),
        args.threshold
    );
    Ok(match worse {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(exit::FAILED),
    })
}

/// Two files can be compared if they measured the same on the same machine.
fn comparable(old: &ResultFile, new: &ResultFile) -> Result<(), String> {
    let name = |file: &ResultFile| format!("{}/{}", file.chapter, file.measurement);
    if name(old) != name(new) {
        return Err(format!(
            "the old result is of {}, the new one of {}",
            name(old),
            name(new)
        ));
    }
    let machine = |file: &ResultFile| file.environment.machine_slug();
    if machine(old) != machine(new) {
        return Err(format!(
            "the old result is of machine {}, the new one of {}: times of two machines tell nothing of the code",
            machine(old),
            machine(new)
        ));
    }
    Ok(())
}

fn judge(old: &Row, new: Option<&Row>, threshold: f64) -> Verdict {
    let Some(new) = new else {
        return Verdict::Incomparable("not in the new result".to_owned());
    };
    match (old.status, new.status) {
        (Status::Ok, Status::Ok) => {}
        (Status::Ok, Status::Failed) => {
            return Verdict::Broken(new.reason.clone().unwrap_or_default());
        }
        _ => return Verdict::Incomparable("it did not run both times".to_owned()),
    }
    let (Some(was), Some(is)) = (&old.samples, &new.samples) else {
        return Verdict::Incomparable("no samples".to_owned());
    };
    let seconds = |samples: &accel::timing::Samples| -> Vec<f64> {
        let items = samples.items_per_sample.max(1) as f64;
        samples
            .seconds
            .iter()
            .map(|seconds| seconds / items)
            .collect()
    };
    match ratio_of_medians(&seconds(is), &seconds(was)) {
        None => {
            Verdict::Incomparable("fewer than three samples, or a sample of no time".to_owned())
        }
        Some(ratio) if ratio.low > threshold => Verdict::Slower(ratio),
        Some(ratio) if ratio.high < 1.0 / threshold => Verdict::Faster(ratio),
        Some(ratio) => Verdict::Same(ratio),
    }
}

/// Resamples of the bootstrap.
const RESAMPLES: usize = 2000;

/// The ratio of two independent samples' medians with its 95% interval, by the percentile
/// bootstrap: two runs on two days have no pairs.
///
/// `None` for fewer than three samples on either side, and for times of zero.
///
/// Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
fn ratio_of_medians(numerator: &[f64], denominator: &[f64]) -> Option<Interval> {
    let usable = |times: &[f64]| times.len() >= 3 && times.iter().all(|time| *time > 0.0);
    if !usable(numerator) || !usable(denominator) {
        return None;
    }
    let median = |times: &[f64]| {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        percentile(&sorted, 0.5)
    };
    // The same files give the same verdict.
    let mut rng = StdRng::seed_from_u64(0x7e57);
    let mut resampled = |times: &[f64]| {
        let drawn: Vec<f64> = (0..times.len())
            .map(|_| times[rng.random_range(0..times.len())])
            .collect();
        median(&drawn)
    };
    let mut ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| resampled(numerator) / resampled(denominator))
        .collect();
    ratios.sort_by(f64::total_cmp);
    Some(Interval {
        median: median(numerator) / median(denominator),
        low: percentile(&ratios, 0.025),
        high: percentile(&ratios, 0.975),
    })
}

#[cfg(test)]
mod tests {
    use accel::{results::Row, timing::Samples};

    use super::{Verdict, four_digits, judge};

    fn row(seconds: &[f64]) -> Row {
        Row::ok("a", "A").with_samples(Samples {
            items_per_sample: 8,
            warmup_seconds: Vec::new(),
            seconds: seconds.to_vec(),
        })
    }

    /// Times around one, spread by this much to either side.
    fn around(middle: f64, spread: f64) -> Vec<f64> {
        (0..21)
            .map(|step| middle + spread * (f64::from(step) - 10.0) / 10.0)
            .collect()
    }

    #[test]
    fn a_difference_must_be_larger_than_noise_and_threshold() {
        let verdict = |old: &[f64], new: &[f64]| judge(&row(old), Some(&row(new)), 1.05);
        let quiet = around(1.0, 0.01);
        assert!(matches!(verdict(&quiet, &quiet), Verdict::Same(_)));
        assert!(matches!(
            verdict(&quiet, &around(1.03, 0.01)),
            Verdict::Same(_)
        ));
        assert!(matches!(
            verdict(&quiet, &around(1.2, 0.01)),
            Verdict::Slower(_)
        ));
        assert!(matches!(
            verdict(&around(1.2, 0.01), &quiet),
            Verdict::Faster(_)
        ));
        // The same difference of medians, drowned.
        assert!(matches!(
            verdict(&around(1.0, 0.6), &around(1.1, 0.6)),
            Verdict::Same(_)
        ));
    }

    #[test]
    fn times_are_an_items() {
        let mut twice = row(&around(2.0, 0.01));
        if let Some(samples) = &mut twice.samples {
            samples.items_per_sample = 16;
        }
        assert!(matches!(
            judge(&row(&around(1.0, 0.01)), Some(&twice), 1.05),
            Verdict::Same(_)
        ));
    }

    #[test]
    fn what_ran_and_fails_is_broken() {
        let failed = Row::failed("a", "A", "out of memory");
        let ran = row(&[1.0, 1.0, 1.0]);
        assert_eq!(
            judge(&ran, Some(&failed), 1.05),
            Verdict::Broken("out of memory".to_owned())
        );
        for (old, new) in [
            (&failed, Some(&ran)),
            (&ran, None),
            (&ran, Some(&row(&[1.0]))),
            (&ran, Some(&row(&[0.0, 0.0, 0.0]))),
        ] {
            assert!(matches!(judge(old, new, 1.05), Verdict::Incomparable(_)));
        }
    }

    #[test]
    fn numbers_have_four_digits() {
        assert_eq!(four_digits(0.012_345), "0.01235");
        assert_eq!(four_digits(12.345), "12.35");
        assert_eq!(four_digits(12345.0), "12345");
    }
}
