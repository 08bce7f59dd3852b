//! One file a command.

pub mod cost;
pub mod deploy;
pub mod isolation;
pub mod learn;
pub mod overhead;
pub mod plan;
pub mod run;
pub mod sweep;
