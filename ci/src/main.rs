//! `cargo x`: the project's own commands.
//!
//! One file a command: `setup` brings the native libraries that `ci/native.toml`
//! pins, `doctor` says what this machine has and lacks, `test` and `learn` are the
//! two commands of the README, `book` renders and checks the book, `browser` opens it, `outputs`
//! refreshes what it shows of commands, `peers` measures
//! other stacks, `pack` makes a folder that measures on a machine without cargo, `chaos` kills
//! sweeps and sees what is lost, `notebooks` executes the companion notebooks, `results` tells which results are stale and takes a reader's
//! among the published ones, `tidy` checks the project's own rules; `dry-run` goes through
//! every chapter on made-up data, `smoke` looks where not every machine can; `containers`,
//! `workflows`, `deny` and `publishable` check what the project is shipped with, `bump` looks for
//! newer versions, `release` makes what is uploaded, `clean` frees the disk. The rest supports them:
//!
//! - [`native_pins`], [`pip`], [`wheel`], [`installed`], [`disk`]: the steps of a set-up
//! - [`libtorch`], [`pjrt`], [`engine_library`]: what the user brings instead
//! - [`gpu`]: whether there is one, and the libtorch that it takes
//! - [`python_environment`]: virtual environments from pins, for peers, Apache Beam and Jupyter
//! - [`toolchain`]: the programs of the machine, and the command that installs each
//! - [`bundle`], [`checksums`]: a set-up that is carried to a machine without a network
//! - [`linters`], [`cargo_tool`], [`verdict`]: other people's programs that check, and what came of it
//! - [`test_output`]: reads what the test programs print
//! - [`chromium`]: finds a browser
//! - [`git`]: asks git, where there is one
//! - [`phases`], [`quantities`], [`cargo`]: where the time went, sizes in words, child processes
//!
//! Nothing here links libtorch: these commands must run before it is there.

mod book;
mod browser;
mod bump;
mod bundle;
mod cargo;
mod cargo_tool;
mod chaos;
mod checksums;
mod chromium;
mod clean;
mod containers;
mod deny;
mod disk;
mod doctor;
mod dry_run;
mod engine_library;
mod git;
mod gpu;
mod installed;
mod learn;
mod libtorch;
mod linters;
mod native_pins;
mod notebooks;
mod outputs;
mod pack;
mod peers;
mod phases;
mod pip;
mod pjrt;
mod project_root;
mod publishable;
mod python_environment;
mod quantities;
mod release;
mod results;
mod setup;
mod smoke;
mod test;
mod test_output;
mod tidy;
mod toolchain;
mod verdict;
mod wheel;
mod workflows;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo x", bin_name = "cargo x", version)]
struct Cli {
    /// Root of the project, instead of the one found from the current folder.
    #[arg(long, global = true, hide = true)]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch the native libraries that are missing (pinned in ci/native.toml).
    Setup(setup::Args),
    /// Say what this machine has, what it lacks, and the command that mends it.
    Doctor(doctor::Args),
    /// Set up what is missing and run every test; skipped ones are listed.
    Test(test::Args),
    /// Set up what is missing, run the chapters here and render the book with your figures.
    Learn(learn::Args),
    /// Render the book, or check it.
    Book(book::Args),
    /// Refresh the outputs of commands that pages show, or check them.
    Outputs(outputs::Args),
    /// Open every page of the book in Chromium: requests, widths, accessibility.
    Browser(browser::Args),
    /// Say which results are stale; submit, export and compare results.
    Results(results::Args),
    /// Measure other stacks (PyTorch, ONNX Runtime, ...) on the same work.
    Peers(peers::Args),
    /// Make a folder that measures on a GPU machine without cargo and network.
    Pack(pack::Args),
    /// Kill sweeps of chapter 4 at random moments, and see whether anything is lost.
    Chaos(chaos::Args),
    /// Check the companion notebooks, and execute them on the CPU.
    Notebooks(notebooks::Args),
    /// Check the project's own rules, formatting and lints.
    Tidy(tidy::Args),
    /// Go the whole way of every chapter on made-up data, in seconds.
    DryRun(dry_run::Args),
    /// See whether it works on a GPU, a TPU, Dataflow, or under AddressSanitizer.
    Smoke(smoke::Args),
    /// Check, build and run the container images.
    Containers(containers::Args),
    /// Check the workflows of GitHub.
    Workflows(workflows::Args),
    /// Check licences, sources and known holes of all dependencies.
    Deny(deny::Args),
    /// Look for newer versions of what is pinned, and write them.
    Bump(bump::Args),
    /// See whether the crates that stand on their own could go to crates.io.
    Publishable(publishable::Args),
    /// Make the files of a release: programs, book, bills of materials, checksums.
    Release(release::Args),
    /// Delete what can be made again.
    Clean(clean::Args),
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let root = &project_root::find(cli.root)?;
    match cli.command {
        Command::Setup(args) => setup::run(args, root),
        Command::Doctor(args) => doctor::run(args, root),
        Command::Test(args) => test::run(args, root),
        Command::Learn(args) => learn::run(args, root),
        Command::Book(args) => book::run(args, root),
        Command::Outputs(args) => outputs::run(&args, root),
        Command::Browser(args) => browser::run(&args, root),
        Command::Results(args) => results::run(args, root),
        Command::Peers(args) => peers::run(args, root),
        Command::Pack(args) => pack::run(&args, root),
        Command::Chaos(args) => chaos::run(&args, root),
        Command::Notebooks(args) => notebooks::run(&args, root),
        Command::Tidy(args) => tidy::run(args, root),
        Command::DryRun(args) => dry_run::run(&args, root),
        Command::Smoke(args) => smoke::run(&args, root),
        Command::Containers(args) => containers::run(&args, root),
        Command::Workflows(args) => workflows::run(&args, root),
        Command::Deny(args) => deny::run(&args, root),
        Command::Bump(args) => bump::run(&args, root),
        Command::Publishable(args) => publishable::run(&args, root),
        Command::Release(args) => release::run(&args, root),
        Command::Clean(args) => clean::run(&args, root),
    }
}

fn main() -> ExitCode {
    run(Cli::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
