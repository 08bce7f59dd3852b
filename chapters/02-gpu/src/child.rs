//! A worker of our own, as a process beside this one. Some settings of libtorch and of
//! NVIDIA's libraries are read once a process: what differs in them needs one each.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

/// A running worker; it ends when this is dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// Why a worker gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// It could not be started.
    #[error("cannot start a worker: {0}")]
    Start(#[source] std::io::Error),
    /// It ended before it answered: killed for memory, or crashed.
    #[error("the worker ended without an answer ({0})")]
    Ended(String),
    /// It answered that it could not.
    #[error("{message}")]
    Refused {
        /// Why not.
        message: String,
        /// Whether this machine lacks what was asked for.
        unsupported: bool,
    },
    /// It answered something else.
    #[error("expected {expected}, got {got}")]
    Garbage {
        /// The shape of an answer.
        expected: &'static str,
        /// The line, cut.
        got: String,
    },
}

impl Worker {
    /// Starts this program's `worker`.
    ///
    /// * `environment`: what is different for it
    /// * `system_malloc`: leave malloc as it comes
    ///
    /// # Errors
    /// [`WorkerError::Start`].
    pub fn start(environment: &[(&str, &str)], system_malloc: bool) -> Result<Self, WorkerError> {
        let program = std::env::current_exe().map_err(WorkerError::Start)?;
        let mut command = Command::new(program);
        command.arg("worker");
        if system_malloc {
            command.arg("--system-malloc");
        }
        Self::spawn(command.envs(environment.iter().copied()))
    }

    fn spawn(command: &mut Command) -> Result<Self, WorkerError> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(WorkerError::Start)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stdout =
            stdout.ok_or_else(|| WorkerError::Start(std::io::ErrorKind::BrokenPipe.into()))?;
        Ok(Worker {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        })
    }

    /// Sends a request and goes on; [`Worker::receive`] waits for the answer.
    ///
    /// # Errors
    /// [`WorkerError::Ended`].
    pub fn send(&mut self, request: &Value) -> Result<(), WorkerError> {
        let sent = match &mut self.stdin {
            Some(stdin) => writeln!(stdin, "{request}").and_then(|()| stdin.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        sent.map_err(|_| self.ended())
    }

    /// The answer to the oldest request that has none: a JSON object.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub fn receive(&mut self) -> Result<Value, WorkerError> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line) {
            Ok(0) | Err(_) => return Err(self.ended()),
            Ok(_) => {}
        }
        let answer: Value = serde_json::from_str(&line).map_err(|_| garbage("JSON", &line))?;
        match answer["error"].as_str() {
            Some(message) => Err(WorkerError::Refused {
                message: message.to_owned(),
                unsupported: answer["unsupported"].as_bool().unwrap_or(false),
            }),
            None => Ok(answer),
        }
    }

    /// Times samples.
    ///
    /// Returns the seconds of each.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub fn run(&mut self, warmup: usize, samples: usize) -> Result<Vec<f64>, WorkerError> {
        self.send(&serde_json::json!({"run": {"warmup": warmup, "samples": samples}}))?;
        let answer = self.receive()?;
        serde_json::from_value(answer["seconds"].clone())
            .ok()
            .filter(|seconds: &Vec<f64>| seconds.len() == samples)
            .ok_or_else(|| garbage("{\"seconds\": [...]}", &answer.to_string()))
    }

    fn ended(&mut self) -> WorkerError {
        // Its pipe is closed: it ends, or has ended.
        drop(self.stdin.take());
        WorkerError::Ended(match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its input ends it; what it computes is of no use any more.
        drop(self.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn garbage(expected: &'static str, got: &str) -> WorkerError {
    WorkerError::Garbage {
        expected,
        got: got.trim_end().chars().take(200).collect(),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Worker {
        Worker::spawn(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn answers_come_back_and_refusals_are_errors() {
        let mut worker = shell(
            r#"read l; echo '{"seconds": [0.5, 0.25]}'; read l; echo '{"error": "no GPU", "unsupported": true}'"#,
        );
        assert_eq!(worker.run(0, 2).unwrap(), [0.5, 0.25]);
        let error = worker.run(0, 2).unwrap_err();
        assert!(
            matches!(&error, WorkerError::Refused { message, unsupported: true } if message == "no GPU"),
            "{error}"
        );
    }

    #[test]
    fn a_death_and_garbage_are_told() {
        let error = shell("exit 7").run(0, 1).unwrap_err();
        assert!(
            matches!(&error, WorkerError::Ended(how) if how.contains('7')),
            "{error}"
        );
        let error = shell("read l; kill -9 $$").run(0, 1).unwrap_err();
        assert!(
            matches!(&error, WorkerError::Ended(how) if how.contains('9')),
            "{error}"
        );
        let error = shell("read l; echo no").run(0, 1).unwrap_err();
        assert!(matches!(error, WorkerError::Garbage { .. }), "{error}");
        let error = shell(r#"read l; echo '{"seconds": [1]}'"#)
            .run(0, 2)
            .unwrap_err();
        assert!(matches!(error, WorkerError::Garbage { .. }), "{error}");
    }
}
