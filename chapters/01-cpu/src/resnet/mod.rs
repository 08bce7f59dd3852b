//! ResNet-18, 34 and 50 under torchvision's parameter names.

pub mod network;
pub mod weights;

pub use datasets::resnet::{self as config, seeded};
