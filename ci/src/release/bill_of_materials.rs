//! What the project is made of, as CycloneDX: the crates by cargo-cyclonedx, the wheels by
//! `ci/native.toml`.

use std::{path::Path, process::Command};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{
    cargo,
    cargo_tool::{self, CargoTool},
    native_pins, tidy,
    verdict::{self, Verdict},
};

const CARGO_CYCLONEDX: CargoTool = CargoTool {
    name: "cargo-cyclonedx",
    version: "0.5.9",
    // As a subcommand of cargo: by itself it knows no --version.
    ask: &["cyclonedx", "--version"],
};
/// What cargo-cyclonedx writes beside each manifest, without `.json`.
const NAME: &str = "sbom.cdx";

/// Writes `crates/<package>.cdx.json` as `<package>.cdx.json`, and `wheels.cdx.json`.
///
/// # Errors
/// If a file cannot be written, or a program that is there cannot be run.
pub fn write(root: &Path, out: &Path) -> anyhow::Result<Verdict> {
    let wheels = serde_json::to_vec_pretty(&wheels(root)?)?;
    std::fs::write(out.join("wheels.cdx.json"), wheels).context("cannot write wheels.cdx.json")?;
    let program = match cargo_tool::ready(root, &CARGO_CYCLONEDX) {
        Ok(program) => program,
        Err(reason) => return Ok(Verdict::Skipped(reason)),
    };
    let mut command = Command::new(program);
    command
        .current_dir(root)
        .args(["cyclonedx", "--format", "json", "--override-filename", NAME]);
    let status = cargo::status(&mut command)?;
    // It writes beside each manifest of the workspace, and nowhere else.
    for manifest in tidy::files::list(root)?
        .iter()
        .filter(|file| file.ends_with("Cargo.toml"))
    {
        let folder = root.join(manifest).with_file_name("");
        let made = folder.join(format!("{NAME}.json"));
        if !made.is_file() {
            continue;
        }
        let text =
            std::fs::read(&made).with_context(|| format!("cannot read {}", made.display()))?;
        let bill: Value = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no JSON", made.display()))?;
        let name = bill["metadata"]["component"]["name"]
            .as_str()
            .unwrap_or("unnamed");
        std::fs::write(out.join(format!("{name}.cdx.json")), &text)
            .with_context(|| format!("cannot write {name}.cdx.json"))?;
        std::fs::remove_file(&made).with_context(|| format!("cannot delete {}", made.display()))?;
    }
    Ok(verdict::of_status(status))
}

/// Every wheel that set-up may fetch, on any platform.
fn wheels(root: &Path) -> anyhow::Result<Value> {
    let mut components: Vec<Value> = Vec::new();
    for wheel in native_pins::all_wheels(root)? {
        let component = json!({
            "type": "library",
            "name": wheel.name,
            "version": wheel.version,
            "purl": format!("pkg:pypi/{}@{}", wheel.name, wheel.version),
            "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
            "properties": [{"name": "platforms", "value": wheel.platforms.join(" ")}],
        });
        if !components.contains(&component) {
            components.push(component);
        }
    }
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "hardware-accelerators"}},
        "components": components,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_is_listed_once_with_its_hash() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let bill = wheels(&root).unwrap();
        let components = bill["components"].as_array().unwrap();
        let of = |name: &str| components.iter().filter(|c| c["name"] == name).count();
        // Linux on two processors, and macOS; libtpu is for one.
        assert_eq!((of("torch"), of("libtpu")), (3, 1));
        for component in components {
            let hash = component["hashes"][0]["content"].as_str().unwrap();
            assert_eq!(hash.len(), 64, "{component}");
        }
    }
}
