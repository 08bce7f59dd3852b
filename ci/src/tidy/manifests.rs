//! Rules for Cargo.toml: one version table, shared lints, and who may depend on whom.

use std::{collections::BTreeMap, path::Path};

use toml::{Table, Value};

use super::Problem;

/// Checks the manifest of every crate of the workspace.
///
/// * `may_depend_on`: for each crate, the project's crates that it may depend on
pub fn check(
    root: &Path,
    files: &[String],
    may_depend_on: &[(&str, &[&str])],
    problems: &mut Vec<Problem>,
) {
    let mut manifests = BTreeMap::new();
    for file in files {
        if file != "Cargo.toml" && !file.ends_with("/Cargo.toml") {
            continue;
        }
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        match text.parse::<Table>() {
            Ok(manifest) => {
                manifests.insert(file.as_str(), manifest);
            }
            Err(error) => problems.push(Problem::in_file(file, error.message())),
        }
    }
    let excluded = excluded(&manifests);
    let crates: Vec<(&str, &str, &Table)> = (manifests.iter())
        .filter(|(file, _)| {
            let folder = file.strip_suffix("/Cargo.toml").unwrap_or_default();
            !excluded
                .iter()
                .any(|out| Path::new(folder).starts_with(out))
        })
        .filter_map(|(file, manifest)| Some((*file, name(manifest)?, manifest)))
        .collect();
    let project: Vec<&str> = crates.iter().map(|(_, name, _)| *name).collect();
    for (file, name, manifest) in &crates {
        if !from_workspace(manifest.get("lints")) {
            problems.push(Problem::in_file(
                file,
                "expected `[lints] workspace = true`",
            ));
        }
        let allowed = may_depend_on.iter().find(|(other, _)| other == name);
        if allowed.is_none() {
            let message = format!("{name} has no line in MAY_DEPEND_ON in ci/src/tidy/rules.rs");
            problems.push(Problem::in_file(file, message));
        }
        for (dependency, value) in dependencies(manifest) {
            if !from_workspace(Some(value)) {
                let message = format!(
                    "{dependency}: expected `{dependency}.workspace = true`; \
                     its version stands in the root Cargo.toml"
                );
                problems.push(Problem::in_file(file, message));
            }
            let Some((_, allowed)) = allowed else {
                continue;
            };
            if project.contains(&dependency) && !allowed.contains(&dependency) {
                let allowed = match allowed {
                    [] => "no crate of the project".to_owned(),
                    names => names.join(", "),
                };
                let message = format!("{name} may depend on {allowed}, not on {dependency}");
                problems.push(Problem::in_file(file, message));
            }
        }
    }
}

fn name(manifest: &Table) -> Option<&str> {
    manifest.get("package")?.get("name")?.as_str()
}

/// Folders outside the workspace: they have versions of their own.
fn excluded(manifests: &BTreeMap<&str, Table>) -> Vec<String> {
    let list = || {
        let workspace = manifests.get("Cargo.toml")?.get("workspace")?;
        let list = workspace.get("exclude")?.as_array()?;
        Some(
            list.iter()
                .filter_map(|value| Some(value.as_str()?.to_owned())),
        )
    };
    list().map(Iterator::collect).unwrap_or_default()
}

fn from_workspace(value: Option<&Value>) -> bool {
    value.and_then(|value| value.get("workspace")) == Some(&Value::Boolean(true))
}

/// All dependencies: normal, for tests and for build scripts, on any target.
fn dependencies(manifest: &Table) -> Vec<(&str, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values);
    let tables = [manifest]
        .into_iter()
        .chain(targets.filter_map(Value::as_table));
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    tables
        .flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table()))
        .flatten()
        .map(|(name, value)| (name.as_str(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Tree;
    use super::*;

    const ALLOWED: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}")
    }

    fn found(low: &str, high: &str) -> Vec<String> {
        let tree = Tree::new(&[
            ("Cargo.toml", "[workspace]\nexclude = [\"fuzz\"]\n"),
            ("low/Cargo.toml", low),
            ("high/Cargo.toml", high),
            ("fuzz/Cargo.toml", "[package]\nname = \"fuzz\"\n"),
        ]);
        tree.check(|root, files, problems| check(root, files, ALLOWED, problems))
    }

    #[test]
    fn the_allowed_direction_is_fine() {
        let high = manifest("high", "[dependencies]\nlow.workspace = true\n");
        assert_eq!(found(&manifest("low", ""), &high), Vec::<String>::new());
    }

    #[test]
    fn the_other_direction_is_not() {
        let tables = [
            "dependencies",
            "dev-dependencies",
            "target.'cfg(unix)'.build-dependencies",
        ];
        for table in tables {
            let low = manifest("low", &format!("[{table}]\nhigh.workspace = true\n"));
            let problems = found(&low, &manifest("high", ""));
            assert_eq!(
                problems,
                ["low/Cargo.toml: low may depend on no crate of the project, not on high"]
            );
        }
    }

    #[test]
    fn versions_stand_in_the_table() {
        for value in ["\"1\"", "{ version = \"1\" }", "{ workspace = false }"] {
            let low = manifest("low", &format!("[dependencies]\nserde = {value}\n"));
            let problems = found(&low, &manifest("high", ""));
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains("serde.workspace = true"));
        }
        let low = "[dependencies]\nserde = { workspace = true, features = [\"a\"] }\n";
        assert!(found(&manifest("low", low), &manifest("high", "")).is_empty());
    }

    #[test]
    fn lints_are_shared_and_crates_are_known() {
        let problems = found("[package]\nname = \"new\"\n", &manifest("high", ""));
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("[lints] workspace = true"));
        assert!(problems[1].contains("new has no line in MAY_DEPEND_ON"));
    }

    #[test]
    fn broken_toml_is_a_problem() {
        assert_eq!(found("[package", &manifest("high", "")).len(), 1);
    }
}
