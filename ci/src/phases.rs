//! Where the time of a command went.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::quantities;

/// Wall-clock times of named phases, in the order they first ran.
#[derive(Default)]
pub struct Phases(Vec<(String, Duration)>);

impl Phases {
    /// Runs `work` and notes its time under `name`, whether it succeeds or not; times of one
    /// name are added up.
    pub fn time<T>(&mut self, name: &str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        let taken = start.elapsed();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, time)) => *time += taken,
            None => self.0.push((name.to_owned(), taken)),
        }
        result
    }

    /// The time of all phases.
    pub fn total(&self) -> Duration {
        self.0.iter().map(|(_, duration)| *duration).sum()
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
        write!(
            f,
            "  {:width$}  {}",
            "total",
            quantities::time(self.total())
        )
    }
}
