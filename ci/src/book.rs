//! `cargo x book`: renders the book, or checks it.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use accel::exit;
use anyhow::bail;

use crate::{cargo, chromium, phases::Phases, results::stale};

/// Where the rendered book begins.
pub const PAGE: &str = "book/html/index.html";

/// What renders it.
pub const PROGRAM: &str = "book-builder";

/// Where the other forms go, from the root.
const EPUB: &str = "book/generated/book.epub";
const PDF: &str = "book/generated/book.pdf";

/// Options of `cargo x book`.
#[derive(clap::Args)]
pub struct Args {
    /// Fail on a missing file or anchor, a figure without a result file, and the like.
    #[arg(long)]
    check: bool,
    /// Write the book as book/generated/book.epub, too.
    #[arg(long, conflicts_with = "check")]
    epub: bool,
    /// Write the book as book/generated/book.pdf, too; needs Chromium or Chrome.
    #[arg(long, conflicts_with = "check")]
    pdf: bool,
    /// Goes to book-builder.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs the command, with book-builder's own exit code; exit code 3 where `--pdf` finds no
/// browser.
///
/// # Errors
/// If cargo or the browser cannot be run.
pub fn run(args: Args, root: &Path) -> anyhow::Result<ExitCode> {
    // Before the work, not after it.
    let browser = match args.pdf.then(chromium::find) {
        Some(None) => {
            eprintln!("error: --pdf: {}", chromium::MISSING);
            return Ok(ExitCode::from(exit::DEVICE));
        }
        Some(found) => found,
        None => None,
    };
    let mut phases = Phases::default();
    let mut command = phases.time("stale", || command(root));
    if args.check {
        command.arg("--check");
    }
    if args.epub {
        command.arg("--epub").arg(root.join(EPUB));
    }
    let status = phases.time("book", || cargo::status(command.args(args.arguments)))?;
    if status.success() && args.epub {
        println!("{}", root.join(EPUB).display());
    }
    if let Some(browser) = browser.filter(|_| status.success()) {
        phases.time("pdf", || print(&browser, root))?;
        println!("{}", root.join(PDF).display());
    }
    eprintln!("{phases}");
    // None: ended by a signal.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The command that renders the book. Finds out first which results are stale; where that
/// fails, the book has no word on it.
pub fn command(root: &Path) -> Command {
    let mut command = cargo::programs("run", [PROGRAM], root);
    command.args(["--quiet", "--", "--root"]).arg(root);
    match stale::look(root).and_then(|report| stale::write(&report, root)) {
        Ok(Some(file)) => {
            command.arg("--stale").arg(file);
        }
        Ok(None) => eprintln!("no git: the book does not say which results are stale"),
        Err(error) => eprintln!("which results are stale is not known: {error:#}"),
    }
    command
}

/// Lets a browser print the page that has the whole book.
fn print(browser: &Path, root: &Path) -> anyhow::Result<()> {
    let pdf = root.join(PDF);
    // An older one must not pass for this one.
    match std::fs::remove_file(&pdf) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let profile = tempfile::tempdir()?;
    let mut to = std::ffi::OsString::from("--print-to-pdf=");
    to.push(&pdf);
    let mut data = std::ffi::OsString::from("--user-data-dir=");
    data.push(profile.path());
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--disable-gpu", "--no-pdf-header-footer"])
        .arg(to)
        .arg(data);
    if chromium::is_root() {
        command.arg("--no-sandbox");
    }
    let output = command
        .arg(address_of(&root.join("book/html/print.html")))
        .output()
        .map_err(|error| anyhow::anyhow!("cannot run {}: {error}", browser.display()))?;
    if !output.status.success() || !pdf.is_file() {
        bail!(
            "{} has not printed the book ({}): {}",
            browser.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// The page as an address for a browser.
pub fn address(root: &Path) -> String {
    address_of(&root.join(PAGE))
}

/// The address of a chapter's first page.
pub fn address_of_chapter(root: &Path, chapter: &str) -> String {
    let folder = root.join(PAGE).with_file_name(chapter);
    address_of(&folder.join("index.html"))
}

/// A file as an address for a browser.
pub fn address_of(page: &Path) -> String {
    let mut address = String::from("file://");
    for byte in page.to_string_lossy().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                address.push(char::from(byte));
            }
            _ => address.push_str(&format!("%{byte:02X}")),
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_survives_spaces() {
        let address = address(Path::new("/a b/é"));
        assert_eq!(address, "file:///a%20b/%C3%A9/book/html/index.html");
    }
}
