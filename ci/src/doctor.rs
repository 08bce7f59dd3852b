//! `cargo x doctor`: what this machine has, what it lacks, and the command that mends it.

use std::{path::Path, process::ExitCode};

use serde::Serialize;

use crate::{
    disk,
    engine_library::{self, Engine},
    gpu, installed, libtorch,
    native_pins::{self, Here, Part, PinsError},
    pjrt::{self, Platform},
    quantities::size,
    toolchain::{self, Tool},
};

/// Room that building the workspace takes in target/, told from a cold build with tests.
const BUILD_BYTES: u64 = 4_000_000_000;

/// Options of `cargo x doctor`.
#[derive(clap::Args)]
pub struct Args {
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    schema_version: u32,
    /// Whether `cargo x learn` and `cargo x test` can run.
    ready: bool,
    checks: Vec<Check>,
}

#[derive(Clone, Copy, Serialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Status {
    Found,
    Missing,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    /// Whether the two commands cannot do without it here.
    required: bool,
    detail: String,
    /// The one command that mends it, if it is missing.
    fix: Option<String>,
}

impl Check {
    fn found(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Found,
            required: true,
            detail: detail.into(),
            fix: None,
        }
    }

    fn missing(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Missing,
            required: true,
            detail: detail.into(),
            fix: Some(fix.into()),
        }
    }

    fn optional(self) -> Self {
        Self {
            required: false,
            ..self
        }
    }

    fn tool(name: &'static str, tool: Tool, purpose: &str) -> Self {
        match toolchain::found(tool) {
            Some(detail) => Self::found(name, detail),
            None => Self::missing(name, purpose, toolchain::install_command(tool)),
        }
    }
}

/// Runs the command: exit code 0 if the two commands can run, else 1.
///
/// # Errors
/// If the report cannot be written.
pub fn run(args: Args, root: &Path) -> anyhow::Result<ExitCode> {
    let checks = examine(root);
    let lacks = |check: &Check| check.required && check.status == Status::Missing;
    let ready = !checks.iter().any(lacks);
    let report = Report {
        schema_version: 1,
        ready,
        checks,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(if ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(report: &Report) {
    let width = report.checks.iter().map(|check| check.name.len()).max();
    let width = width.unwrap_or(0);
    for check in &report.checks {
        let status = match (check.status, check.required) {
            (Status::Found, _) => "found  ",
            (Status::Missing, true) => "MISSING",
            (Status::Missing, false) => "missing",
        };
        println!("{status}  {:width$}  {}", check.name, check.detail);
        if let Some(fix) = &check.fix {
            println!("{:9}{:width$}  -> {fix}", "", "");
        }
    }
    println!();
    if report.ready {
        println!("ready: `cargo x learn` and `cargo x test` can run");
    } else {
        println!("not ready: run the commands after the arrows at MISSING, then `cargo x doctor`");
    }
}

fn examine(root: &Path) -> Vec<Check> {
    let pins = native_pins::read(root, &native_pins::this_platform());
    let (libtorch, libtorch_bytes) = libtorch(root, &pins);
    let mut fetch_bytes = libtorch_bytes;
    let mut plugins = Vec::new();
    if let Ok(pins) = &pins {
        for platform in [Platform::Cpu, Platform::Cuda, Platform::Tpu] {
            let (check, bytes) = plugin(root, pins, platform);
            plugins.extend(check);
            fetch_bytes += bytes;
        }
        for engine in engine_library::ALL {
            let (check, bytes) = engine_check(root, pins, engine);
            plugins.extend(check);
            fetch_bytes += bytes;
        }
    }
    // Without something to fetch, Python and pip have no work to do.
    let only_to_fetch = |check: Check| match fetch_bytes {
        0 => check.optional(),
        _ => check,
    };
    let mut checks = vec![
        cargo(root),
        Check::tool("C++ compiler", Tool::Cxx, "needed to compile tch's shim"),
        only_to_fetch(Check::tool("Python 3", Tool::Python, "needed to run pip")),
        only_to_fetch(Check::tool(
            "pip",
            Tool::Pip,
            "needed to fetch libtorch and XLA",
        )),
        libtorch,
    ];
    // Its bytes do not count: a GPU's libraries are only fetched when asked for.
    let cuda_libtorch = pins.as_ref().ok().and_then(gpu::libtorch);
    checks.extend(cuda_libtorch.map(|part| fetched(root, "CUDA libtorch", part).0.optional()));
    checks.extend(plugins);
    checks.extend([
        disk(root, fetch_bytes),
        Check::tool("git", Tool::Git, "results would not name their commit").optional(),
        Check::found("CPU", cpu()),
        cuda().optional(),
        tpu().optional(),
    ]);
    checks
}

/// cargo's version against the workspace's rust-version.
fn cargo(root: &Path) -> Check {
    let name = "cargo";
    let wanted = std::fs::read_to_string(root.join("Cargo.toml"))
        .ok()
        .and_then(|text| text.parse::<toml::Table>().ok())
        .and_then(|table| {
            let package = table.get("workspace")?.get("package")?;
            Some(package.get("rust-version")?.as_str()?.to_owned())
        });
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let line = toolchain::first_line(&cargo, &["--version"]);
    match (line, wanted) {
        (None, _) => Check::missing(
            name,
            "the build tool of Rust",
            "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh",
        ),
        (Some(line), Some(wanted)) => {
            let got = line.split_whitespace().nth(1).unwrap_or_default();
            if version(got) < version(&wanted) {
                let detail = format!("{got}: the project needs {wanted} or newer");
                Check::missing(name, detail, "rustup update stable")
            } else {
                Check::found(name, format!("{line}; {wanted} or newer is needed"))
            }
        }
        (Some(line), None) => Check::found(name, line),
    }
}

/// `1.95.0-nightly` as `[1, 95, 0]`; a part that is left out counts as 0.
fn version(text: &str) -> [u32; 3] {
    let mut parts = text
        .split('-')
        .next()
        .unwrap_or_default()
        .split('.')
        .map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// The libtorch that the build will use, and the bytes that the two commands would fetch for it.
fn libtorch(root: &Path, pins: &Result<Here, PinsError>) -> (Check, u64) {
    let name = "libtorch";
    if let Some(folder) = libtorch::of_the_user(root) {
        let place = format!("LIBTORCH={}", folder.display());
        let verdict = match native_pins::libtorch_version(root) {
            Ok(Some(version)) => {
                libtorch::check(&folder, &version).map_err(|reason| reason.to_string())
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        let check = match verdict {
            Ok(()) => Check::found(name, format!("{place}, set by you")),
            Err(reason) => Check::missing(name, format!("{place}: {reason}"), "unset LIBTORCH"),
        };
        return (check, 0);
    }
    let unpinned = |reason: String| {
        let fix = "export LIBTORCH=/path/to/libtorch";
        (Check::missing(name, reason, fix), 0)
    };
    let parts = match pins {
        Ok(pins) => &pins.parts,
        Err(error) => return unpinned(error.to_string()),
    };
    let always = |part: &&Part| part.libtorch.is_some() && part.flag.is_none();
    match parts.iter().find(always) {
        Some(part) => fetched(root, name, part),
        None => unpinned("none is pinned for this platform".to_owned()),
    }
}

/// The PJRT plugin for `platform`, and the bytes that the two commands would fetch for it.
fn plugin(root: &Path, pins: &Here, platform: Platform) -> (Option<Check>, u64) {
    let name = match platform {
        Platform::Cpu => "PJRT CPU plugin",
        Platform::Cuda => "PJRT CUDA plugin",
        Platform::Tpu => "PJRT TPU plugin",
    };
    if let Some(path) = pjrt::of_the_user(platform) {
        let detail = format!("{}, by {}", path.display(), pjrt::VARIABLE);
        return (Some(Check::found(name, detail)), 0);
    }
    let of_platform = |part: &&Part| part.pjrt == Some(platform);
    if let Some(part) = pins.parts.iter().find(of_platform) {
        let (check, bytes) = fetched(root, name, part);
        // A GPU's libraries are only fetched when asked for.
        let bytes = if platform == Platform::Cuda { 0 } else { bytes };
        return (Some(check.optional()), bytes);
    }
    let mut absent = pins.absent.iter();
    let absent = absent.find(|absent| absent.pjrt == Some(platform));
    let check = absent.map(|absent| {
        Check {
            fix: None,
            ..Check::missing(name, format!("{}: {}", absent.title, absent.reason), "")
        }
        .optional()
    });
    (check, 0)
}

/// The library of an engine, and the bytes that the two commands would fetch for it.
fn engine_check(root: &Path, pins: &Here, engine: Engine) -> (Option<Check>, u64) {
    let name = engine.name();
    if let Some(path) = engine_library::of_the_user(engine) {
        let detail = format!("{}, by {}", path.display(), engine.variable());
        return (Some(Check::found(name, detail).optional()), 0);
    }
    if let Some(part) = (pins.parts.iter()).find(|part| part.engine == Some(engine)) {
        let (check, bytes) = fetched(root, name, part);
        return (Some(check.optional()), bytes);
    }
    let absent = (pins.absent.iter()).find(|absent| absent.engine == Some(engine));
    let check = absent.map(|absent| {
        Check {
            fix: None,
            ..Check::missing(name, format!("{}: {}", absent.title, absent.reason), "")
        }
        .optional()
    });
    (check, 0)
}

/// A part that set-up brings, and its bytes to fetch.
fn fetched(root: &Path, name: &'static str, part: &Part) -> (Check, u64) {
    let Some(lack) = installed::lack(part, &root.join(".native").join(&part.path)) else {
        let (title, path) = (&part.title, &part.path);
        let mut kept = part.wheel.iter().flat_map(|wheel| wheel.keep.values());
        // Of a plugin its one file, of libtorch its folder.
        let file = part
            .pjrt
            .and_then(|_| kept.find(|path| path.ends_with(".so")));
        let file = file.map_or_else(String::new, |file| format!("/{file}"));
        let detail = format!("{title}, as pinned, in .native/{path}{file}");
        return (Check::found(name, detail), 0);
    };
    let bytes = part.wheel.iter().map(|wheel| wheel.bytes).sum();
    let path = &part.path;
    // Missing, and yet not in the way of the two commands where they bring it themselves.
    let (who, fix) = match part.flag.as_deref() {
        None => ("the two commands fetch it", "cargo x setup".to_owned()),
        Some("tpu") => (
            "`cargo x test` fetches it",
            "cargo x setup --tpu".to_owned(),
        ),
        Some("engines") => (
            "the two commands fetch it",
            "cargo x setup --engines".to_owned(),
        ),
        Some(flag) => ("fetched when asked for", format!("cargo x setup --{flag}")),
    };
    let detail = format!(".native/{path} {lack}; {who}, {}", size(bytes));
    (Check::missing(name, detail, fix).optional(), bytes)
}

fn disk(root: &Path, fetch_bytes: u64) -> Check {
    let name = "disk";
    // Wheels, pip's copy of them, and what is unpacked: XLA's plugins unpack to three to four times
    // their wheel's size, libtorch to less than its own.
    let needed = BUILD_BYTES + 4 * fetch_bytes;
    match disk::free_bytes(root) {
        None => Check::found(name, "free space unknown: `df -Pk` does not tell").optional(),
        Some(free) if free < needed => {
            let detail = format!("{} free, {} needed", size(free), size(needed));
            // A full target/ of other builds is what can be given back at once.
            Check::missing(name, detail, "cargo clean")
        }
        Some(free) => Check::found(name, format!("{} free", size(free))),
    }
}

fn cpu() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let arch = std::env::consts::ARCH;
    let plural = if cores == 1 { "" } else { "s" };
    match cpu_model() {
        Some(model) => format!("{model}, {cores} core{plural}, {arch}"),
        None => format!("{cores} core{plural}, {arch}"),
    }
}

fn cpu_model() -> Option<String> {
    if cfg!(target_os = "macos") {
        return toolchain::first_line("sysctl", &["-n", "machdep.cpu.brand_string"]);
    }
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn cuda() -> Check {
    match gpu::found() {
        Some(line) => Check::found("CUDA", line),
        None => Check {
            fix: None,
            ..Check::missing("CUDA", "no NVIDIA driver: nvidia-smi does not run", "")
        },
    }
}

fn tpu() -> Check {
    match std::env::var("PJRT_DEVICE") {
        Ok(value) if value == "TPU" => Check::found("TPU", "PJRT_DEVICE=TPU"),
        _ => Check {
            fix: None,
            ..Check::missing("TPU", "PJRT_DEVICE=TPU is not set", "")
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(version("1.95.0") > version("1.89"));
        assert!(version("1.9.0") < version("1.89"));
        assert_eq!(version("1.96.0-nightly"), [1, 96, 0]);
        assert_eq!(version("1.89"), version("1.89.0"));
    }
}
