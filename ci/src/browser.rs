//! `cargo x browser`: opens every page of the book in Chromium, where there is one.

use std::{path::Path, process::ExitCode};

use accel::exit;

use crate::{book, cargo, chromium};

/// Where `cargo x setup --browser` puts axe-core's script.
const AXE: &str = ".native/browser/axe.min.js";

/// Options of `cargo x browser`.
#[derive(clap::Args)]
pub struct Args {
    /// Only pages whose path holds this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Take book/html as it is, instead of rendering it first.
    #[arg(long)]
    as_is: bool,
}

/// Runs the command: exit code 3 without a browser or axe-core, 1 if a page has a fault.
///
/// # Errors
/// If cargo cannot be run.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let Some(browser) = chromium::find() else {
        eprintln!("skipped: {}", chromium::MISSING);
        return Ok(ExitCode::from(exit::DEVICE));
    };
    let axe = root.join(AXE);
    if !axe.is_file() {
        eprintln!("skipped: axe-core is not in {AXE}; cargo x setup --browser");
        return Ok(ExitCode::from(exit::DEVICE));
    }
    if !args.as_is {
        let status = cargo::status(&mut book::command(root))?;
        if !status.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    let mut command = cargo::programs("run", ["browser-check"], root);
    command
        .args(["--quiet", "--", "--book", "book/html", "--browser"])
        .arg(browser)
        .arg("--axe")
        .arg(axe);
    if chromium::is_root() {
        command.arg("--no-sandbox");
    }
    if let Some(only) = &args.only {
        command.arg("--only").arg(only);
    }
    let status = cargo::status(&mut command)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
