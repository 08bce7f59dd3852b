//! Errors of a plugin that is loaded. Those of loading one are in [`crate::plugin`].

use std::{ffi::c_int, fmt};

use crate::{plugin::ApiVersion, shape::Shape};

/// What can go wrong with clients, buffers and programs.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The plugin refused or failed.
    #[error("{call}: {code}: {message}")]
    Pjrt {
        /// The function of the C API.
        call: &'static str,
        /// The plugin's code.
        code: Code,
        /// The plugin's words.
        message: String,
    },
    /// The plugin is older than a function, or has left it out.
    #[error(
        "{call} is not in this plugin's table (its PJRT API is {version}): take a newer plugin"
    )]
    Missing {
        /// The function of the C API.
        call: &'static str,
        /// The plugin's version.
        version: ApiVersion,
    },
    /// The plugin broke a promise of the C API.
    #[error("{call}: {problem}; the plugin is broken")]
    Plugin {
        /// The function of the C API.
        call: &'static str,
        /// What it did.
        problem: &'static str,
    },
    /// No device has that index.
    #[error("no device {index}: the client has {devices}, counted from 0")]
    Device {
        /// The index that was asked for.
        index: usize,
        /// How many there are.
        devices: usize,
    },
    /// The bytes are not as many as type and dimensions ask for.
    #[error("host array {shape} needs {expected} bytes, got {got}")]
    HostArray {
        /// Type and dimensions.
        shape: Shape,
        /// Bytes that they need.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// An array that no memory can hold.
    #[error("an array of dimensions {dims:?} has more bytes than can be counted")]
    TooLarge {
        /// The dimensions.
        dims: Vec<usize>,
    },
    /// An element type that this crate does not know.
    #[error(
        "element type {number} of PJRT_Buffer_Type is not supported: \
         booleans, integers of 8 to 64 bits, f16, bf16, f32 and f64 are"
    )]
    ElementType {
        /// Its number among `PJRT_Buffer_Type`.
        number: c_int,
    },
    /// The program takes another number of arguments.
    #[error("the program takes {expected} arguments, got {got}")]
    ArgumentCount {
        /// How many it takes.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// An argument has another type or other dimensions than the program's parameter.
    #[error("argument {index}: expected {expected}, got {got}")]
    Argument {
        /// Index of the argument.
        index: usize,
        /// What the program takes.
        expected: Shape,
        /// What came.
        got: Shape,
    },
    /// A buffer of one client was given to a program of another.
    #[error("argument {index} belongs to another client than the program")]
    OtherClient {
        /// Index of the argument.
        index: usize,
    },
    /// Compile options that no plugin can follow.
    #[error("compile options: {problem}")]
    Options {
        /// What is wrong.
        problem: &'static str,
    },
}

impl Error {
    /// Whether a device or the host had no memory left: a smaller batch may pass.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(
            self,
            Self::Pjrt {
                code: Code::ResourceExhausted,
                ..
            }
        )
    }
}

/// A status code, as in [abseil](https://abseil.io/docs/cpp/guides/status-codes).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The work was stopped.
    Cancelled,
    /// No code fits, or the plugin sent one that we do not know.
    Unknown,
    /// The caller's mistake: a program that is not StableHLO, a wrong argument.
    InvalidArgument,
    /// It took too long.
    DeadlineExceeded,
    /// Something asked for does not exist.
    NotFound,
    /// Something exists already.
    AlreadyExists,
    /// Not allowed.
    PermissionDenied,
    /// Out of memory.
    ResourceExhausted,
    /// Not now: e.g. a donated buffer was used again, or no device is there.
    FailedPrecondition,
    /// Stopped by a conflict.
    Aborted,
    /// Past a valid range.
    OutOfRange,
    /// The plugin has not got it.
    Unimplemented,
    /// An error inside the plugin.
    Internal,
    /// Not reachable at this time.
    Unavailable,
    /// Data is lost or damaged.
    DataLoss,
    /// No valid credentials.
    Unauthenticated,
}

const CODES: [(Code, c_int, &str); 16] = [
    (Code::Cancelled, 1, "CANCELLED"),
    (Code::Unknown, 2, "UNKNOWN"),
    (Code::InvalidArgument, 3, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, 4, "DEADLINE_EXCEEDED"),
    (Code::NotFound, 5, "NOT_FOUND"),
    (Code::AlreadyExists, 6, "ALREADY_EXISTS"),
    (Code::PermissionDenied, 7, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, 8, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, 9, "FAILED_PRECONDITION"),
    (Code::Aborted, 10, "ABORTED"),
    (Code::OutOfRange, 11, "OUT_OF_RANGE"),
    (Code::Unimplemented, 12, "UNIMPLEMENTED"),
    (Code::Internal, 13, "INTERNAL"),
    (Code::Unavailable, 14, "UNAVAILABLE"),
    (Code::DataLoss, 15, "DATA_LOSS"),
    (Code::Unauthenticated, 16, "UNAUTHENTICATED"),
];

impl Code {
    /// The code with that number; [`Code::Unknown`] for one that we do not know.
    pub(crate) fn from_number(number: c_int) -> Self {
        let row = CODES.iter().find(|row| row.1 == number);
        row.map_or(Self::Unknown, |row| row.0)
    }
}

/// The name that the C API has for it: `RESOURCE_EXHAUSTED`.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(CODES[*self as usize].2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_codes() {
        for (index, (code, number, name)) in CODES.into_iter().enumerate() {
            assert_eq!(code as usize, index);
            assert_eq!(Code::from_number(number), code);
            assert_eq!(code.to_string(), name);
        }
        assert_eq!(Code::from_number(99), Code::Unknown);
        assert_eq!(Code::from_number(0), Code::Unknown);
    }
}
