//! Calls through a plugin's function table, and the environment that it reads: the only
//! modules with `unsafe`.
//!
//! What the calls hand out is safe to use in any order, because of three rules that are kept here
//! and nowhere else:
//!
//! - A pointer that a plugin gave to us to own lives in an [`owned::Owned`], which destroys it
//!   once and holds whatever it must not outlive.
//! - A pointer that belongs to another object (a device, a description, a name) is read while
//!   that object is borrowed, and copied.
//! - A plugin's library is never unloaded, so its table lives as long as the process.

pub mod api;
pub mod buffer;
pub mod client;
pub mod environment;
pub mod executable;
pub mod load;
pub mod named_value;
pub mod owned;
pub mod topology;
