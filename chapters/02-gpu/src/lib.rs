//! Chapter 2: the pipeline of chapter 1 on a GPU, what it takes to feed one, and other
//! engines beside libtorch.
//!
//! `run` is chapter 1's program with another device. The rest asks why a GPU that is a
//! hundred times faster is not a hundred times faster: what each step towards it gains,
//! which batch it wants, what its peaks allow.
//!
//! Not here: training (chapter 3), more than one GPU a process, a second CUDA stream (tch
//! has one), CUDA graphs (tch has none).
//!
//! | module | idea |
//! | --- | --- |
//! | [`cli`], [`commands`] | what can be asked, one file a command |
//! | [`libtorch_cuda`] | libtorch's CUDA part, loaded while the program runs |
//! | [`device`] | the choice of a device, and the way back to the CPU |
//! | [`steps`] | the steps of the ladder: what each changes, what it is compared with |
//! | [`feed`] | where a batch lies, and how it reaches the device |
//! | [`child`] | a worker process: some settings are read once a process |
//! | [`sweep`], [`knee`] | batch sizes until memory is out, and the one to take |
//! | [`cost`], [`peak`] | operations and bytes of each layer; what the device can do |
//! | [`contender`] | the other engines by name |
//! | [`exports`] | a model as ONNX files, for them |
//! | [`meter`] | power, energy and utilisation by NVML |
//! | [`output`] | where a measurement ends |

pub mod child;
pub mod cli;
pub mod commands;
pub mod contender;
pub mod cost;
pub mod device;
pub mod exports;
pub mod feed;
pub mod knee;
pub mod libtorch_cuda;
pub mod meter;
pub mod output;
pub mod peak;
pub mod steps;
pub mod sweep;
