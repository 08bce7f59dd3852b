//! Reads `ci/native.toml`: which wheels set-up fetches, and what it keeps of them.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{engine_library::Engine, pjrt::Platform};

const SCHEMA_VERSION: u32 = 1;
const FILE: &str = "ci/native.toml";

/// What is wrong with the pins.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// The file cannot be read.
    #[error("cannot read {FILE} in {root}")]
    Read {
        /// The project's root.
        root: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML of the expected shape.
    #[error("{FILE} is not a pins file: {0}")]
    Syntax(#[from] Box<toml::de::Error>),
    /// A value that cannot be right.
    #[error("{FILE}: {place}: expected {expected}, got {got}")]
    Value {
        /// Part and wheel.
        place: String,
        /// What would be right.
        expected: &'static str,
        /// What is there.
        got: String,
    },
    /// This machine is not among the pinned platforms.
    #[error(
        "no libtorch is pinned for {got}: {FILE} has {known}; \
         set LIBTORCH to the folder of a libtorch for this machine"
    )]
    Platform {
        /// This machine.
        got: String,
        /// The platforms that the file has.
        known: String,
    },
    /// No part of this platform has the flag.
    #[error("{FILE} has nothing for --{flag} on {platform}{reason}")]
    Flag {
        /// The flag, without dashes.
        flag: String,
        /// The platform asked for.
        platform: String,
        /// The file's own reason, with a lead-in, or nothing.
        reason: String,
    },
}

/// All of `ci/native.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema_version: u32,
    part: Vec<Part>,
    #[serde(default)]
    absent: Vec<Absent>,
}

/// One folder under `.native/` and the wheels that it is made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// For people: `libtorch 2.11.0 for the CPU`.
    pub title: String,
    /// Where it goes, relative to `.native/`.
    pub path: String,
    /// `linux-x86_64`, `linux-aarch64` or `macos-arm64`.
    pub platform: String,
    /// Fetched only with `--<flag>`; always, where there is none.
    pub flag: Option<String>,
    /// The libtorch version in it: a LIBTORCH of the user's stands in for this part.
    pub libtorch: Option<String>,
    /// What the PJRT plugin in it drives: one of the user's stands in for this part.
    pub pjrt: Option<Platform>,
    /// The engine whose library is in it: one of the user's stands in for this part.
    pub engine: Option<Engine>,
    /// Room that the kept files take.
    pub unpacked_bytes: u64,
    /// Small files that no wheel holds: path in the part, text.
    #[serde(default)]
    pub write: BTreeMap<String, String>,
    /// Symbolic links: path in the part, target relative to it.
    #[serde(default)]
    pub link: BTreeMap<String, String>,
    /// The wheels.
    pub wheel: Vec<Wheel>,
}

/// One wheel, pinned by its hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wheel {
    /// The distribution's name on the index.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Platform tags of the wheel's file name.
    pub platforms: Vec<String>,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
    /// Size of the file.
    pub bytes: u64,
    /// Path in the wheel, path in the part; a trailing `/` on both keeps a folder.
    pub keep: BTreeMap<String, String>,
}

/// What is not to be had on a platform, so that a reader need not look for it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// For people: `libtpu`.
    pub title: String,
    /// As [`Part::platform`].
    pub platform: String,
    /// The flag that would fetch it.
    pub flag: Option<String>,
    /// The PJRT plugin that is meant.
    pub pjrt: Option<Platform>,
    /// The engine that is meant.
    pub engine: Option<Engine>,
    /// Why it is not there, and what helps.
    pub reason: String,
}

/// All that the file says for one platform.
#[derive(Debug)]
pub struct Here {
    /// The parts, with and without a flag.
    pub parts: Vec<Part>,
    /// What is not to be had.
    pub absent: Vec<Absent>,
}

impl Wheel {
    /// The name under which it is kept: one for each platform.
    pub fn file_name(&self) -> String {
        let tag = self.platforms.first().map_or("any", String::as_str);
        format!("{}-{}-{tag}.whl", self.name, self.version)
    }
}

impl fmt::Display for Wheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// The platform that this program runs on, in the pins' words.
pub fn this_platform() -> String {
    let arch = match (std::env::consts::OS, std::env::consts::ARCH) {
        // Apple's name for it, as in the wheels' platform tags.
        ("macos", "aarch64") => "arm64",
        (_, arch) => arch,
    };
    format!("{}-{arch}", std::env::consts::OS)
}

/// All that is pinned for `platform`.
///
/// # Errors
/// If the file is missing, malformed or unsafe, or does not know the platform.
pub fn read(root: &Path, platform: &str) -> Result<Here, PinsError> {
    here(read_all(root)?, platform)
}

/// The libtorch version that the project is made for, on any platform.
///
/// # Errors
/// If the file is missing or malformed.
pub fn libtorch_version(root: &Path) -> Result<Option<String>, PinsError> {
    let mut parts = read_all(root)?.part.into_iter();
    Ok(parts.find_map(|part| part.libtorch))
}

/// Every wheel of every part, on any platform.
///
/// # Errors
/// If the file is missing or malformed.
pub fn all_wheels(root: &Path) -> Result<Vec<Wheel>, PinsError> {
    let parts = read_all(root)?.part.into_iter();
    Ok(parts.flat_map(|part| part.wheel).collect())
}

fn read_all(root: &Path) -> Result<File, PinsError> {
    let text = std::fs::read_to_string(root.join(FILE)).map_err(|source| PinsError::Read {
        root: root.to_owned(),
        source,
    })?;
    parse(&text)
}

fn here(file: File, platform: &str) -> Result<Here, PinsError> {
    let mut known: Vec<_> = file
        .part
        .iter()
        .map(|part| part.platform.as_str())
        .collect();
    known.sort_unstable();
    known.dedup();
    if !known.contains(&platform) {
        return Err(PinsError::Platform {
            got: platform.to_owned(),
            known: known.join(", "),
        });
    }
    let (mut parts, mut absent) = (file.part, file.absent);
    parts.retain(|part| part.platform == platform);
    absent.retain(|absent| absent.platform == platform);
    Ok(Here { parts, absent })
}

impl Here {
    /// Whether some part is fetched with this flag.
    pub fn has(&self, flag: &str) -> bool {
        (self.parts.iter()).any(|part| part.flag.as_deref() == Some(flag))
    }

    /// The parts that are always fetched, and those of each flag in `flags`.
    ///
    /// # Errors
    /// [`PinsError::Flag`] if a flag has no part here.
    pub fn select(&self, flags: &[&str]) -> Result<Vec<Part>, PinsError> {
        for flag in flags {
            if !self.has(flag) {
                let why = (self.absent.iter()).find(|absent| absent.flag.as_deref() == Some(*flag));
                return Err(PinsError::Flag {
                    flag: (*flag).to_owned(),
                    platform: (self.parts.first()).map_or_else(String::new, |p| p.platform.clone()),
                    reason: why.map_or_else(String::new, |absent| {
                        format!(": {}: {}", absent.title, absent.reason)
                    }),
                });
            }
        }
        let wanted = |part: &&Part| {
            let flag = part.flag.as_deref();
            flag.is_none_or(|flag| flags.contains(&flag))
        };
        Ok(self.parts.iter().filter(wanted).cloned().collect())
    }
}

fn parse(text: &str) -> Result<File, PinsError> {
    let file: File = toml::from_str(text).map_err(Box::new)?;
    if file.schema_version != SCHEMA_VERSION {
        return Err(PinsError::Value {
            place: "schema_version".to_owned(),
            expected: "1",
            got: file.schema_version.to_string(),
        });
    }
    for part in &file.part {
        check_part(part)?;
    }
    Ok(file)
}

fn check_part(part: &Part) -> Result<(), PinsError> {
    let place = format!("part {} for {}", part.path, part.platform);
    let wrong = |place: &str, expected: &'static str, got: &str| PinsError::Value {
        place: place.to_owned(),
        expected,
        got: format!("{got:?}"),
    };
    const INSIDE: &str = "a relative path without `..`";
    let written = part.write.keys().chain(part.link.keys());
    for path in written.chain([&part.path]) {
        if !is_inside(path) {
            return Err(wrong(&place, INSIDE, path));
        }
    }
    for (link, target) in &part.link {
        if !link_is_inside(&part.path, link, target) {
            let expected = "a link to a place inside .native/";
            return Err(wrong(&place, expected, &format!("{link} = {target}")));
        }
    }
    if part.wheel.is_empty() {
        return Err(wrong(&place, "at least one wheel", "none"));
    }
    for wheel in &part.wheel {
        let place = format!("{place}, wheel {wheel}");
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if wheel.sha256.len() != 64 || !wheel.sha256.bytes().all(hex) {
            let expected = "a SHA-256 of 64 lower-case hexadecimal digits";
            return Err(wrong(&place, expected, &wheel.sha256));
        }
        // These become a line of a requirements file and words of a command line.
        let plain = |word: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
            !word.is_empty() && !word.starts_with('-') && word.bytes().all(allowed)
        };
        for word in wheel.platforms.iter().chain([&wheel.name, &wheel.version]) {
            if !plain(word) {
                let expected = "letters, digits, `.`, `_`, `+` and `-`";
                return Err(wrong(&place, expected, word));
            }
        }
        if wheel.platforms.is_empty() || wheel.keep.is_empty() {
            let expected = "at least one platform tag and one kept file";
            return Err(wrong(&place, expected, "none"));
        }
        for (from, to) in &wheel.keep {
            if !is_inside(from) || !is_inside(to) {
                return Err(wrong(&place, INSIDE, &format!("{from} = {to}")));
            }
            if from.ends_with('/') != to.ends_with('/') {
                let expected = "a trailing / on both sides or on none";
                return Err(wrong(&place, expected, &format!("{from} = {to}")));
            }
        }
    }
    Ok(())
}

/// Whether a path stays below the folder it is joined to.
pub fn is_inside(path: &str) -> bool {
    let mut components = Path::new(path).components().peekable();
    components.peek().is_some()
        && components.all(|component| matches!(component, Component::Normal(_)))
        && !path.contains(['\\', '\0'])
}

/// Whether a link, `link` in the part at `part`, stays below the folder of all parts.
fn link_is_inside(part: &str, link: &str, target: &str) -> bool {
    let folder = Path::new(part).join(link);
    let mut depth = folder.components().count().saturating_sub(1);
    for component in Path::new(target).components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    depth > 0 && !target.contains(['\\', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> File {
        parse(include_str!("../native.toml")).expect("the committed pins")
    }

    fn committed_for(platform: &str) -> Here {
        here(committed(), platform).expect("a pinned platform")
    }

    fn paths(here: &Here, flags: &[&str]) -> Vec<String> {
        let parts = here.select(flags).expect("the flags' parts");
        parts.into_iter().map(|part| part.path).collect()
    }

    #[test]
    fn committed_pins_have_every_platform() {
        for platform in ["linux-x86_64", "linux-aarch64"] {
            let expected = ["libtorch/cpu", "pjrt/cpu"];
            assert_eq!(paths(&committed_for(platform), &[]), expected, "{platform}");
        }
        let mac = committed_for("macos-arm64");
        assert_eq!(paths(&mac, &[]), ["libtorch/cpu"]);
        let plugin = |absent: &Absent| absent.pjrt == Some(Platform::Cpu);
        assert!(mac.absent.iter().any(plugin));
    }

    #[test]
    fn what_the_two_commands_fetch_stays_under_950_mb() {
        for platform in ["linux-x86_64", "linux-aarch64", "macos-arm64"] {
            let here = committed_for(platform);
            let bytes = |flags: &[&str]| -> u64 {
                let parts = here.select(flags).unwrap();
                let wheels = parts.iter().flat_map(|part| &part.wheel);
                wheels.map(|wheel| wheel.bytes).sum()
            };
            assert!(bytes(&[]) <= 650_000_000, "{platform}: {}", bytes(&[]));
            // Both take the engines as well, and `cargo x test` libtpu.
            let engines: &[&str] = if here.has("engines") {
                &["engines"]
            } else {
                &[]
            };
            let engines_only = bytes(engines) - bytes(&[]);
            assert!(engines_only <= 100_000_000, "{platform}: {engines_only}");
            if here.has("tpu") {
                let all = bytes(&[&["tpu"], engines].concat());
                assert!(all <= 950_000_000, "{platform}: {all}");
            }
        }
    }

    #[test]
    fn every_plugin_lies_where_it_is_looked_for() {
        let names = [
            (Platform::Cpu, "pjrt/cpu", "xla_cpu_pjrt.so"),
            (Platform::Cuda, "pjrt/cuda", "xla_cuda_plugin.so"),
            (Platform::Tpu, "pjrt/tpu", "libtpu.so"),
        ];
        for part in committed().part {
            let Some(platform) = part.pjrt else { continue };
            let (_, path, name) = names.iter().find(|(p, ..)| *p == platform).unwrap();
            assert_eq!(part.path, *path);
            let mut kept = part.wheel.iter().flat_map(|wheel| wheel.keep.values());
            assert!(kept.any(|kept| kept == name), "{}", part.title);
        }
    }

    #[test]
    fn every_engine_lies_where_it_is_looked_for() {
        let names = [
            (
                Engine::OnnxRuntime,
                "engines/onnxruntime",
                "libonnxruntime.",
            ),
            (Engine::OpenVino, "engines/openvino", "libopenvino_c."),
        ];
        for platform in ["linux-x86_64", "linux-aarch64", "macos-arm64"] {
            let parts = committed_for(platform).select(&["engines"]).unwrap();
            for (engine, path, name) in names {
                let part = parts.iter().find(|part| part.engine == Some(engine));
                let part = part.unwrap_or_else(|| panic!("{engine:?} on {platform}"));
                assert_eq!(part.path, path);
                let mut kept = part.wheel.iter().flat_map(|wheel| wheel.keep.values());
                assert!(kept.any(|kept| kept.starts_with(name)), "{}", part.title);
            }
        }
    }

    #[test]
    fn cuda_is_only_there_on_linux() {
        let linux = committed_for("linux-x86_64");
        let cuda = [
            "libtorch/cpu",
            "libtorch/cuda",
            "nvidia",
            "pjrt/cpu",
            "pjrt/cuda",
        ];
        assert_eq!(paths(&linux, &["cuda"]), cuda);
        let error = committed_for("macos-arm64").select(&["cuda"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ci/native.toml has nothing for --cuda on macos-arm64"
        );
    }

    #[test]
    fn libtpu_is_only_there_on_linux_x86_64() {
        let linux = committed_for("linux-x86_64");
        assert_eq!(paths(&linux, &["tpu"]).last().unwrap(), "pjrt/tpu");
        for platform in ["linux-aarch64", "macos-arm64"] {
            let error = committed_for(platform).select(&["tpu"]).unwrap_err();
            let text = error.to_string();
            assert!(text.ends_with("published for Linux x86-64 only"), "{text}");
        }
    }

    #[test]
    fn an_unknown_platform_is_told_what_there_is() {
        let error = here(committed(), "freebsd-x86_64").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("freebsd-x86_64"), "{text}");
        assert!(
            text.contains("linux-aarch64, linux-x86_64, macos-arm64"),
            "{text}"
        );
        assert!(text.contains("LIBTORCH"), "{text}");
    }

    #[test]
    fn links_stay_inside_the_folder_of_all_parts() {
        assert!(link_is_inside("libtorch/cuda", "lib", "torch/lib"));
        assert!(link_is_inside("libtorch/cuda", "nvidia", "../../nvidia"));
        assert!(!link_is_inside("libtorch/cuda", "nvidia", "../.."));
        assert!(!link_is_inside(
            "libtorch/cuda",
            "nvidia",
            "../../../nvidia"
        ));
        assert!(!link_is_inside("libtorch/cuda", "nvidia", "/usr/lib"));
        assert!(!link_is_inside("nvidia", "up", "../../native/nvidia"));
    }

    fn with(change: impl FnOnce(&mut Part)) -> Result<(), PinsError> {
        let mut part = committed().part.remove(0);
        change(&mut part);
        check_part(&part)
    }

    #[test]
    fn unsafe_or_broken_pins_are_refused() {
        assert!(with(|_| ()).is_ok());
        assert!(with(|part| part.path = "../elsewhere".to_owned()).is_err());
        assert!(with(|part| part.path = "/usr".to_owned()).is_err());
        assert!(with(|part| part.wheel.clear()).is_err());
        let link = |target: &str| BTreeMap::from([("lib".to_owned(), target.to_owned())]);
        assert!(with(|part| part.link = link("../other")).is_ok());
        assert!(with(|part| part.link = link("../../..")).is_err());
        assert!(with(|part| part.wheel[0].sha256 = "abc".to_owned()).is_err());
        assert!(with(|part| part.wheel[0].sha256.make_ascii_uppercase()).is_err());
        assert!(with(|part| part.wheel[0].name = "a --index-url b".to_owned()).is_err());
        assert!(with(|part| part.wheel[0].version = "-r".to_owned()).is_err());
        assert!(with(|part| part.wheel[0].keep.clear()).is_err());
        let keep = |from: &str, to: &str| BTreeMap::from([(from.to_owned(), to.to_owned())]);
        assert!(with(|part| part.wheel[0].keep = keep("a/", "b")).is_err());
        assert!(with(|part| part.wheel[0].keep = keep("a", "../b")).is_err());
    }
}
