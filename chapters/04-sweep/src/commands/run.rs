//! `parallel-training run`: train, choose, deploy, and classify with the winner.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use accel::exit;
use anyhow::Context;

use super::sweep::{self, say};
use crate::{cli::RunArgs, deployment, failure::Refused, report};

// ANCHOR: run
/// Runs the command: exit code 1 if a run of the sweep failed, even where another one won.
///
/// # Errors
/// What failed, on what value, what to do next.
pub fn run(args: &RunArgs) -> anyhow::Result<u8> {
    let work = &args.sweep.work;
    // Before hours of training: the program that serves must be there.
    let server = cpu_inference()?;
    let (account, scratch) = sweep::conduct(&args.sweep)?;
    report::print(&account, work.json)?;
    if !account.complete {
        return Ok(account.code());
    }
    // A dry run leaves nothing behind.
    let serve = match &scratch {
        Some(folder) => folder.path().join("serving"),
        None => args.serve.clone(),
    };
    let deployed = deployment::deploy(&account.folder, &account.manifest, &serve)?;
    say(
        work,
        &format!(
            "deployed {} as {}",
            deployed.version,
            deployed.model.display()
        ),
    )?;
    let classified = classify(&server, args, &account.folder, &serve)?;
    Ok(account.code().max(classified))
}
// ANCHOR_END: run

/// Chapter 1's program, beside this one.
fn cpu_inference() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let beside = own.with_file_name(format!("cpu-inference{}", std::env::consts::EXE_SUFFIX));
    match beside.is_file() {
        true => Ok(beside),
        false => Err(Refused(format!(
            "{} is not there, and it serves the winner; type cargo build --release -p cpu-inference, \
             or train without serving: parallel-training sweep",
            beside.display()
        ))
        .into()),
    }
}

/// Classifies digits with what the serving folder points to.
fn classify(server: &Path, args: &RunArgs, sweep: &Path, serve: &Path) -> anyhow::Result<u8> {
    let work = &args.sweep.work;
    let mut command = Command::new(server);
    command.args(["run", "--data", "digits"]);
    if let Some(count) = args.classify {
        command.args(["--count", &count.to_string()]);
    }
    command.arg("--serve-from").arg(serve);
    command.arg("--out").arg(sweep.join("served"));
    for (flag, given) in [("--json", work.json), ("--quiet", work.quiet)] {
        if given {
            command.arg(flag);
        }
    }
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", server.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or(exit::FAILED))
}
