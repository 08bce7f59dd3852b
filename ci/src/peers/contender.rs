//! One contender: a process that answers one JSON line on stdout for each on stdin.
//!
//! Whatever the process does (dies, hangs, prints garbage, floods its output), the
//! caller gets an error with the process' last words, and goes on with the others.
//!
//! [`run_to_its_end`] is for a contender that is a whole command: it gets its input at
//! once, and is timed from start to exit.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Longest answer in bytes: the logits of 32 images are 0.7 MB of text.
const MAX_LINE: u64 = 64 << 20;
/// Lines of stderr that are kept for a failure's reason, and characters of each.
const LAST_WORDS: usize = 6;
const WORD_CHARS: usize = 300;
/// How long a process may take to end once its input has ended.
const FAREWELL: Duration = Duration::from_secs(3);
/// How often a command is asked whether it has ended.
const POLL: Duration = Duration::from_millis(2);
/// Longest wait for a line of a command that has ended.
const LEFTOVERS: Duration = Duration::from_millis(200);

/// Variables that change how an engine runs: a row must not depend on the shell it
/// was started from. Those that a contender is meant to have are set afterwards.
const REMOVED_VARIABLES: [&str; 33] = [
    "GLIBC_TUNABLES",
    "GOMP_CPU_AFFINITY",
    "GOMP_SPINCOUNT",
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DISABLE_JIT",
    "JAX_ENABLE_X64",
    "JAX_PLATFORMS",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "LD_PRELOAD",
    "MALLOC_ARENA_MAX",
    "MALLOC_CONF",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MKL_NUM_THREADS",
    "NPROC",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "OMP_SCHEDULE",
    "OMP_THREAD_LIMIT",
    "OMP_WAIT_POLICY",
    "ONEDNN_MAX_CPU_ISA",
    "PYTHONHOME",
    "PYTHONPATH",
    "TF_XLA_FLAGS",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_COMPILE_DISABLE",
    "XLA_FLAGS",
];

/// How to start a contender.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables that it gets besides the inherited ones.
    pub variables: Vec<(String, OsString)>,
    /// The folder it runs in.
    pub folder: PathBuf,
}

/// Why a contender gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ContenderError {
    /// It could not be started.
    #[error("cannot start {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It ended, or closed its pipes.
    #[error("died at {request}: {how}{last_words}")]
    Died {
        /// What it was asked for.
        request: &'static str,
        /// How it ended.
        how: String,
        /// The end of its stderr, with a lead-in, or nothing.
        last_words: String,
    },
    /// No answer in time; it was killed.
    #[error("no answer to {request} within {:.1} s; it was killed{last_words}", limit.as_secs_f64())]
    TimedOut {
        /// What it was asked for.
        request: &'static str,
        /// The limit.
        limit: Duration,
        /// The end of its stderr, with a lead-in, or nothing.
        last_words: String,
    },
    /// An answer that the protocol does not have.
    #[error("answered {request} with {got}; expected {expected}{last_words}")]
    Garbage {
        /// What it was asked for.
        request: &'static str,
        /// The protocol's answer.
        expected: &'static str,
        /// The beginning of what came.
        got: String,
        /// The end of its stderr, with a lead-in, or nothing.
        last_words: String,
    },
    /// It said why it cannot.
    #[error("{message}")]
    Refused {
        /// Its own words.
        message: String,
        /// Whether the engine or the CPU lacks the feature: nothing went wrong.
        unsupported: bool,
    },
}

/// A running contender.
pub struct Contender {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Receiver<Answer>,
    words: Arc<Mutex<VecDeque<String>>>,
    stderr_reader: JoinHandle<()>,
}

enum Answer {
    Line(Vec<u8>),
    TooLong,
}

/// A command that has ended well.
#[derive(Debug)]
pub struct Ended {
    /// From before its start until it had exited.
    pub seconds: f64,
    /// The last line of its stdout; empty if it printed none.
    pub last_line: String,
}

/// Runs a command to its end, and times all of it.
///
/// * `request`: what it is run for, for errors
/// * `input`: its standard input
/// * `limit`: longest wait; then it is killed
///
/// # Errors
/// [`ContenderError`]; a command that exits with anything but 0 has died.
pub fn run_to_its_end(
    launch: &Launch,
    request: &'static str,
    input: &str,
    limit: Duration,
) -> Result<Ended, ContenderError> {
    let begin = Instant::now();
    let mut contender = Contender::start(launch)?;
    if let Some(mut stdin) = contender.stdin.take() {
        // The input is far smaller than a pipe's buffer. A command that does not read it may
        // still do what it is for: how it ends says so.
        let _ = stdin.write_all(input.as_bytes());
    }
    let mut last_line = Vec::new();
    let status = loop {
        // Its output is read all along, so that no full pipe holds it up.
        match contender.answers.recv_timeout(POLL) {
            Ok(Answer::Line(line)) => last_line = line,
            Ok(Answer::TooLong) => {
                let expected = "lines under 64 MiB";
                return Err(contender.garbage(request, expected, "more than 64 MiB on one line"));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(POLL),
        }
        if let Some(status) = contender.wait(Duration::ZERO) {
            break status;
        }
        if begin.elapsed() > limit {
            contender.kill();
            return Err(ContenderError::TimedOut {
                request,
                limit,
                last_words: contender.last_words(),
            });
        }
    };
    let seconds = begin.elapsed().as_secs_f64();
    if !status.success() {
        return Err(contender.died(request));
    }
    // What it printed at the very end may still be on its way; its children may hold the pipe.
    while let Ok(Answer::Line(line)) = contender.answers.recv_timeout(LEFTOVERS) {
        last_line = line;
    }
    Ok(Ended {
        seconds,
        last_line: String::from_utf8_lossy(&last_line).trim_end().to_owned(),
    })
}

impl Contender {
    /// Starts the process.
    ///
    /// # Errors
    /// [`ContenderError::Start`].
    pub fn start(launch: &Launch) -> Result<Self, ContenderError> {
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.arguments)
            .current_dir(&launch.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in REMOVED_VARIABLES {
            command.env_remove(name);
        }
        command.envs(launch.variables.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().map_err(|source| ContenderError::Start {
            program: launch.program.clone(),
            source,
        })?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three were asked for as pipes");
        };
        // One answer may wait; a process that floods its output blocks in its pipe
        // in place of filling our memory.
        let (sender, answers) = sync_channel(1);
        std::thread::spawn(move || read_answers(BufReader::new(stdout), &sender));
        let words = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&words);
        let stderr_reader = std::thread::spawn(move || read_words(BufReader::new(stderr), &kept));
        Ok(Self {
            child,
            stdin: Some(stdin),
            answers,
            words,
            stderr_reader,
        })
    }

    /// Sends one message and waits for its answer.
    ///
    /// * `request`: the message's kind, for errors
    /// * `limit`: longest wait
    ///
    /// After any error but [`ContenderError::Refused`] the process is of no more use:
    /// drop it.
    ///
    /// # Errors
    /// See [`ContenderError`].
    pub fn ask(
        &mut self,
        request: &'static str,
        message: &Value,
        limit: Duration,
    ) -> Result<Value, ContenderError> {
        let mut line = message.to_string();
        line.push('\n');
        // Messages are far smaller than a pipe's buffer, so that a process which
        // does not read cannot block us here.
        let sent = match &mut self.stdin {
            Some(stdin) => stdin
                .write_all(line.as_bytes())
                .and_then(|()| stdin.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        if sent.is_err() {
            return Err(self.died(request));
        }
        let bytes = match self.answers.recv_timeout(limit) {
            Ok(Answer::Line(bytes)) => bytes,
            Ok(Answer::TooLong) => {
                return Err(self.garbage(
                    request,
                    "one line of JSON",
                    "more than 64 MiB on one line",
                ));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(self.died(request)),
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                return Err(ContenderError::TimedOut {
                    request,
                    limit,
                    last_words: self.last_words(),
                });
            }
        };
        let Ok(Value::Object(answer)) = serde_json::from_slice::<Value>(&bytes) else {
            let got = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * WORD_CHARS)]);
            return Err(self.garbage(
                request,
                "one JSON object on one line",
                &format!("{:?}", got.trim_end()),
            ));
        };
        match answer.get("error") {
            Some(message) => Err(ContenderError::Refused {
                message: match message {
                    Value::String(text) if !text.trim().is_empty() => shorten(text),
                    _ => "refused without a reason".to_owned(),
                },
                unsupported: answer.get("unsupported") == Some(&Value::Bool(true)),
            }),
            None => Ok(Value::Object(answer)),
        }
    }

    /// The error for an answer of the wrong shape.
    pub fn garbage(
        &self,
        request: &'static str,
        expected: &'static str,
        got: &str,
    ) -> ContenderError {
        ContenderError::Garbage {
            request,
            expected,
            got: shorten(got),
            last_words: self.last_words(),
        }
    }

    fn died(&mut self, request: &'static str) -> ContenderError {
        // Its pipes close a moment before it can be waited for.
        let how = match self.wait(Duration::from_secs(1)) {
            Some(status) => status.to_string(),
            None => {
                self.kill();
                "it closed its output and was killed".to_owned()
            }
        };
        let deadline = Instant::now() + Duration::from_millis(500);
        while !self.stderr_reader.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        ContenderError::Died {
            request,
            how,
            last_words: self.last_words(),
        }
    }

    fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5))
                }
                Ok(None) | Err(_) => return None,
            }
        }
    }

    fn kill(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn last_words(&self) -> String {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        match words.is_empty() {
            true => String::new(),
            false => {
                let lines: Vec<_> = words.iter().map(String::as_str).collect();
                format!("; its last words: {}", lines.join(" | "))
            }
        }
    }
}

impl Drop for Contender {
    /// Ends the input, which ends the process; a process that stays is killed.
    fn drop(&mut self) {
        self.stdin = None;
        if self.wait(FAREWELL).is_none() {
            self.kill();
        }
    }
}

fn read_answers(mut stdout: impl BufRead, answers: &SyncSender<Answer>) {
    loop {
        let mut line = Vec::new();
        // An error of the pipe is its end: there is no more to read.
        let read = stdout.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        match read {
            Ok(0) | Err(_) => return,
            Ok(_) if line.last() != Some(&b'\n') && line.len() as u64 >= MAX_LINE => {
                let _ = answers.send(Answer::TooLong);
                return;
            }
            // Half a line at the end of the output is no answer: the process died in it.
            Ok(_) if line.last() != Some(&b'\n') => return,
            Ok(_) => {
                if answers.send(Answer::Line(line)).is_err() {
                    return;
                }
            }
        }
    }
}

fn read_words(mut stderr: impl BufRead, words: &Mutex<VecDeque<String>>) {
    loop {
        let mut line = Vec::new();
        match stderr.by_ref().take(1 << 16).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() {
            continue;
        }
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() == LAST_WORDS {
            words.pop_front();
        }
        words.push_back(shorten(&text));
    }
}

/// One line of at most [`WORD_CHARS`] characters, without control characters.
fn shorten(text: &str) -> String {
    let clean: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(WORD_CHARS + 1)
        .collect();
    match clean.char_indices().nth(WORD_CHARS) {
        Some((end, _)) => format!("{}...", &clean[..end]),
        None => clean,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A contender written in the shell, with nothing but its built-in commands.
    pub fn shell(script: &str) -> Launch {
        Launch {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            variables: Vec::new(),
            folder: ".".into(),
        }
    }

    #[test]
    fn answers_come_back_one_by_one() {
        let mut contender = Contender::start(&shell(
            r#"while read line; do echo news >&2; echo "{\"seconds\": [1.5]}"; done"#,
        ))
        .unwrap();
        for _ in 0..3 {
            let answer = contender.ask("run", &json!({"run": {}}), LIMIT).unwrap();
            assert_eq!(answer, json!({"seconds": [1.5]}));
        }
    }

    #[test]
    fn a_dead_contender_leaves_its_last_words() {
        let mut contender = Contender::start(&shell(
            "read line; echo first >&2; echo no room >&2; exit 7",
        ))
        .unwrap();
        let error = contender.ask("load", &json!({}), LIMIT).unwrap_err();
        assert!(matches!(error, ContenderError::Died { .. }));
        let text = error.to_string();
        assert!(text.contains("died at load: exit status: 7"), "{text}");
        assert!(text.ends_with("its last words: first | no room"), "{text}");
        // And stays dead.
        let again = contender.ask("run", &json!({}), LIMIT).unwrap_err();
        assert!(matches!(again, ContenderError::Died { .. }), "{again}");
    }

    #[test]
    fn a_contender_that_never_reads_is_dead_not_a_broken_pipe() {
        let mut contender = Contender::start(&shell("exit 3")).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let text = contender
            .ask("load", &json!({}), LIMIT)
            .unwrap_err()
            .to_string();
        assert!(text.contains("exit status: 3"), "{text}");
    }

    #[test]
    fn a_signal_is_named() {
        let mut contender = Contender::start(&shell("read line; kill -9 $$")).unwrap();
        let text = contender
            .ask("run", &json!({}), LIMIT)
            .unwrap_err()
            .to_string();
        assert!(text.contains("signal: 9"), "{text}");
    }

    #[test]
    fn a_hanging_contender_is_killed_in_time() {
        let start = Instant::now();
        let mut contender = Contender::start(&shell(
            "echo thinking >&2; read line; while :; do read x || sleep 60; done",
        ))
        .unwrap();
        let error = contender
            .ask("run", &json!({}), Duration::from_millis(300))
            .unwrap_err();
        assert!(matches!(error, ContenderError::TimedOut { .. }));
        assert!(
            error
                .to_string()
                .contains("within 0.3 s; it was killed; its last words: thinking"),
            "{error}"
        );
        drop(contender);
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_contender_that_outstays_its_input_is_killed() {
        let start = Instant::now();
        drop(Contender::start(&shell("exec sleep 60")).unwrap());
        assert!(start.elapsed() < FAREWELL + Duration::from_secs(2));
    }

    #[test]
    fn garbage_is_shown_and_cut() {
        for (printed, shown) in [
            ("echo Intel MKL WARNING", "\"Intel MKL WARNING\""),
            ("echo '[1, 2]'", "\"[1, 2]\""),
            ("echo", "\"\""),
            ("printf '\\377\\376\\n'", "\u{fffd}"),
        ] {
            let mut contender =
                Contender::start(&shell(&format!("read line; {printed}; sleep 1"))).unwrap();
            let error = contender.ask("run", &json!({}), LIMIT).unwrap_err();
            assert!(matches!(error, ContenderError::Garbage { .. }), "{error}");
            assert!(error.to_string().contains(shown), "{error}");
        }
        let mut contender = Contender::start(&shell(
            "read line; i=0; while [ $i -lt 9000 ]; do printf x; i=$((i+1)); done; echo",
        ))
        .unwrap();
        let text = contender
            .ask("run", &json!({}), LIMIT)
            .unwrap_err()
            .to_string();
        assert!(text.len() < 700, "{}", text.len());
    }

    #[test]
    fn half_an_answer_is_a_death() {
        let mut contender =
            Contender::start(&shell("read line; printf '{\"seconds\": [1.5'")).unwrap();
        let error = contender.ask("run", &json!({}), LIMIT).unwrap_err();
        assert!(matches!(error, ContenderError::Died { .. }), "{error}");
    }

    #[test]
    fn a_refusal_says_why() {
        let refuse = |answer: &str| {
            let mut contender =
                Contender::start(&shell(&format!("read line; echo '{answer}'; read line")))
                    .unwrap();
            contender.ask("load", &json!({}), LIMIT).unwrap_err()
        };
        match refuse(r#"{"error": "no bf16", "unsupported": true}"#) {
            ContenderError::Refused {
                message,
                unsupported,
            } => {
                assert_eq!((message.as_str(), unsupported), ("no bf16", true));
            }
            other => panic!("{other}"),
        }
        assert!(matches!(
            refuse(r#"{"error": 5}"#),
            ContenderError::Refused {
                unsupported: false,
                ..
            }
        ));
    }

    #[test]
    fn a_missing_program_is_named() {
        let mut launch = shell("");
        launch.program = "/nowhere/worker".into();
        let Err(error) = Contender::start(&launch) else {
            panic!("started a program that is not there");
        };
        assert!(error.to_string().contains("/nowhere/worker"), "{error}");
    }

    #[test]
    fn a_command_is_timed_to_its_exit() {
        let launch = shell("read line; echo one; echo $line; exec >&-; sleep 0.3");
        let ended = run_to_its_end(&launch, "sweep", "two\n", LIMIT).unwrap();
        assert_eq!(ended.last_line, "two");
        assert!((0.3..10.0).contains(&ended.seconds), "{}", ended.seconds);
    }

    #[test]
    fn a_command_may_print_more_than_a_pipe_holds_and_read_nothing() {
        let flood = shell("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done");
        let ended = run_to_its_end(&flood, "sweep", "unread", LIMIT).unwrap();
        assert_eq!(ended.last_line, "line 19999");
    }

    #[test]
    fn a_command_that_fails_or_hangs_is_an_error() {
        let failed = shell("echo 'no such grid' >&2; exit 2");
        let error = run_to_its_end(&failed, "sweep", "", LIMIT).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("died at sweep: exit status: 2"), "{text}");
        assert!(text.ends_with("no such grid"), "{text}");
        let hangs = shell("exec sleep 60");
        let error = run_to_its_end(&hangs, "sweep", "", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, ContenderError::TimedOut { .. }), "{error}");
    }

    #[test]
    fn the_shells_own_settings_do_not_reach_it() {
        let mut launch =
            shell(r#"read line; echo "{\"value\": \"$OMP_NUM_THREADS$GLIBC_TUNABLES\"}""#);
        launch.variables = vec![("OMP_NUM_THREADS".to_owned(), "3".into())];
        let mut contender = Contender::start(&launch).unwrap();
        let answer = contender.ask("run", &json!({}), LIMIT).unwrap();
        assert_eq!(answer, json!({"value": "3"}));
    }
}
