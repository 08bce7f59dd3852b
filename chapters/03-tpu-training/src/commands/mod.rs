//! One file a command.

pub mod compile_for;
pub mod conv_forms;
pub mod evaluate;
pub mod learn;
pub mod steps_per_call;
pub mod train;
pub mod worker;
