//! Chapter 4: many trainings side by side; the best one deployed and served.
//!
//! A grid names the runs, a manifest remembers how far each is, and worker processes train
//! them, one at a time each, with chapter 3's trainer. Whatever ends early goes on from its
//! checkpoints: a worker, or the sweep itself.
//!
//! Not here: how a training works (chapter 3), how a model is served (chapter 1), more than one
//! machine (there the same worker runs on Apache Beam: the folder `beam`).
//!
//! A map, in the order of a sweep:
//!
//! | module | idea |
//! | --- | --- |
//! | [`cli`], [`commands`] | what can be asked, one file a command |
//! | [`grid`], [`run`] | which runs there are, and their names |
//! | [`manifest`] | how far each run is, on disk |
//! | [`journal`] | what happened, line by line |
//! | [`protocol`] | what a worker is asked and answers |
//! | [`worker`] | the worker, from inside |
//! | [`worker_process`] | the worker, from outside |
//! | [`slots`] | how many workers, with how many threads |
//! | [`queue`] | which run a free worker takes |
//! | [`scheduler`] | workers and queue brought together |
//! | [`halving`] | who goes on: all, or the better ones |
//! | [`sweep`] | from a grid to a winner |
//! | [`selection`] | which run is the best |
//! | [`deployment`] | the winner, published |
//! | [`display`], [`report`] | what the user sees; what the result file holds |
//! | [`cost`] | what a sweep would cost on several workers |
//! | [`failure`] | from an error to an exit code |

pub mod cli;
pub mod commands;
pub mod cost;
pub mod deployment;
pub mod display;
pub mod failure;
pub mod grid;
pub mod halving;
pub mod journal;
pub mod manifest;
pub mod protocol;
pub mod queue;
pub mod report;
pub mod run;
pub mod scheduler;
pub mod selection;
pub mod slots;
pub mod sweep;
pub mod worker;
pub mod worker_process;
