//! One plugin's function table, and the one way to call through it.

#![expect(unsafe_code, reason = "reads the plugin's table and calls through it")]

use std::{ffi::c_char, ptr::NonNull, slice};

use crate::{
    error::{Code, Error},
    ffi::{self, Call, Function, Table},
    plugin::ApiVersion,
};

/// A plugin's own table, never a copy of it: a newer plugin has a longer one.
#[derive(Clone, Copy)]
pub struct Api {
    table: NonNull<Table>,
}

// SAFETY: the table is written before GetPjrtApi returns it and only read from then on; the
// functions in it may be called from any thread (see `Owned`).
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

/// What stands at the beginning of every version's table.
pub struct Head {
    /// The table's size, in bytes, by its own account.
    pub size: usize,
    /// The version, if the table is large enough to hold one.
    pub version: Option<ApiVersion>,
}

/// The least that a table must hold for errors to be read: without these three functions
/// nothing else can be called.
const LEAST_SIZE: usize = std::mem::offset_of!(Table, PJRT_Plugin_Initialize);

impl Api {
    /// Reads the beginning of a table.
    ///
    /// # Safety
    /// `table` is what a `GetPjrtApi` returned: it stays valid as long as the process, and is
    /// as long as its first field says.
    pub unsafe fn head(table: NonNull<Table>) -> Head {
        let table = table.as_ptr();
        // SAFETY: every table begins with its size; the version is read only if it is within.
        unsafe {
            let size = (&raw const (*table).struct_size).read();
            let end = std::mem::offset_of!(Table, version) + size_of::<ffi::Version>();
            let version = (size >= end).then(|| ApiVersion {
                major: (&raw const (*table).version.major).read(),
                minor: (&raw const (*table).version.minor).read(),
            });
            Head { size, version }
        }
    }

    /// Takes a table for use. `None`: it is too short even for errors.
    ///
    /// # Safety
    /// As [`Api::head`]; and the table has the major version [`ffi::MAJOR_VERSION`].
    pub unsafe fn new(table: NonNull<Table>) -> Option<Self> {
        // SAFETY: the caller's promise.
        let head = unsafe { Self::head(table) };
        (head.size >= LEAST_SIZE && head.version.is_some()).then_some(Self { table })
    }

    /// The version of the C API that the plugin was built with.
    pub fn version(self) -> ApiVersion {
        // SAFETY: `new` saw that the version is within the table.
        unsafe {
            let version = &raw const (*self.table.as_ptr()).version;
            ApiVersion {
                major: (&raw const (*version).major).read(),
                minor: (&raw const (*version).minor).read(),
            }
        }
    }

    // ANCHOR: slot
    /// The slot at `offset` of the table, if the table is that long and the slot is not null.
    fn slot<F>(self, offset: usize) -> Option<F> {
        const { assert!(size_of::<Option<F>>() == size_of::<usize>()) };
        // SAFETY: the size is the first field. A slot within it holds a function pointer or
        // null, which is `Option`'s `None`.
        unsafe {
            let size = (&raw const (*self.table.as_ptr()).struct_size).read();
            if offset + size_of::<usize>() > size {
                return None;
            }
            self.table.byte_add(offset).cast::<Option<F>>().read()
        }
    }
    // ANCHOR_END: slot

    /// Calls the function that `args` belongs to.
    ///
    /// # Errors
    /// [`Error::Missing`] if the plugin's table has no such function, [`Error::Pjrt`] if it
    /// returned an error.
    ///
    /// # Safety
    /// Every pointer in `args` is null where the header allows it, or valid for what the
    /// header says of it; objects among them were made by this plugin and are not destroyed.
    pub unsafe fn call<Args: Call>(self, args: &mut Args) -> Result<(), Error> {
        let Some(function) = self.slot::<Function<Args>>(Args::OFFSET) else {
            return Err(Error::Missing {
                call: Args::NAME,
                version: self.version(),
            });
        };
        // SAFETY: the slot's type belongs to `Args`; the rest is the caller's promise.
        let error = unsafe { function(args) };
        // SAFETY: a function of the table returned it, and nobody else has it.
        unsafe { self.take_error(Args::NAME, error) }
    }

    /// Looks whether the plugin has the function that `Args` belongs to.
    ///
    /// # Errors
    /// [`Error::Missing`] if it has not.
    pub fn require<Args: Call>(self) -> Result<(), Error> {
        match self.slot::<Function<Args>>(Args::OFFSET) {
            Some(_) => Ok(()),
            None => Err(Error::Missing {
                call: Args::NAME,
                version: self.version(),
            }),
        }
    }

    /// Reads an error and destroys it.
    ///
    /// # Safety
    /// `error` is null or an error of this plugin that is ours and not destroyed.
    unsafe fn take_error(self, call: &'static str, error: *mut ffi::Error) -> Result<(), Error> {
        if error.is_null() {
            return Ok(());
        }
        let message = self.slot::<ffi::VoidFunction<ffi::ErrorMessageArgs>>(std::mem::offset_of!(
            Table,
            PJRT_Error_Message
        ));
        let mut text = String::new();
        if let Some(message) = message {
            let mut args = ffi::ErrorMessageArgs::new();
            args.error = error;
            // SAFETY: the error is alive, and so is the message until the error is destroyed.
            text = unsafe {
                message(&mut args);
                copy_text(args.message, args.message_size)
            };
        }
        let mut args = ffi::ErrorGetCodeArgs::new();
        args.error = error;
        let mut code = Code::Unknown;
        if let Some(get_code) =
            self.slot::<Function<ffi::ErrorGetCodeArgs>>(ffi::ErrorGetCodeArgs::OFFSET)
        {
            // SAFETY: the error is alive. An error about the error is only destroyed.
            unsafe {
                let second = get_code(&mut args);
                if second.is_null() {
                    code = Code::from_number(args.code);
                }
                self.destroy_error(second);
            }
        }
        // SAFETY: it is ours, and this is its last use.
        unsafe { self.destroy_error(error) };
        Err(Error::Pjrt {
            call,
            code,
            message: text,
        })
    }

    /// # Safety
    /// As [`Api::take_error`].
    unsafe fn destroy_error(self, error: *mut ffi::Error) {
        let destroy = self.slot::<ffi::VoidFunction<ffi::ErrorDestroyArgs>>(std::mem::offset_of!(
            Table,
            PJRT_Error_Destroy
        ));
        if let Some(destroy) = destroy
            && !error.is_null()
        {
            let mut args = ffi::ErrorDestroyArgs::new();
            args.error = error;
            // SAFETY: the caller's promise.
            unsafe { destroy(&mut args) };
        }
    }
}

/// Copies `size` bytes of text; what is not UTF-8 is replaced.
///
/// # Safety
/// `text` is null or valid for `size` bytes.
pub unsafe fn copy_text(text: *const c_char, size: usize) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice::from_raw_parts(text.cast::<u8>(), size) };
    String::from_utf8_lossy(bytes).into_owned()
}

/// The `count` values at `start`; none if it is null.
///
/// # Safety
/// `start` is null or valid for `count` values, which nobody changes while they are borrowed.
pub unsafe fn borrow<'a, T>(start: *const T, count: usize) -> &'a [T] {
    if start.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(start, count) }
}

/// A pointer and a size for the C side. Rust's empty slices are never null, which the C++
/// behind the calls does not mind.
pub fn text(text: &str) -> (*const c_char, usize) {
    (text.as_ptr().cast(), text.len())
}

/// As [`text`], for bytes.
pub fn bytes(bytes: &[u8]) -> (*const c_char, usize) {
    (bytes.as_ptr().cast(), bytes.len())
}

/// An object that a call should have made: null although it returned no error is the
/// plugin's mistake.
pub fn made<T>(call: &'static str, object: *mut T) -> Result<NonNull<T>, Error> {
    NonNull::new(object).ok_or(Error::Plugin {
        call,
        problem: "it returned no error and no object",
    })
}

/// A count or size from the plugin as an unsigned number; negative is the plugin's mistake.
pub fn dims(call: &'static str, dims: &[i64]) -> Result<Vec<usize>, Error> {
    let convert = |dim: &i64| usize::try_from(*dim);
    dims.iter()
        .map(convert)
        .collect::<Result<_, _>>()
        .map_err(|_| Error::Plugin {
            call,
            problem: "it gave a negative dimension",
        })
}
