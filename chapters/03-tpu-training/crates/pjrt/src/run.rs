//! What a run of a program was given for good.

use std::sync::{Mutex, PoisonError};

use crate::{ffi, sys::owned::Owned};

/// One run of a program, shared by its outputs.
///
/// Donated arguments are empty once the run has begun, but to destroy one waits, on CPUs,
/// until the run is over. So they stay here until somebody waits for the run anyhow, or the
/// next run has begun: the device always has work, and the host is at most one run ahead.
pub struct Run {
    donated: Mutex<Vec<Owned<ffi::Buffer>>>,
}

impl Run {
    /// A run that these arguments were donated to.
    pub fn new(donated: Vec<Owned<ffi::Buffer>>) -> Self {
        Self {
            donated: Mutex::new(donated),
        }
    }

    /// Destroys the donated arguments, and waits for the run if that takes it.
    pub fn settle(&self) {
        let lock = self.donated.lock();
        let donated = std::mem::take(&mut *lock.unwrap_or_else(PoisonError::into_inner));
        drop(donated);
    }
}
