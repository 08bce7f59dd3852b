//! A test that runs itself again in a process of its own, with another environment or limits.

use std::ffi::OsStr;
use std::process::{Command, Output};

/// Set in the child only.
const ROLE: &str = "DATASETS_TEST_CHILD";

/// What sends requests to 127.0.0.1 elsewhere on some readers' machines.
const PROXIES: [&str; 7] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "NO_PROXY",
];

/// Whether this process is the child.
pub fn is_child() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Runs one test of this program in a child process, without proxies.
///
/// * `test`: its full name, such as `hub::a_good_download`
/// * `file_blocks`: a limit on the size of files that it may write, in blocks of the shell
pub fn run(test: &str, environment: &[(&str, &OsStr)], file_blocks: Option<u32>) -> Output {
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
        .env(ROLE, "1")
        .envs(environment.iter().copied());
    for name in PROXIES {
        command.env_remove(name);
    }
    command.output().unwrap()
}

/// Runs `body` here, or in a child without them if this environment sets proxies.
pub fn without_proxy(test: &str, body: impl FnOnce()) {
    if is_child() || PROXIES.iter().all(|name| std::env::var_os(name).is_none()) {
        return body();
    }
    let output = run(test, &[], None);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
