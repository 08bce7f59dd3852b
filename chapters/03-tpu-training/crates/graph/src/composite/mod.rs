//! Layers and losses made of the operations.
//!
//! Most need no rule of their own: their gradients follow from their parts.

mod batch_norm;
mod mean;
mod random;
mod softmax_cross_entropy;

pub use batch_norm::BatchNorm;
pub(crate) use batch_norm::cotangents as batch_norm_cotangents;
