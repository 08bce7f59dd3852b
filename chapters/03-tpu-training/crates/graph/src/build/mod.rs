//! The builders: each checks its operands, infers the result's type, and
//! appends a node. Nothing is appended if a check fails.

mod elementwise;
mod indexing;
mod layout;
mod loops;
mod product;
mod reduce;
mod source;
mod window;

pub(crate) use window::{dilated, windows};
