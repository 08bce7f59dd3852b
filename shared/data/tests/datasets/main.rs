//! What the crate promises, module by module, through its public interface only.
//!
//! `server` and `child` are no tests: an HTTP server on 127.0.0.1 that behaves as badly as a
//! test asks, and a test that runs itself again with another environment.

mod checkpoint;
mod checkpoint_write;
mod child;
mod cifar10;
mod cifar10_fetch;
mod digits;
mod hub;
mod imagenet;
mod images;
mod robustness;
mod samples;
mod server;
mod serving;
mod split;
