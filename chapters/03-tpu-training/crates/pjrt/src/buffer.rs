//! Arrays on the host and on a device.

use std::{fmt, sync::Arc};

use crate::{
    element_type::ElementType,
    error::Error,
    ffi,
    run::Run,
    shape::{Shape, byte_size},
    sys::owned::Owned,
    transfers::Counters,
};

/// An array in the host's memory: little-endian, row-major, without gaps.
#[derive(Clone, Copy, Debug)]
pub struct HostArray<'a> {
    /// Type of the elements.
    pub element_type: ElementType,
    /// Size of each dimension; empty for a scalar.
    pub dims: &'a [usize],
    /// The elements; no alignment is asked for.
    pub bytes: &'a [u8],
}

impl HostArray<'_> {
    /// Type and dimensions.
    pub fn shape(&self) -> Shape {
        Shape {
            element_type: self.element_type,
            dims: self.dims.to_vec(),
        }
    }

    /// Looks whether the bytes are as many as type and dimensions ask for.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let too_large = || Error::TooLarge {
            dims: self.dims.to_vec(),
        };
        let expected = byte_size(self.element_type, self.dims).ok_or_else(too_large)?;
        // With a 0 among them, the others may be anything, but for PJRT they are i64.
        if self.dims.iter().any(|dim| i64::try_from(*dim).is_err()) {
            return Err(too_large());
        }
        if expected != self.bytes.len() {
            return Err(Error::HostArray {
                shape: self.shape(),
                expected,
                got: self.bytes.len(),
            });
        }
        Ok(())
    }
}

/// An array on a device. It keeps its client alive; dropping it frees the device's memory as
/// soon as no program that runs needs it.
pub struct Buffer {
    owned: Owned<ffi::Buffer>,
    shape: Arc<Shape>,
    transfers: Arc<Counters>,
    // The run that it is an output of, if it is one.
    run: Option<Arc<Run>>,
}

impl Buffer {
    pub(crate) fn new(
        owned: Owned<ffi::Buffer>,
        shape: Arc<Shape>,
        transfers: Arc<Counters>,
        run: Option<Arc<Run>>,
    ) -> Self {
        Self {
            owned,
            shape,
            transfers,
            run,
        }
    }

    /// The array itself, and the run that it is an output of.
    pub(crate) fn into_parts(self) -> (Owned<ffi::Buffer>, Option<Arc<Run>>) {
        (self.owned, self.run)
    }

    /// The run is over: what was donated to it can go.
    fn settle(&self) {
        if let Some(run) = &self.run {
            run.settle();
        }
    }

    pub(crate) fn owned(&self) -> &Owned<ffi::Buffer> {
        &self.owned
    }

    /// Size of each dimension; empty for a scalar.
    pub fn dims(&self) -> Vec<usize> {
        self.shape.dims.clone()
    }

    /// Type of the elements.
    pub fn element_type(&self) -> ElementType {
        self.shape.element_type
    }

    /// Type and dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Bytes of the array on the host, row-major without gaps. A device may pad it.
    pub fn byte_size(&self) -> usize {
        self.shape.byte_size()
    }

    /// Waits until the array is computed.
    ///
    /// # Errors
    /// [`Error::Pjrt`] if the program that was to compute it failed.
    pub fn wait(&self) -> Result<(), Error> {
        let ended = self.owned.wait();
        self.settle();
        ended
    }

    /// Waits, and copies the array to the host.
    ///
    /// Returns the elements little-endian, row-major and without gaps, whatever the layout on
    /// the device.
    ///
    /// # Errors
    /// [`Error::Pjrt`] if the program that was to compute it failed, or the copy did.
    pub fn to_host(&self) -> Result<Vec<u8>, Error> {
        let bytes = self.owned.download(&self.shape);
        self.settle();
        let bytes = bytes?;
        self.transfers.to_host(bytes.len());
        Ok(bytes)
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({})", self.shape)
    }
}
