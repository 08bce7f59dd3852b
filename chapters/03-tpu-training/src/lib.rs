//! Chapter 3: one training program, compiled by XLA for CPU, GPU and TPU.
//!
//! A ResNet, its loss, the gradients and the optimiser's update are one graph
//! (crate `training-graph`). Its text goes to the compiler behind a PJRT plugin
//! (crate `pjrt-runtime`), and what comes back trains: the data set lies on the
//! device, parameters never leave it, losses come back once an epoch.
//!
//! Not here: inference as a service (chapter 1 serves the model that this makes),
//! many trainings at once (chapter 4), several devices in one training.
//!
//! A map, from the outside in:
//!
//! | module | idea |
//! | --- | --- |
//! | [`cli`], [`commands`] | what can be asked, one file a command |
//! | [`training_run`] | a whole training: epochs, checkpoints, resuming |
//! | [`trainer`] | one training in progress on a device |
//! | [`training_step`], [`evaluation`] | the programs: what the device is given to run |
//! | [`programs`] | what this process has compiled already |
//! | [`network`], [`optimizer`], [`augment`] | their parts, as graph operations |
//! | [`conv_forms`] | how each convolution is written down, by shape and device |
//! | [`parameters`] | names, first values, layouts of the network's tensors |
//! | [`data_set`], [`order`], [`schedule`] | what is learned from, in which order, at which rate |
//! | [`config`] | everything that changes a run's result |
//! | [`xla_rs`] | the same graph through the crate xla, behind a feature |
//! | [`device`], [`bridge`] | from a flag to a client; from the graph's types to the runtime's |
//! | [`checkpoint`], [`run_folder`], [`store`] | what is kept, where, and how it survives a crash |
//! | [`failure`] | from an error to an exit code |

pub mod augment;
pub mod bridge;
pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod config;
pub mod conv_forms;
pub mod data_set;
pub mod device;
pub mod evaluation;
pub mod failure;
pub mod network;
pub mod optimizer;
pub mod order;
pub mod parameters;
pub mod programs;
pub mod run_folder;
pub mod schedule;
pub mod store;
pub mod trainer;
pub mod training_run;
pub mod training_step;
pub mod xla_rs;
