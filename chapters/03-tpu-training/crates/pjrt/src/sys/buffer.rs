//! Arrays on a device.

#![expect(unsafe_code, reason = "calls the plugin")]

use std::{ffi::c_int, mem::offset_of};

use crate::{
    error::Error,
    ffi::{self, Call, Zero},
    layout,
    shape::Shape,
    sys::{
        api::{self, borrow, made},
        owned::Owned,
    },
};

impl Owned<ffi::Buffer> {
    /// Asks the plugin for type and dimensions.
    pub fn shape(&self) -> Result<Shape, Error> {
        let mut element_type = ffi::BufferElementTypeArgs::new();
        element_type.buffer = self.pointer();
        let mut dims = ffi::BufferDimensionsArgs::new();
        dims.buffer = self.pointer();
        // SAFETY: the buffer is alive, and so is its list of dimensions.
        let dims = unsafe {
            self.api().call(&mut element_type)?;
            self.api().call(&mut dims)?;
            borrow(dims.dims, dims.num_dims)
        };
        let dims = api::dims("PJRT_Buffer_Dimensions", dims)?;
        Shape::from_plugin(element_type.element_type, dims)
    }

    /// Waits until the array is computed.
    pub fn wait(&self) -> Result<(), Error> {
        let mut args = ffi::BufferReadyEventArgs::new();
        args.buffer = self.pointer();
        // SAFETY: the buffer is alive; the event is ours.
        let event = unsafe {
            self.api().call(&mut args)?;
            let event = made("PJRT_Buffer_ReadyEvent", args.event)?;
            Owned::new(self.api(), event, self.client().cloned())
        };
        event.wait()
    }

    /// Copies the array to the host, row-major, whatever its layout on the device; waits for
    /// it. `shape` is the buffer's.
    pub fn download(&self, shape: &Shape) -> Result<Vec<u8>, Error> {
        let row_major = layout::row_major(shape.dims.len());
        let lies = self.untiled_layout()?;
        if let Some(minor_to_major) = lies.filter(|lies| *lies != row_major) {
            // The CPU's plugin copies the array as it lies, whatever layout is asked for. So
            // it is asked for as it lies, which all plugins can, and put in order here.
            let bytes = self.download_as(shape, &minor_to_major)?;
            return layout::to_row_major(&bytes, shape, &minor_to_major).ok_or(Error::Plugin {
                call: ffi::BufferLayoutArgs::NAME,
                problem: "the layout's dimensions are not those of the array",
            });
        }
        self.download_as(shape, &row_major)
    }

    /// Minor-to-major order of the array on the device. `None` if it lies in tiles there, as on
    /// TPUs, or the plugin does not say.
    fn untiled_layout(&self) -> Result<Option<Vec<i64>>, Error> {
        let mut args = ffi::BufferLayoutArgs::new();
        args.buffer = self.pointer();
        // SAFETY: the buffer is alive, and so is what its layout points to.
        let minor_to_major = unsafe {
            if self.api().call(&mut args).is_err() {
                return Ok(None);
            }
            let tiled = &args.layout.tiled;
            if args.layout.kind != ffi::LAYOUT_TILED || tiled.num_tiles != 0 {
                return Ok(None);
            }
            borrow(tiled.minor_to_major, tiled.minor_to_major_size)
        };
        Ok(Some(minor_to_major.to_vec()))
    }

    /// `PJRT_Buffer_ToHostBuffer` with a host layout without tiles.
    fn download_as(&self, shape: &Shape, minor_to_major: &[i64]) -> Result<Vec<u8>, Error> {
        // Without it the copy could not be waited for, and would write into freed memory.
        self.api().require::<ffi::EventAwaitArgs>()?;
        let mut layout = ffi::MemoryLayout::ZERO;
        layout.struct_size = offset_of!(ffi::MemoryLayout, kind) + size_of::<c_int>();
        layout.tiled.struct_size = size_of::<ffi::TiledLayout>();
        layout.tiled.minor_to_major = minor_to_major.as_ptr();
        layout.tiled.minor_to_major_size = minor_to_major.len();
        layout.kind = ffi::LAYOUT_TILED;
        let mut bytes = vec![0_u8; shape.byte_size()];
        let mut args = ffi::BufferToHostArgs::new();
        args.src = self.pointer();
        args.host_layout = &mut layout;
        args.dst = bytes.as_mut_ptr().cast();
        args.dst_size = bytes.len();
        // SAFETY: the buffer is alive. The plugin checks `dst_size` before it writes. `bytes`
        // is neither moved nor freed while the plugin may write: a call that fails writes
        // nothing; one without an event cannot be waited for, and gets the bytes for good;
        // every other way out of this function leads through `wait`.
        let event = unsafe {
            self.api().call(&mut args)?;
            let event = match made("PJRT_Buffer_ToHostBuffer", args.event) {
                Ok(event) => event,
                Err(error) => {
                    std::mem::forget(bytes);
                    return Err(error);
                }
            };
            Owned::new(self.api(), event, self.client().cloned())
        };
        event.wait()?;
        Ok(bytes)
    }
}
