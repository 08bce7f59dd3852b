//! The figures of two runs of the chapters beside each other, for a pull request.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use accel::results::{ResultFile, Row};
use anyhow::Context;

/// A row's rate below this share of the other's, or above its inverse, is marked.
const NOTABLE: f64 = 0.8;

/// Copies the result files of `results-local`: the machines' folders, not the runs' own.
///
/// # Errors
/// If a folder cannot be listed, or a file cannot be copied.
pub fn copy_results(from: &Path, to: &Path) -> anyhow::Result<()> {
    for path in result_files(from)? {
        let target = to.join(super::relative(&path, from));
        target
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::copy(&path, &target).map(drop))
            .with_context(|| format!("cannot copy {}", path.display()))?;
    }
    Ok(())
}

/// A table in Markdown: each row that both runs have, with its median rate in both.
///
/// # Errors
/// If a folder cannot be listed.
pub fn table(before: &Path, after: &Path) -> anyhow::Result<String> {
    let (old, new) = (rates(before)?, rates(after)?);
    let mut text = String::from(
        "| measurement | row | before | after | after / before |\n| --- | --- | ---: | ---: | ---: |\n",
    );
    for (key, after) in &new {
        let Some(before) = old.get(key) else { continue };
        let ratio = after / before;
        let mark = if (NOTABLE..=1.0 / NOTABLE).contains(&ratio) {
            ""
        } else {
            " **!**"
        };
        let (measurement, row) = key;
        text.push_str(&format!(
            "| {measurement} | {row} | {before:.1} | {after:.1} | {ratio:.2}{mark} |\n"
        ));
    }
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    for (measurement, row) in gone {
        text.push_str(&format!("| {measurement} | {row} | | not measured | |\n"));
    }
    Ok(text)
}

/// Median rate in items a second of each row, by measurement and row.
fn rates(folder: &Path) -> anyhow::Result<BTreeMap<(String, String), f64>> {
    let mut rates = BTreeMap::new();
    for path in result_files(folder)? {
        // Another version's file, or none of ours: there is nothing to compare.
        let Ok(file) = ResultFile::read(&path) else {
            continue;
        };
        let measurement = format!("{}/{}", file.chapter, file.measurement);
        for row in &file.rows {
            if let Some(rate) = rate(row) {
                rates.insert((measurement.clone(), row.id.clone()), rate);
            }
        }
    }
    Ok(rates)
}

fn rate(row: &Row) -> Option<f64> {
    let rate = row.samples.as_ref()?.items_per_second()?;
    Some(rate).filter(|rate| rate.is_finite() && *rate > 0.0)
}

/// `CHAPTER/MACHINE/MEASUREMENT.json`, sorted.
fn result_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for chapter in entries(folder)? {
        for machine in entries(&chapter)? {
            let json = |path: &PathBuf| {
                path.extension()
                    .is_some_and(|extension| extension == "json")
            };
            files.extend(entries(&machine)?.into_iter().filter(json));
        }
    }
    files.sort();
    Ok(files)
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests {
    use accel::{environment::Environment, timing::Samples};

    use super::*;

    /// Writes a result file with these rates as a chapter would.
    fn measured(folder: &Path, rows: &[(&str, f64)]) {
        let mut file = ResultFile::new("01-cpu", "ladder", Environment::collect());
        for (id, rate) in rows {
            let samples = Samples {
                items_per_sample: 1,
                warmup_seconds: vec![],
                seconds: vec![1.0 / rate; 3],
            };
            file.rows.push(Row::ok(*id, *id).with_samples(samples));
        }
        file.write(folder.join("01-cpu/machine/ladder.json"))
            .unwrap();
    }

    #[test]
    fn what_changed_is_marked_and_what_is_gone_is_told() {
        let local = tempfile::tempdir().unwrap();
        measured(
            local.path(),
            &[("same", 10.0), ("slower", 10.0), ("gone", 5.0)],
        );
        // A run's own folder, and what is no result, are left where they are.
        std::fs::create_dir_all(local.path().join("01-cpu/run/deep")).unwrap();
        std::fs::write(local.path().join("01-cpu/run/deep/x.json"), "{}").unwrap();
        let before = tempfile::tempdir().unwrap();
        copy_results(local.path(), before.path()).unwrap();
        assert!(!before.path().join("01-cpu/run/deep").exists());

        measured(
            local.path(),
            &[("same", 11.0), ("slower", 7.0), ("new", 1.0)],
        );
        let text = table(before.path(), local.path()).unwrap();
        for line in [
            "| 01-cpu/ladder | same | 10.0 | 11.0 | 1.10 |",
            "| 01-cpu/ladder | slower | 10.0 | 7.0 | 0.70 **!** |",
            "| 01-cpu/ladder | gone | | not measured | |",
        ] {
            assert!(text.lines().any(|got| got == line), "{line}\n{text}");
        }
        assert!(!text.contains("new"), "{text}");
    }
}
