//! `cargo x deny`: licences, banned crates, sources and known holes of all dependencies, by
//! cargo-deny and `deny.toml`.

use std::{
    path::Path,
    process::{Command, ExitCode, Output},
};

use anyhow::Context;

use crate::{
    cargo,
    cargo_tool::{self, CargoTool},
    verdict::{Verdict, conclude},
};

const CARGO_DENY: CargoTool = CargoTool {
    name: "cargo-deny",
    version: "0.20.2",
    ask: &["--version"],
};

/// Options of `cargo x deny`.
#[derive(clap::Args)]
pub struct Args {
    /// A check that cannot run here is a failure.
    #[arg(long)]
    required: bool,
}

/// Runs the command: exit code 1 if something is not allowed.
///
/// # Errors
/// If cargo-deny is there and cannot be run.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    // The advisories come from a database on GitHub; the others need no network.
    let names = ["licenses", "bans", "sources", "advisories"];
    let program = match cargo_tool::ready(root, &CARGO_DENY) {
        Ok(program) => program,
        Err(reason) => {
            let skipped = |name: &str| (name.to_owned(), Verdict::Skipped(reason.clone()));
            return Ok(conclude(&names.map(skipped), args.required));
        }
    };
    let mut checks = Vec::new();
    for name in names {
        let mut command = Command::new(&program);
        command
            .current_dir(root)
            .args(["--locked", "--all-features", "--color", "never"])
            .args(["check", "--hide-inclusion-graph", name]);
        let output =
            (command.output()).with_context(|| format!("cannot run {}", cargo::words(&command)))?;
        checks.push((name.to_owned(), verdict(&output)));
    }
    Ok(conclude(&checks, args.required))
}

fn verdict(output: &Output) -> Verdict {
    if output.status.success() {
        return Verdict::Passed;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("failed to fetch advisory database") {
        return Verdict::Skipped(
            "the advisory database, which comes from GitHub; run this again with a network"
                .to_owned(),
        );
    }
    eprint!("{said}");
    Verdict::Failed(format!(
        "{}, see above; deny.toml has the rules",
        output.status
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn an_unreachable_database_is_a_skip_and_the_rest_is_not() {
        use std::os::unix::process::ExitStatusExt;
        let output = |code: i32, said: &str| Output {
            status: std::process::ExitStatus::from_raw(code << 8),
            stdout: Vec::new(),
            stderr: said.as_bytes().to_vec(),
        };
        assert_eq!(verdict(&output(0, "")), Verdict::Passed);
        let offline = "ERROR failed to fetch advisory database https://github.com/RustSec/x";
        assert!(matches!(verdict(&output(1, offline)), Verdict::Skipped(_)));
        assert!(matches!(
            verdict(&output(4, "error[rejected]")),
            Verdict::Failed(_)
        ));
    }
}
