//! A test that runs itself again in a process of its own.

use std::process::{Command, Stdio};

/// Set in the child only; its value is what the child is to work on.
const ROLE: &str = "TPU_TRAINING_TEST_CHILD";

/// What this process was started for, if it is a child.
pub fn task() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// One test of this program as a child process, with pipes to its input and output.
///
/// * `test`: its full name, such as `crash::killed_while_saving`
/// * `file_blocks`: a limit on the size of files that it may write, in blocks of the shell
pub fn command(test: &str, task: &str, file_blocks: Option<u32>) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = match file_blocks {
        None => Command::new(program),
        Some(blocks) => {
            // Without the trap the system ends the child instead of failing its write.
            let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
            let mut command = Command::new("sh");
            command.arg("-c").arg(script).arg(program);
            command
        }
    };
    command
        .args([test, "--exact", "--nocapture"])
        .env(ROLE, task)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}
