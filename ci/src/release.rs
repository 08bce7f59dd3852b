//! `cargo x release`: a folder with what a release has: the programs, the book, lists of
//! what both are made of, and checksums.

mod bill_of_materials;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use accel::checkout;
use anyhow::{Context, bail, ensure};

use crate::{
    book, cargo, checksums, native_pins, pack,
    phases::Phases,
    quantities::size,
    setup,
    verdict::{Verdict, conclude},
};

/// Options of `cargo x release`.
#[derive(clap::Args)]
pub struct Args {
    /// The folder to make; it must not be there, or be a release's.
    #[arg(long, value_name = "DIR", default_value = "dist")]
    out: PathBuf,
    /// Only the lists of what the project is made of (CycloneDX).
    #[arg(long)]
    only_sbom: bool,
    /// A part that cannot be made here is a failure.
    #[arg(long)]
    required: bool,
    /// Upload the folder as the release of this tag, which must be the current commit's
    /// (needs gh, and leave to write).
    #[arg(long, value_name = "TAG")]
    publish: Option<String>,
}

/// The packages whose programs are released.
const PACKAGES: [&str; 4] = [
    "cpu-inference",
    "gpu-inference",
    "tpu-training",
    "parallel-training",
];

/// What a program needs that the archive does not hold, for its reader.
const README: &str = "\
Programs of the book \"Hardware Accelerators in Rust\", for this platform.

They look for libtorch and XLA's plugins as the book's page \"Setting up\" says: in .native/ of
the folder above bin/, or where LD_LIBRARY_PATH and PJRT_PLUGIN_LIBRARY_PATH say. `bin/x setup`,
run in this folder, fetches them.
";

/// What every platform's archive holds beside the programs: what marks a project's root.
const ROOT_FILES: [&str; 5] = [
    "Cargo.toml",
    "ci/native.toml",
    "shared/result.schema.json",
    "LICENSE-MIT",
    "LICENSE-APACHE",
];

/// Runs the command.
///
/// # Errors
/// If something cannot be built or written.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let out = std::path::absolute(root.join(&args.out)).context("--out")?;
    if out.exists() && !out.join(checksums::FILE).is_file() {
        bail!(
            "--out {}: it is there and is no release; give a folder that is not there yet",
            out.display()
        );
    }
    if let Some(tag) = &args.publish {
        check_tag(tag, root)?;
    }
    let work = tempfile::Builder::new()
        .prefix(".release-")
        .tempdir_in(root)
        .context("a folder in the project")?;
    let fresh = work.path().join("dist");
    std::fs::create_dir_all(&fresh)
        .with_context(|| format!("cannot create {}", fresh.display()))?;
    let mut phases = Phases::default();
    let mut checks = Vec::new();

    let sbom = phases.time("sbom", || bill_of_materials::write(root, &fresh))?;
    checks.push(("bill of materials of the crates".to_owned(), sbom));
    if !args.only_sbom {
        phases.time("setup", || setup::ensure(root, &[]))?;
        phases.time("programs", || programs(root, work.path(), &fresh))?;
        checks.push(("programs".to_owned(), Verdict::Passed));
        phases.time("book", || rendered_book(root, &fresh))?;
        checks.push(("book".to_owned(), Verdict::Passed));
    }
    checksums::write(&fresh)?;
    let swap = || -> std::io::Result<()> {
        if out.exists() {
            std::fs::rename(&out, work.path().join("old"))?;
        }
        out.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::rename(&fresh, &out)
    };
    swap().with_context(|| format!("cannot put {} into place", out.display()))?;
    for file in checksums::files(&out)? {
        let bytes = out
            .join(&file)
            .metadata()
            .map_or(0, |metadata| metadata.len());
        println!("{:>8}  {file}", size(bytes));
    }
    eprintln!("{phases}");
    let code = conclude(&checks, args.required);
    if let Some(tag) = &args.publish {
        if code != ExitCode::SUCCESS {
            bail!("{tag} was not published: see above");
        }
        publish(tag, &out, root)?;
    }
    Ok(code)
}

/// Programs without their symbols, packed with what marks a root.
fn programs(root: &Path, work: &Path, out: &Path) -> anyhow::Result<()> {
    let mut build = cargo::programs("build", PACKAGES.into_iter().chain(["x"]), root);
    let status = cargo::status(build.arg("--locked"))?;
    ensure!(
        status.success(),
        "`{}` failed ({status})",
        cargo::words(&build)
    );
    let name = format!(
        "hardware-accelerators-{}-{}",
        version(root)?,
        native_pins::this_platform()
    );
    let folder = work.join(&name);
    for package in PACKAGES.into_iter().chain(["x"]) {
        let program = cargo::program(root, package);
        pack::strip(&program, &folder.join("bin").join(package))?;
    }
    for file in ROOT_FILES {
        pack::copy(&root.join(file), &folder.join(file))?;
    }
    std::fs::write(folder.join("README"), README).context("cannot write README")?;
    if let Some(commit) = checkout::commit(root) {
        let text = serde_json::to_vec(&commit)?;
        std::fs::write(folder.join(checkout::PACKED_COMMIT), text)
            .context("cannot write the commit")?;
    }
    archive(work, &name, &out.join(format!("{name}.tar.gz")))
}

fn rendered_book(root: &Path, out: &Path) -> anyhow::Result<()> {
    let mut render = book::command(root);
    let status = cargo::status(&mut render)?;
    ensure!(
        status.success(),
        "{} failed ({status})",
        cargo::words(&render)
    );
    let name = format!("hardware-accelerators-{}-book.tar.gz", version(root)?);
    archive(&root.join("book"), "html", &out.join(name))
}

/// `tar` with sorted names, one owner and one time, so that the same files give the same bytes
/// (where it is GNU's; another one packs as it does).
fn archive(folder: &Path, name: &str, to: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("tar");
    command.arg("--create").arg("--gzip").arg("--file").arg(to);
    if cfg!(target_os = "linux") {
        command.args([
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mtime=@0",
        ]);
    }
    command.arg("--directory").arg(folder).arg(name);
    // gzip would write the time of day.
    command.env("GZIP", "-n");
    let status = cargo::status(&mut command)?;
    ensure!(
        status.success(),
        "`{}` failed ({status})",
        cargo::words(&command)
    );
    Ok(())
}

/// The workspace's version.
fn version(root: &Path) -> anyhow::Result<String> {
    let text =
        std::fs::read_to_string(root.join("Cargo.toml")).context("cannot read Cargo.toml")?;
    let manifest: toml::Table = text.parse().context("Cargo.toml is no TOML")?;
    let version = || {
        manifest
            .get("workspace")?
            .get("package")?
            .get("version")?
            .as_str()
    };
    Ok(version()
        .context("Cargo.toml has no workspace.package.version")?
        .to_owned())
}

/// A release is of a clean commit, and its tag names the workspace's version.
fn check_tag(tag: &str, root: &Path) -> anyhow::Result<()> {
    let expected = format!("v{}", version(root)?);
    ensure!(
        tag == expected,
        "--publish {tag}: Cargo.toml says {expected}"
    );
    let commit = checkout::commit(root).context("--publish: no commit here")?;
    ensure!(
        !commit.dirty,
        "--publish {tag}: commit or put away the changes first"
    );
    Ok(())
}

/// Makes the release, or adds this platform's files to it.
fn publish(tag: &str, out: &Path, root: &Path) -> anyhow::Result<()> {
    let gh = |words: &[&str]| {
        let mut command = Command::new("gh");
        command.current_dir(root).args(["release"]).args(words);
        command
    };
    // Each platform has checksums of its own.
    let sums = out.join(format!(
        "{}-{}",
        checksums::FILE,
        native_pins::this_platform()
    ));
    std::fs::copy(out.join(checksums::FILE), &sums)
        .with_context(|| format!("cannot write {}", sums.display()))?;
    let mut view = gh(&["view", tag]);
    view.stdout(Stdio::null()).stderr(Stdio::null());
    let mut upload = match cargo::status(&mut view)?.success() {
        true => gh(&["upload", tag, "--clobber"]),
        false => {
            let notes =
                "See CHANGELOG.md. SHA256SUMS-PLATFORM has the checksums of a platform's files.";
            gh(&[
                "create",
                tag,
                "--verify-tag",
                "--title",
                tag,
                "--notes",
                notes,
            ])
        }
    };
    upload.args(checksums::files(out)?.iter().map(|file| out.join(file)));
    let status = cargo::status(&mut upload)?;
    ensure!(status.success(), "gh could not publish {tag} ({status})");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_marks_a_root_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for file in ROOT_FILES {
            assert!(root.join(file).is_file(), "{file}");
        }
        assert!(
            version(&root)
                .unwrap()
                .starts_with(|c: char| c.is_ascii_digit())
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_same_files_give_the_same_archive() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::create_dir(folder.join("a")).unwrap();
        std::fs::write(folder.join("a/b"), "text").unwrap();
        let made = |name: &str| {
            archive(folder, "a", &folder.join(name)).unwrap();
            std::fs::read(folder.join(name)).unwrap()
        };
        let first = made("1.tar.gz");
        std::fs::write(folder.join("a/b"), "text").unwrap();
        assert_eq!(first, made("2.tar.gz"));
    }
}
