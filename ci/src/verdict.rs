//! What came of a check by another program, and how a command of several such checks ends.

use std::process::ExitCode;

/// What came of one check.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It ran, and found nothing.
    Passed,
    /// What it found, or that its program has said so.
    Failed(String),
    /// It did not run: `WHAT IS MISSING; COMMAND THAT BRINGS IT`.
    Skipped(String),
}

/// Prints a line a check, and tells how the command ends: 1 if one failed.
///
/// * `required`: a check that was skipped counts as failed
pub fn conclude(checks: &[(String, Verdict)], required: bool) -> ExitCode {
    for (name, verdict) in checks {
        match verdict {
            Verdict::Passed => println!("passed   {name}"),
            Verdict::Failed(found) => println!("failed   {name}: {found}"),
            Verdict::Skipped(reason) => println!("skipped  {name}: needs {reason}"),
        }
    }
    match failed(checks, required) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn failed(checks: &[(String, Verdict)], required: bool) -> bool {
    checks.iter().any(|(_, verdict)| match verdict {
        Verdict::Passed => false,
        Verdict::Failed(_) => true,
        Verdict::Skipped(_) => required,
    })
}

/// The verdict of a program that ended, which has said for itself what it found.
pub fn of_status(status: std::process::ExitStatus) -> Verdict {
    match status.success() {
        true => Verdict::Passed,
        false => Verdict::Failed(format!("{status}, see above")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_fails_only_where_it_must_not_be() {
        let checks = |verdict| vec![("a".to_owned(), Verdict::Passed), ("b".to_owned(), verdict)];
        let skipped = checks(Verdict::Skipped("curl; apt-get install curl".to_owned()));
        assert!(!failed(&skipped, false));
        assert!(failed(&skipped, true));
        assert!(failed(&checks(Verdict::Failed("x".to_owned())), false));
        assert!(!failed(&checks(Verdict::Passed), true));
    }
}
