//! `book/figures.toml`: which measurements the book shows, on whose machine
//! they were published, and the command that makes each.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;

use crate::error::BuildError;

/// The file, read and checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Chapter to machine slug: the machine whose published results its pages show.
    #[serde(default)]
    pub reference_machine: BTreeMap<String, String>,
    /// `chapter/measurement` to what is known of it.
    #[serde(default)]
    pub measurement: BTreeMap<String, Known>,
    /// Chapter, or `chapter/measurement`, to files and folders that its results depend on
    /// besides those that the results name. `cargo x results` reads it, with git.
    #[serde(default)]
    pub depends: BTreeMap<String, Vec<String>>,
    /// Published results that proved wrong and were deleted for good, and why.
    /// `cargo x results` reads it, with git.
    #[serde(default)]
    pub withdrawn: BTreeMap<String, String>,
    /// What is made of the pages besides the book.
    #[serde(default)]
    pub site: Site,
}

/// What is made of the pages besides the book.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Site {
    /// Where the book is published: `https://example.org/book/`. A sitemap and the addresses
    /// of social cards need it, since both must be whole; without it there are none.
    #[serde(default)]
    pub base: Option<String>,
    /// Where a file of the repository is edited, up to its path:
    /// `https://example.org/OWNER/REPOSITORY/edit/main/`. Without it no page has such a link.
    #[serde(default)]
    pub edit: Option<String>,
    /// Pages of `book/src` that are also written as one file each, fit for a blog, where the
    /// book has them.
    #[serde(default)]
    pub standalone: Vec<String>,
}

/// One measurement that pages may show.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Known {
    /// Title of its tables and charts, unless the page or the result file gives one.
    pub title: String,
    /// The command that fills it on the reader's machine.
    pub command: String,
    /// A machine other than the chapter's reference machine.
    #[serde(default)]
    pub machine: Option<String>,
}

impl Settings {
    /// Reads `book/figures.toml` under the repository's root.
    ///
    /// # Errors
    /// `BuildError::Io` if it cannot be read, `BuildError::Settings` if a key is
    /// unknown or a name is not `chapter/measurement`.
    pub fn read(root: &Path) -> Result<Self, BuildError> {
        let path = root.join("book/figures.toml");
        let text = fs::read_to_string(&path).map_err(BuildError::io("read", &path))?;
        let settings: Self = toml::from_str(&text).map_err(|error| BuildError::Settings {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        for name in settings.measurement.keys() {
            let Some((chapter, _)) = name.split_once('/').filter(|_| is_measurement(name)) else {
                return Err(BuildError::Settings {
                    path,
                    reason: format!(
                        "expected a measurement named CHAPTER/MEASUREMENT, such as \"01-cpu/ladder\", got {name:?}"
                    ),
                });
            };
            if settings.machine(name).is_none() {
                return Err(BuildError::Settings {
                    path,
                    reason: format!(
                        "no reference machine for {name}: add {chapter:?} under [reference-machine]"
                    ),
                });
            }
        }
        for (key, address) in [("base", &settings.site.base), ("edit", &settings.site.edit)] {
            if let Some(address) = address
                && !(address.starts_with("https://") && address.ends_with('/'))
            {
                return Err(BuildError::Settings {
                    path,
                    reason: format!(
                        "site.{key}: expected https://.../ with a slash at its end, got {address:?}"
                    ),
                });
            }
        }
        if let Some(there) = settings
            .withdrawn
            .keys()
            .find(|one| root.join(one).exists())
        {
            return Err(BuildError::Settings {
                path,
                reason: format!("withdrawn: {there:?} is there: delete the file, or this line"),
            });
        }
        for (key, paths) in &settings.depends {
            let known = settings.measurement.contains_key(key)
                || settings.reference_machine.contains_key(key);
            let missing = paths.iter().find(|path| !root.join(path).exists());
            let reason = match (known, missing) {
                (false, _) => format!("depends: no chapter and no measurement {key:?}"),
                (true, Some(path)) => {
                    format!("depends: {key:?} names {path:?}, which is not there")
                }
                (true, None) => continue,
            };
            return Err(BuildError::Settings { path, reason });
        }
        Ok(settings)
    }

    /// The slug of the machine whose published results of a measurement are shown.
    pub fn machine(&self, measurement: &str) -> Option<&str> {
        let own = self
            .measurement
            .get(measurement)
            .and_then(|known| known.machine.as_deref());
        let chapter = measurement.split('/').next().unwrap_or_default();
        own.or_else(|| self.reference_machine.get(chapter).map(String::as_str))
    }
}

/// Whether a name is `chapter/measurement`, each as result files allow it: lower-case
/// letters, digits, dots, dashes and underscores behind a letter or digit.
pub fn is_measurement(name: &str) -> bool {
    let part = |part: &str| {
        let tame = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.bytes().next().is_some_and(tame)
            && part
                .bytes()
                .all(|byte| tame(byte) || matches!(byte, b'.' | b'-' | b'_'))
    };
    name.split_once('/')
        .is_some_and(|(chapter, measurement)| part(chapter) && part(measurement))
}

#[cfg(test)]
mod tests {
    use super::is_measurement;

    #[test]
    fn names_cannot_leave_their_folder() {
        assert!(is_measurement("01-cpu/ladder"));
        for bad in ["ladder", "01-cpu/", "../x", "01-cpu/../x", "a/b/c", "A/b"] {
            assert!(!is_measurement(bad), "{bad}");
        }
    }
}
