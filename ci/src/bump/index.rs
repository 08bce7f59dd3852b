//! What a package index says of a package: its releases and their files.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, bail};
use serde::Deserialize;

/// All releases of a package.
#[derive(Deserialize)]
pub struct Releases {
    releases: BTreeMap<String, Vec<File>>,
}

/// A file of a release.
#[derive(Clone, Debug, Deserialize)]
pub struct File {
    filename: String,
    digests: Digests,
    /// In bytes.
    pub size: u64,
    #[serde(default)]
    yanked: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Digests {
    sha256: String,
}

/// A version as numbers; `None` for one with letters: a preview, or a scheme of its own.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let numbers: Option<Vec<u64>> = version.split('.').map(|part| part.parse().ok()).collect();
    // 1.2 and 1.2.0 are one version.
    numbers.map(|mut numbers| {
        while numbers.len() > 1 && numbers.last() == Some(&0) {
            numbers.pop();
        }
        numbers
    })
}

impl Releases {
    /// Asks the index, through curl: its settings for proxies and certificates count.
    ///
    /// # Errors
    /// If curl is missing or fails, or the answer is not an index's.
    pub fn fetch(index: &str, name: &str) -> anyhow::Result<Self> {
        let address = format!("{index}/{name}/json");
        let mut command = Command::new("curl");
        command
            .args(["--fail", "--silent", "--show-error", "--location"])
            .args(["--proto", "=https,file", "--max-time", "120", &address]);
        let output = command
            .output()
            .context("cannot run curl; install it with your system's packages")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{address} cannot be read: {}", said.trim());
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{address} is no package's JSON"))
    }

    /// The newest version after `pinned` that has a file which was not taken back.
    pub fn newer_than(&self, pinned: &str) -> Option<String> {
        let usable = |files: &[File]| files.iter().any(|file| !file.yanked);
        let newest = (self.releases.iter())
            .filter(|(_, files)| usable(files))
            .filter_map(|(version, _)| Some((numbers(version)?, version)))
            .max()?;
        (newest.0 > numbers(pinned)?).then(|| newest.1.clone())
    }

    /// The wheel of a version for a platform of which one tag is known; CPython 3.12's, or any
    /// Python's.
    pub fn wheel(&self, version: &str, tag: &str) -> Option<&File> {
        let files = self.releases.get(version)?;
        let system = system(tag)?;
        files.iter().filter(|file| !file.yanked).find(|file| {
            let Some([python, _, _]) = file.tags() else {
                return false;
            };
            let fits = |tag: &String| self::system(tag) == Some(system);
            ["py3", "py2.py3", "cp312"].contains(&python) && file.platforms().iter().any(fits)
        })
    }
}

/// What a platform tag is for: `manylinux_2_28_x86_64` for Linux on x86_64.
fn system(tag: &str) -> Option<(&'static str, &str)> {
    let systems = [("manylinux", "linux"), ("macosx", "macos")];
    let (_, system) = systems
        .into_iter()
        .find(|(start, _)| tag.starts_with(start))?;
    let machines = ["x86_64", "aarch64", "arm64"];
    Some((
        system,
        machines
            .into_iter()
            .find(|machine| tag.ends_with(machine))?,
    ))
}

impl File {
    /// Tags of Python, ABI and platform, as the wheel's name has them.
    fn tags(&self) -> Option<[&str; 3]> {
        let name = self.filename.strip_suffix(".whl")?;
        let mut words = name.rsplitn(4, '-');
        let (platform, abi, python) = (words.next()?, words.next()?, words.next()?);
        Some([python, abi, platform])
    }

    /// The platform tags.
    pub fn platforms(&self) -> Vec<String> {
        let tags = self.tags().map_or("", |[_, _, platform]| platform);
        tags.split('.').map(str::to_owned).collect()
    }

    /// In lower-case hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.digests.sha256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn releases(list: &[(&str, &[(&str, bool)])]) -> Releases {
        let file = |(name, yanked): &(&str, bool)| File {
            filename: (*name).to_owned(),
            digests: Digests {
                sha256: "0".repeat(64),
            },
            size: 1,
            yanked: *yanked,
        };
        let releases = list
            .iter()
            .map(|(version, files)| ((*version).to_owned(), files.iter().map(file).collect()));
        Releases {
            releases: releases.collect(),
        }
    }

    #[test]
    fn the_newest_is_by_number_and_no_preview() {
        let all = releases(&[
            ("1.9.0", &[("a-1.9.0-py3-none-any.whl", false)]),
            ("1.10.0", &[("a-1.10.0-py3-none-any.whl", false)]),
            ("1.11.0", &[("a-1.11.0-py3-none-any.whl", true)]),
            ("1.12.0", &[]),
            ("2.0.0rc1", &[("a-2.0.0rc1-py3-none-any.whl", false)]),
        ]);
        assert_eq!(all.newer_than("1.9.0").as_deref(), Some("1.10.0"));
        assert_eq!(all.newer_than("1.10"), None);
        assert_eq!(all.newer_than("nightly"), None);
    }

    #[test]
    fn the_wheel_is_the_platforms_and_for_a_python_that_pip_is_told() {
        let all = releases(&[(
            "1.0",
            &[
                ("a-1.0.tar.gz", false),
                ("a-1.0-cp311-cp311-manylinux_2_28_x86_64.whl", false),
                (
                    "a-1.0-cp312-cp312-manylinux_2_27_aarch64.manylinux2014_aarch64.whl",
                    false,
                ),
                ("a-1.0-cp312-cp312-manylinux_2_31_x86_64.whl", false),
                ("a-1.0-py3-none-macosx_14_0_arm64.whl", false),
            ],
        )]);
        let platforms = |tag: &str| all.wheel("1.0", tag).map(File::platforms);
        let expected = |tags: &[&str]| Some(tags.iter().map(|tag| (*tag).to_owned()).collect());
        assert_eq!(
            platforms("manylinux_2_28_x86_64"),
            expected(&["manylinux_2_31_x86_64"])
        );
        assert_eq!(
            platforms("manylinux2014_aarch64"),
            expected(&["manylinux_2_27_aarch64", "manylinux2014_aarch64"])
        );
        assert_eq!(
            platforms("macosx_11_0_arm64"),
            expected(&["macosx_14_0_arm64"])
        );
        assert_eq!(platforms("any"), None);
    }
}
