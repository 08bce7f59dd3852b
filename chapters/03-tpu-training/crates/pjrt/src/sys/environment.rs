//! Environment variables that plugins read when they are loaded.

#![expect(
    unsafe_code,
    reason = "setting a variable is only safe in a process of one thread"
)]

use std::env;

/// Sets a variable of this process, unless it is set.
///
/// Plugins read some of their settings only from there. To be called first in `main`: another
/// thread that reads the environment at this moment would be a data race, so that nothing is
/// done in a process of several threads, nor where their number is not known.
///
/// Returns whether the variable is set now, by whomever.
///
/// # Panics
/// If `name` is empty or holds `=` or NUL, or `value` holds NUL.
pub fn set_default_variable(name: &str, value: &str) -> bool {
    if env::var_os(name).is_some() {
        return true;
    }
    if threads() != Some(1) {
        return false;
    }
    // SAFETY: this is the process's only thread, so none reads the environment meanwhile.
    unsafe { env::set_var(name, value) };
    true
}

/// Threads of this process, where the system tells.
fn threads() -> Option<usize> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    Some(tasks.count())
}

/// Keeps plugins from writing notes and warnings to stderr, where a program's own messages
/// would drown. What the user has set stays.
///
/// To be called first in `main`, as [`set_default_variable`]. Returns whether all variables
/// are set.
pub fn quiet_plugins() -> bool {
    let variables = [
        // XLA's own log: 0 informs, 1 warns, 2 tells errors, 3 what is fatal.
        ("TF_CPP_MIN_LOG_LEVEL", "2"),
        // libtpu's, likewise: it warns about worker names that only a TPU machine has.
        ("TPU_MIN_LOG_LEVEL", "3"),
        ("TPU_STDERR_LOG_LEVEL", "3"),
    ];
    variables.into_iter().fold(true, |all, (name, value)| {
        set_default_variable(name, value) && all
    })
}
