//! Bases that are made here, for machines that reach no registry: Debian by debootstrap, Rust out
//! of this machine's toolchain, and Python with Apache Beam in place of Beam's own image.
//!
//! They show that a Dockerfile builds and that its image runs. They are not what is published:
//! Beam's has no entry point for its engines, and Debian's has no security updates.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use super::{
    engine::{Build, Engine},
    image::Image,
};
use crate::{cargo, toolchain, verdict::Verdict};

/// One base.
#[derive(Clone, Copy, Debug, PartialEq)]
enum StandIn {
    Debian,
    Rust,
    Beam,
}

const DEBIAN: &str = "FROM scratch\n\
    ADD debian.tar /\n\
    CMD [\"bash\"]\n";

const RUST: &str = "ARG DEBIAN\n\
    FROM ${DEBIAN}\n\
    COPY bin /usr/local/rust/bin\n\
    COPY lib /usr/local/rust/lib\n\
    ENV PATH=/usr/local/rust/bin:$PATH CARGO_HOME=/usr/local/cargo\n";

/// Debian 12 has Python 3.11, as Beam's image. Dask stays out: `beam-dask` installs it.
const BEAM: &str = "ARG DEBIAN\n\
    FROM ${DEBIAN}\n\
    RUN apt-get update \\\n\
    \x20   && apt-get install -y --no-install-recommends ca-certificates python3 python3-pip python-is-python3 \\\n\
    \x20   && rm -rf /var/lib/apt/lists/* /usr/lib/python3*/EXTERNALLY-MANAGED\n\
    COPY chapters/04-sweep/beam/requirements.txt /tmp/requirements.txt\n\
    RUN awk '/^[^ #]/ { wanted = !/^(dask|distributed)==/ } wanted' /tmp/requirements.txt > /tmp/beam.txt \\\n\
    \x20   && pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/beam.txt\n";

impl StandIn {
    fn tag(self) -> &'static str {
        match self {
            Self::Debian => "localhost/hardware-accelerators/stand-in-debian:bookworm",
            Self::Rust => "localhost/hardware-accelerators/stand-in-rust:bookworm",
            Self::Beam => "localhost/hardware-accelerators/stand-in-beam:bookworm",
        }
    }

    fn base_of(image: Image) -> StandIn {
        match image.is_beams() {
            true => Self::Beam,
            false => Self::Debian,
        }
    }
}

/// The values of the Dockerfile's arguments that put the stand-ins into the bases' places.
pub fn build_args(image: Image) -> [String; 2] {
    [
        format!("RUST_BASE={}", StandIn::Rust.tag()),
        format!("BASE={}", StandIn::base_of(image).tag()),
    ]
}

/// Makes the stand-ins of an image that are not here yet.
///
/// * `arguments`: go to the engine's build command
///
/// # Errors
/// If a program cannot be run, or the disk is full.
pub fn make(
    image: Image,
    engine: Engine,
    arguments: &[String],
    root: &Path,
) -> anyhow::Result<Verdict> {
    for stand_in in [StandIn::Debian, StandIn::Rust, StandIn::base_of(image)] {
        if engine.has(stand_in.tag()) {
            continue;
        }
        let verdict = make_one(stand_in, engine, arguments, root)?;
        if verdict != Verdict::Passed {
            return Ok(verdict);
        }
    }
    Ok(Verdict::Passed)
}

fn make_one(
    stand_in: StandIn,
    engine: Engine,
    arguments: &[String],
    root: &Path,
) -> anyhow::Result<Verdict> {
    let native = root.join(".native");
    let work = fs::create_dir_all(&native)
        .and_then(|()| {
            tempfile::Builder::new()
                .prefix(".stand-in-")
                .tempdir_in(native)
        })
        .context("cannot make a folder in .native")?;
    let (text, context) = match stand_in {
        StandIn::Debian => match debian(work.path())? {
            Verdict::Passed => (DEBIAN, work.path().to_owned()),
            other => return Ok(other),
        },
        StandIn::Rust => match sysroot() {
            Some(folder) => (RUST, folder),
            None => {
                let reason = "rustc, whose toolchain goes into the image; https://rustup.rs";
                return Ok(Verdict::Skipped(reason.to_owned()));
            }
        },
        StandIn::Beam => (BEAM, PathBuf::from(".")),
    };
    let file = work.path().join("Dockerfile");
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let build_args = match stand_in {
        StandIn::Debian => vec![],
        StandIn::Rust | StandIn::Beam => vec![format!("DEBIAN={}", StandIn::Debian.tag())],
    };
    let mut command = engine.build(
        &Build {
            file: &file,
            context: &context,
            tag: stand_in.tag(),
            build_args: &build_args,
            arguments: &with_no_registry(engine, arguments),
        },
        root,
    );
    done(&mut command)
}

/// The user's arguments and the one that keeps the engine from asking a registry.
pub fn with_no_registry(engine: Engine, arguments: &[String]) -> Vec<String> {
    let own = engine.without_registry().map(str::to_owned);
    own.into_iter().chain(arguments.iter().cloned()).collect()
}

/// Debian's smallest root as `debian.tar` in the folder. Package lists and packages stay out, and
/// so do device files, which an engine makes itself.
fn debian(folder: &Path) -> anyhow::Result<Verdict> {
    let is_root = toolchain::first_line("id", &["-u"]).as_deref() == Some("0");
    if !is_root || toolchain::first_line("debootstrap", &["--version"]).is_none() {
        let reason = "debootstrap, and to be run as root; `apt-get install -y debootstrap`";
        return Ok(Verdict::Skipped(reason.to_owned()));
    }
    let files = folder.join("root");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", "bookworm"]);
    let verdict = done(debootstrap.arg(&files))?;
    if verdict != Verdict::Passed {
        return Ok(verdict);
    }
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file");
    tar.arg(folder.join("debian.tar"));
    tar.arg("--directory").arg(&files);
    for left_out in ["./dev/*", "./var/cache/apt/*", "./var/lib/apt/lists/*"] {
        tar.args(["--exclude", left_out]);
    }
    done(tar.arg("."))
}

/// Where rustc of this project lies, with its libraries.
fn sysroot() -> Option<PathBuf> {
    let folder = toolchain::first_line("rustc", &["--print", "sysroot"])?;
    fs::canonicalize(folder).ok()
}

fn done(command: &mut Command) -> anyhow::Result<Verdict> {
    let status = cargo::status(command)?;
    Ok(match status.success() {
        true => Verdict::Passed,
        false => Verdict::Failed(format!("{}: {status}", cargo::words(command))),
    })
}
