//! The images: their Dockerfiles, and what tells images of one Dockerfile apart.

use std::path::Path;

use clap::ValueEnum;

use super::engine::Engine;
use crate::gpu;

/// The images, one a target.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Image {
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

/// A device that a container must be given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Accelerator {
    /// An NVIDIA GPU.
    Gpu,
    /// A TPU.
    Tpu,
}

impl Image {
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub fn file(self) -> &'static str {
        match self {
            Self::Cpu => "docker/Dockerfile.cpu",
            Self::Gpu => "docker/Dockerfile.gpu",
            Self::Tpu => "docker/Dockerfile.tpu",
            Self::Beam | Self::BeamGpu | Self::BeamTpu | Self::BeamDask => "docker/Dockerfile.beam",
        }
    }

    /// What tells images of one Dockerfile apart.
    pub fn build_args(self) -> &'static [&'static str] {
        match self {
            Self::BeamGpu => &["DEVICE=cuda"],
            Self::BeamTpu => &["DEVICE=tpu"],
            Self::BeamDask => &["PYTHON_PACKAGES=dask"],
            Self::Cpu | Self::Gpu | Self::Tpu | Self::Beam => &[],
        }
    }

    pub fn tag(self) -> String {
        format!("hardware-accelerators/{}:dev", self.name())
    }

    /// Whether Beam's image is its base.
    pub fn is_beams(self) -> bool {
        matches!(
            self,
            Self::Beam | Self::BeamGpu | Self::BeamTpu | Self::BeamDask
        )
    }

    /// What its program computes on where there is one; without it, on the CPU.
    pub fn accelerator(self) -> Option<Accelerator> {
        match self {
            Self::Gpu | Self::BeamGpu => Some(Accelerator::Gpu),
            Self::Tpu | Self::BeamTpu => Some(Accelerator::Tpu),
            Self::Cpu | Self::Beam | Self::BeamDask => None,
        }
    }
}

impl Accelerator {
    /// Whether this machine has one. An engine that is asked for one that is not there starts
    /// nothing, and says so in words of its own.
    pub fn is_here(self) -> bool {
        match self {
            Self::Gpu => gpu::found().is_some(),
            Self::Tpu => ["/dev/accel0", "/dev/vfio/0"]
                .iter()
                .any(|file| Path::new(file).exists()),
        }
    }

    /// Where it was looked for.
    pub fn absence(self) -> &'static str {
        match self {
            Self::Gpu => "no NVIDIA GPU here (nvidia-smi shows none)",
            Self::Tpu => "no TPU here (neither /dev/accel0 nor /dev/vfio/0)",
        }
    }

    /// What the engine must be told so that the program sees it.
    pub fn arguments(self, engine: Engine) -> &'static [&'static str] {
        match (self, engine) {
            (Self::Gpu, Engine::Docker) => &["--gpus", "all"],
            (Self::Gpu, _) => &["--device", "nvidia.com/gpu=all"],
            // As Google's documentation of TPU machines has it.
            (Self::Tpu, _) => &["--privileged", "--network", "host"],
        }
    }
}
