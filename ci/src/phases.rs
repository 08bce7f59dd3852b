//! Where the time of a command went.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::quantities;

/// Wall-clock times of named phases, in the order they ran.
#[derive(Default)]
pub struct Phases(Vec<(String, Duration)>);

impl Phases {
    /// Runs `work` and notes its time under `name`, whether it succeeds or not.
    pub fn time<T>(&mut self, name: &str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.0.push((name.to_owned(), start.elapsed()));
        result
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(name, _)| name.chars().count()).max();
        let width = width.unwrap_or(0).max("total".len());
        writeln!(f, "time:")?;
        for (name, duration) in &self.0 {
            writeln!(f, "  {name:width$}  {}", quantities::time(*duration))?;
        }
        let total = self.0.iter().map(|(_, duration)| *duration).sum();
        write!(f, "  {:width$}  {}", "total", quantities::time(total))
    }
}
