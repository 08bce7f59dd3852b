//! Which changed files cannot have changed a figure, whatever a result depends on.

/// Whether no program is built from a file: texts, licences, and what only tests need.
pub fn is_beside_the_program(path: &str) -> bool {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    name.ends_with(".md")
        || name.starts_with("LICENSE")
        || folders.split('/').any(|folder| folder == "tests")
}

/// Whether a file is a package's manifest.
pub fn is_manifest(path: &str) -> bool {
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

/// Whether two texts of a manifest build the same program.
pub fn builds_the_same(old: &str, new: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::{builds_the_same, is_beside_the_program};

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
        assert!(builds_the_same(OLD, &described));
        for (from, to) in [
            ("b = \"1\"", "b = \"2\""),
            ("[dependencies]", "[features]\nf = []\n[dependencies]"),
            ("0.1.0", "0.1.1"),
            ("[package]", "[package"),
        ] {
            assert!(!builds_the_same(OLD, &OLD.replace(from, to)), "{to}");
        }
        assert!(!builds_the_same(OLD, ""), "it is gone");
    }
}
