//! Where a plugin may lie. Looks at names only: it loads nothing.

use std::{
    env,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use crate::plugin::PluginError;

/// What a plugin computes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Platform {
    /// The host's processor.
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
    /// Google's TPUs.
    Tpu,
}

impl Platform {
    /// File names that its plugins have, the project's own first.
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

    /// The command that brings the plugin.
    pub(crate) fn setup_command(self) -> &'static str {
        match self {
            Self::Cpu => "cargo x setup",
            Self::Cuda => "cargo x setup --cuda",
            Self::Tpu => "cargo x setup --tpu",
        }
    }
}

/// `cpu`, `cuda` or `tpu`: also the name of its folder.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tpu => "tpu",
        })
    }
}

/// Where to look, in this order.
#[derive(Clone, Debug, Default)]
pub struct SearchPath {
    /// A file or folder that the user named: then nothing else is looked at.
    pub explicit: Option<PathBuf>,
    /// A list as `PATH` is one (colons on Unix) of files and folders: the value of
    /// `PJRT_PLUGIN_LIBRARY_PATH`.
    pub environment: Option<OsString>,
    /// Folders with one folder a platform: `.native/pjrt` has `cpu/`, `cuda/` and `tpu/`.
    pub folders: Vec<PathBuf>,
}

/// The environment variable that [`SearchPath::from_environment`] reads.
pub const PLUGIN_PATH_VARIABLE: &str = "PJRT_PLUGIN_LIBRARY_PATH";

impl SearchPath {
    /// The path that the user named, the environment's `PJRT_PLUGIN_LIBRARY_PATH` if it is not
    /// empty, and those folders.
    pub fn from_environment(explicit: Option<PathBuf>, folders: Vec<PathBuf>) -> Self {
        Self {
            explicit,
            environment: env::var_os(PLUGIN_PATH_VARIABLE).filter(|path| !path.is_empty()),
            folders,
        }
    }
}

/// Finds the plugin for a platform.
///
/// A folder holds it under one of the names that such plugins have, itself or in its folder
/// named after the platform. A file in the environment's list counts if it has such a name:
/// the list serves several platforms. An explicit file is taken whatever its name, and what
/// is not there is an error then, never a reason to look elsewhere.
///
/// # Errors
/// [`PluginError::NotFound`] with every place that was looked at.
pub fn find_plugin(platform: Platform, search: &SearchPath) -> Result<PathBuf, PluginError> {
    let mut looked = Vec::new();
    let found = match &search.explicit {
        Some(path) if path.is_dir() => in_folder(platform, path, &mut looked),
        Some(path) => {
            looked.push(path.clone());
            path.exists().then(|| path.clone())
        }
        None => {
            let listed = search.environment.iter().flat_map(env::split_paths);
            let listed = listed.filter(|path| !path.as_os_str().is_empty());
            let mut places = listed.chain(search.folders.iter().cloned());
            places.find_map(|path| in_place(platform, &path, &mut looked))
        }
    };
    found.ok_or(PluginError::NotFound { platform, looked })
}

fn in_place(platform: Platform, path: &Path, looked: &mut Vec<PathBuf>) -> Option<PathBuf> {
    let named = platform
        .file_names()
        .iter()
        .any(|name| path.ends_with(name));
    if named && path.is_file() {
        return Some(path.to_owned());
    }
    if path.is_file() {
        // Another platform's plugin.
        looked.push(path.to_owned());
        return None;
    }
    in_folder(platform, path, looked)
}

fn in_folder(platform: Platform, folder: &Path, looked: &mut Vec<PathBuf>) -> Option<PathBuf> {
    for folder in [folder.to_owned(), folder.join(platform.to_string())] {
        let files = platform.file_names().iter().map(|name| folder.join(name));
        if let Some(file) = files.into_iter().find(|file| file.is_file()) {
            return Some(file);
        }
        looked.push(folder);
    }
    None
}
