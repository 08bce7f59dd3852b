//! `cargo x containers`: checks, builds and runs the images of `docker/`.
//!
//! Checking the files needs no container engine. Building takes docker with its daemon, podman or
//! buildah, whichever is here; without one it is skipped and says what would bring one.
//!
//! - [`image`]: which images there are, and the device that each can use
//! - [`engine`]: the programs that build and run them
//! - [`stand_in`]: bases that are made here, where no registry can be reached
//! - [`check`]: what an image must do on this machine
//! - [`rules`]: what hadolint does not know of this project

mod check;
mod engine;
mod image;
mod rules;
mod stand_in;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use accel::checkout;
use anyhow::{Context, bail};
use clap::Subcommand;

use self::{
    engine::{Build, Engine, NO_ENGINE},
    image::Image,
};
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
    /// Build images, run each without a network, and judge what it says.
    Check(CheckArgs),
}

#[derive(clap::Args)]
struct BuildArgs {
    /// Which image.
    #[arg(value_enum)]
    image: Image,
    /// Another value for an ARG of the Dockerfile: a base by digest, a mirror.
    #[arg(long, value_name = "NAME=VALUE", value_parser = build_arg)]
    build_arg: Vec<String>,
    /// Where no registry can be reached: bases that are made here, by debootstrap and out of this
    /// machine's Rust. To see that it builds, not to be published.
    #[arg(long)]
    stand_in: bool,
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

#[derive(clap::Args)]
struct CheckArgs {
    /// Which images.
    #[arg(value_enum, required = true)]
    image: Vec<Image>,
    /// Another value for an ARG of the Dockerfiles: a base by digest, a mirror.
    #[arg(long, value_name = "NAME=VALUE", value_parser = build_arg)]
    build_arg: Vec<String>,
    /// As `build --stand-in`.
    #[arg(long)]
    stand_in: bool,
    /// What cannot be done here is a failure.
    #[arg(long)]
    required: bool,
    /// Goes to the engine's build command.
    #[arg(last = true)]
    arguments: Vec<String>,
}

fn build_arg(text: &str) -> Result<String, String> {
    match text.contains('=') {
        true => Ok(text.to_owned()),
        false => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Runs the command.
///
/// # Errors
/// If the files cannot be listed, or an engine cannot be run.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    match &args.command {
        Action::Lint { required } => Ok(conclude(&lint(root)?, *required)),
        Action::Build(args) => build(args, root),
        Action::Run(args) => run_image(args),
        Action::Check(args) => check_images(args, root),
    }
}

fn build(args: &BuildArgs, root: &Path) -> anyhow::Result<ExitCode> {
    let end = |verdict| {
        let name = format!("build {}", args.image.name());
        Ok(conclude(&[(name, verdict)], args.required))
    };
    let Some(engine) = Engine::find(&Engine::BUILDERS) else {
        return end(Verdict::Skipped(NO_ENGINE.to_owned()));
    };
    if args.stand_in && !args.dry_run {
        let verdict = stand_in::make(args.image, engine, &args.arguments, root)?;
        if verdict != Verdict::Passed {
            return end(verdict);
        }
    }
    let tag = args.tag.clone().unwrap_or_else(|| args.image.tag());
    let source = Source {
        stand_in: args.stand_in,
        build_args: &args.build_arg,
        arguments: &args.arguments,
    };
    let command = build_command(args.image, &tag, &source, engine, root);
    run_to_end(command, args.dry_run)
}

/// What the images are built from, beside the files.
struct Source<'a> {
    /// Bases that were made here, in place of a registry's.
    stand_in: bool,
    build_args: &'a [String],
    arguments: &'a [String],
}

fn build_command(image: Image, tag: &str, source: &Source, engine: Engine, root: &Path) -> Command {
    let mut build_args = Vec::new();
    let commit = checkout::commit(root);
    if let Some(commit) = commit.filter(|commit| !commit.dirty) {
        build_args.push(format!("REVISION={}", commit.id));
    }
    let own = image.build_args().iter();
    build_args.extend(own.map(|&value| value.to_owned()));
    let mut arguments = source.arguments.to_owned();
    if source.stand_in {
        build_args.extend(stand_in::build_args(image));
        arguments = stand_in::with_no_registry(engine, &arguments);
    }
    // The user's come last: of two with one name, the engine takes the later.
    build_args.extend_from_slice(source.build_args);
    let build = Build {
        file: Path::new(image.file()),
        context: Path::new("."),
        tag,
        build_args: &build_args,
        arguments: &arguments,
    };
    engine.build(&build, root)
}

fn run_image(args: &RunArgs) -> anyhow::Result<ExitCode> {
    // buildah does not run images.
    let Some(engine) = Engine::find(&[Engine::Docker, Engine::Podman]) else {
        let name = format!("run {}", args.image.name());
        let skipped = Verdict::Skipped(NO_ENGINE.to_owned());
        return Ok(conclude(&[(name, skipped)], args.required));
    };
    let accelerator = args.image.accelerator();
    let is_here = accelerator.is_some_and(|accelerator| accelerator.is_here());
    if let Some(accelerator) = accelerator.filter(|_| !is_here) {
        eprintln!("{}: the container gets none", accelerator.absence());
    }
    let mut command = engine.run(args.image, is_here, &args.engine_arg);
    command.arg(args.tag.clone().unwrap_or_else(|| args.image.tag()));
    command.args(&args.arguments);
    run_to_end(command, args.dry_run)
}

fn run_to_end(mut command: Command, dry_run: bool) -> anyhow::Result<ExitCode> {
    if dry_run {
        println!("{}", cargo::words(&command));
        return Ok(ExitCode::SUCCESS);
    }
    let status = cargo::status(&mut command)?;
    // What runs in a container has our exit codes.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn check_images(args: &CheckArgs, root: &Path) -> anyhow::Result<ExitCode> {
    let mut checks = Vec::new();
    for &image in &args.image {
        let name = image.name();
        let Some(engine) = Engine::find(&Engine::BUILDERS) else {
            checks.push((name, Verdict::Skipped(NO_ENGINE.to_owned())));
            continue;
        };
        let mut built = Verdict::Passed;
        if args.stand_in {
            built = stand_in::make(image, engine, &args.arguments, root)?;
        }
        if built == Verdict::Passed {
            let source = Source {
                stand_in: args.stand_in,
                build_args: &args.build_arg,
                arguments: &args.arguments,
            };
            let mut command = build_command(image, &image.tag(), &source, engine, root);
            built = verdict::of_status(cargo::status(&mut command)?);
        }
        let is_built = built == Verdict::Passed;
        checks.push((format!("{name}: build"), built));
        if !is_built {
            continue;
        }
        let here = image.accelerator().filter(|device| device.is_here());
        for look in check::looks(image, here) {
            let verdict = match engine.runs() {
                false => Verdict::Skipped("docker or podman; buildah runs no image".to_owned()),
                true => {
                    look.judge(look.command(without_network(engine, image, here), &image.tag()))?
                }
            };
            checks.push((format!("{name}: {}", look.shows), verdict));
        }
    }
    Ok(conclude(&checks, args.required))
}

/// What is in an image is enough; a TPU's container alone has the host's network.
fn without_network(engine: Engine, image: Image, here: Option<image::Accelerator>) -> Command {
    let none = match here {
        Some(image::Accelerator::Tpu) => vec![],
        _ => vec!["--network".to_owned(), "none".to_owned()],
    };
    engine.run(image, here.is_some(), &none)
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
    use clap::ValueEnum;

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

    #[test]
    fn the_clusters_image_is_ours_and_its_ports_are_of_this_machine_alone() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = std::fs::read_to_string(root.join("docker/compose.yaml")).unwrap();
        let image = format!("${{ACCELERATORS_IMAGE:-{}}}", Image::BeamDask.tag());
        assert!(text.contains(&image), "{image}");
        let ports: Vec<&str> = (text.lines())
            .skip_while(|line| line.trim() != "ports:")
            .skip(1)
            .take_while(|line| line.trim().starts_with("- "))
            .collect();
        assert_eq!(ports.len(), 2);
        for port in ports {
            assert!(port.trim().starts_with("- \"127.0.0.1:"), "{port}");
        }
    }
}
