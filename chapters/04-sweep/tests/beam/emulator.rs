//! An emulator of S3 on 127.0.0.1: the one of chapter 3's tests.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// The bucket that it has.
pub const BUCKET: &str = "training-runs";

/// An emulator in a process of its own.
pub struct Emulator {
    process: Child,
    address: String,
}

impl Emulator {
    /// Starts it.
    ///
    /// * `python`: one with moto's server
    pub fn start(python: &Path) -> Self {
        let program = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../03-tpu-training/tests/object_stores/emulator.py"
        );
        let mut process = Command::new(python)
            .args([program, "s3", BUCKET])
            // It ends when this pipe is closed, however this process ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut port).unwrap();
        let address = format!("http://127.0.0.1:{}", port.trim());
        Self { process, address }
    }

    /// The variables that a user would set.
    pub fn variables(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ENDPOINT", &self.address),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "testing"),
        ]
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
