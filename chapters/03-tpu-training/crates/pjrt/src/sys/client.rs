//! A client, its devices, and what it makes.

#![expect(unsafe_code, reason = "calls the plugin")]

use std::{
    ptr::{self, NonNull},
    sync::Arc,
};

use crate::{
    buffer::HostArray,
    client::DeviceInfo,
    error::Error,
    ffi,
    memory::DeviceMemory,
    sys::{
        api::{self, Api, borrow, copy_text, made},
        executable::{Facts, Loaded},
        named_value,
        owned::Owned,
    },
    value::Value,
};

/// A client and its devices.
pub struct Connection {
    client: Arc<Owned<ffi::Client>>,
    // Each is valid as long as `client`.
    devices: Vec<NonNull<ffi::Device>>,
}

// SAFETY: the pointers to devices are only used in calls, which may come from any thread (see
// `Owned`), while the client is alive.
unsafe impl Send for Connection {}
// SAFETY: as above.
unsafe impl Sync for Connection {}

impl Connection {
    /// `PJRT_Client_Create`, and the list of devices that this process can use.
    pub fn create(api: Api, options: &[(&str, Value)]) -> Result<Self, Error> {
        let options = named_value::write(options);
        let mut args = ffi::ClientCreateArgs::new();
        args.create_options = options.as_ptr();
        args.num_options = options.len();
        // SAFETY: the options and what they point to outlive the call; the client is ours.
        let client = unsafe {
            api.call(&mut args)?;
            Owned::new(api, made("PJRT_Client_Create", args.client)?, None)
        };
        let mut args = ffi::ClientAddressableDevicesArgs::new();
        args.client = client.pointer();
        // SAFETY: the client is alive, and the list lives as long as it does.
        let devices = unsafe {
            api.call(&mut args)?;
            borrow(args.addressable_devices, args.num_addressable_devices)
        };
        let made = |device: &*mut ffi::Device| made("PJRT_Client_AddressableDevices", *device);
        let devices = devices.iter().map(made).collect::<Result<_, _>>()?;
        Ok(Self {
            client: Arc::new(client),
            devices,
        })
    }

    fn api(&self) -> Api {
        self.client.api()
    }

    /// `PJRT_Client_PlatformName`, e.g. `cpu`.
    pub fn platform_name(&self) -> Result<String, Error> {
        let mut args = ffi::ClientPlatformNameArgs::new();
        args.client = self.client.pointer();
        // SAFETY: the client is alive, and so is its name.
        unsafe {
            self.api().call(&mut args)?;
            Ok(copy_text(args.platform_name, args.platform_name_size))
        }
    }

    /// `PJRT_Client_PlatformVersion`
    pub fn platform_version(&self) -> Result<String, Error> {
        let mut args = ffi::ClientPlatformVersionArgs::new();
        args.client = self.client.pointer();
        // SAFETY: the client is alive, and so is the text.
        unsafe {
            self.api().call(&mut args)?;
            Ok(copy_text(args.platform_version, args.platform_version_size))
        }
    }

    /// What each device says of itself.
    pub fn devices(&self) -> Result<Vec<DeviceInfo>, Error> {
        let info = |device: &NonNull<ffi::Device>| {
            let mut args = ffi::DeviceGetDescriptionArgs::new();
            args.device = device.as_ptr();
            // SAFETY: device and description live as long as the client, which `self` holds.
            unsafe {
                self.api().call(&mut args)?;
                let call = "PJRT_Device_GetDescription";
                describe(self.api(), made(call, args.device_description)?)
            }
        };
        self.devices.iter().map(info).collect()
    }

    fn device(&self, index: usize) -> Result<NonNull<ffi::Device>, Error> {
        let device = self.devices.get(index);
        device.copied().ok_or(Error::Device {
            index,
            devices: self.devices.len(),
        })
    }

    /// `PJRT_Device_MemoryStats`
    pub fn device_memory(&self, device: usize) -> Result<DeviceMemory, Error> {
        let mut args = ffi::DeviceMemoryStatsArgs::new();
        args.device = self.device(device)?.as_ptr();
        // SAFETY: the device is alive.
        unsafe { self.api().call(&mut args)? };
        Ok(DeviceMemory {
            bytes_in_use: args.bytes_in_use,
            peak_bytes_in_use: (args.peak_bytes_in_use_is_set != 0)
                .then_some(args.peak_bytes_in_use),
            bytes_limit: (args.bytes_limit_is_set != 0).then_some(args.bytes_limit),
        })
    }

    /// `PJRT_Client_BufferFromHostBuffer`: the bytes are copied before it returns.
    pub fn upload(
        &self,
        array: &HostArray<'_>,
        device: usize,
    ) -> Result<Owned<ffi::Buffer>, Error> {
        let device = self.device(device)?;
        array.check()?;
        let dims = array.dims.iter().map(|dim| *dim as i64).collect::<Vec<_>>();
        let mut args = ffi::BufferFromHostArgs::new();
        args.client = self.client.pointer();
        args.data = array.bytes.as_ptr().cast();
        args.element_type = array.element_type.number();
        args.dims = dims.as_ptr();
        args.num_dims = dims.len();
        args.host_buffer_semantics = ffi::IMMUTABLE_ONLY_DURING_CALL;
        args.device = device.as_ptr();
        // SAFETY: client and device are alive. `check` saw that `data` holds as many bytes as
        // type and dimensions ask for, dense and row-major since there are no strides; the
        // semantics say that nothing points to it after the call. Event and buffer are ours.
        unsafe {
            self.api().call(&mut args)?;
            if let Some(event) = NonNull::new(args.done_with_host_buffer) {
                drop(Owned::new(self.api(), event, Some(self.client.clone())));
            }
            let buffer = made("PJRT_Client_BufferFromHostBuffer", args.buffer)?;
            Ok(Owned::new(self.api(), buffer, Some(self.client.clone())))
        }
    }

    /// `PJRT_Client_Compile` of StableHLO text, for one device.
    pub fn compile(&self, stablehlo: &str, options: &[u8]) -> Result<Loaded, Error> {
        let program = mlir(stablehlo);
        let mut args = ffi::ClientCompileArgs::new();
        args.client = self.client.pointer();
        args.program = &program;
        (args.compile_options, args.compile_options_size) = api::bytes(options);
        // SAFETY: the client is alive; program and options outlive the call; what it makes is
        // ours.
        let loaded = unsafe {
            self.api().call(&mut args)?;
            let made = made("PJRT_Client_Compile", args.executable)?;
            Owned::new(self.api(), made, Some(self.client.clone()))
        };
        let mut args = ffi::LoadedExecutableGetExecutableArgs::new();
        args.loaded_executable = loaded.pointer();
        // SAFETY: the executable is alive; the one that is made is ours.
        let facts = unsafe {
            self.api().call(&mut args)?;
            let made = made("PJRT_LoadedExecutable_GetExecutable", args.executable)?;
            Owned::new(self.api(), made, Some(self.client.clone()))
        };
        Loaded::new(loaded, Facts::new(facts))
    }
}

/// StableHLO text as a program.
pub fn mlir(stablehlo: &str) -> ffi::Program {
    let mut program = ffi::Program::new();
    let (code, code_size) = api::text(stablehlo);
    // Only read: the field is writable for PJRT_Executable_OptimizedProgram.
    (program.code, program.code_size) = (code.cast_mut(), code_size);
    (program.format, program.format_size) = api::text("mlir");
    program
}

/// Reads a device's description.
///
/// # Safety
/// The description is `api`'s, and its client or topology is alive.
pub unsafe fn describe(
    api: Api,
    description: NonNull<ffi::DeviceDescription>,
) -> Result<DeviceInfo, Error> {
    let mut id = ffi::DeviceDescriptionIdArgs::new();
    id.device_description = description.as_ptr();
    let mut kind = ffi::DeviceDescriptionKindArgs::new();
    kind.device_description = description.as_ptr();
    let mut attributes = ffi::DeviceDescriptionAttributesArgs::new();
    attributes.device_description = description.as_ptr();
    // SAFETY: the caller's promise; text and attributes live as long as the description.
    unsafe {
        api.call(&mut id)?;
        api.call(&mut kind)?;
        // Extra, and not all plugins have them.
        let has_attributes = api.call(&mut attributes).is_ok();
        Ok(DeviceInfo {
            id: id.id,
            kind: copy_text(kind.device_kind, kind.device_kind_size),
            attributes: if has_attributes {
                named_value::read(attributes.attributes, attributes.num_attributes)
            } else {
                Vec::new()
            },
        })
    }
}

/// `PJRT_Plugin_Attributes`
pub fn plugin_attributes(api: Api) -> Result<Vec<(String, Value)>, Error> {
    let mut args = ffi::PluginAttributesArgs::new();
    args.attributes = ptr::null();
    // SAFETY: the attributes live as long as the process.
    unsafe {
        api.call(&mut args)?;
        Ok(named_value::read(args.attributes, args.num_attributes))
    }
}
