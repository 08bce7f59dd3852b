//! `cargo x smoke`: does it still work where not every machine can look?
//!
//! One check a subject: a GPU, a TPU, Dataflow, the crate xla with its archive, and
//! AddressSanitizer. Each is skipped with its reason where the machine lacks what it takes.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, ensure};
use clap::ValueEnum;

use crate::{
    cargo, gpu, native_pins, setup,
    toolchain::{self, Tool},
    verdict::{self, Verdict, conclude},
};

/// Options of `cargo x smoke`.
#[derive(clap::Args)]
pub struct Args {
    /// What to look at.
    #[arg(value_enum, required = true)]
    subject: Vec<Subject>,
    /// What cannot be looked at here is a failure.
    #[arg(long)]
    required: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Subject {
    /// Chapters 2 and 3 on an NVIDIA GPU.
    Gpu,
    /// Chapter 3 on a TPU.
    Tpu,
    /// Chapter 4's 18 trainings, all of them, on a TPU.
    TpuSweep,
    /// Chapter 4's pipeline on Google's Dataflow.
    Dataflow,
    /// Chapter 3 through the crate xla, which wants an archive.
    XlaRs,
    /// pjrt-runtime's tests under AddressSanitizer, with a nightly compiler.
    AddressSanitizer,
}

/// What a subject takes.
enum Plan {
    /// These commands, one after the other.
    Commands(Vec<Command>),
    /// `WHAT IS MISSING; COMMAND THAT BRINGS IT`.
    Missing(String),
}

/// Variables that a Dataflow job takes, and what stands in each.
const DATAFLOW: [(&str, &str); 4] = [
    ("DATAFLOW_PROJECT", "the project that pays"),
    ("DATAFLOW_REGION", "where it runs, such as us-central1"),
    ("DATAFLOW_BUCKET", "gs:// folder for its files"),
    (
        "DATAFLOW_IMAGE",
        "the image of docker/Dockerfile.beam in a registry",
    ),
];
/// The script that starts chapter 4's pipeline.
const PIPELINE: &str = "chapters/04-sweep/beam/sweep.py";
/// The Python that has Apache Beam.
const BEAM_PYTHON: &str = ".native/venv/beam/bin/python";
/// Where the image of docker/Dockerfile.beam has the program.
const PROGRAM_IN_IMAGE: &str = "/opt/accelerators/bin/parallel-training";
/// Where the archive of the crate xla was unpacked.
const XLA_EXTENSION: &str = "XLA_EXTENSION_DIR";

/// Runs the command: exit code 1 if something failed.
///
/// # Errors
/// If set-up fails or a command cannot be run.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let out = tempfile::tempdir().context("a temporary folder")?;
    let mut checks = Vec::new();
    for subject in &args.subject {
        let value = subject.to_possible_value();
        let name = value.map_or_else(String::new, |value| value.get_name().to_owned());
        let verdict = match plan(*subject, root, &out.path().join(&name))? {
            Plan::Missing(reason) => Verdict::Skipped(reason),
            Plan::Commands(commands) => all(commands)?,
        };
        checks.push((name, verdict));
    }
    Ok(conclude(&checks, args.required))
}

fn all(commands: Vec<Command>) -> anyhow::Result<Verdict> {
    for mut command in commands {
        eprintln!("== {}", cargo::words(&command));
        let verdict = verdict::of_status(cargo::status(&mut command)?);
        if verdict != Verdict::Passed {
            return Ok(verdict);
        }
    }
    Ok(Verdict::Passed)
}

fn plan(subject: Subject, root: &Path, out: &Path) -> anyhow::Result<Plan> {
    let missing = |reason: &str| Ok(Plan::Missing(reason.to_owned()));
    let chapter = |package: &str, words: &[&str]| {
        let mut command = cargo::programs("run", [package], root);
        command
            .args(["--quiet", "--locked", "--"])
            .args(words)
            .arg("--out")
            .arg(out.join(package));
        command
    };
    let flag = |flag: &str| -> anyhow::Result<Option<Plan>> {
        let pins = native_pins::read(root, &native_pins::this_platform())?;
        if pins.has(flag) {
            setup::ensure(root, &[flag])?;
            return Ok(None);
        }
        let reason = format!(
            "another platform: ci/native.toml has nothing for --{flag} here; use Linux x86-64"
        );
        Ok(Some(Plan::Missing(reason)))
    };
    match subject {
        Subject::Gpu => {
            if gpu::found().is_none() {
                return missing(
                    "an NVIDIA GPU with a driver that answers; run nvidia-smi to see why not",
                );
            }
            if let Some(plan) = flag("cuda")? {
                return Ok(plan);
            }
            Ok(Plan::Commands(vec![
                chapter("gpu-inference", &["run", "--quick", "--device", "cuda"]),
                chapter("tpu-training", &["train", "--quick", "--device", "cuda"]),
            ]))
        }
        Subject::Tpu | Subject::TpuSweep => {
            if !has_tpu(Path::new("/dev")) {
                return missing(
                    "a TPU: neither /dev/accel0 nor /dev/vfio/0 is there; run this on a TPU machine",
                );
            }
            if let Some(plan) = flag("tpu")? {
                return Ok(plan);
            }
            Ok(Plan::Commands(vec![match subject {
                Subject::Tpu => chapter("tpu-training", &["train", "--quick", "--device", "tpu"]),
                // Only one process can hold a TPU.
                _ => chapter(
                    "parallel-training",
                    &["sweep", "--device", "tpu", "--slots", "1"],
                ),
            }]))
        }
        Subject::Dataflow => {
            if !root.join(PIPELINE).is_file() {
                return missing(&format!(
                    "{PIPELINE}, which this checkout does not have; update it"
                ));
            }
            let mut values = Vec::new();
            for (variable, meaning) in DATAFLOW {
                match std::env::var(variable)
                    .ok()
                    .filter(|value| !value.is_empty())
                {
                    Some(value) => values.push(value),
                    None => {
                        return missing(&format!(
                            "{variable} ({meaning}); `export {variable}=...`"
                        ));
                    }
                }
            }
            let python = root.join(BEAM_PYTHON);
            if !python.is_file() {
                return missing("Apache Beam; `cargo x test`, which brings it");
            }
            let runs = out.with_extension("jsonl");
            planned_runs(root, &runs)?;
            let bucket = values[2].trim_end_matches('/');
            let mut command = Command::new(python);
            command
                .current_dir(root)
                .arg(PIPELINE)
                .arg("--runs")
                .arg(&runs);
            command.args(["--program", PROGRAM_IN_IMAGE, "--device", "cpu"]);
            command.args(["--out", &format!("{bucket}/smoke/runs")]);
            command.args(["--result", &format!("{bucket}/smoke/result.json")]);
            command.args(["--runner", "DataflowRunner", "--project", &values[0]]);
            command.args([
                "--region",
                &values[1],
                "--temp_location",
                &format!("{bucket}/tmp"),
            ]);
            command.args(["--sdk_container_image", &values[3]]);
            // One process of ours a machine: it takes all cores.
            command.args([
                "--experiments",
                "no_use_multiple_sdk_containers",
                "--max_num_workers",
                "1",
            ]);
            Ok(Plan::Commands(vec![command]))
        }
        Subject::XlaRs => {
            let folder = std::env::var_os(XLA_EXTENSION).map(PathBuf::from);
            if !folder.is_some_and(|folder| folder.join("lib").is_dir()) {
                return missing(&format!(
                    "the archive of the crate xla; unpack it, then `export {XLA_EXTENSION}=FOLDER` \
                     (the book's page \"Another front door\")"
                ));
            }
            if toolchain::found(Tool::Libclang).is_none() {
                let install = toolchain::install_command(Tool::Libclang);
                return missing(&format!("libclang; `{install}`"));
            }
            let mut command = cargo::command(root);
            command
                .args(["run", "--release", "--locked", "--package", "tpu-training"])
                .args(["--features", "xla-rs", "--", "train", "--quick"])
                .args(["--lower", "xla-rs", "--out"])
                .arg(out);
            Ok(Plan::Commands(vec![command]))
        }
        Subject::AddressSanitizer => {
            let Some(host) = sanitized_host() else {
                return missing("another platform: use Linux x86-64 or aarch64");
            };
            let nightly = ["run", "nightly", "rustc", "--version"];
            if toolchain::first_line("rustup", &nightly).is_none() {
                return missing(
                    "a nightly compiler; `rustup toolchain install nightly --profile minimal`",
                );
            }
            setup::ensure(root, &["tpu"])?;
            Ok(Plan::Commands(vec![sanitizer(root, &host)]))
        }
    }
}

/// Writes two short runs for the pipeline, one a line.
fn planned_runs(root: &Path, file: &Path) -> anyhow::Result<()> {
    let mut plan = cargo::programs("run", ["parallel-training"], root);
    plan.args(["--quiet", "--locked", "--", "plan"])
        .args(["--epochs", "1", "--width", "4"]);
    let output = (plan.stderr(Stdio::inherit()).output())
        .with_context(|| format!("cannot run {}", cargo::words(&plan)))?;
    ensure!(
        output.status.success(),
        "{} failed ({})",
        cargo::words(&plan),
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let first: String = text
        .lines()
        .take(2)
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(file, first).with_context(|| format!("cannot write {}", file.display()))
}

/// The tests of chapter 3's crate pjrt-runtime, as its README has them.
fn sanitizer(root: &Path, host: &str) -> Command {
    let mut command = Command::new("rustup");
    command
        .current_dir(root)
        .args(["run", "nightly", "cargo", "test", "--locked"])
        .args(["--package", "pjrt-runtime", "--tests", "--target", host])
        .args(["--target-dir", "target/asan"])
        // A cargo that is given by name would not be the nightly one.
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUSTFLAGS", "-Zsanitizer=address")
        // One test asks for more memory than there is.
        .env("ASAN_OPTIONS", "allocator_may_return_null=1");
    command
}

fn sanitized_host() -> Option<String> {
    let known =
        cfg!(target_os = "linux") && cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
    known.then(|| format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
}

/// Whether there is a device file of a TPU: its older driver makes `accel0`, the newer one
/// is `vfio`.
fn has_tpu(devices: &Path) -> bool {
    devices.join("accel0").exists() || devices.join("vfio/0").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sanitizer_runs_as_the_readme_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let readme = root.join("chapters/03-tpu-training/crates/pjrt/README.md");
        let readme = std::fs::read_to_string(readme).unwrap();
        let command = sanitizer(&root, "x86_64-unknown-linux-gnu");
        for (name, value) in command.get_envs() {
            let Some(value) = value else { continue };
            let setting = format!("{}={}", name.display(), value.display());
            assert!(readme.contains(&setting), "{setting}");
        }
        let words = cargo::words(&command);
        for word in [
            "--tests",
            "--target x86_64-unknown-linux-gnu",
            "--target-dir target/asan",
        ] {
            assert!(
                words.contains(word) && readme.contains(word),
                "{word}: {words}"
            );
        }
    }

    #[test]
    fn a_tpu_is_known_by_its_device_file() {
        let devices = tempfile::tempdir().unwrap();
        assert!(!has_tpu(devices.path()));
        std::fs::write(devices.path().join("accel0"), "").unwrap();
        assert!(has_tpu(devices.path()));
    }
}
