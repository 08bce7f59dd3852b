//! Progress on stderr: a bar on a terminal, nothing elsewhere. stdout is for results.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// A progress bar, or nothing where stderr is not a terminal or `--quiet` is given.
///
/// Clones share the bar, and may be used from any thread.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    /// Starts a bar.
    ///
    /// * `total`: how many units there will be; a spinner with a count if unknown
    /// * `unit`: what is counted, in the plural ("images"); "bytes" is shown as MB
    /// * `quiet`: show nothing
    pub fn new(total: Option<u64>, unit: &str, quiet: bool) -> Self {
        let visible = !quiet && std::io::stderr().is_terminal();
        let target = if visible {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(total, target)
            .with_style(style(total.is_some(), unit))
            .with_finish(ProgressFinish::AndClear);
        if visible {
            // Shows that the program lives, also between two slow units.
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, quiet }
    }

    /// Counts `n` more units.
    pub fn inc(&self, n: u64) {
        self.bar.inc(n);
    }

    /// How many units were counted so far.
    pub fn position(&self) -> u64 {
        self.bar.position()
    }

    /// Prints a line of news above the bar, on stderr; nothing when quiet.
    pub fn println(&self, line: &str) {
        if !self.quiet {
            self.print(line);
        }
    }

    /// Prints a warning above the bar, on stderr, also when quiet.
    pub fn warn(&self, line: &str) {
        self.print(&format!("warning: {line}"));
    }

    /// Ends the bar and clears it.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn print(&self, line: &str) {
        // A hidden bar drops what it is asked to print. `eprintln!` would panic
        // where stderr is closed.
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{line}");
        });
    }
}

fn style(total_known: bool, unit: &str) -> ProgressStyle {
    // Braces in the unit would be read as a placeholder.
    let unit: String = unit.chars().filter(|c| !matches!(c, '{' | '}')).collect();
    let template = match (total_known, unit.as_str()) {
        (true, "bytes") => {
            "{bar:32} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left"
                .to_owned()
        }
        (false, "bytes") => "{spinner} {decimal_bytes} {decimal_bytes_per_sec}".to_owned(),
        (true, unit) => {
            format!("{{bar:32}} {{human_pos}}/{{human_len}} {unit}, {{per_sec}}, {{eta}} left")
        }
        (false, unit) => format!("{{spinner}} {{human_pos}} {unit}, {{per_sec}}"),
    };
    // The templates above are valid (a test makes each); a plain bar is no reason to stop.
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_valid_and_hostile_units_are_harmless() {
        for total in [None, Some(0), Some(10), Some(u64::MAX)] {
            for unit in ["images", "bytes", "", "{x}", "{", "100%"] {
                let progress = Progress::new(total, unit, true);
                progress.inc(3);
                progress.println("news");
                assert_eq!(progress.position(), 3);
                progress.finish();
                progress.inc(1);
                progress.finish();
            }
        }
    }

    #[test]
    fn a_bar_is_shared_by_threads() {
        let progress = Progress::new(Some(100), "images", true);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let progress = progress.clone();
                scope.spawn(move || (0..25).for_each(|_| progress.inc(1)));
            }
        });
        assert_eq!(progress.position(), 100);
    }
}
