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
const DATAFLOW: [(&str, &str); 5] = [
    ("DATAFLOW_PROJECT", "the project that pays"),
    ("DATAFLOW_REGION", "where it runs, such as us-central1"),
    ("DATAFLOW_BUCKET", "gs:// folder for its files"),
    (
        "DATAFLOW_IMAGE",
        "the image of docker/Dockerfile.beam in a registry",
    ),
    // What is pinned for the tests has no part of Google's in it.
    (
        "DATAFLOW_PYTHON",
        "a Python with apache-beam[gcp], both in the image's versions",
    ),
];
/// The script that starts chapter 4's pipeline.
const PIPELINE: &str = "chapters/04-sweep/beam/sweep.py";
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
            let mut values = [const { String::new() }; DATAFLOW.len()];
            for ((variable, meaning), value) in DATAFLOW.into_iter().zip(&mut values) {
                match std::env::var(variable)
                    .ok()
                    .filter(|found| !found.is_empty())
                {
                    Some(found) => *value = found,
                    None => {
                        return missing(&format!(
                            "{variable} ({meaning}); `export {variable}=...`"
                        ));
                    }
                }
            }
            let runs = out.with_extension("jsonl");
            planned_runs(root, &runs)?;
            Ok(Plan::Commands(vec![dataflow(root, &values, &runs)]))
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

/// Chapter 4's pipeline on one of Dataflow's machines, with the options of the book's page.
///
/// * `values`: of [`DATAFLOW`], in its order
/// * `runs`: file with one run a line
fn dataflow(root: &Path, values: &[String; DATAFLOW.len()], runs: &Path) -> Command {
    let [project, region, bucket, image, python] = values;
    let bucket = bucket.trim_end_matches('/');
    let mut command = Command::new(python);
    command.current_dir(root).arg(PIPELINE);
    command.arg("--runs").arg(runs);
    command.args([
        format!("--program={PROGRAM_IN_IMAGE}"),
        "--device=cpu".to_owned(),
        format!("--out={bucket}/smoke/runs"),
        format!("--result={bucket}/smoke/result.json"),
        "--runner=DataflowRunner".to_owned(),
        format!("--project={project}"),
        format!("--region={region}"),
        format!("--temp_location={bucket}/tmp"),
        format!("--sdk_container_image={image}"),
        "--experiments=no_use_multiple_sdk_containers".to_owned(),
        "--number_of_worker_harness_threads=1".to_owned(),
        "--max_num_workers=1".to_owned(),
    ]);
    command
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
    fn dataflow_gets_the_options_of_the_page_and_the_images_program() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
        let values = ["p", "r", "gs://b/", "i", "python"].map(str::to_owned);
        let command = dataflow(&root, &values, Path::new("runs.jsonl"));
        let words: Vec<_> = command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        assert!(
            words
                .iter()
                .any(|word| word == "--temp_location=gs://b/tmp")
        );

        // The page shows this part of the file.
        let page = read("chapters/04-sweep/beam/tests/test_dataflow.py");
        let (_, common) = page.split_once("ANCHOR: common").unwrap();
        let (common, _) = common.split_once("ANCHOR_END: common").unwrap();
        let shown: Vec<_> = (common.split('"').filter_map(|word| word.split_once('=')))
            .filter(|(name, _)| name.starts_with("--"))
            .collect();
        assert!(shown.len() >= 6, "{common}");
        for (name, value) in shown {
            let ours = (words.iter().filter_map(|word| word.split_once('=')))
                .find(|(word, _)| *word == name);
            let (_, ours) = ours.unwrap_or_else(|| panic!("{name} is not in {words:?}"));
            // Where, and at whose cost, is everybody's own.
            if value.contains("://")
                || value.contains('{')
                || ["--project", "--region"].contains(&name)
            {
                continue;
            }
            assert_eq!(ours, value, "{name}");
        }

        let dockerfile = read("docker/Dockerfile.beam");
        let (folder, program) = PROGRAM_IN_IMAGE.split_once("/bin/").unwrap();
        assert!(dockerfile.contains(&format!("WORKDIR {folder}\n")));
        assert!(dockerfile.contains(&format!("-o bin/{program} ")));
    }

    #[test]
    fn a_tpu_is_known_by_its_device_file() {
        let devices = tempfile::tempdir().unwrap();
        assert!(!has_tpu(devices.path()));
        std::fs::write(devices.path().join("accel0"), "").unwrap();
        assert!(has_tpu(devices.path()));
    }
}
