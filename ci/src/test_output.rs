//! Reads what test programs print: how many passed, and which were skipped and why.
//!
//! Two harnesses speak here. libtest prints `test NAME ... ignored, REASON`; libtest-mimic
//! prints `test [KIND] NAME ... ignored` or `test NAME ... ignored (REASON)`. The project's
//! reason is `needs: WHAT; COMMAND` in all three places. Both end a program's tests with
//! `test result: ok. 1 passed; 0 failed; 2 ignored; ...`.

/// A test that was not run.
#[derive(Clone, Debug, PartialEq)]
pub struct Skip {
    /// The test's name.
    pub name: String,
    /// Why, and the command that brings what is missing; `None`: it gave no reason of that form.
    pub reason: Option<Reason>,
}

/// The project's form of a reason: `needs: WHAT; COMMAND`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// What is missing.
    pub needs: String,
    /// The command that brings it.
    pub command: String,
}

impl Reason {
    fn parse(text: &str) -> Option<Self> {
        let (needs, command) = text.trim().strip_prefix("needs:")?.split_once(';')?;
        let (needs, command) = (needs.trim(), command.trim());
        (!needs.is_empty() && !command.is_empty()).then(|| Self {
            needs: needs.to_owned(),
            command: command.to_owned(),
        })
    }
}

/// What all test programs of a run said together.
#[derive(Debug, Default, PartialEq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed, and one for each program that ended without a result.
    pub failed: u64,
    /// Tests that were not run, by the programs' own count.
    pub ignored: u64,
    /// Those whose line was seen.
    pub skips: Vec<Skip>,
    /// Names of tests that failed.
    pub failures: Vec<String>,
    /// Whether a program has begun.
    running: bool,
    /// Its result so far: passed, failed, ignored.
    result: Option<[u64; 3]>,
}

impl Tally {
    /// Takes one line of output, without its newline.
    pub fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(count) = line.strip_prefix("running ") {
            if matches!(count.split_once(' '), Some((n, "test" | "tests")) if n.parse::<u64>().is_ok())
            {
                self.end();
                self.running = true;
            }
        } else if let Some(result) = line.strip_prefix("test result: ") {
            // The last one counts: the output of failed tests comes before it, and may look alike.
            self.result = Some(["passed", "failed", "ignored"].map(|word| count(result, word)));
        } else if let Some((test, outcome)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
            && self.running
        {
            self.outcome(test, outcome);
        }
    }

    /// Closes the last program: one that has begun and said no result has crashed.
    pub fn end(&mut self) {
        let result = self.result.take();
        if !std::mem::take(&mut self.running) {
            return;
        }
        match result {
            Some([passed, failed, ignored]) => {
                self.passed += passed;
                self.failed += failed;
                self.ignored += ignored;
            }
            None => {
                self.failed += 1;
                self.failures
                    .push("a test program that ended without a result (crashed)".to_owned());
            }
        }
    }

    fn outcome(&mut self, test: &str, outcome: &str) {
        let (kind, name) = match test.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((kind, name)) => (Some(kind), name.trim()),
            None => (None, test.trim()),
        };
        if outcome == "FAILED" {
            self.failures.push(name.to_owned());
        }
        let Some(rest) = outcome.strip_prefix("ignored") else {
            return;
        };
        let said = rest.strip_prefix(',').or_else(|| {
            let inner = rest.trim().strip_prefix('(')?;
            inner.strip_suffix(')')
        });
        let reason = said.and_then(Reason::parse);
        self.skips.push(Skip {
            name: name.to_owned(),
            reason: reason.or_else(|| Reason::parse(kind?)),
        });
    }
}

/// The number before ` WORD` in `ok. 1 passed; 0 failed; ...`.
fn count(result: &str, word: &str) -> u64 {
    let parts = result.split(['.', ';']).map(str::trim);
    let number = |part: &str| part.strip_suffix(word)?.trim().parse().ok();
    parts.filter_map(number).next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.line(line));
        tally.end();
        tally
    }

    fn skip(name: &str, needs: &str, command: &str) -> Skip {
        Skip {
            name: name.to_owned(),
            reason: Some(Reason {
                needs: needs.to_owned(),
                command: command.to_owned(),
            }),
        }
    }

    #[test]
    fn libtest_output() {
        let tally = tally(
            "\nrunning 4 tests\n\
             test a::passes ... ok\n\
             test a::fails ... FAILED\n\
             test a::gpu ... ignored, needs: a GPU; cargo x setup --cuda\n\
             test a::plain ... ignored\n\
             \nfailures:\n\n---- a::fails stdout ----\ntest result: ok. 99 passed; 0 failed\n\
             \ntest result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        );
        assert_eq!((tally.passed, tally.failed, tally.ignored), (1, 1, 2));
        assert_eq!(tally.failures, ["a::fails"]);
        assert_eq!(
            tally.skips,
            [
                skip("a::gpu", "a GPU", "cargo x setup --cuda"),
                Skip {
                    name: "a::plain".to_owned(),
                    reason: None
                }
            ]
        );
    }

    #[test]
    fn libtest_mimic_output_with_padding() {
        let tally = tally(
            "\nrunning 3 tests\n\
             test                                  passes   ... ok\n\
             test [needs: pip; python3 -m ensurepip] fetches  ... ignored\n\
             test                                  at_run   ... ignored (needs: a TPU; cargo x doctor)\n\
             \ntest result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        );
        assert_eq!((tally.passed, tally.failed, tally.ignored), (1, 0, 2));
        assert_eq!(
            tally.skips,
            [
                skip("fetches", "pip", "python3 -m ensurepip"),
                skip("at_run", "a TPU", "cargo x doctor")
            ]
        );
    }

    #[test]
    fn programs_add_up() {
        let one = "running 1 test\ntest a ... ok\n\
                   test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let tally = tally(&one.repeat(3));
        assert_eq!((tally.passed, tally.failed), (3, 0));
    }

    #[test]
    fn a_program_that_crashes_is_a_failure() {
        let crashed = "running 2 tests\ntest a ... ok\n";
        let whole =
            "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(tally(&format!("{crashed}{whole}")).failed, 1);
        assert_eq!(tally(crashed).failed, 1);
        assert_eq!(tally(whole).failed, 0);
    }

    #[test]
    fn a_reason_names_what_is_missing_and_the_command() {
        assert!(Reason::parse("needs: a GPU; cargo x setup --cuda").is_some());
        for text in ["", "slow", "needs: a GPU", "needs: ; x", "needs: a GPU;"] {
            assert_eq!(Reason::parse(text), None, "{text}");
        }
    }

    #[test]
    fn other_lines_are_left_alone() {
        let tally = tally(
            "running late\ntest drive ... ignored\ntest result: ok. 5 passed; 1 failed\nhello\n",
        );
        assert_eq!(tally, Tally::default());
    }
}
