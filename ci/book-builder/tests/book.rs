//! Whole books: each gate with a book that fails it and one that passes, figures
//! from result files, and the project's own book.

use std::{
    fs,
    path::{Path, PathBuf},
};

use accel::{
    environment::Environment,
    results::{self, ResultFile, Row},
    timing::Samples,
};
use book_builder::{BuildError, Options, Report, build};

const CODE: &str = "\
// ANCHOR: f
fn f() -> u8 {
    // ANCHOR: body
    7
    // ANCHOR_END: body
}
// ANCHOR_END: f
// ANCHOR: nothing
// ANCHOR_END: nothing
";

/// A repository with one page.
struct Repository {
    folder: tempfile::TempDir,
}

impl Repository {
    fn new(page: &str) -> Self {
        let repository = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        repository.write(
            "book/book.toml",
            "[book]\ntitle = \"T\"\n[output.html]\ninput-404 = \"\"\n[output.html.playground]\nrunnable = false\n",
        );
        repository.write(
            "book/figures.toml",
            "[reference-machine]\n01-cpu = \"amd-epyc-2c-24g\"\n\
             [measurement.\"01-cpu/ladder\"]\ntitle = \"The ladder\"\ncommand = \"cargo x learn\"\n",
        );
        // mdBook copies the first page to index.html, so it cannot lie in a folder.
        repository.write(
            "book/src/SUMMARY.md",
            "# Summary\n\n[First](first.md)\n\n- [P](01-cpu/p.md)\n",
        );
        repository.write("book/src/first.md", "# First\n");
        repository.write(
            "book/src/01-cpu/p.md",
            // Every book must show every measurement.
            &format!("# P\n\n{page}\n\n{{{{#provenance 01-cpu/ladder optional}}}}\n"),
        );
        repository.write("chapters/01-cpu/src/x.rs", CODE);
        repository
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn publish(&self, date: &str, factor: f64) -> PathBuf {
        let file = ladder(date, factor, "AMD EPYC");
        let slug = file.environment.machine_slug();
        let path = results::published_dir(self.root(), "01-cpu", &slug, "ladder")
            .join(file.published_name());
        file.write(&path).unwrap();
        path
    }

    fn measure_locally(&self, factor: f64) {
        let file = ladder("2026-02-01T00:00:00Z", factor, "Other CPU");
        let slug = file.environment.machine_slug();
        file.write(results::local_path(self.root(), "01-cpu", &slug, "ladder"))
            .unwrap();
    }

    fn build(&self, check: bool) -> Result<Report, BuildError> {
        build(&Options {
            root: self.root().to_owned(),
            local: self.root().join("results-local"),
            check,
            stale: Some(self.root().join("stale.json")).filter(|path| path.exists()),
            epub: None,
        })
    }

    /// The rendered page's own text, without mdBook's frame.
    fn page(&self) -> String {
        self.build(false).unwrap_or_else(|error| panic!("{error}"));
        let html = fs::read_to_string(self.root().join("book/html/01-cpu/p.html")).unwrap();
        let (_, main) = html.split_once("<main>").unwrap();
        main.split_once("</main>").unwrap().0.to_owned()
    }

    /// The only problem of the book.
    fn problem(&self) -> String {
        match self.build(false) {
            Err(BuildError::Gates(problems)) => {
                assert_eq!(problems.len(), 1, "{problems:?}");
                problems[0].to_string()
            }
            other => panic!("expected one problem, got {other:?}"),
        }
    }
}

fn environment(cpu: &str) -> Environment {
    Environment {
        cpu_model: cpu.into(),
        cpu_features: vec!["avx2".into()],
        cores: 2,
        memory_bytes: 24 << 30,
        load_at_start: Some([0.0; 3]),
        os: "Debian 12".into(),
        kernel: "Linux 6.1".into(),
        arch: "x86_64".into(),
        accelerator: None,
        libraries: [("libtorch".to_owned(), "2.11.0".to_owned())].into(),
        rustc: Some("rustc 1.95.0".into()),
    }
}

/// Two rungs at batch 8 and one at batch 1, and one that failed.
fn ladder(date: &str, factor: f64, cpu: &str) -> ResultFile {
    let samples = |seconds: f64| Samples {
        items_per_sample: 8,
        warmup_seconds: vec![1.0],
        seconds: (0..12)
            .map(|index| seconds * factor * (1.0 + f64::from(index % 3) * 0.01))
            .collect(),
    };
    let row = |id: &str, label: &str, batch: u32, seconds: f64| {
        Row::ok(id, label)
            .with("engine", label)
            .with("batch", batch)
            .with("arch", "resnet50")
            .with_samples(samples(seconds))
            .with_metric("accuracy", 0.9741)
    };
    let mut file = ResultFile::new("01-cpu", "ladder", environment(cpu));
    file.created_utc = date.into();
    file.command = vec!["cpu-inference".into(), "bench".into()];
    file.commit = Some("0123456789abcdef0123456789abcdef01234567".into());
    file.dirty = Some(false);
    file.notes.clear();
    file.rows = vec![
        row("eager-b8", "eager <1>", 8, 0.5),
        row("folded-b8", "folded", 8, 0.4),
        row("eager-b1", "eager <1>", 1, 0.45),
        Row::failed("bf16-b8", "bf16", "no avx512_bf16 here").with("batch", 8),
    ];
    file
}

#[test]
fn included_code_is_shown_and_dedented() {
    let page = Repository::new(
        "```rust\n{{#include ../../../chapters/01-cpu/src/x.rs:f}}\n```\n\n- item\n\n  ```rust\n  {{#include ../../../chapters/01-cpu/src/x.rs:body}}\n  ```\n",
    )
    .page();
    assert!(page.contains("fn f() -&gt; u8 {\n    7\n}"), "{page}");
    assert!(!page.contains("ANCHOR"), "{page}");
}

#[test]
fn a_wrong_include_fails_with_page_and_line() {
    let include = |target: &str| format!("```rust\n{{{{#include {target}}}}}\n```");
    for (page, part) in [
        (include("../../../chapters/01-cpu/src/none.rs:f"), "no file"),
        (
            include("../../../chapters/01-cpu/src/x.rs:none"),
            "the file has f, body, nothing",
        ),
        (
            include("../../../chapters/01-cpu/src/x.rs:nothing"),
            "holds no line of code",
        ),
        (include("../../../../x.rs:f"), "leaves the repository"),
        ("```rust\nfn typed() {}\n```".to_owned(), "typed by hand"),
        ("{{#tabel 01-cpu/ladder}}".to_owned(), "no directive named"),
        ("It takes 12 ms.".to_owned(), "typed by hand"),
    ] {
        let problem = Repository::new(&page).problem();
        assert!(problem.starts_with("book/src/01-cpu/p.md:"), "{problem}");
        assert!(problem.contains(part), "{page}\n{problem}");
    }
}

#[test]
fn all_problems_are_listed_together() {
    let repository = Repository::new(
        "It takes 12 ms.\n\n```rust\nfn typed() {}\n```\n\n{{#value 01-cpu/none row=a field=b}}\n",
    );
    repository.write("book/src/orphan.md", "# Nobody links here\n");
    let Err(error) = repository.build(true) else {
        panic!("expected problems");
    };
    let text = error.to_string();
    assert!(text.starts_with("the book has 4 problems:"), "{text}");
    for part in ["p.md:3:", "p.md:5:", "p.md:9:", "orphan.md: no line"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn broken_links_fail() {
    for (page, part) in [
        ("[x](none.md)", "leads to no file"),
        ("[x](#none)", "has no id \"none\""),
        ("[x](p.md#none)", "has no id \"none\""),
        ("![a](https://example.org/x.png)", "another host"),
    ] {
        let repository = Repository::new(page);
        let Err(BuildError::Gates(problems)) = repository.build(false) else {
            panic!("expected problems: {page}");
        };
        // The page, and once more the page for printing.
        assert!(
            problems
                .iter()
                .any(|problem| problem.page == "01-cpu/p.html" && problem.text.contains(part)),
            "{page}: {problems:?}"
        );
    }
    Repository::new("[x](p.md#p) and [y](https://example.org/)").page();
}

#[test]
fn what_mdbook_only_warns_of_fails() {
    let Err(BuildError::Gates(problems)) =
        Repository::new("<div><b>never closed</div>").build(true)
    else {
        panic!("expected problems");
    };
    assert!(
        problems
            .iter()
            .all(|problem| problem.page == "mdBook" && problem.text.contains("01-cpu/p.md")),
        "{problems:?}"
    );
}

#[test]
fn a_figure_without_a_result_fails_unless_it_is_optional() {
    for figure in [
        "{{#table 01-cpu/ladder columns=label,images_per_second}}",
        "{{#chart 01-cpu/ladder kind=bar field=images_per_second}}",
        "{{#provenance 01-cpu/ladder}}",
        "{{#value 01-cpu/ladder row=eager-b8 field=p50_ms}}",
        "{{#ratio 01-cpu/ladder folded-b8 eager-b8}}",
    ] {
        let repository = Repository::new(figure);
        let problem = repository.problem();
        assert!(
            problem.starts_with("book/src/01-cpu/p.md:3: no published result"),
            "{problem}"
        );
        assert!(problem.contains("`cargo x learn`"), "{problem}");

        // A reader's own result does not make up for it.
        repository.measure_locally(1.0);
        repository.problem();

        let optional = figure.replace("}}", " optional}}");
        let page = Repository::new(&optional).page();
        assert!(page.contains("ot measured here"), "{page}");
        assert!(page.contains("<code>cargo x learn</code>"), "{page}");

        let repository = Repository::new(figure);
        repository.publish("2026-01-01T00:00:00Z", 1.0);
        repository.page();
    }
}

#[test]
fn a_table_has_both_machines_and_its_provenance() {
    let repository = Repository::new(
        "{{#table 01-cpu/ladder columns=label,batch,images_per_second,p50_ms,accuracy,relative where=\"batch=8\" baseline=eager-b8}}",
    );
    repository.publish("2026-01-01T00:00:00Z", 9.0);
    let newest = repository.publish("2026-01-02T00:00:00Z", 1.0);
    repository.measure_locally(2.0);
    let page = repository.page();
    for part in [
        "Published, on AMD EPYC",
        "Yours, on Other CPU",
        "eager &lt;1&gt;",
        // 8 / (0.5 × 1.01): the newest file, not the other; and half of it.
        ">15.8<",
        ">7.92<",
        ">505<",
        ">97.4%<",
        "1.25 (1.25 to 1.25)",
        "failed: no avx512_bf16 here",
        "n = 12 samples a row",
        "at most 2.0%",
        "commit 0123456789",
        "2 cores, 24 GiB",
        "libtorch 2.11.0",
        "measured and derived",
        "<code>cpu-inference bench</code>",
        "2026-01-02",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert!(!page.contains("eager-b1"));
    let copy = repository
        .root()
        .join("book/html/results/01-cpu/ladder/amd-epyc-2c-24g")
        .join(newest.file_name().unwrap());
    assert_eq!(fs::read(copy).unwrap(), fs::read(newest).unwrap());
}

#[test]
fn numbers_stand_in_sentences() {
    let repository = Repository::new(
        "A: {{#value 01-cpu/ladder row=eager-b8 field=images_per_second}}, B: {{#ratio 01-cpu/ladder folded-b8 eager-b8}}, C: {{#published value=\"40 GB/s\" source=\"A [sheet]\" url=\"https://example.org/\" date=2024}}, D: {{#estimate value=\"2 ms\" by=XLA}}.",
    );
    repository.publish("2026-01-01T00:00:00Z", 1.0);
    let page = repository.page();
    for part in [
        "title=\"measured; Published, on AMD EPYC\">15.8 images/s</span>, B",
        "1.25× (95% interval 1.25 to 1.25)",
        "40 GB/s</span> (published: <a href=\"https://example.org/\">A [sheet]</a>, 2024)",
        "2 ms</span> (estimate, by XLA)",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    repository.measure_locally(2.0);
    assert!(repository.page().contains("(yours: "));
}

#[test]
fn charts_are_the_same_each_time_and_say_what_they_show() {
    for (kind, parts) in [
        (
            "kind=bar rows=eager-b8,folded-b8,bf16-b8",
            [
                "class=\"bar published\"",
                "class=\"bar yours\"",
                "Not drawn: bf16",
            ],
        ),
        (
            "kind=line x=batch series=engine rows=eager-b1,eager-b8,folded-b8",
            [
                "class=\"line line-0 published\"",
                "eager &lt;1&gt;, yours",
                "class=\"marker line-1",
            ],
        ),
        (
            "kind=scatter x=p50_ms series=engine rows=eager-b1,eager-b8,folded-b8",
            [
                "class=\"marker line-0 published\"",
                "eager &lt;1&gt;, yours",
                "images/s at 505 ms",
            ],
        ),
    ] {
        let repository = Repository::new(&format!(
            "{{{{#chart 01-cpu/ladder {kind} field=images_per_second title=\"A & B\"}}}}"
        ));
        repository.publish("2026-01-01T00:00:00Z", 1.0);
        repository.measure_locally(2.0);
        let page = repository.page();
        for part in parts.iter().chain(&[
            "role=\"img\"",
            "<title>A &amp; B</title>",
            "<desc>images per second in images/s.",
            "<details><summary>The chart's numbers as a table",
            // mdBook lowers it, and HTML's rules for SVG raise it again.
            "viewbox=",
        ]) {
            assert!(page.contains(part), "{part}\n{page}");
        }
        let svg = &page[page.find("<svg role").unwrap()..page.find("</svg>").unwrap()];
        assert!(!svg.contains("\n\n"), "{svg}");
        assert!(!svg.contains("NaN"), "{svg}");
        assert_eq!(page, repository.page());
    }
}

#[test]
fn a_chart_misses_only_rows_that_it_names() {
    for (selection, missed) in [("", false), ("rows=eager-b8,stages", true)] {
        let repository = Repository::new(&format!(
            "{{{{#chart 01-cpu/ladder kind=bar field=images_per_second {selection}}}}}"
        ));
        let mut file = ladder("2026-01-01T00:00:00Z", 1.0, "AMD EPYC");
        (file.rows).push(Row::ok("stages", "stages").with_metric("stage_seconds", 1.0));
        let slug = file.environment.machine_slug();
        let folder = results::published_dir(repository.root(), "01-cpu", &slug, "ladder");
        file.write(folder.join(file.published_name())).unwrap();
        let page = repository.page();
        assert_eq!(page.contains("Not drawn: stages"), missed, "{page}");
        // What failed is always told.
        assert_eq!(page.contains("Not drawn: bf16"), !missed, "{page}");
    }
}

#[test]
fn a_logarithmic_axis_keeps_small_values_apart() {
    let chart = |scale: &str| {
        let repository = Repository::new(&format!(
            "{{{{#chart 01-cpu/ladder kind=line x=batch field=p50_ms where=engine=folded {scale}}}}}"
        ));
        let mut file = ladder("2026-01-01T00:00:00Z", 1.0, "AMD EPYC");
        // From 4 ms to 4 s: on a linear axis the first three lie on the ground.
        file.rows = [(1, 0.004), (8, 0.04), (64, 0.4), (512, 4.0)]
            .map(|(batch, seconds)| {
                Row::ok(format!("b{batch}"), "folded")
                    .with("engine", "folded")
                    .with("batch", batch)
                    .with_samples(Samples {
                        items_per_sample: 1,
                        warmup_seconds: vec![],
                        seconds: vec![seconds; 12],
                    })
            })
            .to_vec();
        let slug = file.environment.machine_slug();
        file.write(
            results::published_dir(repository.root(), "01-cpu", &slug, "ladder")
                .join(file.published_name()),
        )
        .unwrap();
        let page = repository.page();
        // The heights of the line's four points.
        let (_, path) = page
            .split_once("<path class=\"line line-0 published\" d=\"M")
            .unwrap();
        let (path, _) = path.split_once('"').unwrap();
        let heights: Vec<f64> = (path.split('L'))
            .map(|point| point.split_once(' ').unwrap().1.parse().unwrap())
            .collect();
        heights
            .windows(2)
            .map(|pair| pair[0] - pair[1])
            .collect::<Vec<_>>()
    };
    let even = chart("scale=log");
    assert!(
        even.iter().all(|step| (step - even[0]).abs() < 0.2),
        "{even:?}"
    );
    let steep = chart("");
    assert!(steep[2] > 50.0 * steep[0], "{steep:?}");
}

#[test]
fn a_matrix_says_what_nobody_measured_and_why() {
    let repository = Repository::new(
        "{{#matrix 01-cpu/ladder line=label columns=batch field=images_per_second}}",
    );
    repository.publish("2026-01-01T00:00:00Z", 1.0);
    let page = repository.page();
    for part in [
        "The ladder: images/s. Published, on AMD EPYC",
        "<th scope=\"col\">batch 8</th><th scope=\"col\">batch 1</th>",
        "<th scope=\"row\">eager &lt;1&gt;</th><td class=\"number\">15.8</td><td class=\"number\">17.6</td>",
        "<td class=\"absent\">failed (1)</td><td class=\"absent\">not measured</td>",
        "(1) no avx512_bf16 here",
        "measured; 2 cores",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    repository.measure_locally(2.0);
    let page = repository.page();
    assert!(page.contains("images/s. Yours, on Other CPU"), "{page}");
    assert!(page.contains(">7.92<"), "{page}");
}

#[test]
fn a_matrix_has_one_row_a_cell() {
    for (figure, part) in [
        (
            "{{#matrix 01-cpu/ladder line=label columns=arch field=p50_ms where=arch=resnet50}}",
            "eager-b8 and eager-b1 fall into one cell (eager <1>; resnet50)",
        ),
        (
            "{{#matrix 01-cpu/ladder line=engine columns=batch field=p50_ms}}",
            "bf16-b8 has no engine",
        ),
        (
            "{{#matrix 01-cpu/ladder line=label columns=batch field=speed}}",
            "no field \"speed\"",
        ),
    ] {
        let repository = Repository::new(figure);
        repository.publish("2026-01-01T00:00:00Z", 1.0);
        let problem = repository.problem();
        assert!(problem.contains(part), "{figure}\n{problem}");
    }
}

#[test]
fn the_difference_of_two_programs_is_shown_until_it_grows() {
    let directive = |limit: u8| {
        let src = "../../../chapters/01-cpu/src";
        format!("{{{{#difference {src}/x.rs {src}/y.rs limit={limit}}}}}")
    };
    let with = |limit| {
        let repository = Repository::new(&directive(limit));
        repository.write(
            "chapters/01-cpu/src/y.rs",
            &CODE.replace("    7\n", "    8\n"),
        );
        repository
    };
    let page = with(2).page();
    for part in [
        "class=\"language-diff\"",
        "-    7\n+    8\n",
        "2 of 3 lines differ: 1 removed, 1 added",
        "<code>chapters/01-cpu/src/y.rs</code>",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert!(!page.contains("ANCHOR"), "{page}");
    let problem = with(1).problem();
    assert!(problem.starts_with("book/src/01-cpu/p.md:3: "), "{problem}");
    assert!(problem.contains("differ by 2 lines"), "{problem}");
    let problem = Repository::new(&directive(1)).problem();
    assert!(problem.contains("no file"), "{problem}");
}

#[test]
fn wrong_names_say_the_right_ones() {
    for (figure, part) in [
        (
            "{{#value 01-cpu/ladder row=none field=p50_ms}}",
            "expected one of eager-b8, folded-b8",
        ),
        (
            "{{#value 01-cpu/ladder row=eager-b8 field=speed}}",
            "expected one of id, label, images_per_second",
        ),
        (
            "{{#value 01-cpu/ladder row=bf16-b8 field=p50_ms}}",
            "no avx512_bf16 here",
        ),
        (
            "{{#value 01-cpu/other row=a field=b}}",
            "book/figures.toml has 01-cpu/ladder",
        ),
        (
            "{{#table 01-cpu/ladder columns=label,speed}}",
            "no field \"speed\"",
        ),
        (
            "{{#table 01-cpu/ladder columns=label,batch}}",
            "name a measured field",
        ),
        ("{{#table 01-cpu/ladder columns=p50_ms}}", "add label"),
        (
            "{{#table 01-cpu/ladder columns=label,p50_ms where=batch=64}}",
            "no row of 01-cpu/ladder has batch=64",
        ),
        (
            "{{#table 01-cpu/ladder columns=label,p50_ms rows=eager-b1 where=batch=8}}",
            "which where= excludes",
        ),
        (
            "{{#table 01-cpu/ladder columns=label,relative baseline=none}}",
            "no row \"none\"",
        ),
        (
            "{{#chart 01-cpu/ladder kind=line x=label field=p50_ms}}",
            "is not a number",
        ),
        ("{{#ratio 01-cpu/ladder eager-b8 none}}", "no row \"none\""),
    ] {
        let repository = Repository::new(figure);
        repository.publish("2026-01-01T00:00:00Z", 1.0);
        let Err(BuildError::Gates(problems)) = repository.build(false) else {
            panic!("expected problems: {figure}");
        };
        assert!(
            problems.iter().all(|problem| problem.line == Some(3)),
            "{problems:?}"
        );
        assert!(
            problems.iter().any(|problem| problem.text.contains(part)),
            "{figure}: {problems:?}"
        );
    }
}

#[test]
fn a_broken_result_fails_if_published_and_warns_if_local() {
    let repository = Repository::new("Text.");
    repository.write("results-local/01-cpu/some-machine/ladder.json", "{");
    let report = repository.build(true).unwrap();
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);

    let folder = "chapters/01-cpu/results/amd-epyc-2c-24g/ladder";
    repository.write(&format!("{folder}/2026-01-01-x.json"), "{");
    assert!(repository.problem().contains("2026-01-01-x.json"));
    fs::remove_file(repository.root().join(folder).join("2026-01-01-x.json")).unwrap();

    let mut other = ladder("2026-01-01T00:00:00Z", 1.0, "AMD EPYC");
    other.environment.cores = 64;
    other
        .write(repository.root().join(folder).join("a.json"))
        .unwrap();
    assert!(
        repository
            .problem()
            .contains("measured on amd-epyc-64c-24g")
    );
}

#[test]
fn a_failed_build_and_a_check_leave_the_last_book() {
    let repository = Repository::new("First.");
    repository.build(false).unwrap();
    let page = repository.root().join("book/html/01-cpu/p.html");
    let first = fs::read_to_string(&page).unwrap();
    repository.write(
        "book/src/01-cpu/p.md",
        "# P\n\n[x](#none)\n\n{{#provenance 01-cpu/ladder optional}}\n",
    );
    repository.build(false).unwrap_err();
    repository.write(
        "book/src/01-cpu/p.md",
        "# P\n\nSecond.\n\n{{#provenance 01-cpu/ladder optional}}\n",
    );
    let report = repository.build(true).unwrap();
    assert_eq!(report.index, None);
    assert_eq!(fs::read_to_string(&page).unwrap(), first);
    repository.build(false).unwrap();
    assert!(fs::read_to_string(&page).unwrap().contains("Second."));
    // Nothing of a build stays behind.
    assert_eq!(
        fs::read_dir(repository.root().join("book/generated"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn settings_are_checked() {
    let figures = |text: &str| {
        let repository = Repository::new("Text.");
        repository.write("book/figures.toml", text);
        repository.build(true).unwrap_err().to_string()
    };
    assert!(figures("[refrence-machine]").contains("unknown field"));
    assert!(figures("[measurement.\"x\"]\ntitle='t'\ncommand='c'").contains("CHAPTER/MEASUREMENT"));
    assert!(
        figures("[measurement.\"a/b\"]\ntitle='t'\ncommand='c'").contains("no reference machine")
    );
    let repository = Repository::new("Text.");
    repository.write(
        "book/book.toml",
        "[book]\ntitle='T'\n[preprocessor.cmdrun]\n",
    );
    assert!(
        repository
            .build(true)
            .unwrap_err()
            .to_string()
            .contains("expected no preprocessors")
    );
    repository.write("book/book.toml", "[book]\ntitle='T'\n[output.epub]\n");
    assert!(
        repository
            .build(true)
            .unwrap_err()
            .to_string()
            .contains("output html alone")
    );
    let empty = tempfile::tempdir().unwrap();
    let error = build(&Options {
        root: empty.path().to_owned(),
        local: empty.path().join("none"),
        check: true,
        stale: None,
        epub: None,
    });
    assert!(matches!(error, Err(BuildError::NotARepository(_))));
}

#[test]
fn a_stale_result_has_a_badge_and_a_fresh_one_has_none() {
    let repository = Repository::new("{{#chart 01-cpu/ladder kind=bar field=images_per_second}}");
    let path = repository.publish("2026-01-01T00:00:00Z", 1.0);
    assert!(!repository.page().contains("badge"));
    let relative = path.strip_prefix(repository.root()).unwrap();
    let answer = |path: &str| {
        format!(
            "{{\"schema_version\": 1, \"stale\": {{\"{path}\": {{\"what\": \"code has changed <since>\"}}}}}}"
        )
    };
    repository.write("stale.json", &answer("chapters/other.json"));
    assert!(!repository.page().contains("badge"));
    repository.write("stale.json", &answer(relative.to_str().unwrap()));
    let page = repository.page();
    // Under the chart, in its folded table, and in the line of provenance at the end.
    assert_eq!(
        page.matches("<span class=\"badge stale\">Stale: code has changed &lt;since&gt;</span>")
            .count(),
        3,
        "{page}"
    );
    repository.write("stale.json", "[]");
    assert!(matches!(
        repository.build(true),
        Err(BuildError::Settings { .. })
    ));
}

#[test]
fn a_deleted_result_is_a_problem() {
    let repository = Repository::new("Text.");
    repository.write(
        "stale.json",
        "{\"schema_version\": 1, \"stale\": {}, \"deleted\": [\"chapters/01-cpu/results/m/x/y.json\"]}",
    );
    let problem = repository.problem();
    assert!(
        problem.starts_with("chapters/01-cpu/results/m/x/y.json: "),
        "{problem}"
    );
    assert!(problem.contains("cargo x results restore"), "{problem}");
}

#[test]
fn a_withdrawn_result_must_be_gone() {
    let repository = Repository::new("Text.");
    let path = repository.publish("2026-01-01T00:00:00Z", 1.0);
    let settings = fs::read_to_string(repository.root().join("book/figures.toml")).unwrap();
    let relative = path.strip_prefix(repository.root()).unwrap().display();
    repository.write(
        "book/figures.toml",
        &format!("{settings}\n[withdrawn]\n\"{relative}\" = \"a wrong clock\"\n"),
    );
    let error = repository.build(true).unwrap_err().to_string();
    assert!(error.contains("delete the file"), "{error}");
    fs::remove_file(&path).unwrap();
    repository.build(true).unwrap();
}

/// Publishes the ladder of a day with changes.
fn publish_with(
    repository: &Repository,
    date: &str,
    factor: f64,
    change: impl Fn(&mut ResultFile),
) {
    let mut file = ladder(date, factor, "AMD EPYC");
    change(&mut file);
    let slug = file.environment.machine_slug();
    file.write(
        results::published_dir(repository.root(), "01-cpu", &slug, "ladder")
            .join(file.published_name()),
    )
    .unwrap();
}

#[test]
fn a_trend_goes_through_all_that_was_published() {
    let repository = Repository::new(
        "{{#trend 01-cpu/ladder rows=eager-b8,folded-b8 field=images_per_second title=\"A & B\"}}",
    );
    publish_with(&repository, "2026-01-03T00:00:00Z", 1.0, |_| {});
    let page = repository.page();
    assert!(page.contains("One publication so far"), "{page}");
    assert!(!page.contains("<svg"), "a line needs two points: {page}");

    publish_with(&repository, "2026-01-01T00:00:00Z", 4.0, |file| {
        file.rows.remove(1);
        file.environment.libraries = [("libtorch".to_owned(), "2.10.0".to_owned())].into();
    });
    publish_with(&repository, "2026-01-02T00:00:00Z", 2.0, |file| {
        file.command = ["cpu-inference", "bench", "--out", "elsewhere"]
            .map(String::from)
            .to_vec();
        file.rows[1] = file.rows[1].clone().with("batch", 9).with("threads", 2);
    });
    // The reader's own are of one day.
    repository.measure_locally(1.0);
    let page = repository.page();
    for part in [
        "<figcaption>A &amp; B</figcaption>",
        "<svg role=\"img\"",
        "publication 1 (2026-01-01) 3.96 images/s; publication 2 (2026-01-02) 7.92 images/s; publication 3 (2026-01-03) 15.8 images/s",
        "folded: publication 2 (2026-01-02) 9.90 images/s; publication 3",
        "<path class=\"whisker\"",
        ">publication</text>",
        "<th scope=\"col\">eager &lt;1&gt;: images/s</th>",
        "<th scope=\"row\">1. <a href=\"../results/01-cpu/ladder/amd-epyc-2c-24g/2026-01-01-0123456789ab.json\">2026-01-01, 0123456789</a></th>",
        "<td class=\"absent\">not measured</td><td>the first</td>",
        "<td>libtorch: 2.10.0 became 2.11.0</td>",
        "<td>of the rows: batch, threads</td>",
        "; n = 12</small>",
        "3 publications; each date leads to all samples. The newest:",
        "Published, on AMD EPYC: measured; n = 12 samples a row",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    for other in ["the command", "Yours, on", "NaN"] {
        let (trend, _) = page.split_once("</figure>").unwrap();
        assert!(!trend.contains(other), "{other}\n{trend}");
    }
    let copies = repository
        .root()
        .join("book/html/results/01-cpu/ladder/amd-epyc-2c-24g");
    assert_eq!(fs::read_dir(copies).unwrap().count(), 3);
    assert_eq!(page, repository.page());
}

#[test]
fn a_trend_of_ratios_does_not_see_the_machines_mood() {
    let repository =
        Repository::new("{{#trend 01-cpu/ladder rows=folded-b8 baseline=eager-b8 field=relative}}");
    publish_with(&repository, "2026-01-01T00:00:00Z", 1.0, |_| {});
    publish_with(&repository, "2026-01-02T00:00:00Z", 3.0, |file| {
        file.command.push("--more".to_owned());
    });
    let page = repository.page();
    assert_eq!(
        page.matches("<td class=\"number\">1.25×<br><small>1.25× to 1.25×; n = 12</small></td>")
            .count(),
        2,
        "{page}"
    );
    for part in [
        "Relative: rate over that of eager &lt;1&gt; in the same run",
        "<td>the command</td>",
        ": derived; n = 12",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
}

#[test]
fn a_trend_needs_its_rows_in_the_newest_file() {
    for (figure, part) in [
        ("rows=none field=p50_ms", "no row \"none\""),
        ("rows=eager-b8 field=speed", "no field \"speed\""),
        ("rows=bf16-b8 field=p50_ms", "no avx512_bf16 here"),
        ("rows=eager-b8 field=engine", "expected a number"),
        (
            "rows=eager-b8 field=relative baseline=none",
            "no row \"none\"",
        ),
    ] {
        let repository = Repository::new(&format!("{{{{#trend 01-cpu/ladder {figure}}}}}"));
        let problem = repository.problem();
        assert!(problem.contains("no published result"), "{problem}");
        repository.publish("2026-01-01T00:00:00Z", 1.0);
        let error = repository.build(true).unwrap_err().to_string();
        assert!(error.contains(part), "{figure}\n{error}");
    }
}

#[test]
fn a_legend_counts_and_does_not_sort_words() {
    let legend = |series: &str| -> Vec<String> {
        let repository = Repository::new(&format!(
            "{{{{#chart 01-cpu/ladder kind=line x=rate field=p50_ms series={series} rows=a,b,c}}}}"
        ));
        publish_with(&repository, "2026-01-01T00:00:00Z", 1.0, |file| {
            let samples = file.rows[0].samples.clone().unwrap();
            file.rows = [("a", 64, "zebra"), ("b", 8, "ant"), ("c", 16, "bee")]
                .map(|(id, batch, engine)| {
                    Row::ok(id, id)
                        .with("batch", batch)
                        .with("engine", engine)
                        .with("rate", 1)
                        .with_samples(samples.clone())
                })
                .to_vec();
        });
        let page = repository.page();
        page.split("<text class=\"label\"")
            .skip(1)
            .map(|text| {
                let (_, text) = text.split_once('>').unwrap();
                text.split_once('<').unwrap().0.to_owned()
            })
            .collect()
    };
    assert_eq!(legend("batch"), ["batch 8", "batch 16", "batch 64"]);
    assert_eq!(legend("engine"), ["zebra", "ant", "bee"]);
}

#[test]
fn public_addresses_are_settings_of_the_site() {
    let repository = Repository::new("Text.");
    let settings = fs::read_to_string(repository.root().join("book/figures.toml")).unwrap();
    let html = |name: &str| {
        repository
            .build(false)
            .unwrap_or_else(|error| panic!("{error}"));
        fs::read_to_string(repository.root().join("book/html").join(name)).unwrap()
    };
    assert!(!html("01-cpu/p.html").contains("example.org"));
    repository.write(
        "book/figures.toml",
        &format!(
            "{settings}\n[site]\nbase = \"https://example.org/book/\"\nedit = \"https://example.org/edit/\"\n"
        ),
    );
    repository.write("book/src/social-card.png", "");
    let page = html("01-cpu/p.html");
    for part in [
        "href=\"https://example.org/edit/book/src/01-cpu/p.md\"",
        "content=\"https://example.org/book/01-cpu/p.html\"",
        "content=\"https://example.org/book/social-card.png\"",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    assert!(html("sitemap.xml").contains("https://example.org/book/first.html"));
    repository.write(
        "book/figures.toml",
        &format!("{settings}\n[site]\nedit = \"https://example.org/edit\"\n"),
    );
    let error = repository.build(true).unwrap_err().to_string();
    assert!(error.contains("site.edit: expected https://"), "{error}");

    // One place for all of them.
    repository.write("book/figures.toml", &settings);
    repository.write(
        "book/book.toml",
        "[book]\ntitle = \"T\"\n[output.html]\nedit-url-template = \"https://example.org/{path}\"\n",
    );
    let error = repository.build(true).unwrap_err().to_string();
    assert!(error.contains("site.edit"), "{error}");
}

const SHEET: &str = "\
title = \"Cost and speed\"
baseline = \"cpu\"
inference = { workload = \"ResNet-50\" }
training = { workload = \"Training\", images = 1000 }
[[row]]
id = \"cpu\"
name = \"A CPU\"
price = \"GCP n2-standard-2\"
inference = { measured = { measurement = \"01-cpu/ladder\", row = \"eager-b8\", field = \"images_per_second\" } }
training = { not-measured = \"cargo x learn\" }
[[row]]
id = \"t4\"
name = \"A T4\"
price = \"T4\"
inference = { published = { device = \"T4\", workload = \"resnet50\" } }
training = { not-measured = \"cargo x learn\" }
";

#[test]
fn facts_and_the_cheat_sheet_stand_in_the_page() {
    let repository = Repository::new(
        "It has {{#hardware NVIDIA T4 memory_bytes}}.\n\n{{#hardware-table devices=\"T4,L4\" columns=memory_bytes,f32,dollars_per_hour}}\n\n{{#cheat-sheet}}\n\n{{#calculator}}",
    );
    repository.publish("2026-01-01T00:00:00Z", 1.0);
    repository.write("book/cheat-sheet.toml", SHEET);
    let page = repository.page();
    for part in [
        ">16 GB</span> (published: <a href=",
        "<caption>Published facts</caption>",
        "<caption>Cost and speed</caption>",
        "<small class=\"label\">measured</small>",
        "not measured here",
        "class=\"calculator-data\"",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // The reader's own number is a line of its own.
    assert!(!page.contains("A CPU, yours"), "{page}");
    repository.measure_locally(2.0);
    assert!(repository.page().contains("A CPU, yours"));
    // The data survives the way through Markdown and mdBook.
    let data = page.split("class=\"calculator-data\">").nth(1).unwrap();
    let data = data.split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["rows"][1]["name"], "A T4");
}

#[test]
fn a_cheat_sheet_whose_numbers_are_not_there_fails() {
    let repository = Repository::new("{{#cheat-sheet}}");
    assert!(repository.problem().contains("no book/cheat-sheet.toml"));
    repository.write("book/cheat-sheet.toml", SHEET);
    assert!(
        repository
            .problem()
            .contains("no published result of 01-cpu/ladder")
    );
    repository.publish("2026-01-01T00:00:00Z", 1.0);
    repository.write(
        "book/cheat-sheet.toml",
        &SHEET.replace("row = \"eager-b8\"", "row = \"none\""),
    );
    assert!(repository.problem().contains("no row \"none\""));
    repository.write(
        "book/cheat-sheet.toml",
        &SHEET.replace("{ measured = {", "{ estimate = {"),
    );
    assert!(repository.problem().contains("is measured by its name"));
    repository.write("book/cheat-sheet.toml", "title = 1");
    assert!(matches!(
        repository.build(true),
        Err(BuildError::Settings { .. })
    ));
}

#[test]
fn what_results_depend_on_must_be_there() {
    let repository = Repository::new("Text.");
    let settings = fs::read_to_string(repository.root().join("book/figures.toml")).unwrap();
    for (depends, part) in [
        ("01-cpu = [\"chapters/01-cpu/src\"]", None),
        (
            "\"01-cpu/ladder\" = [\"none.rs\"]",
            Some("which is not there"),
        ),
        ("09-z = []", Some("no chapter")),
    ] {
        repository.write(
            "book/figures.toml",
            &format!("{settings}\n[depends]\n{depends}\n"),
        );
        match (repository.build(true), part) {
            (Ok(_), None) => {}
            (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
            (other, _) => panic!("{depends}: {other:?}"),
        }
    }
}

#[test]
fn a_measurement_that_no_page_shows_is_told() {
    let repository = Repository::new("Text.");
    repository.write("book/src/01-cpu/p.md", "# P\n\nText.\n");
    assert!(repository.problem().contains("no page shows 01-cpu/ladder"));
}

#[test]
fn the_projects_own_book_builds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let report = build(&Options {
        local: root.join("no-results-of-a-reader"),
        root,
        check: true,
        stale: None,
        epub: None,
    })
    .unwrap_or_else(|error| panic!("{error}"));
    assert!(report.pages >= 11);
}
