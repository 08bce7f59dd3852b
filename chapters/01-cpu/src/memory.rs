//! Resident memory while a stream runs.

use std::sync::{Arc, Mutex, PoisonError};

/// How many readings a stream gets.
const READINGS: usize = 10;

/// Reads the process' resident memory at even steps of a stream.
#[derive(Clone, Debug)]
pub struct Residency(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    step: usize,
    done: usize,
    samples: Vec<(usize, u64)>,
}

impl Residency {
    /// * `total`: images that the stream will have
    pub fn start(total: usize) -> Self {
        Residency(Arc::new(Mutex::new(State {
            step: total.div_ceil(READINGS).max(1),
            done: 0,
            samples: vec![],
        })))
    }

    /// Counts one image; takes a reading if it is time.
    pub fn count(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.done += 1;
        if state.done.is_multiple_of(state.step)
            && let Some(bytes) = resident_bytes()
        {
            let done = state.done;
            state.samples.push((done, bytes));
        }
    }

    /// Images done and bytes resident, in order; empty where the system does not say.
    pub fn samples(&self) -> Vec<(usize, u64)> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.samples.clone()
    }
}

/// Bytes of this process in memory now (`VmRSS`); `None` but on Linux.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}
