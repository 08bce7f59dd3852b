//! The machine and the software that a measurement was made with.
//!
//! The fingerprint names no host, no user and no path: it is published.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// What a measurement ran on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The processor's name for itself, or "unknown".
    pub cpu_model: String,
    /// Vector and matrix extensions that the CPU and the kernel both offer, under
    /// the names that rustc uses ("avx2", "avx512bf16", "amx-bf16", "neon").
    pub cpu_features: Vec<String>,
    /// Cores that this process may use: affinity and container limits count.
    pub cores: usize,
    /// Memory that this process may use, in bytes: a container's limit counts.
    pub memory_bytes: u64,
    /// Load averages over 1, 5 and 15 minutes when the program started.
    pub load_at_start: Option<[f64; 3]>,
    /// Operating system and its version.
    pub os: String,
    /// Kernel and its version.
    pub kernel: String,
    /// Instruction set: "x86_64", "aarch64".
    pub arch: String,
    /// The accelerator that was used, or the one that is there.
    pub accelerator: Option<Accelerator>,
    /// Versions of the libraries that do the work, such as libtorch, by name.
    pub libraries: BTreeMap<String, String>,
    /// The compiler that built the program, as `rustc --version` says.
    pub rustc: Option<String>,
}

/// A GPU or TPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accelerator {
    /// Its name for itself: "NVIDIA H200".
    pub name: String,
    /// Its own memory in bytes, where it tells.
    pub memory_bytes: Option<u64>,
    /// Version of its driver, where it tells.
    pub driver: Option<String>,
}

impl Environment {
    /// Looks at this machine. Never fails: what cannot be found out is "unknown",
    /// 0 or `None`. Call it once, at the start, before the load is our own.
    ///
    /// `libraries` stays empty: only the program knows what it is linked with.
    pub fn collect() -> Self {
        let system = System::new_with_specifics(
            RefreshKind::nothing()
                .with_cpu(CpuRefreshKind::nothing())
                .with_memory(MemoryRefreshKind::nothing().with_ram()),
        );
        let load = System::load_average();
        Self {
            cpu_model: cpu_model(&system),
            cpu_features: cpu_features(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_bytes(&system),
            load_at_start: Some([load.one, load.five, load.fifteen]),
            os: System::long_os_version().unwrap_or_else(unknown),
            kernel: kernel(),
            arch: std::env::consts::ARCH.to_owned(),
            accelerator: nvidia_gpu("nvidia-smi", NVIDIA_SMI_LIMIT),
            libraries: BTreeMap::new(),
            rustc: Some(env!("ACCEL_RUSTC_VERSION").to_owned()),
        }
    }

    /// A folder name for the kind of machine: CPU, cores, memory in GiB and the
    /// accelerator, such as `amd-epyc-2c-24g` or `intel-xeon-26c-225g-nvidia-h200`.
    ///
    /// Lower-case letters, digits, dots and hyphens; at most 80 characters. Two
    /// machines of one kind share it, and nothing in it names a particular one.
    pub fn machine_slug(&self) -> String {
        let gib = (self.memory_bytes as f64 / (1u64 << 30) as f64).round() as u64;
        let mut slug = format!("{}-{}c-{gib}g", name_slug(&self.cpu_model), self.cores);
        if let Some(accelerator) = &self.accelerator {
            slug.push('-');
            slug.push_str(&name_slug(&accelerator.name));
        }
        slug.truncate(80);
        slug.trim_end_matches(['-', '.']).to_owned()
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn cpu_model(system: &System) -> String {
    system
        .cpus()
        .iter()
        .map(|cpu| cpu.brand().split_whitespace().collect::<Vec<_>>().join(" "))
        .find(|brand| !brand.is_empty())
        .unwrap_or_else(unknown)
}

/// Linux calls itself so; macOS' kernel is Darwin.
fn kernel() -> String {
    let name = match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        other => other,
    };
    match System::kernel_version() {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    }
}

/// The machine's memory, or the container's limit where that is less.
fn memory_bytes(system: &System) -> u64 {
    let machine = system.total_memory();
    match system.cgroup_limits() {
        // A cgroup without a limit reports the machine's memory, or 0.
        Some(limits) if limits.total_memory > 0 => machine.min(limits.total_memory),
        _ => machine,
    }
}

/// The part of a product's name that goes into a folder name: trade marks, clock
/// rates and filler words dropped, the rest in lower case with hyphens.
fn name_slug(name: &str) -> String {
    let lower = name
        .to_lowercase()
        .replace("(r)", " ")
        .replace("(tm)", " ")
        .replace(['®', '™'], " ");
    // "Intel Xeon CPU @ 2.20GHz": the clock is no part of the name.
    let lower = lower.split('@').next().unwrap_or_default();
    let words: Vec<String> = lower
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '-'))
        .map(|word| word.trim_matches(['-', '.']).to_owned())
        .filter(|word| !word.is_empty())
        .filter(|word| !matches!(word.as_str(), "cpu" | "processor" | "with"))
        // "AMD EPYC 9354 32-Core Processor": the cores are counted elsewhere.
        .filter(|word| !word.ends_with("-core"))
        .collect();
    if words.is_empty() {
        return unknown();
    }
    words.join("-")
}

/// Extensions that matter to inference, of those that the CPU and the kernel offer.
fn cpu_features() -> Vec<String> {
    let mut features = detected_features();
    // The standard library cannot detect AMX on stable Rust; Linux lists it.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if let Ok(cpuinfo) = std::fs::read_to_string("/proc/cpuinfo") {
        features.extend(amx_features(&cpuinfo));
    }
    features.sort();
    features
}

#[cfg(target_arch = "x86_64")]
fn detected_features() -> Vec<String> {
    macro_rules! detect {
        ($($feature:tt),*) => {
            [$(($feature, std::arch::is_x86_feature_detected!($feature))),*]
        };
    }
    names(&detect!(
        "sse4.2",
        "avx",
        "avx2",
        "fma",
        "f16c",
        "avxvnni",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512vnni",
        "avx512bf16",
        "avx512fp16"
    ))
}

#[cfg(target_arch = "aarch64")]
fn detected_features() -> Vec<String> {
    macro_rules! detect {
        ($($feature:tt),*) => {
            [$(($feature, std::arch::is_aarch64_feature_detected!($feature))),*]
        };
    }
    names(&detect!(
        "neon", "fp16", "dotprod", "bf16", "i8mm", "sve", "sve2"
    ))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detected_features() -> Vec<String> {
    Vec::new()
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn names(features: &[(&str, bool)]) -> Vec<String> {
    features
        .iter()
        .filter(|(_, present)| *present)
        .map(|(name, _)| (*name).to_owned())
        .collect()
}

/// The AMX extensions among the flags in the text of `/proc/cpuinfo`, under
/// rustc's names ("amx-bf16" for the kernel's "amx_bf16").
#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
fn amx_features(cpuinfo: &str) -> Vec<String> {
    cpuinfo
        .lines()
        .find_map(|line| {
            let (key, flags) = line.split_once(':')?;
            (key.trim() == "flags").then_some(flags)
        })
        .into_iter()
        .flat_map(str::split_whitespace)
        .filter(|flag| flag.starts_with("amx_"))
        .map(|flag| flag.replace('_', "-"))
        .collect()
}

/// nvidia-smi answers within a second, or hangs for minutes with a broken driver.
const NVIDIA_SMI_LIMIT: Duration = Duration::from_secs(10);

/// The first GPU that `nvidia-smi` names; `None` if the program is not there,
/// fails, or takes longer than `limit`.
fn nvidia_gpu(program: &str, limit: Duration) -> Option<Accelerator> {
    let mut child = Command::new(program)
        .args([
            "--query-gpu=name,memory.total,driver_version",
            "--format=csv,noheader,nounits",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let deadline = Instant::now() + limit;
    let succeeded = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) | Err(_) => {
                // Nothing to be done if it cannot be killed; it is not ours to report.
                let _ = child.kill();
                let _ = child.wait();
                break false;
            }
        }
    };
    if !succeeded {
        return None;
    }
    let mut answer = String::new();
    // A line a GPU: far under a pipe's capacity, so it never blocked on us.
    child
        .stdout
        .take()?
        .take(1 << 16)
        .read_to_string(&mut answer)
        .ok()?;
    parse_nvidia_smi(&answer)
}

/// The first line of `name, memory in MiB, driver`.
fn parse_nvidia_smi(answer: &str) -> Option<Accelerator> {
    let line = answer.lines().find(|line| !line.trim().is_empty())?;
    let mut fields = line.split(',').map(str::trim);
    // A field that the device cannot tell reads "[N/A]" or "[Not Supported]".
    let known = |field: &&str| !field.is_empty() && !field.starts_with('[');
    let name = fields.next().filter(known)?.to_owned();
    let memory_bytes = fields
        .next()
        .filter(known)
        .and_then(|mib| mib.parse::<u64>().ok())
        .and_then(|mib| mib.checked_mul(1 << 20));
    let driver = fields.next().filter(known).map(str::to_owned);
    Some(Accelerator {
        name,
        memory_bytes,
        driver,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collects_something_true_of_every_machine() {
        let environment = Environment::collect();
        assert!(environment.cores >= 1);
        assert!(environment.memory_bytes > 1 << 28, "{environment:?}");
        assert_eq!(environment.arch, std::env::consts::ARCH);
        assert!(!environment.cpu_model.is_empty());
        assert!(environment.rustc.unwrap().starts_with("rustc 1."));
        assert!(environment.cpu_features.is_sorted());
        #[cfg(target_arch = "x86_64")]
        assert!(environment.cpu_features.contains(&"sse4.2".to_owned()));
    }

    #[test]
    fn names_no_host_and_no_user() {
        let json = serde_json::to_string(&Environment::collect()).unwrap();
        for secret in [System::host_name(), std::env::var("HOME").ok()] {
            // A host may be called "linux" or "localhost": only telling names count.
            if let Some(secret) = secret.filter(|s| s.len() > 9) {
                assert!(!json.contains(&secret), "{secret} in {json}");
            }
        }
    }

    fn slug(cpu: &str, cores: usize, gib: u64, accelerator: Option<&str>) -> String {
        Environment {
            cpu_model: cpu.to_owned(),
            cores,
            memory_bytes: gib << 30,
            accelerator: accelerator.map(|name| Accelerator {
                name: name.to_owned(),
                memory_bytes: None,
                driver: None,
            }),
            ..Environment::default()
        }
        .machine_slug()
    }

    #[test]
    fn slugs_name_the_kind_of_machine() {
        assert_eq!(slug("AMD EPYC", 2, 24, None), "amd-epyc-2c-24g");
        assert_eq!(
            slug("Intel(R) Xeon(R) CPU @ 2.20GHz", 4, 15, None),
            "intel-xeon-4c-15g"
        );
        assert_eq!(
            slug(
                "AMD EPYC 9354 32-Core Processor",
                64,
                377,
                Some("NVIDIA H200")
            ),
            "amd-epyc-9354-64c-377g-nvidia-h200"
        );
        assert_eq!(slug("Apple M2 Pro", 12, 32, None), "apple-m2-pro-12c-32g");
        assert_eq!(
            slug(
                "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
                8,
                31,
                Some("Tesla T4")
            ),
            "intel-xeon-platinum-8481c-8c-31g-tesla-t4"
        );
        assert_eq!(slug("", 1, 1, None), "unknown-1c-1g");
    }

    #[test]
    fn slugs_are_safe_folder_names_whatever_the_cpu_says() {
        for name in [
            "../../etc",
            "/",
            "..",
            "é à",
            "a\0b",
            &"x".repeat(500),
            "@@",
            "-core",
        ] {
            let slug = slug(name, 2, 4, Some(name));
            assert!(crate::results::is_name(&slug), "{name:?} gave {slug:?}");
        }
    }

    #[test]
    fn reads_what_nvidia_smi_says() {
        assert_eq!(
            parse_nvidia_smi("NVIDIA H200, 143771, 570.86.15\nNVIDIA H200, 143771, 570.86.15\n"),
            Some(Accelerator {
                name: "NVIDIA H200".to_owned(),
                memory_bytes: Some(143_771 << 20),
                driver: Some("570.86.15".to_owned()),
            })
        );
        // Unified memory: the GPU has none of its own to report.
        assert_eq!(
            parse_nvidia_smi("NVIDIA GB10, [N/A], 580.95.05\n"),
            Some(Accelerator {
                name: "NVIDIA GB10".to_owned(),
                memory_bytes: None,
                driver: Some("580.95.05".to_owned()),
            })
        );
        for nothing in ["", "\n\n", ", , ", "[Not Supported], 1, 2"] {
            assert_eq!(parse_nvidia_smi(nothing), None, "{nothing:?}");
        }
        assert_eq!(
            parse_nvidia_smi("X, 99999999999999999999, ").map(|a| (a.memory_bytes, a.driver)),
            Some((None, None))
        );
    }

    #[test]
    fn a_missing_or_failing_nvidia_smi_is_no_accelerator() {
        assert_eq!(
            nvidia_gpu("no-such-program-anywhere", NVIDIA_SMI_LIMIT),
            None
        );
        assert_eq!(nvidia_gpu("false", NVIDIA_SMI_LIMIT), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_hanging_nvidia_smi_is_given_up() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("hangs");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 60\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let start = Instant::now();
        let found = nvidia_gpu(program.to_str().unwrap(), Duration::from_millis(100));
        assert_eq!(found, None);
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn reads_amx_from_cpuinfo() {
        let cpuinfo = "processor\t: 0\nmodel name\t: x\nflags\t\t: fpu amx_bf16 avx amx_tile\n";
        assert_eq!(amx_features(cpuinfo), ["amx-bf16", "amx-tile"]);
        assert!(amx_features("nothing here").is_empty());
    }
}
