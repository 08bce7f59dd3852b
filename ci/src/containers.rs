//! `cargo x containers`: checks, builds and runs the images of `docker/`.
//!
//! Checking needs no container engine. Building takes docker with its daemon, podman or
//! buildah, whichever is here; without one it is skipped and says what would bring one.

mod rules;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use accel::checkout;
use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};

use crate::{
    cargo, linters, tidy,
    verdict::{self, Verdict, conclude},
};

/// Options of `cargo x containers`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Check the Dockerfiles: by hadolint, and by rules of our own.
    Lint {
        /// A check that cannot run here is a failure.
        #[arg(long)]
        required: bool,
    },
    /// Build an image.
    Build(BuildArgs),
    /// Run an image: without arguments, the quick run of its chapter.
    Run(RunArgs),
}

#[derive(clap::Args)]
struct BuildArgs {
    /// Which image.
    #[arg(value_enum)]
    image: Image,
    /// Another value for an ARG of the Dockerfile: a base by digest, a mirror.
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,
    /// The image's name.
    #[arg(long)]
    tag: Option<String>,
    /// An engine that cannot be had here is a failure.
    #[arg(long)]
    required: bool,
    /// Only say what would be run.
    #[arg(long)]
    dry_run: bool,
    /// Goes to the engine's build command.
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(clap::Args)]
struct RunArgs {
    /// Which image.
    #[arg(value_enum)]
    image: Image,
    /// The image's name.
    #[arg(long)]
    tag: Option<String>,
    /// An engine that cannot be had here is a failure.
    #[arg(long)]
    required: bool,
    /// Only say what would be run.
    #[arg(long)]
    dry_run: bool,
    /// Goes to the engine's run command, before the image's name.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    engine_arg: Vec<String>,
    /// Goes to the program in the image.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// The images, one a target.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Image {
    /// Chapter 1 on the CPU.
    Cpu,
    /// Chapter 2 on an NVIDIA GPU.
    Gpu,
    /// Chapters 3 and 4 on a TPU.
    Tpu,
    /// A worker of the Beam pipeline, with XLA for the CPU.
    Beam,
    /// The same with XLA for NVIDIA GPUs.
    BeamGpu,
    /// The same with XLA for TPUs.
    BeamTpu,
    /// The same as `beam` with Dask, for a cluster of one's own.
    BeamDask,
}

impl Image {
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn file(self) -> &'static str {
        match self {
            Self::Cpu => "docker/Dockerfile.cpu",
            Self::Gpu => "docker/Dockerfile.gpu",
            Self::Tpu => "docker/Dockerfile.tpu",
            Self::Beam | Self::BeamGpu | Self::BeamTpu | Self::BeamDask => "docker/Dockerfile.beam",
        }
    }

    /// What tells images of one Dockerfile apart.
    fn build_args(self) -> &'static [&'static str] {
        match self {
            Self::BeamGpu => &["DEVICE=cuda"],
            Self::BeamTpu => &["DEVICE=tpu"],
            Self::BeamDask => &["PYTHON_PACKAGES=dask"],
            Self::Cpu | Self::Gpu | Self::Tpu | Self::Beam => &[],
        }
    }

    fn tag(self) -> String {
        format!("hardware-accelerators/{}:dev", self.name())
    }

    /// What the engine must be told so that the program sees the device.
    fn device_arguments(self, engine: Engine) -> &'static [&'static str] {
        match (self, engine) {
            (Self::Gpu | Self::BeamGpu, Engine::Docker) => &["--gpus", "all"],
            (Self::Gpu | Self::BeamGpu, _) => &["--device", "nvidia.com/gpu=all"],
            // As Google's documentation of TPU machines has it.
            (Self::Tpu | Self::BeamTpu, _) => &["--privileged", "--network", "host"],
            _ => &[],
        }
    }
}

/// A program that builds images.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Engine {
    /// docker, with a daemon that answers.
    Docker,
    /// podman, which needs no daemon.
    Podman,
    /// buildah, which builds and does not run what is built.
    Buildah,
}

const NO_ENGINE: &str = "docker with a running daemon, podman or buildah; on Debian and Ubuntu `apt-get install -y podman`";

impl Engine {
    fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Buildah => "buildah",
        }
    }

    /// The first that works here. A docker without its daemon does not.
    fn find(among: &[Engine]) -> Option<Engine> {
        among.iter().copied().find(|engine| {
            let question: &[&str] = match engine {
                Self::Docker => &["info"],
                Self::Podman | Self::Buildah => &["--version"],
            };
            let mut command = Command::new(engine.program());
            command.args(question);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        })
    }

    fn build(self, args: &BuildArgs, root: &Path) -> Command {
        let mut command = Command::new(self.program());
        command.current_dir(root).arg("build");
        match self {
            Self::Docker => {}
            // The other format drops SHELL and HEALTHCHECK.
            Self::Podman | Self::Buildah => {
                command.args(["--format", "docker", "--layers"]);
            }
        }
        command.args(["--file", args.image.file()]);
        let tag = args.tag.clone().unwrap_or_else(|| args.image.tag());
        command.args(["--tag", &tag]);
        let commit = checkout::commit(root);
        if let Some(commit) = commit.filter(|commit| !commit.dirty) {
            command.args(["--build-arg", &format!("REVISION={}", commit.id)]);
        }
        let own = args.image.build_args().iter().copied();
        for value in own.chain(args.build_arg.iter().map(String::as_str)) {
            command.args(["--build-arg", value]);
        }
        command.args(&args.arguments).arg(".");
        command
    }

    fn run(self, args: &RunArgs) -> Command {
        let mut command = Command::new(self.program());
        command.args(["run", "--rm"]);
        command.args(args.image.device_arguments(self));
        command.args(&args.engine_arg);
        command.arg(args.tag.clone().unwrap_or_else(|| args.image.tag()));
        command.args(&args.arguments);
        command
    }
}

/// Runs the command.
///
/// # Errors
/// If the files cannot be listed, or an engine cannot be run.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    match &args.command {
        Action::Lint { required } => Ok(conclude(&lint(root)?, *required)),
        Action::Build(args) => {
            for value in &args.build_arg {
                if !value.contains('=') {
                    bail!("--build-arg {value}: expected NAME=VALUE");
                }
            }
            let engines = [Engine::Docker, Engine::Podman, Engine::Buildah];
            let command = Engine::find(&engines).map(|engine| engine.build(args, root));
            let name = format!("build {}", args.image.name());
            engine(name, command, args.dry_run, args.required)
        }
        Action::Run(args) => {
            // buildah does not run images.
            let command = Engine::find(&[Engine::Docker, Engine::Podman]);
            let command = command.map(|engine| engine.run(args));
            let name = format!("run {}", args.image.name());
            engine(name, command, args.dry_run, args.required)
        }
    }
}

fn engine(
    name: String,
    command: Option<Command>,
    dry_run: bool,
    required: bool,
) -> anyhow::Result<ExitCode> {
    let Some(mut command) = command else {
        let skipped = Verdict::Skipped(NO_ENGINE.to_owned());
        return Ok(conclude(&[(name, skipped)], required));
    };
    if dry_run {
        println!("{}", cargo::words(&command));
        return Ok(ExitCode::SUCCESS);
    }
    let status = cargo::status(&mut command)?;
    // What runs in a container has our exit codes.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn lint(root: &Path) -> anyhow::Result<Vec<(String, Verdict)>> {
    let files = dockerfiles(root)?;
    if files.is_empty() {
        bail!("no docker/Dockerfile.* in {}", root.display());
    }
    let mut checks = Vec::new();
    for path in &files {
        let file = path.display();
        let text = std::fs::read_to_string(root.join(path))
            .with_context(|| format!("cannot read {file}"))?;
        let problems = rules::check(path, &text);
        for problem in &problems {
            println!("{file}:{problem}");
        }
        let verdict = match problems.len() {
            0 => Verdict::Passed,
            number => Verdict::Failed(format!("{number} broken rule(s), see above")),
        };
        checks.push((format!("rules of {file}"), verdict));
        for base in rules::bases_without_digest(&text) {
            eprintln!("{file}: {base} goes by its tag; docker/README.md says how to pin it");
        }
    }
    let hadolint = match linters::program(root, "hadolint") {
        Err(reason) => Verdict::Skipped(reason),
        Ok(program) => {
            let mut command = Command::new(program);
            command.current_dir(root);
            command
                .args(["--config", "docker/hadolint.yaml"])
                .args(&files);
            verdict::of_status(cargo::status(&mut command)?)
        }
    };
    checks.push(("hadolint".to_owned(), hadolint));
    Ok(checks)
}

fn dockerfiles(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let files = tidy::files::list(root)?.into_iter();
    Ok(files
        .filter(|file| file.starts_with("docker/Dockerfile"))
        .map(PathBuf::from)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_has_a_dockerfile_and_the_reverse() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let files = dockerfiles(&root).unwrap();
        for image in Image::value_variants() {
            assert!(files.contains(&PathBuf::from(image.file())), "{image:?}");
        }
        for file in files {
            let built = Image::value_variants()
                .iter()
                .any(|i| Path::new(i.file()) == file);
            assert!(built, "{}", file.display());
        }
    }

    #[test]
    fn the_committed_dockerfiles_follow_the_rules() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for file in dockerfiles(&root).unwrap() {
            let text = std::fs::read_to_string(root.join(&file)).unwrap();
            assert_eq!(rules::check(&file, &text), Vec::<String>::new());
        }
    }
}
