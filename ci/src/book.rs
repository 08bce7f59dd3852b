//! `cargo x book`: renders the book, or checks it.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use crate::cargo;

/// Where the rendered book begins.
pub const PAGE: &str = "book/html/index.html";

/// Options of `cargo x book`.
#[derive(clap::Args)]
pub struct Args {
    /// Fail on a missing file or anchor, a figure without a result file, and the like.
    #[arg(long)]
    check: bool,
    /// Goes to book-builder.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs the command, with book-builder's own exit code.
///
/// # Errors
/// If cargo cannot be run.
pub fn run(args: Args, root: &Path) -> anyhow::Result<ExitCode> {
    let mut command = command(root);
    if args.check {
        command.arg("--check");
    }
    let status = cargo::status(command.args(args.arguments))?;
    // None: ended by a signal.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The command that renders the book.
pub fn command(root: &Path) -> Command {
    let mut command = cargo::command(root);
    command
        .args(["run", "--quiet", "--release", "--package", "book-builder"])
        .args(["--", "--root"])
        .arg(root);
    command
}

/// The page as an address for a browser.
pub fn address(root: &Path) -> String {
    let page: PathBuf = root.join(PAGE);
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
