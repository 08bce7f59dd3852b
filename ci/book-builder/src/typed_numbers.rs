//! The gate on numbers typed by hand: a performance number in prose is made
//! from a result file, worked out on paper in a block that says so, or quoted
//! with its source.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use crate::{
    directive::{Block, Directive, Found},
    page::Page,
    problem::Problem,
};

/// What counts as a performance number.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    // Emphasis and non-breaking spaces may stand between a number and its unit.
    let gap = r"(?:[\s*_`~]|&nbsp;|\u{a0}|\u{202f})*";
    let number = r"(?:\d[\d.,]*|\b(?:two|three|four|five|six|seven|eight|nine|ten|several|many))";
    let digits = r"\d[\d.,]*";
    let things = r"(?:images?|pictures?|frames?|samples?|steps?|tokens?|items?|epochs?|configurations?|runs?|requests?)";
    let faster = r"(?:faster|slower|quicker|as\s+(?:fast|slow|quick|many|much)|the\s+(?:rate|speed|throughput|time|latency)|more\s+(?:images|throughput)|speed-?up)";
    Regex::new(&format!(
        r"(?xi)
        (?: {digits} {gap} [kMGTP]? (?:
              {things} {gap} (?: / {gap} s\b | / {gap} sec | per \s+ (?:second|minute|hour) | (?:a|each|every) \s+ (?:second|minute) )
            | img/s | fps\b
            | (?: ms | msec | µs | μs | us | ns | s ) \b
            | (?: milli | micro | nano )? seconds? \b
            | [KMGTP]? (?: FLOPs? | OPs? | MACs? ) {gap} / {gap} s
            | [KMGTP]? FLOPS \b
            | [KMGT]? i? B {gap} / {gap} s
            | %  {gap} (?: of \b | faster | slower | less | more | fewer | accura | top-1 | correct | speed-?up )
            | per \s? cent \s+ (?: of \b | faster | slower | less | more | fewer | accura | top-1 )
            | (?: x | × ) {gap} {faster}
            | (?: x | × ) \s+ (?: speed-?up )
        ) )
        | (?: {number} (?: {gap} times {gap} {faster} | - ? fold \b ) )
        | \b (?: twice | thrice | half | double | triple ) {gap} {faster}
        | \b accuracy \s+ (?: of | is | was | reaches ) \s+ {gap} {digits}
        "
    ))
    .expect("a literal pattern")
});

/// Finds performance numbers typed by hand.
///
/// Blocks of paper work and the arguments of directives are exempt, included
/// code is not prose; all else is read, hand-typed terminal output too.
pub fn check(page: &Page, found: &[Found]) -> Vec<Problem> {
    let text = blank(&page.source, &exempt(&page.source, found));
    NUMBER
        .find_iter(&text)
        .map(|hit| {
            let shown = hit.as_str().split_whitespace().collect::<Vec<_>>().join(" ");
            Problem::at(
                &page.name,
                page.line(hit.start()),
                format!(
                    "a performance number typed by hand ({shown:?}): make it with {{{{#value}}}} or {{{{#ratio}}}}, quote it with {{{{#published}}}}, or put arithmetic on paper between {{{{#prediction}}}} and {{{{/prediction}}}} ({{{{#derivation}}}} likewise)"
                ),
            )
        })
        .collect()
}

/// The parts of a page that are not prose of this gate.
fn exempt(source: &str, found: &[Found]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut open: Vec<(Block, usize)> = Vec::new();
    for one in found {
        match one.directive {
            Directive::Open(block, _) => open.push((block, one.span.start)),
            Directive::Close(_) => {
                if let Some((block, from)) = open.pop()
                    && block.is_paper()
                {
                    ranges.push(from..one.span.end);
                }
            }
            _ => {}
        }
        ranges.push(one.span.clone());
    }
    let mut at = 0;
    while let Some(start) = source[at..].find("<!--").map(|offset| at + offset) {
        let end = source[start..]
            .find("-->")
            .map_or(source.len(), |offset| start + offset + 3);
        ranges.push(start..end);
        at = end;
    }
    ranges
}

/// The text with the ranges made blank; offsets and lines stay as they were.
fn blank(source: &str, ranges: &[Range<usize>]) -> String {
    let mut bytes = source.as_bytes().to_vec();
    for range in ranges {
        for byte in &mut bytes[range.clone()] {
            if *byte != b'\n' {
                // Not a space: "8 {{#value ...}} ms" must not read as "8 ms".
                *byte = b';';
            }
        }
    }
    // Ranges begin and end at ASCII characters, so no character was cut.
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::{directive, page::Page};

    fn hits(source: &str) -> usize {
        let page = Page {
            name: "book/src/p.md".into(),
            path: "p.md".into(),
            source: source.into(),
        };
        let (found, problems) = directive::find(&page);
        assert_eq!(problems, [], "{source}");
        check(&page, &found).len()
    }

    #[test]
    fn performance_numbers_are_found() {
        for text in [
            "It reaches 25.6 images/s here.",
            "It reaches **25.6** images/s here.",
            "about 1,200 images per second",
            "25 images a second",
            "took 12 ms",
            "took 12&nbsp;ms",
            "took 1.5 seconds",
            "took 300 µs",
            "peaks at 120 GFLOP/s",
            "peaks at 3.2 TFLOPS",
            "reads 40 GB/s",
            "is 3x faster",
            "is 3× faster",
            "2.5 times as fast",
            "eight times faster",
            "trails 8-fold",
            "twice as fast",
            "half the time",
            "97% of the test images",
            "loses 5% more",
            "an accuracy of 97.4%",
            "| eager | 12 ms |",
            "```console\n$ run\n25 images/s\n```",
            "split over\n12\nms in lines",
        ] {
            assert_eq!(hits(text), 1, "{text}");
        }
    }

    #[test]
    fn counts_shapes_and_sizes_are_not() {
        for text in [
            "224×224 pixels, 3x3 kernels, batch 32, 18 layers",
            "4.1 GMAC an image, 25.6 million parameters, 102 MB",
            "1,797 images of 8×8",
            "a download of 544 MB",
            "two times two is four",
            "s and ms are units",
            "2 cores, 24 GiB",
            "version 2.11.0 of libtorch",
            "## 3. Fold by hand",
            "images/s says how many images a second",
        ] {
            assert_eq!(hits(text), 0, "{text}");
        }
    }

    #[test]
    fn paper_and_sources_may_hold_numbers() {
        assert_eq!(
            hits("{{#prediction}}\nAt 100 GFLOP/s it takes 82 ms.\n{{/prediction}}\n"),
            0
        );
        assert_eq!(
            hits("{{#derivation}}\n12 ms\n{{/derivation}}\n\nand 12 ms"),
            1
        );
        assert_eq!(hits("{{#takeaway}}\n12 ms\n{{/takeaway}}\n"), 1);
        assert_eq!(
            hits(
                "{{#published value=\"40 GB/s\" source=\"A datasheet\" date=2024}} and {{#value 01-cpu/x row=a field=b}} ms"
            ),
            0
        );
        assert_eq!(hits("<!-- 12 ms -->"), 0);
    }
}
