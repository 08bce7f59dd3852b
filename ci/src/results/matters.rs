//! Which changed files cannot have changed a figure, whatever a result depends on.

/// Whether no program is built from a file: texts, licences, and what only tests need.
pub fn is_beside_the_program(path: &str) -> bool {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    name.ends_with(".md")
        || name.starts_with("LICENSE")
        || folders.split('/').any(|folder| folder == "tests")
}

/// Whether a file may differ and build the same program: then its texts are to be compared.
pub fn is_in_parts(path: &str) -> bool {
    is_manifest(path) || path.ends_with(".rs")
}

fn is_manifest(path: &str) -> bool {
    path.rsplit('/').next() == Some("Cargo.toml")
}

/// What a manifest tells registries, linters and tests, and not the program.
const BESIDE: [&str; 5] = ["lints", "dev-dependencies", "test", "bench", "example"];

/// The same in `[package]`.
const BESIDE_PACKAGE: [&str; 15] = [
    "authors",
    "categories",
    "description",
    "documentation",
    "exclude",
    "homepage",
    "include",
    "keywords",
    "license",
    "license-file",
    "metadata",
    "publish",
    "readme",
    "repository",
    "rust-version",
];

/// Whether two texts of a manifest or of a Rust file build the same program.
pub fn builds_the_same(path: &str, old: &str, new: &str) -> bool {
    if !is_manifest(path) {
        return !old.is_empty() && before_tests(old) == before_tests(new);
    }
    match (built_from(old), built_from(new)) {
        (Some(old), Some(new)) => old == new,
        _ => false,
    }
}

/// What of a manifest a program is built from; `None` if it is no TOML.
fn built_from(manifest: &str) -> Option<toml::Table> {
    let mut table: toml::Table = toml::from_str(manifest).ok()?;
    for key in BESIDE {
        table.remove(key);
    }
    if let Some(package) = (table.get_mut("package")).and_then(toml::Value::as_table_mut) {
        for key in BESIDE_PACKAGE {
            package.remove(key);
        }
    }
    Some(table)
}

/// A Rust file up to its tests, if they stand at its end; else all of it.
fn before_tests(source: &str) -> &str {
    const TESTS: &str = "\n#[cfg(test)]\nmod tests {\n";
    match source.split_once(TESTS) {
        // The module's own lines are indented: the first that is not ends it.
        Some((program, tests))
            if tests
                .lines()
                .all(|line| line.starts_with([' ', '}']) || line.is_empty())
                && tests.lines().filter(|line| line.starts_with('}')).count() == 1 =>
        {
            program
        }
        _ => source,
    }
}

#[cfg(test)]
mod tests {
    use super::{builds_the_same, is_beside_the_program};

    #[test]
    fn what_only_tests_a_rust_file_is_beside_the_program() {
        let source = |program: &str, tests: &str, after: &str| {
            format!("{program}\n#[cfg(test)]\nmod tests {{\n    {tests}\n}}\n{after}")
        };
        let same = |old: &str, new: &str| builds_the_same("src/a.rs", old, new);
        let old = source("fn a() {}\n", "fn t() {}", "");
        assert!(same(&old, &source("fn a() {}\n", "fn other() {}", "")));
        assert!(!same(&old, &source("fn b() {}\n", "fn t() {}", "")));
        let followed = |after: &str| source("fn a() {}\n", "fn t() {}", after);
        assert!(!same(&followed("fn b() {}\n"), &followed("fn c() {}\n")));
        assert!(!same("", ""), "it is gone");
    }

    #[test]
    fn texts_licences_and_tests_are_beside_the_program() {
        for path in [
            "chapters/a/crates/b/README.md",
            "chapters/a/crates/b/LICENSE-MIT",
            "chapters/a/crates/b/tests/ops.rs",
            "tests/deep/data.json",
        ] {
            assert!(is_beside_the_program(path), "{path}");
        }
        for path in [
            "chapters/a/src/lib.rs",
            "chapters/a/src/tests.rs",
            "chapters/a/src/LICENSES/x.rs",
            "Cargo.lock",
        ] {
            assert!(!is_beside_the_program(path), "{path}");
        }
    }

    #[test]
    fn a_manifest_counts_by_what_it_builds() {
        const OLD: &str =
            "[package]\nname = \"a\"\nversion = \"0.1.0\"\n[dependencies]\nb = \"1\"\n";
        let described = OLD.replace(
            "[dependencies]",
            "description = \"A\"\nkeywords = [\"k\"]\n[lints]\nworkspace = true\n[dev-dependencies]\nc = \"1\"\n[dependencies]",
        );
        assert_ne!(OLD, described);
        let same = |old: &str, new: &str| builds_the_same("a/Cargo.toml", old, new);
        assert!(same(OLD, &described));
        for (from, to) in [
            ("b = \"1\"", "b = \"2\""),
            ("[dependencies]", "[features]\nf = []\n[dependencies]"),
            ("0.1.0", "0.1.1"),
            ("[package]", "[package"),
        ] {
            assert!(!same(OLD, &OLD.replace(from, to)), "{to}");
        }
        assert!(!same(OLD, ""), "it is gone");
    }
}
