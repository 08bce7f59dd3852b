//! What checkpoints, run folders and places promise, through the crate's public interface only.
//!
//! `samples`, `child` and `stores` are no tests: states to save, a test that runs itself again
//! in another process, and stores that fail when a test asks.

mod child;
mod crash;
mod damage;
mod format;
mod objects;
mod place;
mod resume;
mod run_folder;
mod samples;
mod server;
mod stores;
