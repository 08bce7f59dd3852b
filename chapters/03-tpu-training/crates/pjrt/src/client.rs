//! Clients: a plugin's view of its devices.

use std::{fmt, sync::Arc};

use crate::{
    buffer::{Buffer, HostArray},
    compile_options::CompileOptions,
    error::Error,
    executable::Executable,
    memory::DeviceMemory,
    plugin::Plugin,
    sys::client::Connection,
    transfers::{Counters, Transfers},
    value::{AttributeValue, ClientOption},
};

/// A device of a client or of a topology.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// The plugin's number for it, unique among the devices of its kind. Not the index that
    /// [`Client::buffer_from_host`] takes, which counts this process's devices from 0.
    pub id: i32,
    /// The maker's name for the kind, e.g. `cpu` or `TPU v5 lite`.
    pub kind: String,
    /// What else the plugin says of it.
    pub attributes: Vec<(String, AttributeValue)>,
}

/// A client. Clones share it; it is destroyed after its last buffer and program.
///
/// All of it can be used from many threads at once.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Connection,
    platform_name: String,
    platform_version: String,
    devices: Vec<DeviceInfo>,
    transfers: Arc<Counters>,
    plugin: Plugin,
}

impl Client {
    /// Makes a client.
    ///
    /// Options depend on the plugin. CUDA takes 75% of the GPU's memory unless it is told
    /// `("preallocate", ClientOption::Bool(false))`. Only one process can hold a TPU.
    ///
    /// # Errors
    /// [`Error::Pjrt`] if the plugin finds no device or does not know an option.
    pub fn new(plugin: &Plugin, options: &[(&str, ClientOption)]) -> Result<Self, Error> {
        let connection = Connection::create(plugin.api(), options)?;
        let inner = Inner {
            platform_name: connection.platform_name()?,
            platform_version: connection.platform_version()?,
            devices: connection.devices()?,
            connection,
            transfers: Arc::default(),
            plugin: plugin.clone(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The plugin that made it.
    pub fn plugin(&self) -> &Plugin {
        &self.inner.plugin
    }

    /// What it computes on, in the plugin's words, e.g. `cpu`, `cuda` or `tpu`.
    pub fn platform_name(&self) -> &str {
        &self.inner.platform_name
    }

    /// The plugin's own version, in its words.
    pub fn platform_version(&self) -> &str {
        &self.inner.platform_version
    }

    /// The devices that this process can use. An index into this list names a device.
    pub fn devices(&self) -> &[DeviceInfo] {
        &self.inner.devices
    }

    /// What a device says of its memory now.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no such device; [`Error::Pjrt`] with
    /// [`Code::Unimplemented`](crate::Code::Unimplemented) where a plugin does not say, as on
    /// CPUs.
    pub fn device_memory(&self, device: usize) -> Result<DeviceMemory, Error> {
        self.inner.connection.device_memory(device)
    }

    /// Compiles a program for one device.
    ///
    /// * `stablehlo`: the text of an MLIR module with a public function `main`
    ///
    /// # Errors
    /// [`Error::Pjrt`] if the text is no StableHLO or the compiler refuses it,
    /// [`Error::Options`] if the options ask for more than one device or an environment the
    /// plugin cannot be told of, [`Error::Device`] if the device does not exist,
    /// [`Error::ElementType`] if an output's type is not one of ours.
    pub fn compile(&self, stablehlo: &str, options: &CompileOptions) -> Result<Executable, Error> {
        let bytes = options.for_client(&self.inner.devices)?;
        let loaded = self.inner.connection.compile(stablehlo, &bytes)?;
        Ok(Executable::new(loaded, self.inner.transfers.clone()))
    }

    /// Copies an array to a device. The bytes are free again when this returns.
    ///
    /// * `device`: index into [`Client::devices`]
    ///
    /// # Errors
    /// [`Error::Device`] if there is no such device, [`Error::HostArray`] if the bytes do not
    /// fit type and dimensions, [`Error::Pjrt`] if the device's memory is full.
    pub fn buffer_from_host(&self, array: HostArray<'_>, device: usize) -> Result<Buffer, Error> {
        let owned = self.inner.connection.upload(&array, device)?;
        self.inner.transfers.to_device(array.bytes.len());
        Ok(Buffer::new(
            owned,
            Arc::new(array.shape()),
            self.inner.transfers.clone(),
            None,
        ))
    }

    /// Copies between host and devices so far, by this client and all that it made.
    pub fn transfers(&self) -> Transfers {
        self.inner.transfers.read()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("platform_name", &self.platform_name())
            .field("devices", &self.devices().len())
            .finish_non_exhaustive()
    }
}
