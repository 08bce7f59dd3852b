//! Chapter 2: the pipeline of chapter 1 on a GPU, and other engines beside libtorch.

pub mod cli;
pub mod commands;
