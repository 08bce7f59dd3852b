//! What this process has compiled already.
//!
//! Learning rate, order and seed are inputs of a training program, not part of it: runs that
//! differ in nothing else share one. Compiling takes longer than a short training does.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use pjrt_runtime::{Client, CompileOptions, Error, Executable};
use sha2::{Digest, Sha256};

/// Programs that are kept. Each holds its code and nothing else, a few MB.
const MOST: usize = 16;

/// Programs of one client, the newest last. Clones share them.
#[derive(Clone, Default)]
pub struct Programs {
    compiled: Arc<Mutex<Compiled>>,
}

type Compiled = VecDeque<(Key, Arc<Executable>)>;

/// SHA-256 of the program's text, and the options.
type Key = ([u8; 32], CompileOptions);

impl Programs {
    /// The program of a text, compiled now or before. The caller's client must be the one that
    /// everything else in here was compiled by.
    ///
    /// # Errors
    /// The compiler's.
    pub fn compiled(
        &self,
        client: &Client,
        text: &str,
        options: &CompileOptions,
    ) -> Result<Arc<Executable>, Error> {
        let key = (Sha256::digest(text.as_bytes()).into(), options.clone());
        let known = |programs: &Compiled| {
            let found = programs.iter().find(|(known, _)| *known == key);
            found.map(|(_, program)| Arc::clone(program))
        };
        if let Some(program) = known(&self.lock()) {
            return Ok(program);
        }
        let program = Arc::new(client.compile(text, options)?);
        let mut compiled = self.lock();
        if compiled.len() == MOST {
            compiled.pop_front();
        }
        compiled.push_back((key, Arc::clone(&program)));
        Ok(program)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Compiled> {
        // Nothing that can panic is done while it is held.
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
