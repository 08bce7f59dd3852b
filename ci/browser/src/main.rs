//! `browser-check`: opens every page of the rendered book in Chromium.

use std::{fs, path::PathBuf, process::ExitCode, time::Instant};

use accel::exit;
use anyhow::Context;
use browser_check::{check, devtools::Browser, pages, view};
use clap::Parser;

/// Opens every page of the rendered book in Chromium, on a phone and a desktop, in light and
/// dark: no request may leave the machine, nothing be wider than the window, and axe-core
/// find nothing serious.
#[derive(Parser)]
struct Arguments {
    /// The rendered book
    #[arg(long, value_name = "DIR", default_value = "book/html")]
    book: PathBuf,
    /// Chromium's program
    #[arg(long, value_name = "FILE")]
    browser: PathBuf,
    /// axe-core's script; without it, accessibility is left out
    #[arg(long, value_name = "FILE")]
    axe: Option<PathBuf>,
    /// Start the browser without its sandbox, as root must
    #[arg(long)]
    no_sandbox: bool,
    /// Only pages whose path holds this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let axe = match &arguments.axe {
        Some(path) => Some(fs::read_to_string(path).with_context(|| path.display().to_string())?),
        None => None,
    };
    let mut pages = pages(&arguments.book)?;
    if let Some(only) = &arguments.only {
        pages.retain(|page| page.to_string_lossy().contains(only.as_str()));
    }
    if pages.is_empty() {
        eprintln!(
            "error: no page in {}; `cargo x book` renders the book",
            arguments.book.display()
        );
        return Ok(ExitCode::from(exit::USAGE));
    }
    let mut browser = Browser::start(&arguments.browser, !arguments.no_sandbox)?;
    let findings = check(&mut browser, &pages, &view::ALL, axe.as_deref())?;
    for finding in &findings {
        println!("{finding}");
    }
    if axe.is_none() {
        eprintln!("accessibility was not looked at: no axe-core; cargo x setup --browser");
    }
    eprintln!(
        "{} pages in {} views, {} findings, {:.1} s",
        pages.len(),
        view::ALL.len(),
        findings.len(),
        begin.elapsed().as_secs_f64()
    );
    Ok(match findings.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(exit::FAILED),
    })
}

fn main() -> ExitCode {
    run(&Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
