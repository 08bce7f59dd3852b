//! Finds a Chromium or Chrome, for what only a browser can do: print the book, and look at
//! its pages as a reader does. Neither is needed for anything else.

use std::{env, path::PathBuf};

/// Names that a package or an installer gives it.
const NAMES: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
];

/// Where macOS has it, outside of PATH.
const APPLICATION: &str = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome";

/// What to say where there is none.
pub const MISSING: &str = "no Chromium or Chrome in CHROME or PATH; install one (Debian: apt-get install chromium), or set CHROME to its program";

/// The browser: what CHROME names, or the first in PATH.
pub fn find() -> Option<PathBuf> {
    if let Some(named) = env::var_os("CHROME").filter(|value| !value.is_empty()) {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let folders: Vec<PathBuf> =
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .chain([PathBuf::from(APPLICATION)])
        .find(|path| path.is_file())
}

/// Whether it has to be started without its sandbox, which root may not have. Only pages of
/// the book are opened.
pub fn is_root() -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
    }
    #[cfg(not(unix))]
    {
        false
    }
}
