//! What a set-up fetches, in a folder that is carried to a machine without a network: wheels,
//! the sources of all crates, checksums, and a README.

use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::{cargo, checksums, native_pins::Wheel, pip, quantities::size, wheel};

/// The wheels' folder in the bundle.
const WHEELS: &str = "wheels";
/// The crates' folder in the bundle.
const VENDOR: &str = "vendor";
/// The word that the reader replaces with the bundle's place.
const PLACE: &str = "BUNDLE";

/// What cargo must be told to take the crates from the bundle.
const CARGO_CONFIG: &str = "\
# Crates come from this bundle. README.md says where this goes.
[source.crates-io]
replace-with = \"bundle\"

[source.bundle]
directory = \"BUNDLE/vendor\"
";

/// Makes the bundle.
///
/// * `wheels`: what the set-up would fetch if nothing was there
/// * `flags`: the flags of that set-up
///
/// # Errors
/// If the folder is there and is no bundle, a wheel cannot be fetched, or cargo fails.
pub fn make(
    wheels: &[&Wheel],
    platform: &str,
    flags: &[&str],
    folder: &Path,
    root: &Path,
) -> anyhow::Result<()> {
    if folder.exists() && !folder.join(checksums::FILE).is_file() {
        bail!(
            "--bundle {}: it is there and is no bundle; give a folder that is not there yet",
            folder.display()
        );
    }
    let parent = folder
        .parent()
        .context("--bundle: no folder to make it in")?;
    std::fs::create_dir_all(parent)
        .with_context(|| format!("cannot create {}", parent.display()))?;
    let work = tempfile::Builder::new()
        .prefix(".bundle-")
        .tempdir_in(parent)
        .with_context(|| format!("cannot create a folder in {}", parent.display()))?;
    let fresh = work.path().join("bundle");
    let target = fresh.join(WHEELS);
    std::fs::create_dir_all(&target)
        .with_context(|| format!("cannot create {}", target.display()))?;
    for wheel in wheels {
        let name = wheel.file_name();
        let [own, older] =
            [root.join(".native/wheels"), folder.join(WHEELS)].map(|place| place.join(&name));
        let there = [own, older]
            .into_iter()
            .find(|path| wheel::verify(wheel, path).is_ok());
        let path = match there {
            Some(path) => path,
            None => {
                eprintln!("fetching {wheel}, {}", size(wheel.bytes));
                let download = work.path().join(format!("pip-{name}"));
                std::fs::create_dir(&download).context("a folder for pip")?;
                let path = pip::download(wheel, &download, |_| {})?;
                wheel::verify(wheel, &path).context("pip let another file through")?;
                path
            }
        };
        std::fs::copy(&path, target.join(&name))
            .with_context(|| format!("cannot copy {}", path.display()))?;
    }

    let mut vendor = cargo::command(root);
    vendor
        .args(["vendor", "--quiet", "--locked", "--versioned-dirs"])
        .arg(fresh.join(VENDOR))
        // It prints settings that hold this machine's paths.
        .stdout(std::process::Stdio::null());
    let status = cargo::status(&mut vendor)?;
    ensure!(
        status.success(),
        "`{}` failed ({status})",
        cargo::words(&vendor)
    );
    let write = |name: &str, text: &str| {
        std::fs::write(fresh.join(name), text).with_context(|| format!("cannot write {name}"))
    };
    write("cargo-config.toml", CARGO_CONFIG)?;
    write("README.md", &readme(platform, flags))?;
    checksums::write(&fresh)?;
    let swap = || -> std::io::Result<()> {
        if folder.exists() {
            std::fs::rename(folder, work.path().join("old"))?;
        }
        std::fs::rename(&fresh, folder)
    };
    swap().with_context(|| format!("cannot put {} into place", folder.display()))
}

/// Puts the wheels that are wanted where set-up looks before it fetches.
///
/// # Errors
/// If a file of the bundle was changed, or a wheel is missing.
pub fn take(wheels: &[&Wheel], folder: &Path, native: &Path) -> anyhow::Result<()> {
    let sums = checksums::read(folder)
        .with_context(|| format!("--from-bundle {}: it is no bundle", folder.display()))?;
    let cache = native.join("wheels");
    for wheel in wheels {
        let name = wheel.file_name();
        ensure!(
            sums.contains_key(&format!("{WHEELS}/{name}")),
            "--from-bundle {}: it has no {wheel}: it was made with other flags, for another \
             platform, or from other pins",
            folder.display()
        );
        let path = folder.join(WHEELS).join(&name);
        // Its pin, not the bundle's own checksum, says what it must be.
        wheel::verify(wheel, &path).with_context(|| path.display().to_string())?;
        std::fs::create_dir_all(&cache)
            .and_then(|()| std::fs::copy(&path, cache.join(&name)).map(drop))
            .with_context(|| format!("cannot copy {} to {}", path.display(), cache.display()))?;
    }
    // The crates have no pin of ours beside it: they are what this bundle's maker saw.
    checksums::verify(folder)
}

fn readme(platform: &str, flags: &[&str]) -> String {
    let flags: String = flags.iter().map(|flag| format!(" --{flag}")).collect();
    format!(
        "# Set-up without a network\n\n\
         For {platform}, made by `cargo x setup --bundle DIR{flags}`. The machine needs a checkout \
         of the same commit, Rust, a C++ compiler, and for libtorch nothing else: no Python.\n\n\
         1. See that nothing was changed on the way. In this folder:\n\n\
         \x20      sha256sum --check --quiet {sums}\n\n\
         2. Let cargo take the crates from here. In this folder:\n\n\
         \x20      sed \"s|{PLACE}|$PWD|\" cargo-config.toml >> \"${{CARGO_HOME:-$HOME/.cargo}}/config.toml\"\n\n\
         3. In the checkout:\n\n\
         \x20      cargo x setup --from-bundle THIS_FOLDER{flags}\n\n\
         `cargo x learn`, `cargo build` and `cargo test` then work without a network. Not in here: \
         the Python packages of `cargo x peers` and of the tests of object stores, ImageNet weights, \
         CIFAR-10, and Rust itself. Take the two lines out of config.toml to use the network again.\n",
        sums = checksums::FILE,
    )
}
