//! `cargo x learn`: runs the chapters on this machine and renders the book with its figures.

use std::{
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::bail;

use crate::{
    book, cargo, gpu, libtorch, native_pins,
    phases::Phases,
    pjrt::{self, Platform},
    quantities::{size, time},
    setup,
};

/// A chapter that `cargo x learn` and `cargo x dry-run` run.
pub struct Chapter {
    /// Its folder under chapters/ and results-local/.
    pub name: &'static str,
    /// The package whose binary runs it.
    pub package: &'static str,
    /// What goes before `--quick --out DIR`.
    arguments: &'static [&'static str],
    /// The whole path on made-up data, in seconds; `--out DIR` comes after it.
    pub dry_run: &'static [&'static str],
    /// The PJRT plugin without which it cannot run; it is left out where none is to be had.
    needs: Option<Platform>,
}

/// The chapters, in reading order. A chapter joins by a line here.
pub const CHAPTERS: &[Chapter] = &[
    // ANCHOR: dry-run
    Chapter {
        name: "01-cpu",
        package: "cpu-inference",
        arguments: &["learn"],
        dry_run: &["run", "--dry-run", "--arch", "resnet18", "--quiet"],
        needs: None,
    },
    // ANCHOR_END: dry-run
    Chapter {
        name: "02-gpu",
        package: "gpu-inference",
        arguments: &["learn"],
        dry_run: &["run", "--dry-run", "--arch", "resnet18", "--quiet"],
        needs: None,
    },
    Chapter {
        name: "03-tpu-training",
        package: "tpu-training",
        arguments: &["learn"],
        dry_run: &["train", "--dry-run", "--width", "4", "--quiet"],
        needs: Some(Platform::Cpu),
    },
    Chapter {
        name: "04-sweep",
        package: "parallel-training",
        arguments: &["learn"],
        dry_run: &["sweep", "--dry-run", "--device", "cpu", "--quiet"],
        needs: Some(Platform::Cpu),
    },
];

/// Options of `cargo x learn`.
#[derive(clap::Args)]
pub struct Args {
    /// Short measurements (the default).
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Measure as for publication: takes much longer.
    #[arg(long)]
    full: bool,
    /// Open the page in a browser at the end.
    #[arg(long)]
    open: bool,
}

/// Runs the command: exit code 1 if a chapter or the book failed.
///
/// # Errors
/// If set-up or the build fails.
pub fn run(args: Args, root: &Path) -> anyhow::Result<ExitCode> {
    let mut phases = Phases::default();
    phases.time("setup", || setup::ensure(root, &["engines"]))?;
    // A libtorch of the user's brings its own CUDA libraries, or has none.
    if libtorch::of_the_user(root).is_none()
        && !gpu::has_libtorch(root)
        && let Some(gpu) = gpu::found()
    {
        eprintln!("{}", without_its_libtorch(&gpu, root));
    }

    let mut chapters = Vec::new();
    for chapter in CHAPTERS {
        match lack(chapter, root) {
            None => chapters.push(chapter),
            Some(reason) => eprintln!("chapter {} is left out: {reason}", chapter.name),
        }
    }
    let mut failed = Vec::new();
    let mut rendered = true;
    // One after the other: the reader has figures of the first while the second is compiled.
    for (i, chapter) in chapters.iter().enumerate() {
        let renderer = (i == 0).then_some(book::PROGRAM);
        let ran = measure(chapter, renderer, args.full, &mut phases, root)?;
        if !ran {
            failed.push(chapter.name);
        }
        // Also after a failure: the reader gets the figures that there are.
        rendered = phases.time("book", || render(root))?;
        if ran && rendered && i + 1 < chapters.len() {
            eprintln!(
                "after {}: chapter {} stands in the book with your figures: {}",
                time(phases.total()),
                chapter.name,
                book::address_of_chapter(root, chapter.name)
            );
        }
    }

    println!("\n{phases}\n");
    if !rendered {
        bail!("the book could not be rendered: see above");
    }
    println!("{}", book::address(root));
    if args.open {
        open(root);
    }
    if failed.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        bail!("failed: chapter {}", failed.join(", "));
    }
}

/// Builds a chapter's program, and another beside it, and runs it; whether it succeeded.
///
/// # Errors
/// If it cannot be built.
fn measure(
    chapter: &Chapter,
    beside: Option<&'static str>,
    full: bool,
    phases: &mut Phases,
    root: &Path,
) -> anyhow::Result<bool> {
    // By name, and not by package: what later chapters share with it is built once.
    let names = [chapter.package].into_iter().chain(beside);
    let mut build = cargo::programs("build", names, root);
    let name = format!("build {}", chapter.name);
    let built = phases.time(&name, || cargo::status(&mut build))?;
    if !built.success() {
        eprintln!("{phases}");
        bail!("{} failed ({built}): see above", cargo::words(&build));
    }
    let mut command = chapter_command(chapter, full, root);
    let status = phases.time(chapter.name, || cargo::status(&mut command))?;
    if !status.success() {
        eprintln!(
            "chapter {} failed ({status}); try `{}`",
            chapter.name,
            cargo::words(&command)
        );
    }
    Ok(status.success())
}

/// Renders the book with the figures that there are; whether it could.
fn render(root: &Path) -> anyhow::Result<bool> {
    let mut book = book::command(root);
    // It prints the page's path, which here comes at the very end.
    book.stdout(Stdio::null());
    Ok(cargo::status(&mut book)?.success())
}

/// Why a chapter cannot run on this machine, after set-up has brought what it can.
pub fn lack(chapter: &Chapter, root: &Path) -> Option<String> {
    let platform = chapter.needs?;
    if pjrt::of_the_user(platform).is_some() {
        return None;
    }
    let pins = native_pins::read(root, &native_pins::this_platform()).ok();
    let of_platform = |plugin: Option<Platform>| plugin == Some(platform);
    if let Some(pins) = &pins {
        if pins.parts.iter().any(|part| of_platform(part.pjrt)) {
            return None;
        }
        if let Some(absent) = pins.absent.iter().find(|absent| of_platform(absent.pjrt)) {
            return Some(format!("{}: {}", absent.title, absent.reason));
        }
    }
    Some(format!(
        "no PJRT plugin is pinned for this platform; set {} to one of your own",
        pjrt::VARIABLE
    ))
}

/// What to say where a GPU is here and the libtorch that it takes is not.
fn without_its_libtorch(gpu: &str, root: &Path) -> String {
    let what = match gpu::bytes_to_fetch(root) {
        0 => "no libtorch for it is pinned for this platform".to_owned(),
        bytes => format!(
            "`cargo x setup --cuda` fetches what it takes ({} at most), then run this again",
            size(bytes)
        ),
    };
    format!("a GPU is here ({gpu}), and its libtorch is not: {what}; chapter 2 runs on the CPU now")
}

fn chapter_command(chapter: &Chapter, full: bool, root: &Path) -> Command {
    let mut command = cargo::programs("run", [chapter.package], root);
    command.args(["--quiet", "--"]).args(chapter.arguments);
    if !full {
        command.arg("--quick");
    }
    command
        .arg("--out")
        .arg(Path::new("results-local").join(chapter.name));
    command
}

fn open(root: &Path) {
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let opened = Command::new(opener).arg(root.join(book::PAGE)).status();
    if !opened.is_ok_and(|status| status.success()) {
        eprintln!("{opener} could not open the page: open the address above in a browser");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chapter_without_its_plugin_is_left_out_with_the_reason() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let chapter = |needs| Chapter {
            needs,
            ..Chapter { ..CHAPTERS[0] }
        };
        assert_eq!(lack(&chapter(None), &root), None);
        let nowhere = lack(&chapter(Some(Platform::Cpu)), Path::new("/nowhere"));
        assert!(nowhere.is_some_and(|text| text.contains(pjrt::VARIABLE)));
        if cfg!(target_os = "linux") {
            assert_eq!(lack(&chapter(Some(Platform::Cpu)), &root), None);
        }
    }

    #[test]
    fn chapters_are_quick_unless_told_otherwise() {
        let words = |full| cargo::words(&chapter_command(&CHAPTERS[0], full, Path::new(".")));
        let quick = words(false);
        assert!(
            quick.ends_with(
                "--bin cpu-inference --quiet -- learn --quick --out results-local/01-cpu"
            ),
            "{quick}"
        );
        assert!(!words(true).contains("--quick"));
    }
}
