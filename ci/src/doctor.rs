//! `cargo x doctor`: what this machine has, what it lacks, and the command that mends it.

use std::{path::Path, process::ExitCode};

use serde::Serialize;

use crate::{
    disk, installed, libtorch, native_pins,
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
    let (libtorch, fetch_bytes) = libtorch(root);
    // Without something to fetch, Python and pip have no work to do.
    let fetches = fetch_bytes.is_some();
    let only_to_fetch = |check: Check| if fetches { check } else { check.optional() };
    vec![
        cargo(root),
        Check::tool("C++ compiler", Tool::Cxx, "needed to compile tch's shim"),
        only_to_fetch(Check::tool("Python 3", Tool::Python, "needed to run pip")),
        only_to_fetch(Check::tool("pip", Tool::Pip, "needed to fetch libtorch")),
        libtorch,
        disk(root, fetch_bytes),
        Check::tool("git", Tool::Git, "results would not name their commit").optional(),
        Check::found("CPU", cpu()),
        cuda().optional(),
        tpu().optional(),
    ]
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

/// The libtorch that the build will use, and the bytes that set-up would fetch for it.
fn libtorch(root: &Path) -> (Check, Option<u64>) {
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
        return (check, None);
    }
    let platform = native_pins::this_platform();
    let pins = native_pins::read(root, &platform, &[]);
    let parts = match pins {
        Ok(parts) => parts,
        Err(error) => {
            let fix = "export LIBTORCH=/path/to/libtorch";
            return (Check::missing(name, error.to_string(), fix), None);
        }
    };
    let native = root.join(".native");
    let lacking = parts
        .iter()
        .filter_map(|part| Some((part, installed::lack(part, &native.join(&part.path))?)))
        .collect::<Vec<_>>();
    if lacking.is_empty() {
        let titles: Vec<_> = parts.iter().map(|part| part.title.as_str()).collect();
        let detail = format!("{} in {}", titles.join(", "), libtorch::OWN);
        return (Check::found(name, detail), None);
    }
    let bytes = (lacking.iter().flat_map(|(part, _)| &part.wheel))
        .map(|wheel| wheel.bytes)
        .sum();
    let (part, lack) = &lacking[0];
    let detail = format!(
        ".native/{} {lack}; the two commands fetch it, {}",
        part.path,
        size(bytes)
    );
    // The two commands bring it themselves: it does not stand in their way.
    let check = Check::missing(name, detail, "cargo x setup").optional();
    (check, Some(bytes))
}

fn disk(root: &Path, fetch_bytes: Option<u64>) -> Check {
    let name = "disk";
    // Wheels, pip's copy of them, and what is unpacked: the last is the smaller of the three.
    let needed = BUILD_BYTES + 3 * fetch_bytes.unwrap_or(0);
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
    let query = ["--query-gpu=name,driver_version", "--format=csv,noheader"];
    match toolchain::first_line("nvidia-smi", &query) {
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
