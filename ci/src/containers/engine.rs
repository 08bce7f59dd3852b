//! The programs that build and run images.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use super::image::Image;

/// What a skip says where there is none.
pub const NO_ENGINE: &str = "docker with a running daemon, podman or buildah; on Debian and Ubuntu `apt-get install -y podman`";

/// A program that builds images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Engine {
    /// docker, with a daemon that answers.
    Docker,
    /// podman, which needs no daemon.
    Podman,
    /// buildah, which builds and does not run what is built.
    Buildah,
}

/// What is built.
pub struct Build<'a> {
    /// The Dockerfile.
    pub file: &'a Path,
    /// The folder that COPY copies from.
    pub context: &'a Path,
    /// The image's name.
    pub tag: &'a str,
    /// `NAME=VALUE`, in place of the Dockerfile's values; the last one counts.
    pub build_args: &'a [String],
    /// Go to the engine as they are.
    pub arguments: &'a [String],
}

impl Engine {
    /// Those that build, in the order of preference.
    pub const BUILDERS: [Engine; 3] = [Engine::Docker, Engine::Podman, Engine::Buildah];

    fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Buildah => "buildah",
        }
    }

    /// Whether it can run what it has built.
    pub fn runs(self) -> bool {
        self != Self::Buildah
    }

    /// The first that works here. A docker without its daemon does not.
    pub fn find(among: &[Engine]) -> Option<Engine> {
        among.iter().copied().find(|engine| match engine {
            Engine::Docker => engine.answers(&["info"]),
            Engine::Podman | Engine::Buildah => engine.answers(&["--version"]),
        })
    }

    /// Whether an image of this name is on this machine.
    pub fn has(self, tag: &str) -> bool {
        match self {
            Self::Docker | Self::Podman => self.answers(&["image", "inspect", tag]),
            Self::Buildah => self.answers(&["inspect", "--type", "image", tag]),
        }
    }

    fn answers(self, question: &[&str]) -> bool {
        let mut command = Command::new(self.program());
        command.args(question);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// What keeps the engine from asking a registry for a base that is only here.
    pub fn without_registry(self) -> Option<&'static str> {
        match self {
            // It takes what is here by itself.
            Self::Docker => None,
            Self::Podman | Self::Buildah => Some("--pull=never"),
        }
    }

    /// The command that builds, in the folder `root`.
    pub fn build(self, build: &Build, root: &Path) -> Command {
        let mut command = Command::new(self.program());
        command.current_dir(root).arg("build");
        match self {
            Self::Docker => {}
            // The other format drops SHELL and HEALTHCHECK.
            Self::Podman | Self::Buildah => {
                command.args(["--format", "docker", "--layers"]);
            }
        }
        command.arg("--file").arg(build.file);
        command.args(["--tag", build.tag]);
        for value in build.build_args {
            command.args(["--build-arg", value]);
        }
        command.args(build.arguments).arg(build.context);
        command
    }

    /// The command that runs an image, up to the image's name.
    ///
    /// * `with_accelerator`: whether the container gets the image's accelerator
    pub fn run(self, image: Image, with_accelerator: bool, arguments: &[String]) -> Command {
        let mut command = Command::new(self.program());
        command.args(["run", "--rm"]);
        if let Some(accelerator) = image.accelerator().filter(|_| with_accelerator) {
            command.args(accelerator.arguments(self));
        }
        command.args(arguments);
        command
    }
}
