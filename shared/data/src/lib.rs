//! Data sets, their splits, and checkpoint files: what every chapter reads and writes.
//!
//! Everything that comes from outside the program as bytes is checked here, once, and refused
//! with an error that says what was expected, what came, and what to do next. Nothing here knows
//! of an engine or a device: images come out as `u8` pixels, weights as bytes with a shape.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`digits`] | the UCI handwritten digits, committed here: the offline default, with labels |
//! | [`split`] | which digits train, validate and test; and the seeded generator that chose |
//! | [`cifar10`] | CIFAR-10's binary format: records, folder, verified fetch |
//! | [`images`] | a folder of JPEG and PNG files as a sorted list of paths |
//! | [`imagenet`] | the names of the 1,000 ImageNet classes |
//! | [`checkpoint`] | safetensors files: read with checks, compared with a model, written whole |
//! | [`resnet`] | the ResNets by depth, width and stem: names and shapes of their tensors |
//! | [`hub`] | ImageNet weights from the Hugging Face hub, pinned and verified |
//! | [`serving`] | a folder of published models, and which of them to serve |
//!
//! Not here: decoding and resizing pictures (chapter 1's pipeline), tensors of an engine, and
//! object stores. The crate has no `unsafe` code; files are read, not memory-mapped, because a
//! map of a file that another process shortens ends the process with SIGBUS.

pub mod checkpoint;
pub mod cifar10;
pub mod digits;
pub mod hub;
pub mod imagenet;
pub mod images;
pub mod resnet;
pub mod serving;
pub mod split;

mod atomic_file;
mod sha256;
