//! The virtual environment that the Python peers live in: made once, from pins.
//!
//! `.native/venv/peers` is made from `ci/peers/requirements-cpu-py<version>.txt` with
//! `pip install --require-hashes`. A copy of that file inside it, written last, says
//! that it is whole and from which pins; an environment without the copy is adopted
//! if `pip freeze` says that it holds the same.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use crate::cargo;

/// Python versions that have a requirements file, the preferred one first.
const PYTHONS: [&str; 1] = ["3.11"];
/// What is fetched and what it takes on disk, for the news before fetching.
const SIZE: &str = "2.9 GB to fetch, 5.7 GB on disk";
/// Written last.
const MARK: &str = "peers-requirements.txt";
/// Packages of the environment itself: a virtual environment brings them.
const OWN_PACKAGES: [&str; 3] = ["pip", "setuptools", "wheel"];

/// The environment's Python, after making the environment if it is missing or was
/// made from other pins.
///
/// # Errors
/// If no Python with pins is here, or pip fails.
pub fn ready(root: &Path, quiet: bool) -> anyhow::Result<PathBuf> {
    let environments = root.join(".native/venv");
    let folder = environments.join("peers");
    std::fs::create_dir_all(&environments)
        .with_context(|| format!("cannot create {}", environments.display()))?;
    // Two runs at once: the second waits, and then finds the environment made.
    let path = environments.join("peers.lock");
    let lock = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    lock.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;

    let python = folder.join("bin/python");
    for version in PYTHONS {
        let pins = read_pins(root, version)?;
        if std::fs::read_to_string(folder.join(MARK)).is_ok_and(|text| text == pins)
            && python.is_file()
        {
            return Ok(python);
        }
    }
    for version in PYTHONS {
        let pins = read_pins(root, version)?;
        if python.is_file() && frozen(&python).is_ok_and(|held| difference(&pins, &held).is_empty())
        {
            std::fs::write(folder.join(MARK), &pins)
                .with_context(|| format!("cannot write into {}", folder.display()))?;
            if !quiet {
                eprintln!("{}: holds what is pinned; used as it is", folder.display());
            }
            return Ok(python);
        }
    }
    make(root, &folder, quiet)?;
    Ok(python)
}

fn requirements(root: &Path, version: &str) -> PathBuf {
    let name = format!("requirements-cpu-py{}.txt", version.replace('.', ""));
    root.join("ci/peers").join(name)
}

fn read_pins(root: &Path, version: &str) -> anyhow::Result<String> {
    let path = requirements(root, version);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Makes the environment anew.
fn make(root: &Path, folder: &Path, quiet: bool) -> anyhow::Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("the peers are pinned for Linux only (ci/peers/README.md says how pins are made)");
    }
    let Some((version, program)) = PYTHONS
        .into_iter()
        .map(|version| (version, format!("python{version}")))
        .find(|(_, program)| runs(program))
    else {
        bail!(
            "no python{} here, and the peers are pinned for it; install it, or make pins for \
             yours as ci/peers/README.md says",
            PYTHONS.join(" or python")
        );
    };
    if !quiet {
        eprintln!("making {} with {program}: {SIZE}", folder.display());
    }
    let pins = read_pins(root, version)?;
    let mut venv = Command::new(&program);
    venv.args(["-m", "venv", "--clear"]).arg(folder);
    run_to_its_end(&mut venv)?;
    let python = folder.join("bin/python");
    let mut install = Command::new(&python);
    install
        .args([
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
        ])
        .args(["--require-hashes", "--only-binary=:all:", "--requirement"])
        .arg(requirements(root, version));
    if quiet {
        install.arg("--quiet");
    }
    run_to_its_end(&mut install)?;
    let different = difference(&pins, &frozen(&python)?);
    if !different.is_empty() {
        bail!(
            "pip installed other than what is pinned: {}",
            different.join("; ")
        );
    }
    std::fs::write(folder.join(MARK), &pins)
        .with_context(|| format!("cannot write into {}", folder.display()))
}

fn runs(program: &str) -> bool {
    Command::new(program)
        .args(["-c", "import venv, ensurepip"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// stdout is for results: what pip prints there goes to stderr.
fn run_to_its_end(command: &mut Command) -> anyhow::Result<()> {
    command
        .env_remove("PYTHONPATH")
        .env_remove("PYTHONHOME")
        .stdin(Stdio::null())
        .stdout(std::io::stderr());
    let status = cargo::status(command)?;
    if !status.success() {
        bail!(
            "`{}` failed ({status}); run `cargo x peers` again once that is mended",
            cargo::words(command)
        );
    }
    Ok(())
}

/// What an environment holds: names in pip's normal form with versions.
fn frozen(python: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let output = Command::new(python)
        .args(["-m", "pip", "freeze", "--disable-pip-version-check"])
        .env_remove("PYTHONPATH")
        .env_remove("PYTHONHOME")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", python.display()))?;
    if !output.status.success() {
        bail!("pip freeze failed ({})", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(pin)
        .map(|(name, version, _)| (name, version))
        .collect())
}

/// `name==version ; marker \` as normal name, version, and whether a marker follows.
fn pin(line: &str) -> Option<(String, String, bool)> {
    let line = line.trim().trim_end_matches('\\').trim();
    if line.starts_with('#') || line.starts_with("--") {
        return None;
    }
    let (name, rest) = line.split_once("==")?;
    let (version, marker) = match rest.split_once(';') {
        Some((version, _)) => (version, true),
        None => (rest, false),
    };
    let name = name.trim().to_lowercase().replace(['_', '.'], "-");
    Some((name, version.trim().to_owned(), marker))
}

/// What differs between the pins and what an environment holds, one line a package.
fn difference(pins: &str, held: &BTreeMap<String, String>) -> Vec<String> {
    let mut different = Vec::new();
    let mut pinned = BTreeMap::new();
    for (name, version, marker) in pins.lines().filter_map(pin) {
        let own = OWN_PACKAGES.contains(&name.as_str());
        match held.get(&name) {
            Some(got) if *got != version && !own => {
                different.push(format!("{name}: expected {version}, got {got}"));
            }
            // A marker leaves the package out on some platforms.
            None if !marker && !own => {
                different.push(format!("{name}: expected {version}, got none"))
            }
            _ => {}
        }
        pinned.insert(name, version);
    }
    for (name, got) in held {
        if !pinned.contains_key(name) && !OWN_PACKAGES.contains(&name.as_str()) {
            different.push(format!("{name}: expected none, got {got}"));
        }
    }
    different
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINS: &str = "# made by a script\n\
        attrs==26.1.0 \\\n    --hash=sha256:00\n\
        ml-dtypes==0.6.0 ; platform_machine == \"x86_64\" \\\n    --hash=sha256:11 \\\n    --hash=sha256:22\n\
        setuptools==81.0.0 \\\n    --hash=sha256:33\n";

    fn held(lines: &str) -> BTreeMap<String, String> {
        lines
            .lines()
            .filter_map(pin)
            .map(|(name, version, _)| (name, version))
            .collect()
    }

    #[test]
    fn the_same_packages_in_another_spelling() {
        assert_eq!(
            difference(PINS, &held("attrs==26.1.0\nml_dtypes==0.6.0\n")),
            [""; 0]
        );
        assert_eq!(
            difference(PINS, &held("attrs==26.1.0\npip==24.0\nsetuptools==65.5.0")),
            [""; 0]
        );
    }

    #[test]
    fn every_difference_is_told() {
        let different = difference(PINS, &held("ml_dtypes==0.5.0\nnumpy==2.0\n"));
        assert_eq!(
            different,
            [
                "attrs: expected 26.1.0, got none",
                "ml-dtypes: expected 0.6.0, got 0.5.0",
                "numpy: expected none, got 2.0",
            ]
        );
    }

    #[test]
    fn the_committed_pins_have_hashes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for version in PYTHONS {
            let pins = read_pins(&root, version).unwrap();
            let packages = pins.lines().filter(|line| pin(line).is_some()).count();
            assert!(packages > 20, "{packages} packages");
            let hashes = pins
                .lines()
                .filter(|line| line.contains("--hash=sha256:"))
                .count();
            assert!(
                hashes >= packages,
                "{hashes} hashes for {packages} packages"
            );
        }
    }
}
