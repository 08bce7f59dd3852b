//! Named values: what plugins are told and what they say.

use std::fmt;

/// The value of an option, an attribute or a cost.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// One integer.
    Int(i64),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A number, such as the FLOPs of a program.
    Float(f32),
    /// True or false.
    Bool(bool),
}

/// An option of a client, e.g. `("preallocate", ClientOption::Bool(false))` for CUDA.
pub type ClientOption = Value;

/// An attribute of a plugin or a device, e.g. `xla_version`.
pub type AttributeValue = Value;

/// A cost that the compiler estimates, e.g. `flops` or `bytes accessed`.
pub type CostValue = Value;

impl Value {
    /// The value as a number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(f64::from(*value)),
            Self::Int(value) => Some(*value as f64),
            Self::Text(_) | Self::Ints(_) | Self::Bool(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Int(value) => write!(f, "{value}"),
            Self::Ints(values) => write!(f, "{values:?}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Bool(value) => write!(f, "{value}"),
        }
    }
}
