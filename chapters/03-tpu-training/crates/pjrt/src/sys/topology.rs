//! Chips that are described, not present, and programs compiled for them.

#![expect(unsafe_code, reason = "calls the plugin")]

use crate::{
    client::DeviceInfo,
    error::Error,
    ffi,
    sys::{
        api::{self, Api, borrow, copy_text, made},
        client::{describe, mlir},
        executable::Facts,
        named_value,
        owned::Owned,
    },
    value::Value,
};

impl Owned<ffi::Topology> {
    /// `PJRT_TopologyDescription_Create`
    pub fn create(api: Api, name: &str, options: &[(&str, Value)]) -> Result<Self, Error> {
        let options = named_value::write(options);
        let mut args = ffi::TopologyCreateArgs::new();
        (args.topology_name, args.topology_name_size) = api::text(name);
        args.create_options = options.as_ptr();
        args.num_options = options.len();
        // SAFETY: name and options outlive the call; the topology is ours.
        unsafe {
            api.call(&mut args)?;
            let topology = made("PJRT_TopologyDescription_Create", args.topology)?;
            Ok(Owned::new(api, topology, None))
        }
    }

    /// `PJRT_TopologyDescription_PlatformName`
    pub fn platform_name(&self) -> Result<String, Error> {
        let mut args = ffi::TopologyPlatformNameArgs::new();
        args.topology = self.pointer();
        // SAFETY: the topology is alive, and so is its name.
        unsafe {
            self.api().call(&mut args)?;
            Ok(copy_text(args.platform_name, args.platform_name_size))
        }
    }

    /// `PJRT_TopologyDescription_PlatformVersion`
    pub fn platform_version(&self) -> Result<String, Error> {
        let mut args = ffi::TopologyPlatformVersionArgs::new();
        args.topology = self.pointer();
        // SAFETY: the topology is alive, and so is the text.
        unsafe {
            self.api().call(&mut args)?;
            Ok(copy_text(args.platform_version, args.platform_version_size))
        }
    }

    /// `PJRT_TopologyDescription_GetDeviceDescriptions`
    pub fn devices(&self) -> Result<Vec<DeviceInfo>, Error> {
        let mut args = ffi::TopologyDeviceDescriptionsArgs::new();
        args.topology = self.pointer();
        // SAFETY: the topology is alive, and so are its descriptions.
        let descriptions = unsafe {
            self.api().call(&mut args)?;
            borrow(args.descriptions, args.num_descriptions)
        };
        let call = "PJRT_TopologyDescription_GetDeviceDescriptions";
        descriptions
            .iter()
            // SAFETY: as above.
            .map(|description| unsafe { describe(self.api(), made(call, *description)?) })
            .collect()
    }

    /// `PJRT_Compile` of StableHLO text.
    pub fn compile(&self, stablehlo: &str, options: &[u8]) -> Result<Facts, Error> {
        let program = mlir(stablehlo);
        let mut args = ffi::CompileArgs::new();
        args.topology = self.pointer();
        args.program = &program;
        (args.compile_options, args.compile_options_size) = api::bytes(options);
        // SAFETY: the topology is alive; program and options outlive the call; what it makes
        // is ours.
        unsafe {
            self.api().call(&mut args)?;
            let executable = made("PJRT_Compile", args.executable)?;
            Ok(Facts::new(Owned::new(self.api(), executable, None)))
        }
    }
}
