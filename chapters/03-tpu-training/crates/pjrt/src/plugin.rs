//! A plugin: a shared library that speaks PJRT.

use std::{
    ffi::c_int,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    error::Error,
    find::Platform,
    library_file::{self, Machine},
    sys::{api::Api, client::plugin_attributes, load},
    value::AttributeValue,
};

/// A version of the PJRT C API, e.g. 0.81.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// Differs where the layout of structs has changed: must be equal to ours.
    pub major: c_int,
    /// Grows with each addition.
    pub minor: c_int,
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A loaded plugin. Clones share it; it stays loaded until the process ends.
#[derive(Clone)]
pub struct Plugin(Arc<Loaded>);

struct Loaded {
    api: Api,
    path: PathBuf,
}

/// The plugins of this process. The dynamic loader keeps a library once however often it is
/// opened, and `PJRT_Plugin_Initialize` must run once for it: so this is a fact of the
/// process, not a choice of ours.
static PLUGINS: Mutex<Vec<Plugin>> = Mutex::new(Vec::new());

impl Plugin {
    /// Loads the plugin at `path`, or finds it among those that this process has loaded.
    ///
    /// What a plugin reads from the environment, it reads now or later, from any thread: set
    /// variables before (see the crate's documentation).
    ///
    /// # Errors
    /// [`PluginError`]: nothing there, not a library, of another machine, not a plugin, of
    /// another version, or it does not start.
    pub fn load(path: &Path) -> Result<Self, PluginError> {
        let path = path.canonicalize().map_err(|cause| PluginError::Open {
            path: path.to_owned(),
            cause,
        })?;
        // The lock is held while loading: a second thread waits instead of initialising the
        // plugin again. A panic cannot leave the list half-written.
        let mut plugins = PLUGINS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plugin) = plugins.iter().find(|plugin| plugin.path() == path) {
            return Ok(plugin.clone());
        }
        library_file::check(&path)?;
        let api = load::load(&path)?;
        let plugin = Self(Arc::new(Loaded { api, path }));
        plugins.push(plugin.clone());
        Ok(plugin)
    }

    /// Where it was loaded from, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The version of the C API that it was built with.
    pub fn api_version(&self) -> ApiVersion {
        self.0.api.version()
    }

    /// What it says of itself: usually `xla_version`, `stablehlo_current_version` and
    /// `stablehlo_minimum_version`.
    ///
    /// # Errors
    /// [`Error::Pjrt`] if the plugin refuses, [`Error::Missing`] if it is too old.
    pub fn attributes(&self) -> Result<Vec<(String, AttributeValue)>, Error> {
        plugin_attributes(self.0.api)
    }

    pub(crate) fn api(&self) -> Api {
        self.0.api
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("path", &self.path())
            .field("api_version", &self.api_version())
            .finish()
    }
}

/// `/…/xla_cpu_pjrt.so, PJRT API 0.81`
impl fmt::Display for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, PJRT API {}",
            self.path().display(),
            self.api_version()
        )
    }
}

/// Why there is no plugin.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// None was found.
    #[error(
        "no PJRT plugin for \"{platform}\" in [{}]; run \"{}\" or pass --plugin PATH",
        .looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
        .platform.setup_command()
    )]
    NotFound {
        /// What it was to be for.
        platform: Platform,
        /// Every place that was looked at.
        looked: Vec<PathBuf>,
    },
    /// The path cannot be opened, or leads nowhere.
    #[error("PJRT plugin {}: {cause}", .path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why not. Not a `source`: it is in the text, and would be told twice.
        cause: io::Error,
    },
    /// A folder, a device or a socket.
    #[error(
        "PJRT plugin {}: not a file; name the shared library itself",
        .path.display()
    )]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A file that is not a shared library of this system.
    #[error(
        "PJRT plugin {}: not a shared library of this system: {problem}; \
         fetch the plugin again (cargo x setup), or name another file",
        .path.display()
    )]
    NotALibrary {
        /// The path.
        path: PathBuf,
        /// What was seen.
        problem: String,
    },
    /// A library for another processor.
    #[error(
        "PJRT plugin {}: built for {got}, this program is for {expected}; \
         take the plugin's wheel for {expected}",
        .path.display()
    )]
    Architecture {
        /// The path.
        path: PathBuf,
        /// Of this program.
        expected: Machine,
        /// Of the library.
        got: Machine,
    },
    /// The system's loader refused, e.g. for want of another library.
    #[error(
        "PJRT plugin {}: the loader refused it: {reason}; \
         a library that it names must be where the loader looks",
        .path.display()
    )]
    Load {
        /// The path.
        path: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// A shared library that is no plugin.
    #[error(
        "PJRT plugin {}: a shared library without GetPjrtApi is no PJRT plugin; name another file",
        .path.display()
    )]
    NoEntryPoint {
        /// The path.
        path: PathBuf,
    },
    /// `GetPjrtApi` returned null.
    #[error(
        "PJRT plugin {}: GetPjrtApi returned null, it cannot run here; \
         its own messages above may say why",
        .path.display()
    )]
    NullTable {
        /// The path.
        path: PathBuf,
    },
    /// The function table is too short to hold even a version and the functions for errors.
    #[error(
        "PJRT plugin {}: its function table of {size} bytes is too short; take a newer plugin",
        .path.display()
    )]
    ShortTable {
        /// The path.
        path: PathBuf,
        /// Its size by its own account.
        size: usize,
    },
    /// Another major version: other layouts, nothing can be called.
    #[error(
        "PJRT plugin {}: PJRT API {got}, this program speaks {expected}.x; {}",
        .path.display(),
        if got.major < *expected { "take a newer plugin" } else { "take an older plugin or a newer version of this program" }
    )]
    Version {
        /// The path.
        path: PathBuf,
        /// The major version that we speak.
        expected: c_int,
        /// The plugin's.
        got: ApiVersion,
    },
    /// `PJRT_Plugin_Initialize` failed.
    #[error("PJRT plugin {}: it does not start: {error}", .path.display())]
    Initialize {
        /// The path.
        path: PathBuf,
        /// Its error.
        error: Error,
    },
}
