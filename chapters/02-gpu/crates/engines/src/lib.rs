//! ONNX Runtime and OpenVINO behind chapter 1's trait, and the ONNX files that they open.
//!
//! A ResNet goes from chapter 1's weights to an ONNX file without Python, as it is, in 16 bits, or
//! quantised to 8 bits after a calibration. The engines' libraries are opened at run time: the same
//! binary works where they are and where they are not.
//!
//! Not here: the measuring (`gpu-inference engines`), and the choice of a device.
//!
//! | module | idea |
//! | --- | --- |
//! | [`plan`] | a ResNet as a list of steps between named values |
//! | [`folded`] | its numbers, batch norms folded away |
//! | [`calibration`] | the range of every value, seen on real batches |
//! | [`onnx`] | plan, numbers and ranges as an ONNX file |
//! | [`staged`] | an engine whose input is laid ready before the clock starts |
//! | [`library`] | where an engine's shared library lies |
//! | [`onnx_runtime`] | ONNX Runtime: CPU, CUDA and TensorRT |
//! | [`openvino`] | OpenVINO on the CPU |

pub mod calibration;
pub mod folded;
pub mod library;
pub mod onnx;
pub mod onnx_runtime;
pub mod openvino;
pub mod plan;
pub mod staged;
