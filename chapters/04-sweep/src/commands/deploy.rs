//! `parallel-training deploy`.

use accel::{exit, stdout::print_line};

use crate::{cli::DeployArgs, deployment};

/// Publishes the winner of a sweep.
///
/// # Errors
/// There is none, or it cannot be published.
pub fn run(args: &DeployArgs) -> anyhow::Result<u8> {
    let manifest = deployment::manifest(&args.out)?;
    let deployed = deployment::deploy(&args.out, &manifest, &args.serve)?;
    print_line(&format!(
        "deployed {} as {}",
        deployed.version,
        deployed.model.display()
    ))?;
    Ok(exit::OK)
}
