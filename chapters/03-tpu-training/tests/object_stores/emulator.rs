//! Emulators of object stores on 127.0.0.1, for the tests of chapters 3 and 4.

use std::{
    io::{self, BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use tpu_training::store::Scheme;

/// The bucket that each has.
pub const BUCKET: &str = "training-runs";

/// An emulator in a process of its own, with a bucket.
pub struct Emulator {
    pub scheme: Scheme,
    process: Child,
    address: String,
}

impl Emulator {
    /// Starts it.
    ///
    /// * `python`: one with the emulators
    pub fn start(scheme: Scheme, python: &Path) -> io::Result<Self> {
        let kind = match scheme {
            Scheme::S3 => "s3",
            Scheme::Gs => "gcs",
        };
        let program = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../03-tpu-training/tests/object_stores/emulator.py");
        let mut process = Command::new(python)
            .arg(program)
            .args([kind, BUCKET])
            // It ends when this pipe is closed, however this process ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line)?;
        let port: u16 = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self {
            scheme,
            process,
            address: format!("http://127.0.0.1:{port}"),
        })
    }

    /// The variables that a user would set.
    pub fn variables(&self) -> Vec<(&'static str, &str)> {
        match self.scheme {
            Scheme::S3 => vec![
                ("AWS_ENDPOINT", &self.address),
                ("AWS_ALLOW_HTTP", "true"),
                ("AWS_REGION", "us-east-1"),
                ("AWS_ACCESS_KEY_ID", "testing"),
                ("AWS_SECRET_ACCESS_KEY", "testing"),
            ],
            Scheme::Gs => vec![
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
