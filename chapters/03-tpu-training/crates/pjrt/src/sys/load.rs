//! Opens a plugin's library and asks it for its function table.

#![expect(unsafe_code, reason = "loads a library and calls its entry point")]

use std::{path::Path, ptr::NonNull};

use libloading::Library;

use crate::{
    error::Error,
    ffi::{self, Table},
    plugin::PluginError,
    sys::api::Api,
};

/// Loads the library at `path` for the rest of the process, and initialises the plugin.
///
/// The path must have been looked at ([`crate::library_file`]): what the loader says of a
/// file that is no library differs from system to system.
///
/// # Errors
/// [`PluginError`], but for those of finding a file and looking at it.
pub fn load(path: &Path) -> Result<Api, PluginError> {
    let owned = || path.to_owned();
    // SAFETY: loading runs the initialisers of a library that the user chose as a plugin:
    // that trust is what a plugin is.
    let library = unsafe { open(path) }.map_err(|error| PluginError::Load {
        path: owned(),
        reason: error.to_string(),
    })?;
    type GetPjrtApi = unsafe extern "C" fn() -> *mut Table;
    // SAFETY: by that name the C API has a function of this type, and nothing else.
    let get = unsafe { library.get::<GetPjrtApi>(b"GetPjrtApi\0") }
        .map(|symbol| *symbol)
        .map_err(|_| PluginError::NoEntryPoint { path: owned() })?;
    // Never unloaded: threads of the plugin may run until the process ends, and the table
    // lies in the library.
    std::mem::forget(library);
    // SAFETY: the function takes nothing.
    let table = unsafe { get() };
    let table = NonNull::new(table).ok_or_else(|| PluginError::NullTable { path: owned() })?;
    // SAFETY: GetPjrtApi returned it, and the library stays.
    let head = unsafe { Api::head(table) };
    let Some(version) = head.version else {
        return Err(PluginError::ShortTable {
            path: owned(),
            size: head.size,
        });
    };
    if version.major != ffi::MAJOR_VERSION {
        return Err(PluginError::Version {
            path: owned(),
            expected: ffi::MAJOR_VERSION,
            got: version,
        });
    }
    // SAFETY: as above, and the major version is ours.
    let api = unsafe { Api::new(table) }.ok_or_else(|| PluginError::ShortTable {
        path: owned(),
        size: head.size,
    })?;
    initialize(api).map_err(|error| PluginError::Initialize {
        path: owned(),
        error,
    })?;
    Ok(api)
}

#[cfg(unix)]
unsafe fn open(path: &Path) -> Result<Library, libloading::Error> {
    use libloading::os::unix::{Library as UnixLibrary, RTLD_LOCAL, RTLD_NOW};
    // NOW: a library that lacks something says so here, not in the middle of a call. LOCAL:
    // two plugins hold two copies of the same C++ code, which must not be mixed.
    // SAFETY: the caller's promise.
    unsafe { UnixLibrary::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map(Library::from)
}

#[cfg(not(unix))]
unsafe fn open(path: &Path) -> Result<Library, libloading::Error> {
    // SAFETY: the caller's promise.
    unsafe { Library::new(path) }
}

/// `PJRT_Plugin_Initialize`
fn initialize(api: Api) -> Result<(), Error> {
    let mut args = ffi::PluginInitializeArgs::new();
    // SAFETY: no pointers but the null extension.
    unsafe { api.call(&mut args) }
}
