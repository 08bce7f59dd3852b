//! Chapter 1: ResNet inference on the CPU, the honest baseline.
//!
//! Pictures stream through a pipeline (read, decode, resize, normalise, batch,
//! infer, top-k, write); every stage is timed, and the model climbs a ladder of
//! rungs that make it faster without changing its answers.
//!
//! Not here: training (but for the small program that made the digits
//! checkpoint), other devices (chapter 2), other engines (chapter 2).
//!
//! A map, in the order of the data:
//!
//! | module | idea |
//! | --- | --- |
//! | [`cli`], [`commands`] | what can be asked, one file a command |
//! | [`source`] | pictures from a folder, a data set, or noise |
//! | [`preprocess`] | bytes to the pixels that the model was trained on |
//! | [`pipeline`] | the stages, their queues, their clocks |
//! | [`engine`] | what the pipeline asks of a model, free of libtorch |
//! | [`tch_engine`] | libtorch behind that trait, on each rung |
//! | [`shrink`] | an engine that splits what does not fit |
//! | [`refresh`] | an engine that takes up a newer model between two batches |
//! | [`stream`] | a copy of the network on a thread of its own |
//! | [`resnet`] | the network: shapes, weights, forward pass |
//! | [`job`], [`outcome`] | a classification, from its flags to its files |
//! | [`comparison`] | what makes engines comparable: the same input, two questions |
//! | [`model`] | which weights, and what they say of themselves |
//! | [`allocator`], [`setting`], [`memory`] | malloc, device, threads: settled before the first batch |
//! | [`chapter`] | whose results they are: chapter 2 uses this library, too |
//! | [`shards`] | pictures on request, for pipelines over many machines |
//! | [`worker`] | measurements on request, for the peers |
//! | [`failure`] | from an error to an exit code |

pub mod allocator;
pub mod chapter;
pub mod cli;
pub mod commands;
pub mod comparison;
pub mod engine;
pub mod failure;
pub mod job;
pub mod memory;
pub mod model;
pub mod outcome;
pub mod pipeline;
pub mod preprocess;
pub mod refresh;
pub mod resnet;
pub mod setting;
pub mod shards;
pub mod shrink;
pub mod source;
pub mod stream;
pub mod tch_engine;
pub mod worker;
