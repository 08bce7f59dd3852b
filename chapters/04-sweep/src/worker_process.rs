//! A worker from outside: a child process, its requests, its answers, its end.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use accel::exit;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

use crate::protocol::{Answer, Ready, Request};

/// Lines of a worker's stderr that are kept for the message when it ends.
const LAST_WORDS: usize = 8;

/// How workers are started.
#[derive(Clone, Debug)]
pub struct WorkerCommand {
    /// The program: this one.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Threads that it computes with; `None`: the plugin decides.
    pub threads: Option<usize>,
}

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system does not start it.
    #[error("cannot start a worker ({program}): {source}")]
    Spawn {
        /// The program.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It found no device.
    #[error("a worker found no device: {words}")]
    Device {
        /// What it said.
        words: String,
    },
    /// It refused its arguments.
    #[error("a worker was refused: {words}")]
    Refused {
        /// What it said.
        words: String,
    },
    /// It ended before it was ready.
    #[error("{0}")]
    Ended(String),
}

/// A worker.
#[derive(Debug)]
pub struct WorkerProcess {
    child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    last_words: Arc<Mutex<VecDeque<String>>>,
    listener: JoinHandle<()>,
}

impl WorkerProcess {
    /// Starts a worker and waits until it is ready.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(command: &WorkerCommand) -> Result<(Self, Ready), StartError> {
        // ANCHOR: start
        let mut process = Command::new(&command.program);
        process
            .args(&command.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(threads) = command.threads {
            // XLA's CPU client sizes its pools by it.
            process.env("NPROC", threads.to_string());
        }
        // Ctrl-C on the terminal reaches the sweep alone: it tells its workers what to do.
        #[cfg(unix)]
        process.process_group(0);
        // ANCHOR_END: start
        let mut child = process.spawn().map_err(|source| StartError::Spawn {
            program: command.program.display().to_string(),
            source,
        })?;
        let stdin = child.stdin.take().expect("piped above");
        let stdout = child.stdout.take().expect("piped above");
        let stderr = child.stderr.take().expect("piped above");
        let last_words = Arc::new(Mutex::new(VecDeque::new()));
        let mut worker = WorkerProcess {
            child,
            stdin,
            answers: BufReader::new(stdout).lines(),
            listener: tokio::spawn(listen(stderr, Arc::clone(&last_words))),
            last_words,
        };
        match worker.answer().await {
            Some(Answer::Ready(ready)) => Ok((worker, ready)),
            _ => Err(worker.refusal().await),
        }
    }

    /// The process's number, while it lives.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The worker has ended.
    pub async fn ask(&mut self, request: &Request) -> io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stdin.write_all(&line).await?;
        self.stdin.flush().await
    }

    /// Asks the worker to save what it does and to end.
    ///
    /// # Errors
    /// The worker has ended.
    pub async fn stop(&mut self) -> io::Result<()> {
        self.stdin.write_all(b"{\"stop\":true}\n").await?;
        self.stdin.flush().await
    }

    /// The next answer; none when the worker has ended, or says what is none. Nothing is lost
    /// when this is given up in the middle.
    pub async fn answer(&mut self) -> Option<Answer> {
        let line = self.answers.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }

    /// Ends it, and tells how it ended.
    pub async fn end(mut self) -> String {
        let _ = self.child.start_kill();
        self.how_it_ended().await
    }

    /// Waits for its end, which is near: how, and its last words.
    pub async fn how_it_ended(&mut self) -> String {
        let how = match self.child.wait().await {
            Ok(status) => format!("the worker ended ({status})"),
            Err(error) => format!("the worker ended, and the system does not say how: {error}"),
        };
        let _ = (&mut self.listener).await;
        match self.words() {
            words if words.is_empty() => how,
            words => format!("{how}; its last words: {words}"),
        }
    }

    fn words(&self) -> String {
        let words = self
            .last_words
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        words
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" / ")
    }

    async fn refusal(mut self) -> StartError {
        // What is no answer may come from what still runs.
        let _ = self.stdin.shutdown().await;
        let status = self.child.wait().await;
        let _ = (&mut self.listener).await;
        let code = status
            .as_ref()
            .ok()
            .and_then(std::process::ExitStatus::code);
        let words = self.words();
        let words = words.strip_prefix("error: ").unwrap_or(&words).to_owned();
        match code.and_then(|code| u8::try_from(code).ok()) {
            Some(exit::DEVICE) => StartError::Device { words },
            Some(exit::USAGE) => StartError::Refused { words },
            _ => StartError::Ended(self.how_it_ended().await),
        }
    }
}

async fn listen(stderr: ChildStderr, last_words: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut words = last_words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() == LAST_WORDS {
            words.pop_front();
        }
        words.push_back(line);
    }
}
