//! Virtual environments: made once, from pins.
//!
//! `.native/venv/<name>` is made from a requirements file with `pip install --require-hashes`.
//! A copy of that file inside it, written last, says that it is whole and from which pins; an
//! environment without the copy is adopted if `pip freeze` says that it holds the same.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use crate::cargo;

/// Packages of the environment itself: a virtual environment brings them.
const OWN_PACKAGES: [&str; 3] = ["pip", "setuptools", "wheel"];

/// An environment, as it is to be.
#[derive(Clone, Copy, Debug)]
pub struct PythonEnvironment {
    /// Its folder below `.native/venv`, and what it is called in messages.
    pub name: &'static str,
    /// Python versions with their requirements files from the root, the preferred one first.
    pins: &'static [(&'static str, &'static str)],
    /// What is fetched and what it takes on disk, for the news before fetching.
    size: &'static str,
    /// Whether the pins are for Linux only.
    linux_only: bool,
    /// Who makes pins for another Python, and how.
    howto: &'static str,
    /// The command that makes it.
    command: &'static str,
}

/// The other stacks of `cargo x peers`.
pub const PEERS: PythonEnvironment = PythonEnvironment {
    name: "peers",
    pins: &[("3.11", "ci/peers/requirements-cpu-py311.txt")],
    size: "2.9 GB to fetch, 5.7 GB on disk",
    linux_only: true,
    howto: "ci/peers/README.md",
    command: "cargo x peers",
};

/// Apache Beam and Dask, which chapter 4's pipelines run on. One file for all versions: it has the
/// wheels of each.
pub const BEAM: PythonEnvironment = PythonEnvironment {
    name: "beam",
    pins: &[
        ("3.11", BEAM_PINS),
        ("3.12", BEAM_PINS),
        ("3.13", BEAM_PINS),
    ],
    size: "520 MB on disk",
    linux_only: false,
    howto: "chapters/04-sweep/beam/README.md",
    command: "cargo x test",
};

/// Emulators of object stores, for the tests of checkpoints in gs:// and s3://.
pub const EMULATORS: PythonEnvironment = PythonEnvironment {
    name: "emulators",
    pins: &[("3", "ci/object-stores/requirements.txt")],
    size: "140 MB on disk",
    linux_only: false,
    howto: "ci/object-stores/requirements.txt",
    command: "cargo x test",
};

/// Jupyter without its pages: nbconvert and a kernel, which execute the companion notebooks.
pub const NOTEBOOKS: PythonEnvironment = PythonEnvironment {
    name: "notebooks",
    pins: &[
        ("3.11", NOTEBOOKS_PINS),
        ("3.12", NOTEBOOKS_PINS),
        ("3.13", NOTEBOOKS_PINS),
    ],
    size: "140 MB on disk",
    linux_only: false,
    howto: "ci/notebooks/README.md",
    command: "cargo x notebooks",
};

/// Programs that check Dockerfiles and workflows. Their wheels hold programs, and fit any Python 3.
pub const LINTERS: PythonEnvironment = PythonEnvironment {
    name: "linters",
    pins: &[("3", LINTERS_PINS)],
    size: "110 MB on disk",
    linux_only: false,
    howto: LINTERS_PINS,
    command: "cargo x containers lint",
};

/// Where the linters are pinned.
pub const LINTERS_PINS: &str = "ci/linters/requirements.txt";

const BEAM_PINS: &str = "chapters/04-sweep/beam/requirements.txt";
const NOTEBOOKS_PINS: &str = "ci/notebooks/requirements.txt";

impl PythonEnvironment {
    /// The environment's Python, after making the environment if it is missing or was
    /// made from other pins.
    ///
    /// # Errors
    /// If no Python with pins is here, or pip fails.
    pub fn ready(&self, root: &Path, quiet: bool) -> anyhow::Result<PathBuf> {
        let environments = root.join(".native/venv");
        let folder = environments.join(self.name);
        let pins = self.read_pins(root)?;
        std::fs::create_dir_all(&environments)
            .with_context(|| format!("cannot create {}", environments.display()))?;
        // Two runs at once: the second waits, and then finds the environment made.
        let path = environments.join(format!("{}.lock", self.name));
        let lock =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        lock.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;

        let python = folder.join("bin/python");
        let mark = folder.join(self.mark());
        if was_moved(&folder) {
            self.make(root, &folder, quiet)?;
            return Ok(python);
        }
        let made_from = std::fs::read_to_string(&mark);
        if made_from.is_ok_and(|text| pins.iter().any(|(_, pins)| text == *pins))
            && python.is_file()
        {
            return Ok(python);
        }
        if python.is_file()
            && let Ok(held) = frozen(&python)
            && let Some((_, pins)) = pins
                .iter()
                .find(|(_, pins)| difference(pins, &held).is_empty())
        {
            std::fs::write(&mark, pins)
                .with_context(|| format!("cannot write into {}", folder.display()))?;
            if !quiet {
                eprintln!("{}: holds what is pinned; used as it is", folder.display());
            }
            return Ok(python);
        }
        self.make(root, &folder, quiet)?;
        Ok(python)
    }

    /// The copy of the pins, written last.
    fn mark(&self) -> String {
        format!("{}-requirements.txt", self.name)
    }

    /// The text of the pins for each Python version.
    fn read_pins(&self, root: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
        let read = |&(version, path): &(&'static str, &str)| {
            let path = root.join(path);
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Ok((version, text))
        };
        self.pins.iter().map(read).collect()
    }

    /// Makes the environment anew.
    fn make(&self, root: &Path, folder: &Path, quiet: bool) -> anyhow::Result<()> {
        let Self { name, howto, .. } = self;
        if self.linux_only && !cfg!(target_os = "linux") {
            bail!("{name}: pinned for Linux only ({howto} says how pins are made)");
        }
        let found = (self.pins.iter())
            .map(|(version, file)| (format!("python{version}"), root.join(file)))
            .find(|(program, _)| runs(program));
        let Some((program, requirements)) = found else {
            let versions: Vec<_> = (self.pins.iter())
                .map(|(version, _)| format!("python{version}"))
                .collect();
            bail!(
                "{name}: no {} with its modules venv and ensurepip here, and it is pinned for them; \
                 install one, or make pins for yours as {howto} says",
                versions.join(" or ")
            );
        };
        if !quiet {
            eprintln!("making {} with {program}: {}", folder.display(), self.size);
        }
        let pins = std::fs::read_to_string(&requirements)
            .with_context(|| format!("cannot read {}", requirements.display()))?;
        let mut venv = Command::new(&program);
        venv.args(["-m", "venv", "--clear"]).arg(folder);
        self.run_to_its_end(&mut venv)?;
        let python = folder.join("bin/python");
        let mut install = Command::new(&python);
        install
            .args(["-m", "pip", "install"])
            .args(["--disable-pip-version-check", "--no-input"])
            .args(["--require-hashes", "--only-binary=:all:", "--requirement"])
            .arg(&requirements);
        if quiet {
            install.arg("--quiet");
        }
        self.run_to_its_end(&mut install)?;
        let different = difference(&pins, &frozen(&python)?);
        if !different.is_empty() {
            bail!(
                "pip installed other than what is pinned: {}",
                different.join("; ")
            );
        }
        std::fs::write(folder.join(self.mark()), &pins)
            .with_context(|| format!("cannot write into {}", folder.display()))
    }

    /// stdout is for results: what pip prints there goes to stderr.
    fn run_to_its_end(&self, command: &mut Command) -> anyhow::Result<()> {
        command
            .env_remove("PYTHONPATH")
            .env_remove("PYTHONHOME")
            .stdin(Stdio::null())
            .stdout(std::io::stderr());
        let status = cargo::status(command)?;
        if !status.success() {
            bail!(
                "`{}` failed ({status}); run `{}` again once that is mended",
                cargo::words(command),
                self.command
            );
        }
        Ok(())
    }
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

/// Whether an environment was made in another place, or under another name: then the programs in it
/// look for their Python there. The first Python that notes the place is 3.11.
fn was_moved(folder: &Path) -> bool {
    let Ok(notes) = std::fs::read_to_string(folder.join("pyvenv.cfg")) else {
        return false;
    };
    let place = notes.lines().find_map(|line| {
        let (_, place) = line.strip_prefix("command = ")?.split_once(" -m venv ")?;
        Some(place.strip_prefix("--clear ").unwrap_or(place))
    });
    let canonical = |place: &Path| std::fs::canonicalize(place).ok();
    place.is_some_and(|place| canonical(Path::new(place)) != canonical(folder))
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
        for environment in [PEERS, BEAM, EMULATORS, NOTEBOOKS] {
            for (_, pins) in environment.read_pins(&root).unwrap() {
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

    #[test]
    fn an_environment_that_was_moved_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("linters");
        std::fs::create_dir(&folder).unwrap();
        assert!(!was_moved(&folder), "there is none");
        let note = |place: &Path| {
            let text = format!(
                "home = /usr/bin\nversion = 3.11.7\ncommand = /usr/bin/python3 -m venv --clear {}\n",
                place.display()
            );
            std::fs::write(folder.join("pyvenv.cfg"), text).unwrap();
        };
        note(&folder);
        assert!(!was_moved(&folder));
        note(&home.path().join("gone"));
        assert!(was_moved(&folder));
        std::fs::write(folder.join("pyvenv.cfg"), "home = /usr/bin\n").unwrap();
        assert!(!was_moved(&folder), "an older Python notes no place");
    }

    #[test]
    fn pins_that_are_not_there_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", BEAM.ready(folder.path(), true).unwrap_err());
        assert!(error.contains(BEAM_PINS), "{error}");
        assert!(
            !folder.path().join(".native").exists(),
            "nothing is made for it"
        );
    }
}
