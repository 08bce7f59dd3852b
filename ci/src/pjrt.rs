//! PJRT plugins: the user's own, by PJRT_PLUGIN_LIBRARY_PATH, win over the project's.

use std::{ffi::OsStr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The variable that `pjrt-runtime` looks in before the project's folder: files, or folders
/// that hold them, separated as in PATH.
pub const VARIABLE: &str = "PJRT_PLUGIN_LIBRARY_PATH";

/// What a plugin drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// The machine's own cores.
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
    /// Google's TPUs, and their compiler without one.
    Tpu,
}

impl Platform {
    /// The names that such plugins have, as `pjrt-runtime` looks for them (its `find.rs`).
    fn file_names(self) -> &'static [&'static str] {
        match self {
            Self::Cpu => &["xla_cpu_pjrt.so", "pjrt_c_api_cpu_plugin.so"],
            Self::Cuda => &[
                "xla_cuda_plugin.so",
                "xla_gpu_pjrt.so",
                "pjrt_c_api_gpu_plugin.so",
            ],
            Self::Tpu => &["libtpu.so", "pjrt_c_api_tpu_plugin.so"],
        }
    }

    /// The folder in which a list's folder may hold it.
    fn folder(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tpu => "tpu",
        }
    }
}

/// The user's plugin for `platform`; `None` if the variable is unset or leads to none.
pub fn of_the_user(platform: Platform) -> Option<PathBuf> {
    find(platform, &std::env::var_os(VARIABLE)?)
}

fn find(platform: Platform, value: &OsStr) -> Option<PathBuf> {
    let names = platform.file_names();
    std::env::split_paths(value).find_map(|place| {
        if place.as_os_str().is_empty() {
            return None;
        }
        if place.is_file() {
            let named = names.iter().any(|name| place.ends_with(name));
            return named.then_some(place);
        }
        let folders = [place.clone(), place.join(platform.folder())];
        let files = (folders.iter()).flat_map(|folder| names.iter().map(|name| folder.join(name)));
        files.into_iter().find(|file| file.is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const ALL: [Platform; 3] = [Platform::Cpu, Platform::Cuda, Platform::Tpu];

    #[test]
    fn a_plugin_is_found_as_a_file_and_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let tpu = write("mine/libtpu.so");
        let gpu = write("mine/cuda/pjrt_c_api_gpu_plugin.so");
        let cpu = write("other/xla_cpu_pjrt.so");
        write("mine/cpu.so");
        let join = |paths: &[&Path]| std::env::join_paths(paths).unwrap();
        let mine = folder.path().join("mine");
        let both = join(&[&mine, &cpu]);
        assert_eq!(find(Platform::Tpu, &both), Some(tpu));
        assert_eq!(find(Platform::Cuda, &both), Some(gpu));
        assert_eq!(find(Platform::Cpu, &both), Some(cpu.clone()));
        assert_eq!(find(Platform::Cpu, &join(&[&mine])), None);
        assert_eq!(find(Platform::Tpu, cpu.as_os_str()), None);
        for nothing in ["", "/nowhere/xla_cpu_pjrt.so"] {
            assert_eq!(find(Platform::Cpu, OsStr::new(nothing)), None);
        }
    }

    #[test]
    fn the_names_are_those_that_the_programs_look_for() {
        let source = include_str!("../../chapters/03-tpu-training/crates/pjrt/src/find.rs");
        let start = source.find("fn file_names").expect("the table of names");
        let table = &source[start..];
        let table = &table[..table.find("\n    }\n").expect("its end")];
        let theirs: Vec<_> = table.split('"').skip(1).step_by(2).collect();
        let ours: Vec<_> = (ALL.iter())
            .flat_map(|platform| platform.file_names().iter().copied())
            .collect();
        assert_eq!(ours, theirs);
        assert!(source.contains(VARIABLE));
    }
}
