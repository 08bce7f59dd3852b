//! ONNX Runtime and OpenVINO behind chapter 1's trait, and the ONNX files that they open.
