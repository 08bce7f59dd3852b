//! Tensor operations as a graph: shapes inferred as they are added, reverse-mode
//! differentiation, StableHLO text out.
//!
//! A program is built once, by calling methods of [`Graph`] that each append one
//! operation; then printed for XLA, which compiles it for a CPU, a GPU or a TPU.
//! Nothing is computed here, except by the interpreter, which is for tests.
//!
//! Not here: compiling and running (crate `pjrt-runtime`), I/O of any kind,
//! models and optimisers (`tpu-training`), shapes that change at run time.
//!
//! ```
//! use training_graph::{DType, Graph, GraphError, Program, TensorType};
//!
//! fn squared_error() -> Result<Program, GraphError> {
//!     let mut g = Graph::new();
//!     let x = g.parameter("x", TensorType::new(DType::F32, [8, 3]))?;
//!     let w = g.parameter("w", TensorType::new(DType::F32, [3, 2]))?;
//!     let target = g.parameter("target", TensorType::new(DType::F32, [8, 2]))?;
//!     let y = g.matmul(x, w)?;
//!     let error = g.sub(y, target)?;
//!     let square = g.mul(error, error)?;
//!     let loss = g.mean(square, &[0, 1])?;
//!     let gradient = g.gradients(loss, &[w])?[0];
//!     Ok(Program {
//!         name: "squared_error".into(),
//!         graph: g,
//!         outputs: vec![loss, gradient],
//!         donated: vec![],
//!     })
//! }
//!
//! let text = squared_error()?.stablehlo()?;
//! assert!(text.contains("stablehlo.dot_general"));
//! # Ok::<(), GraphError>(())
//! ```
//!
//! A map, in the order of reading:
//!
//! | module | idea |
//! | --- | --- |
//! | `dtype`, `tensor_type`, `literal` | element types, shapes, arrays in host memory |
//! | `op` | the operations: one variant each, with its attributes |
//! | `graph` | the list of nodes |
//! | `build` | the builders: each checks operands and infers the result's type |
//! | `operands`, `error` | the checks, and what they say |
//! | `gradients` | the backward pass: a walk over the list, last node first |
//! | `vjp` | one rule an operation |
//! | `gradient_rule` | composites with a backward pass of their own |
//! | `conv2d` | convolutions written in several ways |
//! | `composite` | batch norm, loss, means, random numbers |
//! | `program`, `stablehlo` | outputs chosen; text for the compiler |
//! | `interpret` | the same program in plain loops: a second opinion for tests |
//! | `listing` | text for people |

mod build;
mod composite;
mod conv2d;
mod convolution;
mod dtype;
mod error;
mod gradient_rule;
mod gradients;
mod graph;
mod interpret;
mod listing;
mod literal;
mod op;
mod operands;
mod program;
mod stablehlo;
mod tensor_type;
mod vjp;

pub use composite::BatchNorm;
pub use conv2d::{Conv2d, ConvForm, ConvForms};
pub use convolution::{ConvDims, Convolution};
pub use dtype::DType;
pub use error::GraphError;
pub use gradient_rule::GradientRule;
pub use graph::{Graph, Node, Region, Value};
pub use interpret::InterpretError;
pub use literal::{Literal, LiteralError};
pub use op::{Comparison, DotDims, Op, Pool};
pub use program::Program;
pub use tensor_type::TensorType;
