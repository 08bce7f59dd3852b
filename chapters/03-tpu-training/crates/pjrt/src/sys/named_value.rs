//! Named values between Rust and C.

#![expect(unsafe_code, reason = "reads a C union and follows its pointers")]

use std::ptr;

use crate::{
    ffi::{self, NamedValueUnion, named_value_kind as kind},
    sys::api::{borrow, copy_text},
    value::Value,
};

/// Copies named values out of a plugin. One of an unknown type is left out: the header may
/// grow new types, and a plugin that uses one is still of use.
///
/// # Safety
/// `start` is null or valid for `count` named values with all that they point to.
pub unsafe fn read(start: *const ffi::NamedValue, count: usize) -> Vec<(String, Value)> {
    // SAFETY: the caller's promise; the field of the union that is read is the one that
    // `kind` names.
    let read = |value: &ffi::NamedValue| unsafe {
        let name = copy_text(value.name, value.name_size);
        let size = value.value_size;
        let value = match value.kind {
            kind::STRING => Value::Text(copy_text(value.value.text, size)),
            kind::INT64 => Value::Int(value.value.int),
            kind::INT64_LIST => Value::Ints(borrow(value.value.ints, size).to_vec()),
            kind::FLOAT => Value::Float(value.value.float),
            kind::BOOL => Value::Bool(value.value.flag != 0),
            _ => return None,
        };
        Some((name, value))
    };
    // SAFETY: the caller's promise.
    let values = unsafe { borrow(start, count) };
    values.iter().filter_map(read).collect()
}

/// Named values for a call. They point into `values`, which must outlive the call.
pub fn write(values: &[(&str, Value)]) -> Vec<ffi::NamedValue> {
    let write = |(name, value): &(&str, Value)| {
        let (kind, value, value_size) = match value {
            Value::Text(text) => {
                let pointer = text.as_ptr().cast();
                (kind::STRING, NamedValueUnion { text: pointer }, text.len())
            }
            Value::Int(int) => (kind::INT64, NamedValueUnion { int: *int }, 1),
            Value::Ints(ints) => {
                let pointer = ints.as_ptr();
                (
                    kind::INT64_LIST,
                    NamedValueUnion { ints: pointer },
                    ints.len(),
                )
            }
            Value::Float(float) => (kind::FLOAT, NamedValueUnion { float: *float }, 1),
            Value::Bool(flag) => {
                // All eight bytes are set: the rest of the union must not be noise.
                let mut value = NamedValueUnion { int: 0 };
                value.flag = u8::from(*flag);
                (kind::BOOL, value, 1)
            }
        };
        ffi::NamedValue {
            struct_size: size_of::<ffi::NamedValue>(),
            extension_start: ptr::null_mut(),
            name: name.as_ptr().cast(),
            name_size: name.len(),
            kind,
            value,
            value_size,
        }
    };
    values.iter().map(write).collect()
}
