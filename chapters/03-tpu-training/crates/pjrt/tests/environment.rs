//! The environment is changed only while a process has one thread. So `main` looks before the
//! tests begin, which run in threads.

use std::{env, process::ExitCode, thread};

use libtest_mimic::{Arguments, Trial};
use pjrt_runtime::{quiet_plugins, set_default_variable};

const NEW: &str = "PJRT_RUNTIME_TEST_NEW";
const LATE: &str = "PJRT_RUNTIME_TEST_LATE";

fn main() -> ExitCode {
    let path = env::var_os("PATH").unwrap();
    let alone = [
        set_default_variable(NEW, "1"),
        set_default_variable("PATH", "/nowhere"),
        quiet_plugins(),
    ];
    let set = env::var(NEW);
    let log_level = env::var("TF_CPP_MIN_LOG_LEVEL");
    let (with_two, with_two_again) = thread::scope(|scope| {
        let (send, wait) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || wait.recv());
        let both = (
            set_default_variable(LATE, "1"),
            set_default_variable(NEW, "2"),
        );
        drop(send);
        both
    });
    // Where the system does not say how many threads there are, nothing is set.
    let tells = cfg!(target_os = "linux");
    let tests = vec![
        Trial::test("one_thread_sets_what_is_not_set", move || {
            assert_eq!(alone, [tells, true, tells]);
            assert_eq!(set.is_ok(), tells);
            assert_eq!(log_level.is_ok(), tells);
            assert_eq!(env::var_os("PATH"), Some(path.clone()));
            Ok(())
        }),
        Trial::test("two_threads_set_nothing", move || {
            assert!(!with_two);
            assert_eq!(with_two_again, tells);
            assert!(env::var_os(LATE).is_none());
            assert_ne!(env::var(NEW).as_deref(), Ok("2"));
            Ok(())
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}
