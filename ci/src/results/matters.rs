//! Which changed files cannot have changed a figure, whatever a result depends on.

use proc_macro2::{Group, TokenStream, TokenTree};

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
        return match (tokens(old), tokens(new)) {
            (Some(old), Some(new)) => !old.is_empty() && old == new,
            _ => false,
        };
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

/// The tokens of a Rust file without documentation and modules of tests; `None` if it is no Rust.
/// Comments are no tokens.
fn tokens(source: &str) -> Option<String> {
    let tokens: TokenStream = source.parse().ok()?;
    Some(of_the_program(tokens).to_string())
}

fn of_the_program(tokens: TokenStream) -> TokenStream {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let mut kept = TokenStream::new();
    let mut rest = trees.as_slice();
    while let [first, after @ ..] = rest {
        rest = match beside(rest) {
            0 => {
                kept.extend([match first {
                    TokenTree::Group(group) => {
                        Group::new(group.delimiter(), of_the_program(group.stream())).into()
                    }
                    token => token.clone(),
                }]);
                after
            }
            length => rest.get(length..).unwrap_or_default(),
        };
    }
    kept
}

/// How many of the first tokens are a text of documentation or a module of tests.
fn beside(tokens: &[TokenTree]) -> usize {
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|one| one.to_string() == text);
    let is_group = |at: usize, start: &str| {
        matches!(tokens.get(at), Some(TokenTree::Group(group))
            if group.stream().to_string().replace(' ', "").starts_with(start))
    };
    if !is(0, "#") {
        0
    } else if is_group(1, "doc=") {
        2
    } else if is(1, "!") && is_group(2, "doc=") {
        3
    } else if is_group(1, "cfg(test)") && is(2, "mod") {
        5
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::{builds_the_same, is_beside_the_program};

    #[test]
    fn a_rust_file_counts_by_its_program() {
        let old = "fn a() -> i32 {\n    1\n}\n";
        let same = |new: &str| builds_the_same("src/a.rs", old, new);
        for new in [
            "//! Of a.\n\n/// Returns one.\nfn a() -> i32 { 1 /* so much */ }",
            "fn a() -> i32 {\n    //! Returns one.\n    1 // so much\n}\n",
            "fn a() -> i32 { 1 }\n#[cfg(test)]\nmod tests {\n    fn t() {}\n}\n",
            "#[cfg(test)]\nmod tests { fn t() {} }\nfn a() -> i32 { 1 }\n",
        ] {
            assert!(same(new), "{new}");
        }
        for new in [
            "fn a() -> i32 { 2 }",
            "#[inline]\nfn a() -> i32 { 1 }",
            "fn a() -> i32 { 1 }\n#[cfg(test)]\nmod tests {}\nfn b() {}\n",
            "fn a() -> i32 { 1 }\n#[cfg(unix)]\nmod tests {}\n",
            "fn a() -> i32 { 1",
            "",
        ] {
            assert!(!same(new), "{new}");
        }
        assert!(!builds_the_same("src/a.rs", "", ""), "it is gone");
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
