//! `book-builder`: checks the book and renders it into `book/html`.

use std::{path::PathBuf, process::ExitCode};

use book_builder::{BuildError, Options, build};
use clap::Parser;

/// Checks the book and renders it into book/html.
#[derive(Debug, Parser)]
struct Arguments {
    /// The repository's root
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Your own results [default: ROOT/results-local]
    #[arg(long, value_name = "DIR")]
    local: Option<PathBuf>,
    /// Run every gate and leave book/html as it is
    #[arg(long)]
    check: bool,
    /// The file that tells which results are stale, as `cargo x results` writes it
    #[arg(long, value_name = "FILE")]
    stale: Option<PathBuf>,
    /// Write the book as EPUB, too
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    epub: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        local: arguments
            .local
            .unwrap_or_else(|| arguments.root.join("results-local")),
        root: arguments.root,
        check: arguments.check,
        stale: arguments.stale,
        epub: arguments.epub,
    };
    ExitCode::from(run(&options))
}

/// Prints the report: the page's path alone on stdout, all else on stderr.
fn run(options: &Options) -> u8 {
    match build(options) {
        Ok(report) => {
            for warning in &report.warnings {
                eprintln!("warning: left out: {warning}");
            }
            for name in &report.not_measured {
                eprintln!("not measured here: {name}");
            }
            eprintln!("{} pages, {} figures", report.pages, report.figures);
            if let Some(index) = report.index {
                println!("{}", index.display());
            }
            accel::exit::OK
        }
        Err(error) => {
            eprintln!("error: {error}");
            match error {
                BuildError::NotARepository(_) | BuildError::Settings { .. } => accel::exit::USAGE,
                _ => accel::exit::FAILED,
            }
        }
    }
}
