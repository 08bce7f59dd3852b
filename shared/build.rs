//! Tells the crate which compiler built it: a result file names it, and no
//! standard macro gives it at run time.

use std::process::Command;

fn main() {
    // Cargo sets RUSTC for build scripts; a wrapper or another toolchain counts.
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC");
    let version = std::env::var_os("RUSTC")
        .and_then(|rustc| Command::new(rustc).arg("--version").output().ok())
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok());
    let version = version.as_deref().map(str::trim).unwrap_or("unknown");
    println!("cargo::rustc-env=ACCEL_RUSTC_VERSION={version}");
}
