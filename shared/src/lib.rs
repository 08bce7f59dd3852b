//! What every chapter shares, and nothing that only one of them needs.
//!
//! A chapter's program selects a device, looks at the machine, measures, and writes
//! a result file that the book's tables are made from:
//!
//! ```no_run
//! use accel::device::{CpuOnly, DeviceRequest, select};
//! use accel::environment::Environment;
//! use accel::results::{ResultFile, Row};
//! use accel::timing::{Plan, measure};
//!
//! # fn infer() -> Result<(), std::io::Error> { Ok(()) }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let selection = select(DeviceRequest::Auto, &CpuOnly)?;
//! eprintln!("device {}", selection.reason);
//! let mut file = ResultFile::new("01-cpu", "example", Environment::collect());
//! let samples = measure(&Plan::default(), 8, infer, || Ok(()))?;
//! file.rows.push(
//!     Row::ok("eager-b8", "eager, batch 8")
//!         .with("batch", 8)
//!         .with_samples(samples),
//! );
//! file.write("results-local/example.json")?;
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! | module | what it holds | it does not |
//! | --- | --- | --- |
//! | [`device`] | names of devices and the choice of one | look at hardware: a `Probe` does |
//! | [`timing`] | warm-up, samples, percentiles, ratios with an interval | know what it measures |
//! | [`environment`] | the machine's fingerprint | name a host, a user or a path |
//! | [`results`] | result files: shape, checks, reading, writing | summarise: samples stay raw |
//! | [`checkout`] | the checkout's root and commit | need git: without it there is no commit |
//! | [`hardware`] | published peaks and bandwidths with their sources | measure |
//! | [`progress`] | bars on stderr | write to stdout |
//! | [`learn`] | a chapter's measurements in one go, each in a process of its own | measure |
//! | [`arguments`] | numbers with bounds, as flags give them | know any flag |
//! | [`stdout`] | lines on stdout, also where it is closed | format |
//! | [`human`] | numbers for people | appear in result files |
//! | [`exit`] | exit codes | |
//!
//! # Non-goals
//!
//! No tensor library, no async runtime, no command line: a program that only reads
//! result files must build in seconds and without libtorch.

pub mod arguments;
pub mod checkout;
pub mod device;
pub mod environment;
pub mod exit;
pub mod hardware;
pub mod human;
pub mod learn;
mod privacy;
pub mod progress;
pub mod results;
pub mod stdout;
pub mod timing;

pub use checkout::checkout_root;
