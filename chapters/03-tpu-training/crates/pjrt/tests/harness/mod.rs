//! Runs tests that need something which may not be here, and ignores them with the reason
//! where it is not. `cargo x test` lists such reasons with the command that brings the thing.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use libtest_mimic::{Arguments, Failed, Trial};
use pjrt_runtime::{ElementType, HostArray, Platform, SearchPath, find_plugin};

/// A test: it gets the path of what it needs, and panics if it fails.
pub type Test = (&'static str, fn(&Path));

/// Names functions as tests.
#[macro_export]
macro_rules! tests {
    ($($name:path),* $(,)?) => {
        &[$((stringify!($name), $name as fn(&std::path::Path))),*]
    };
}

/// What tests need.
pub struct Need {
    /// Where it is; `None`: it is not.
    pub path: Option<PathBuf>,
    /// In the project's form: `needs: WHAT; COMMAND`.
    pub reason: &'static str,
}

impl Need {
    /// The plugin for a platform, from `PJRT_PLUGIN_LIBRARY_PATH` or `.native/pjrt`.
    pub fn plugin(platform: Platform) -> Self {
        let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let folders = above.map(|folder| folder.join(".native/pjrt")).collect();
        let search = SearchPath::from_environment(None, folders);
        Self {
            path: find_plugin(platform, &search).ok(),
            reason: match platform {
                Platform::Cpu => "needs: PJRT CPU plugin; cargo x setup",
                Platform::Cuda => "needs: PJRT CUDA plugin; cargo x setup --cuda",
                Platform::Tpu => "needs: libtpu; cargo x setup --tpu",
            },
        }
    }
}

/// Runs the tests that the command line selects.
///
/// * `alone`: one at a time, because they count what the whole process has
pub fn run(need: &Need, alone: bool, tests: &[Test]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    if alone {
        arguments.test_threads = Some(1);
    }
    let trial = |(name, test): &Test| {
        let (test, reason) = (*test, need.reason);
        let path = need.path.clone();
        let here = path.is_some();
        let trial = Trial::test(*name, move || match &path {
            Some(path) => {
                test(path);
                Ok(())
            }
            // Asked for by --ignored.
            None => Err(Failed::from(reason)),
        });
        if here {
            trial
        } else {
            trial.with_ignored_flag(true).with_kind(reason)
        }
    };
    libtest_mimic::run(&arguments, tests.iter().map(trial).collect()).exit_code()
}

/// An f32 array: its dimensions and bytes.
pub struct Floats {
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

impl Floats {
    /// A vector.
    pub fn vector(values: &[f32]) -> Self {
        Self {
            dims: vec![values.len()],
            bytes: values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        }
    }

    /// As the runtime takes it.
    pub fn array(&self) -> HostArray<'_> {
        HostArray {
            element_type: ElementType::F32,
            dims: &self.dims,
            bytes: &self.bytes,
        }
    }
}

/// The floats in little-endian bytes.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    let numbers = bytes.chunks_exact(4);
    assert!(numbers.remainder().is_empty(), "{} bytes", bytes.len());
    numbers
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

/// The C++ compiler: `CXX`, or the first one here.
pub fn compiler() -> Option<PathBuf> {
    let named = env::var_os("CXX").map(PathBuf::from);
    let usual = ["c++", "g++", "clang++"].map(PathBuf::from);
    let works = |compiler: &PathBuf| {
        let output = Command::new(compiler).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    };
    named.into_iter().chain(usual).find(works)
}

/// Compiles a file of `tests/fake/` to a shared library in `folder`.
///
/// * `macros`: for the compiler's `-D`
pub fn fake_plugin(compiler: &Path, folder: &Path, source: &str, macros: &[&str]) -> PathBuf {
    let library = folder.join(source).with_extension("so");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let source = tests.join("fake").join(source);
    let output = Command::new(compiler)
        .args(["-std=c++17", "-g", "-shared", "-fPIC", "-pthread"])
        .args(macros.iter().map(|name| format!("-D{name}")))
        .arg("-o")
        .arg(&library)
        .arg(source)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // As the runtime names it: without symbolic links.
    fs::canonicalize(library).unwrap()
}
