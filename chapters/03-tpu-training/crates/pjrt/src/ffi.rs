//! The part of the PJRT C API that this crate calls: argument structs and enumerations.
//!
//! Written by hand from `xla/pjrt/c/pjrt_c_api.h` of OpenXLA (Apache-2.0): sizes, orders and
//! meanings of fields are facts of that interface, its comments are not repeated here. The
//! structs are those of version 0.81; one that has grown since
//! ([`ExecutableMemoryArgs`]) is the longer one of 0.90. Plugins refuse a struct that is
//! *shorter* than the one they know and accept a longer one, so the longest known is right
//! for all of them. The plugins 0.81 (CPU), 0.115 (CUDA) and 0.116 (TPU) accept all of these.
//!
//! A Rust name says which C name it stands for: `ClientCreateArgs` is
//! `PJRT_Client_Create_Args`; the function table keeps the C names.

use std::{
    ffi::{c_char, c_int, c_void},
    ptr,
};

/// Major version of the C API that this file describes. Others differ in layout.
pub const MAJOR_VERSION: c_int = 0;

macro_rules! opaque {
    ($($(#[$meta:meta])* $name:ident)*) => {$(
        $(#[$meta])*
        #[repr(C)]
        pub struct $name {
            _opaque: [u8; 0],
        }
    )*};
}

opaque! {
    /// `PJRT_Error`: the caller destroys it.
    Error
    /// `PJRT_Event`: the caller destroys it.
    Event
    /// `PJRT_Client`
    Client
    /// `PJRT_Device`: belongs to its client.
    Device
    /// `PJRT_DeviceDescription`: belongs to its client or topology.
    DeviceDescription
    /// `PJRT_Executable`: what the compiler knows of a program.
    Executable
    /// `PJRT_LoadedExecutable`: a program that can be run.
    LoadedExecutable
    /// `PJRT_Buffer`: an array on a device.
    Buffer
    /// `PJRT_TopologyDescription`
    Topology
}

/// A value whose bytes are all zero: what a field holds that nobody set.
pub trait Zero {
    const ZERO: Self;
}

impl<T> Zero for *const T {
    const ZERO: Self = ptr::null();
}

impl<T> Zero for *mut T {
    const ZERO: Self = ptr::null_mut();
}

macro_rules! zero_numbers {
    ($($number:ty)*) => {$(
        impl Zero for $number {
            const ZERO: Self = 0;
        }
    )*};
}

zero_numbers! { u8 i32 u32 i64 usize }

/// A call of the table: its arguments' type knows its name and its place.
pub trait Call {
    /// The function's C name.
    const NAME: &'static str;
    /// Its offset in [`Table`], in bytes.
    const OFFSET: usize;
}

/// A function of the table. Null if all went well, else an error for the caller to destroy.
pub type Function<Args> = unsafe extern "C" fn(*mut Args) -> *mut Error;

/// The two functions that cannot fail.
pub type VoidFunction<Args> = unsafe extern "C" fn(*mut Args);

/// `PJRT_Api_Version`
#[repr(C)]
pub struct Version {
    pub struct_size: usize,
    pub extension_start: *mut c_void,
    pub major: c_int,
    pub minor: c_int,
}

// Each struct begins with its size and a list of extensions (none here). The size ends with
// the last field, as the header's PJRT_STRUCT_SIZE does: a plugin must not take our padding
// for a field that was added later.
macro_rules! args {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $ty:ty,)* })*) => {$(
        $(#[$meta])*
        #[repr(C)]
        pub struct $name {
            pub struct_size: usize,
            pub extension_start: *mut c_void,
            $(pub $field: $ty,)*
        }

        impl $name {
            /// Where the last field ends, in bytes.
            pub const SIZE: usize = {
                #[allow(unused_mut, reason = "one struct has no further field")]
                let mut size = offset_of!(Self, extension_start) + size_of::<*mut c_void>();
                $(
                    let end = offset_of!(Self, $field) + size_of::<$ty>();
                    if end > size {
                        size = end;
                    }
                )*
                size
            };

            /// All zero but the size.
            pub fn new() -> Self {
                Self {
                    struct_size: Self::SIZE,
                    extension_start: ptr::null_mut(),
                    $($field: <$ty as Zero>::ZERO,)*
                }
            }
        }
    )*};
}

mod args;
mod table;

pub use args::*;
pub use table::Table;

/// `PJRT_NamedValue`: `value` is the union, its type in `kind`.
#[repr(C)]
pub struct NamedValue {
    pub struct_size: usize,
    pub extension_start: *mut c_void,
    pub name: *const c_char,
    pub name_size: usize,
    pub kind: c_int,
    pub value: NamedValueUnion,
    pub value_size: usize,
}

/// The value of a [`NamedValue`].
#[repr(C)]
#[derive(Clone, Copy)]
pub union NamedValueUnion {
    pub text: *const c_char,
    pub int: i64,
    pub ints: *const i64,
    pub float: f32,
    pub flag: u8,
}

/// `PJRT_NamedValue_Type`
pub mod named_value_kind {
    use std::ffi::c_int;

    pub const STRING: c_int = 0;
    pub const INT64: c_int = 1;
    pub const INT64_LIST: c_int = 2;
    pub const FLOAT: c_int = 3;
    pub const BOOL: c_int = 4;
}

/// `PJRT_HostBufferSemantics_kImmutableOnlyDuringCall`: the runtime keeps no pointer to the
/// data after the call.
pub const IMMUTABLE_ONLY_DURING_CALL: c_int = 0;

/// `PJRT_Buffer_MemoryLayout`: of its C union only the first variant, the tiled one, is used.
/// It is also the larger one, so the sizes agree. In the other one the word at
/// `minor_to_major` is a pointer to strides: look at `kind` first.
#[repr(C)]
pub struct MemoryLayout {
    pub struct_size: usize,
    pub extension_start: *mut c_void,
    pub tiled: TiledLayout,
    pub kind: c_int,
}

impl Zero for MemoryLayout {
    const ZERO: Self = Self {
        struct_size: 0,
        extension_start: ptr::null_mut(),
        tiled: TiledLayout {
            struct_size: 0,
            extension_start: ptr::null_mut(),
            minor_to_major: ptr::null(),
            minor_to_major_size: 0,
            tile_dims: ptr::null(),
            tile_dim_sizes: ptr::null(),
            num_tiles: 0,
        },
        kind: 0,
    };
}

/// `PJRT_Buffer_MemoryLayout_Type_Tiled`
pub const LAYOUT_TILED: c_int = 0;

/// `PJRT_Buffer_MemoryLayout_Tiled`
#[repr(C)]
pub struct TiledLayout {
    pub struct_size: usize,
    pub extension_start: *mut c_void,
    pub minor_to_major: *const i64,
    pub minor_to_major_size: usize,
    pub tile_dims: *const i64,
    pub tile_dim_sizes: *const usize,
    pub num_tiles: usize,
}
