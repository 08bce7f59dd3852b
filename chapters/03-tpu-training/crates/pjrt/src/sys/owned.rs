//! Objects of a plugin that are ours to destroy.

#![expect(unsafe_code, reason = "destroys the plugin's objects")]

use std::{ptr::NonNull, sync::Arc};

use crate::{
    error::Error,
    ffi,
    live::{self, Kind},
    sys::api::Api,
};

/// An object that we own: destroyed once, when this is dropped, before what it keeps alive.
///
/// Destroying a buffer after its client crashes some plugins, so everything that a client
/// made holds its client.
pub struct Owned<T: Object> {
    api: Api,
    pointer: NonNull<T>,
    // Dropped after `drop` has destroyed the object.
    keeps: Option<Arc<Owned<ffi::Client>>>,
}

// SAFETY: PJRT's objects may be used from many threads at once, and destroyed in another than
// the one that made them. The header does not say so; JAX and PyTorch/XLA rely on it for every
// plugin, and xla-rs marks its handles the same way (LaurentMazare/xla-rs, pull request 24).
// Here nothing but the plugin changes an object, and no pointer into one is kept.
unsafe impl<T: Object> Send for Owned<T> {}
// SAFETY: as above.
unsafe impl<T: Object> Sync for Owned<T> {}

impl<T: Object> Owned<T> {
    /// Takes an object; it will be destroyed before the client it `keeps`.
    ///
    /// # Safety
    /// `pointer` is an object that `api`'s plugin made for us to destroy, and that nobody
    /// else destroys. If a client made it, `keeps` is that client.
    pub unsafe fn new(
        api: Api,
        pointer: NonNull<T>,
        keeps: Option<Arc<Owned<ffi::Client>>>,
    ) -> Self {
        live::born(T::KIND);
        Self {
            api,
            pointer,
            keeps,
        }
    }

    /// The plugin that made it.
    pub fn api(&self) -> Api {
        self.api
    }

    /// The object, for a call: valid while `self` is borrowed.
    pub fn pointer(&self) -> *mut T {
        self.pointer.as_ptr()
    }

    /// The client that made it.
    pub fn client(&self) -> Option<&Arc<Owned<ffi::Client>>> {
        self.keeps.as_ref()
    }
}

// ANCHOR: drop
impl<T: Object> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: it was ours alone, and nobody can use it any more. An error of a
        // destruction has nobody to go to; it is read, destroyed and dropped.
        let _ = unsafe { T::destroy(self.api, self.pointer.as_ptr()) };
        live::died(T::KIND);
    }
}
// ANCHOR_END: drop

/// A kind of object: how it is destroyed, and where it is counted.
pub trait Object {
    const KIND: Kind;

    /// Destroys the object.
    ///
    /// # Safety
    /// `pointer` is an object of `api`'s plugin, ours, and not used again.
    unsafe fn destroy(api: Api, pointer: *mut Self) -> Result<(), Error>;
}

macro_rules! objects {
    ($($object:ident: $args:ident.$field:ident, $kind:ident;)*) => {$(
        impl Object for ffi::$object {
            const KIND: Kind = Kind::$kind;

            unsafe fn destroy(api: Api, pointer: *mut Self) -> Result<(), Error> {
                let mut args = ffi::$args::new();
                args.$field = pointer;
                // SAFETY: the caller's promise.
                unsafe { api.call(&mut args) }
            }
        }
    )*};
}

objects! {
    Client: ClientDestroyArgs.client, Client;
    Buffer: BufferDestroyArgs.buffer, Buffer;
    LoadedExecutable: LoadedExecutableDestroyArgs.executable, Executable;
    Executable: ExecutableDestroyArgs.executable, Executable;
    Event: EventDestroyArgs.event, Event;
    Topology: TopologyDestroyArgs.topology, Topology;
}

impl Owned<ffi::Event> {
    /// Waits until the event is ready.
    ///
    /// # Errors
    /// [`Error::Pjrt`] with the error of the work that the event stands for.
    pub fn wait(self) -> Result<(), Error> {
        let mut args = ffi::EventAwaitArgs::new();
        args.event = self.pointer();
        // SAFETY: the event is alive.
        unsafe { self.api.call(&mut args) }
    }
}
