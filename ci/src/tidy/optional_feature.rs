//! Type-checks the feature `xla-rs` of chapter 3, which no other build turns on.
//!
//! The crate `xla` wants a C++ archive of 300 MB. With DOCS_RS set its build script stops
//! before that, but after bindgen, which needs libclang: without one the check is skipped,
//! as it is where the feature's crates cannot be fetched.

use std::{path::Path, process::Command};

use anyhow::Context;

use crate::{cargo, toolchain};

const MANIFEST: &str = "chapters/03-tpu-training/Cargo.toml";
const FEATURE: &str = "xla-rs";

/// What came of the check.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// The project has no such feature.
    Absent,
    /// It type-checks, without a warning.
    Fine,
    /// It could not be checked here, for this reason.
    Skipped(String),
    /// The compiler's output.
    Failed(String),
}

/// Whether chapter 3 has the feature.
pub fn is_there(root: &Path) -> bool {
    let manifest = std::fs::read_to_string(root.join(MANIFEST)).unwrap_or_default();
    let manifest: toml::Table = manifest.parse().unwrap_or_default();
    let features = manifest.get("features").and_then(toml::Value::as_table);
    features.is_some_and(|features| features.contains_key(FEATURE))
}

/// Runs clippy with the feature.
///
/// # Errors
/// If cargo cannot be run.
pub fn check(root: &Path) -> anyhow::Result<Outcome> {
    if !is_there(root) {
        return Ok(Outcome::Absent);
    }
    let mut command = command(root);
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", cargo::words(&command)))?;
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(outcome(output.status.success(), &said))
}

/// The same packages and targets as the check without the feature: what that has built is
/// built again only where it depends on `xla`.
pub fn command(root: &Path) -> Command {
    let mut command = cargo::command(root);
    command
        .args([
            "clippy",
            "--quiet",
            "--release",
            "--workspace",
            "--all-targets",
        ])
        .args(["--features", &format!("tpu-training/{FEATURE}")])
        // cargo does not know that the build script reads DOCS_RS. A setting of its own for the
        // crate keeps this build apart from one with the archive, which would else link nothing.
        .args(["--config", "profile.release.package.xla.opt-level=1"])
        .args(["--", "--deny", "warnings"])
        .env("DOCS_RS", "1");
    command
}

fn outcome(succeeded: bool, said: &str) -> Outcome {
    if succeeded {
        return Outcome::Fine;
    }
    if said.contains("Unable to find libclang") {
        return Outcome::Skipped(format!(
            "bindgen needs libclang; `{}`",
            toolchain::install_command(toolchain::Tool::Libclang)
        ));
    }
    // Only the crates of this feature can be missing: the check before had all others.
    if ["failed to download", "failed to get `"]
        .iter()
        .any(|words| said.contains(words))
    {
        return Outcome::Skipped(
            "its crates cannot be fetched (no network?); `cargo fetch`".to_owned(),
        );
    }
    Outcome::Failed(said.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Tree;
    use super::*;

    #[test]
    fn a_project_without_the_feature_has_nothing_to_check() {
        let tree = Tree::new(&[(MANIFEST, "[features]\nother = []\n")]);
        assert_eq!(check(tree.root()).unwrap(), Outcome::Absent);
        assert_eq!(check(Tree::new(&[]).root()).unwrap(), Outcome::Absent);
        let tree = Tree::new(&[(MANIFEST, "[features]\nxla-rs = [\"dep:xla\"]\n")]);
        assert!(is_there(tree.root()));
    }

    #[test]
    fn what_is_missing_is_a_skip_and_what_is_wrong_a_failure() {
        assert_eq!(outcome(true, "warning: unused"), Outcome::Fine);
        let missing = "  Unable to find libclang: \"couldn't find any valid shared libraries";
        assert!(matches!(outcome(false, missing), Outcome::Skipped(why) if why.contains("clang")));
        for offline in [
            "error: failed to download `bindgen v0.72.1`",
            "error: failed to get `xla` as a dependency of package `tpu-training v0.1.0`",
        ] {
            let got = outcome(false, offline);
            assert!(matches!(got, Outcome::Skipped(why) if why.contains("cargo fetch")));
        }
        let wrong = "error[E0425]: cannot find function `f` in this scope\n";
        assert_eq!(
            outcome(false, wrong),
            Outcome::Failed(wrong.trim().to_owned())
        );
    }
}
