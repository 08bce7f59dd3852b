//! Finds libtorch before the compiler does, so that a missing set-up is one
//! line to type and not a page of C++ errors.
use std::{env, fs, path::Path, process};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let libtorch = env::var("LIBTORCH").unwrap_or_default();
    let header = Path::new(&libtorch).join("include/torch/csrc/api/include/torch/torch.h");
    println!("cargo:rerun-if-changed={}", header.display());
    if !header.is_file() {
        eprintln!(
            "\nerror: libtorch is not set up: no {}\n\
             help: run `cargo x setup` in the project's folder, \
             or set LIBTORCH to the folder of a libtorch 2.11.0\n",
            header.display()
        );
        process::exit(1);
    }
    let version = fs::read_to_string(Path::new(&libtorch).join("build-version"))
        .map_or_else(|_| "unknown".into(), |text| text.trim().to_owned());
    println!("cargo:rustc-env=LIBTORCH_VERSION={version}");
    // The binary finds libtorch where it was built against, with nothing exported.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
}
