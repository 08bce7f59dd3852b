//! Emulators of object stores on 127.0.0.1: those of chapter 3's tests.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// The bucket that it has.
const BUCKET: &str = "training-runs";

/// Which store is emulated.
#[derive(Clone, Copy, Debug)]
pub enum Store {
    /// Amazon's.
    S3,
    /// Google's.
    Gs,
}

/// An emulator in a process of its own.
pub struct Emulator {
    store: Store,
    process: Child,
    address: String,
}

impl Emulator {
    /// Starts it.
    ///
    /// * `python`: one with the emulators
    pub fn start(store: Store, python: &Path) -> Self {
        let kind = match store {
            Store::S3 => "s3",
            Store::Gs => "gcs",
        };
        let program = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../03-tpu-training/tests/object_stores/emulator.py"
        );
        let mut process = Command::new(python)
            .args([program, kind, BUCKET])
            // It ends when this pipe is closed, however this process ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut port).unwrap();
        let address = format!("http://127.0.0.1:{}", port.trim());
        Self {
            store,
            process,
            address,
        }
    }

    /// A folder in its bucket, as a user would name it.
    pub fn folder(&self, name: &str) -> String {
        let scheme = match self.store {
            Store::S3 => "s3",
            Store::Gs => "gs",
        };
        format!("{scheme}://{BUCKET}/{name}")
    }

    /// The variables that a user would set.
    pub fn variables(&self) -> Vec<(&'static str, &str)> {
        match self.store {
            Store::S3 => vec![
                ("AWS_ENDPOINT", &self.address),
                ("AWS_ALLOW_HTTP", "true"),
                ("AWS_REGION", "us-east-1"),
                ("AWS_ACCESS_KEY_ID", "testing"),
                ("AWS_SECRET_ACCESS_KEY", "testing"),
            ],
            Store::Gs => vec![
                ("GOOGLE_BASE_URL", &self.address),
                ("GOOGLE_BEARER_TOKEN", "testing"),
            ],
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
