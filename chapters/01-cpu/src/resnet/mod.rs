//! ResNet-18, 34 and 50 under torchvision's parameter names.

pub mod config;
pub mod network;
pub mod seeded;
pub mod weights;
