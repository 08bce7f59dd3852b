//! The program `run` of this chapter is that of chapter 1, but for the device. The page
//! that says so shows the difference and claims its size; both are held against the files.

use std::{fs, path::Path};

use similar::{ChangeTag, TextDiff};

/// Lines that differ, removed and added, without the marks of the book's listings: the
/// book's directive counts so, too.
fn differing_lines(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (without_marks(old), without_marks(new));
    TextDiff::from_lines(&old, &new)
        .iter_all_changes()
        .filter(|change| change.tag() != ChangeTag::Equal)
        .map(|change| format!("{}{}", change.tag(), change.value().trim_end()))
        .collect()
}

fn without_marks(text: &str) -> String {
    let mark = |line: &&str| line.contains("ANCHOR:") || line.contains("ANCHOR_END:");
    let lines = text.lines().filter(|line| !mark(line));
    lines.map(|line| format!("{line}\n")).collect()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn difference() -> Vec<String> {
    differing_lines(
        &read("chapters/01-cpu/src/commands/run.rs"),
        &read("chapters/02-gpu/src/commands/run.rs"),
    )
}

/// What the pages of this chapter claim: `limit=N` of the directive.
fn claimed() -> Vec<usize> {
    let pages = fs::read_dir(root().join("book/src/02-gpu"));
    let pages = pages.into_iter().flatten().flatten();
    pages
        .filter_map(|page| fs::read_to_string(page.path()).ok())
        .filter_map(|page| {
            let line = page
                .lines()
                .find(|line| line.starts_with("{{#difference"))?;
            let limit = line.split_once("limit=")?.1;
            let digits: String = limit.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        })
        .collect()
}

#[test]
fn the_programs_differ_by_no_more_than_the_page_claims() {
    let claimed = claimed();
    assert!(
        !claimed.is_empty(),
        "no page in book/src/02-gpu claims the difference of the two programs"
    );
    let difference = difference();
    for limit in claimed {
        assert!(
            difference.len() <= limit,
            "the page claims {limit} lines, the programs differ by {}:\n{}",
            difference.len(),
            difference.join("\n")
        );
    }
}

#[test]
fn every_line_that_differs_names_the_program_or_the_device() {
    for line in difference() {
        assert!(
            line.contains("inference run`")
                || line.contains("use ")
                || line.contains("let setting"),
            "{line}"
        );
    }
}

#[test]
fn a_line_more_is_counted() {
    let old = "a\n// ANCHOR: x\nb\nc\n";
    assert_eq!(differing_lines(old, "a\nb\nc\n"), Vec::<String>::new());
    assert_eq!(differing_lines(old, "a\nB\nc\nd\n"), ["-b", "+B", "+d"]);
}
