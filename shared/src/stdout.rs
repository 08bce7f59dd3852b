//! Results on stdout, also where stdout is closed.

use std::io::{self, Write};

/// stdout could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout")]
pub struct StdoutError(#[source] pub io::Error);

impl StdoutError {
    /// Whether the reader went away (`| head`): it has what it wanted, nothing failed.
    pub fn is_closed_pipe(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Writes a line to stdout; `println!` would panic on a closed pipe.
///
/// # Errors
/// [`StdoutError`]; a closed pipe is success: the run's own exit code stands.
pub fn print_line(line: &str) -> Result<(), StdoutError> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(StdoutError),
    }
}
