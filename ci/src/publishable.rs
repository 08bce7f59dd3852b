//! `cargo x publishable`: whether the crates that stand on their own could go to crates.io.
//!
//! Nothing is sent: manifest, documentation, the list of files, and a build of the packed
//! crate, as crates.io would have it.

use std::{
    path::Path,
    process::{ExitCode, Stdio},
};

use anyhow::{Context, anyhow};
use serde::Deserialize;

use crate::{
    cargo, setup,
    verdict::{self, Verdict, conclude},
};

/// The crates, by package.
const CRATES: [&str; 2] = ["pjrt-runtime", "training-graph"];

/// What a packed crate must hold.
const MUST_HAVE: [&str; 5] = [
    "Cargo.toml",
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "src/lib.rs",
];

/// Options of `cargo x publishable`.
#[derive(clap::Args)]
pub struct Args {
    /// Changes that are not committed are packed as well.
    #[arg(long)]
    allow_dirty: bool,
    /// Do not build what was packed; the rest takes seconds.
    #[arg(long)]
    no_build: bool,
}

/// What `cargo metadata` says of a package, as far as it matters here.
#[derive(Deserialize)]
struct Package {
    name: String,
    description: Option<String>,
    license: Option<String>,
    repository: Option<String>,
    documentation: Option<String>,
    readme: Option<String>,
    rust_version: Option<String>,
    categories: Vec<String>,
    keywords: Vec<String>,
    /// `None`: anywhere. An empty list: nowhere.
    publish: Option<Vec<String>>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// The folder of a dependency by path.
    path: Option<String>,
    /// `dev` for tests only.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// Runs the command: exit code 1 if a crate could not be published.
///
/// # Errors
/// If cargo cannot be run.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    setup::ensure(root, &[])?;
    let packages = metadata(root)?;
    let mut checks = Vec::new();
    for name in CRATES {
        let package = (packages.iter()).find(|package| package.name == name);
        let package = package.ok_or_else(|| anyhow!("no package {name} in this project"))?;
        let lacks = lacks(package);
        let manifest = match lacks.len() {
            0 => Verdict::Passed,
            _ => Verdict::Failed(lacks.join("; ")),
        };
        checks.push((format!("{name}: manifest"), manifest));
        if package.repository.is_none() {
            eprintln!(
                "{name}: no `repository` yet: the project has no public address; set it before publishing"
            );
        }
        checks.push((format!("{name}: files"), files(name, args, root)?));

        let mut document = cargo::command(root);
        document
            .args([
                "doc",
                "--quiet",
                "--release",
                "--no-deps",
                "--package",
                name,
            ])
            .env("RUSTDOCFLAGS", "--deny missing_docs --deny warnings");
        checks.push((
            format!("{name}: documentation"),
            verdict::of_status(cargo::status(&mut document)?),
        ));
        if args.no_build {
            continue;
        }
        let mut examples = cargo::command(root);
        examples.args([
            "build",
            "--quiet",
            "--release",
            "--examples",
            "--package",
            name,
        ]);
        checks.push((
            format!("{name}: examples"),
            verdict::of_status(cargo::status(&mut examples)?),
        ));
        let mut publish = cargo::command(root);
        publish.args([
            "publish",
            "--dry-run",
            "--quiet",
            "--locked",
            "--package",
            name,
        ]);
        if args.allow_dirty {
            publish.arg("--allow-dirty");
        }
        checks.push((
            format!("{name}: packed and built"),
            verdict::of_status(cargo::status(&mut publish)?),
        ));
    }
    Ok(conclude(&checks, true))
}

fn metadata(root: &Path) -> anyhow::Result<Vec<Package>> {
    let mut command = cargo::command(root);
    command.args(["metadata", "--format-version", "1", "--no-deps", "--locked"]);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", cargo::words(&command)))?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("what {} printed", cargo::words(&command)))?;
    Ok(metadata.packages)
}

/// What the manifest lacks for crates.io.
fn lacks(package: &Package) -> Vec<String> {
    let mut lacks = Vec::new();
    let present = |value: &Option<String>| value.as_deref().is_some_and(|value| !value.is_empty());
    for (name, is_there) in [
        ("description", present(&package.description)),
        ("license", present(&package.license)),
        ("documentation", present(&package.documentation)),
        ("readme", present(&package.readme)),
        ("rust-version", present(&package.rust_version)),
        ("categories", !package.categories.is_empty()),
        ("keywords", !package.keywords.is_empty()),
    ] {
        if !is_there {
            lacks.push(format!("no `{name}`"));
        }
    }
    if package.publish.as_ref().is_some_and(Vec::is_empty) {
        lacks.push("`publish = false`".to_owned());
    }
    if package.categories.len() > 5 || package.keywords.len() > 5 {
        lacks.push("more than 5 categories or keywords, which crates.io refuses".to_owned());
    }
    let by_path = |dependency: &&Dependency| {
        dependency.path.is_some() && dependency.kind.as_deref() != Some("dev")
    };
    for dependency in package.dependencies.iter().filter(by_path) {
        lacks.push(format!(
            "{} by path, which is not on crates.io",
            dependency.name
        ));
    }
    lacks
}

/// Whether the packed crate would hold what it must.
fn files(name: &str, args: &Args, root: &Path) -> anyhow::Result<Verdict> {
    let mut command = cargo::command(root);
    command.args([
        "package",
        "--list",
        "--quiet",
        "--locked",
        "--package",
        name,
    ]);
    if args.allow_dirty {
        command.arg("--allow-dirty");
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", cargo::words(&command)))?;
    if !output.status.success() {
        return Ok(verdict::of_status(output.status));
    }
    let list = String::from_utf8_lossy(&output.stdout);
    Ok(match missing(&list) {
        missing if missing.is_empty() => Verdict::Passed,
        missing => Verdict::Failed(format!("not packed: {}", missing.join(", "))),
    })
}

fn missing(list: &str) -> Vec<&'static str> {
    let has = |file: &&str| list.lines().any(|line| line.replace('\\', "/") == **file);
    MUST_HAVE.into_iter().filter(|file| !has(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(json: &str) -> Package {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_a_manifest_lacks_is_told() {
        let fine = r#"{"name": "a", "description": "d", "license": "MIT", "repository": null,
            "documentation": "https://docs.rs/a", "readme": "README.md", "rust_version": "1.89",
            "categories": ["science"], "keywords": ["a"], "publish": null,
            "dependencies": [{"name": "b", "path": "/b", "kind": "dev"}, {"name": "c", "path": null, "kind": null}]}"#;
        assert_eq!(lacks(&package(fine)), Vec::<String>::new());
        for (from, to, said) in [
            ("\"d\"", "null", "no `description`"),
            ("[\"science\"]", "[]", "no `categories`"),
            ("\"publish\": null", "\"publish\": []", "`publish = false`"),
            (
                "\"kind\": \"dev\"",
                "\"kind\": null",
                "b by path, which is not on crates.io",
            ),
            (
                "[\"a\"]",
                "[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\"]",
                "more than 5 categories or keywords, which crates.io refuses",
            ),
        ] {
            assert_eq!(lacks(&package(&fine.replace(from, to))), [said]);
        }
    }

    #[test]
    fn what_is_not_packed_is_told() {
        let list = MUST_HAVE.join("\n");
        assert_eq!(missing(&list), [""; 0]);
        assert_eq!(
            missing(&list.replace("LICENSE-MIT", "LICENSE")),
            ["LICENSE-MIT"]
        );
    }

    #[test]
    fn the_committed_manifests_could_be_published() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let packages = metadata(&root).unwrap();
        for name in CRATES {
            let package = packages
                .iter()
                .find(|package| package.name == name)
                .unwrap();
            assert_eq!(lacks(package), Vec::<String>::new(), "{name}");
        }
    }
}
