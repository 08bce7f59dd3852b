//! Arguments of each call: `PJRT_..._Args` and two structs that they point to.

use std::{
    ffi::{c_char, c_int, c_void},
    mem::offset_of,
    ptr,
};

use super::*;

args! {
    ErrorDestroyArgs {
        error: *mut Error,
    }
    ErrorMessageArgs {
        error: *const Error,
        message: *const c_char,
        message_size: usize,
    }
    ErrorGetCodeArgs {
        error: *const Error,
        code: c_int,
    }

    PluginInitializeArgs {}
    /// The attributes live as long as the process.
    PluginAttributesArgs {
        attributes: *const NamedValue,
        num_attributes: usize,
    }

    EventDestroyArgs {
        event: *mut Event,
    }
    EventAwaitArgs {
        event: *mut Event,
    }

    /// The callbacks of the key-value store stay null: they are for more than one process.
    ClientCreateArgs {
        create_options: *const NamedValue,
        num_options: usize,
        kv_get_callback: *const c_void,
        kv_get_user_arg: *mut c_void,
        kv_put_callback: *const c_void,
        kv_put_user_arg: *mut c_void,
        client: *mut Client,
        kv_try_get_callback: *const c_void,
        kv_try_get_user_arg: *mut c_void,
    }
    ClientDestroyArgs {
        client: *mut Client,
    }
    ClientPlatformNameArgs {
        client: *mut Client,
        platform_name: *const c_char,
        platform_name_size: usize,
    }
    ClientPlatformVersionArgs {
        client: *mut Client,
        platform_version: *const c_char,
        platform_version_size: usize,
    }
    ClientAddressableDevicesArgs {
        client: *mut Client,
        addressable_devices: *const *mut Device,
        num_addressable_devices: usize,
    }
    ClientCompileArgs {
        client: *mut Client,
        program: *const Program,
        compile_options: *const c_char,
        compile_options_size: usize,
        executable: *mut LoadedExecutable,
    }
    /// `PJRT_Client_BufferFromHostBuffer_Args`
    BufferFromHostArgs {
        client: *mut Client,
        data: *const c_void,
        element_type: c_int,
        dims: *const i64,
        num_dims: usize,
        byte_strides: *const i64,
        num_byte_strides: usize,
        host_buffer_semantics: c_int,
        device: *mut Device,
        memory: *mut c_void,
        device_layout: *mut MemoryLayout,
        done_with_host_buffer: *mut Event,
        buffer: *mut Buffer,
    }

    DeviceGetDescriptionArgs {
        device: *mut Device,
        device_description: *mut DeviceDescription,
    }
    DeviceDescriptionIdArgs {
        device_description: *mut DeviceDescription,
        id: c_int,
    }
    DeviceDescriptionKindArgs {
        device_description: *mut DeviceDescription,
        device_kind: *const c_char,
        device_kind_size: usize,
    }
    DeviceDescriptionAttributesArgs {
        device_description: *mut DeviceDescription,
        num_attributes: usize,
        attributes: *const NamedValue,
    }
    /// All but `bytes_in_use` are optional: a flag says whether the number was set.
    DeviceMemoryStatsArgs {
        device: *mut Device,
        bytes_in_use: i64,
        peak_bytes_in_use: i64,
        peak_bytes_in_use_is_set: u8,
        num_allocs: i64,
        num_allocs_is_set: u8,
        largest_alloc_size: i64,
        largest_alloc_size_is_set: u8,
        bytes_limit: i64,
        bytes_limit_is_set: u8,
        bytes_reserved: i64,
        bytes_reserved_is_set: u8,
        peak_bytes_reserved: i64,
        peak_bytes_reserved_is_set: u8,
        bytes_reservable_limit: i64,
        bytes_reservable_limit_is_set: u8,
        largest_free_block_bytes: i64,
        largest_free_block_bytes_is_set: u8,
        pool_bytes: i64,
        pool_bytes_is_set: u8,
        peak_pool_bytes: i64,
        peak_pool_bytes_is_set: u8,
    }

    /// `PJRT_Program`: with the format `mlir`, StableHLO as text or bytecode.
    Program {
        code: *mut c_char,
        code_size: usize,
        format: *const c_char,
        format_size: usize,
    }
    ExecutableDestroyArgs {
        executable: *mut Executable,
    }
    ExecutableNumOutputsArgs {
        executable: *mut Executable,
        num_outputs: usize,
    }
    /// `PJRT_Executable_GetCostAnalysis_Args`: the properties belong to the executable.
    ExecutableCostArgs {
        executable: *mut Executable,
        num_properties: usize,
        properties: *const NamedValue,
    }
    /// `PJRT_Executable_GetCompiledMemoryStats_Args` of 0.90, which added the last field.
    ExecutableMemoryArgs {
        executable: *mut Executable,
        generated_code_size_in_bytes: i64,
        argument_size_in_bytes: i64,
        output_size_in_bytes: i64,
        alias_size_in_bytes: i64,
        temp_size_in_bytes: i64,
        host_generated_code_size_in_bytes: i64,
        host_argument_size_in_bytes: i64,
        host_output_size_in_bytes: i64,
        host_alias_size_in_bytes: i64,
        host_temp_size_in_bytes: i64,
        peak_memory_in_bytes: i64,
        total_size_in_bytes: i64,
    }
    /// `PJRT_Executable_OutputElementTypes_Args`
    ExecutableOutputTypesArgs {
        executable: *mut Executable,
        output_types: *const c_int,
        num_output_types: usize,
    }
    /// `dims` holds the sizes of all outputs, one after the other.
    ExecutableOutputDimensionsArgs {
        executable: *mut Executable,
        num_outputs: usize,
        dims: *const i64,
        dim_sizes: *const usize,
    }
    /// Called twice: with a null `program.code` for the size, then with room for it.
    ExecutableOptimizedProgramArgs {
        executable: *mut Executable,
        program: *mut Program,
    }
    LoadedExecutableDestroyArgs {
        executable: *mut LoadedExecutable,
    }
    LoadedExecutableGetExecutableArgs {
        loaded_executable: *mut LoadedExecutable,
        executable: *mut Executable,
    }
    /// `PJRT_ExecuteOptions`
    ExecuteOptions {
        send_callbacks: *mut c_void,
        recv_callbacks: *mut c_void,
        num_send_ops: usize,
        num_recv_ops: usize,
        launch_id: c_int,
        non_donatable_input_indices: *const i64,
        num_non_donatable_input_indices: usize,
        context: *mut c_void,
        call_location: *const c_char,
        num_tasks: usize,
        task_ids: *mut c_int,
        incarnation_ids: *mut i64,
    }
    /// `PJRT_LoadedExecutable_Execute_Args`
    ExecuteArgs {
        executable: *mut LoadedExecutable,
        options: *mut ExecuteOptions,
        argument_lists: *const *const *mut Buffer,
        num_devices: usize,
        num_args: usize,
        output_lists: *const *mut *mut Buffer,
        device_complete_events: *mut *mut Event,
        execute_device: *mut Device,
    }

    BufferDestroyArgs {
        buffer: *mut Buffer,
    }
    BufferElementTypeArgs {
        buffer: *mut Buffer,
        element_type: c_int,
    }
    /// The sizes belong to the buffer.
    BufferDimensionsArgs {
        buffer: *mut Buffer,
        dims: *const i64,
        num_dims: usize,
    }
    /// `PJRT_Buffer_GetMemoryLayout_Args`: what the layout points to belongs to the buffer.
    BufferLayoutArgs {
        buffer: *mut Buffer,
        layout: MemoryLayout,
    }
    /// `PJRT_Buffer_ToHostBuffer_Args`
    BufferToHostArgs {
        src: *mut Buffer,
        host_layout: *mut MemoryLayout,
        dst: *mut c_void,
        dst_size: usize,
        event: *mut Event,
    }
    BufferReadyEventArgs {
        buffer: *mut Buffer,
        event: *mut Event,
    }

    /// `PJRT_TopologyDescription_Create_Args`
    TopologyCreateArgs {
        topology_name: *const c_char,
        topology_name_size: usize,
        create_options: *const NamedValue,
        num_options: usize,
        topology: *mut Topology,
    }
    TopologyDestroyArgs {
        topology: *mut Topology,
    }
    TopologyPlatformVersionArgs {
        topology: *mut Topology,
        platform_version: *const c_char,
        platform_version_size: usize,
    }
    TopologyPlatformNameArgs {
        topology: *const Topology,
        platform_name: *const c_char,
        platform_name_size: usize,
    }
    /// The descriptions belong to the topology.
    TopologyDeviceDescriptionsArgs {
        topology: *const Topology,
        descriptions: *const *mut DeviceDescription,
        num_descriptions: usize,
    }
    /// `PJRT_Compile_Args`: `client` may be null.
    CompileArgs {
        topology: *const Topology,
        program: *const Program,
        compile_options: *const c_char,
        compile_options_size: usize,
        client: *mut Client,
        executable: *mut Executable,
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;
    use crate::ffi::{NamedValue, Table, TiledLayout, Version};

    macro_rules! sizes {
        ($($name:ident: $size:literal,)*) => {
            [$((stringify!($name), $name::SIZE, $size),)*]
        };
    }

    // The plugins themselves name these numbers: called with a struct that is too short, each
    // function answers "Unexpected ... size: expected 88, got 16". Plugins 0.81 (CPU), 0.115
    // (CUDA) and 0.116 (TPU) were asked; for ExecutableMemoryArgs they say 112 and take 120, the
    // header 0.90. The last block is what the header 0.81 computes.
    #[test]
    fn structs_end_where_plugins_expect() {
        let sizes = sizes! {
            PluginAttributesArgs: 32,
            EventDestroyArgs: 24,
            EventAwaitArgs: 24,
            ClientCreateArgs: 88,
            ClientDestroyArgs: 24,
            ClientPlatformNameArgs: 40,
            ClientPlatformVersionArgs: 40,
            ClientAddressableDevicesArgs: 40,
            ClientCompileArgs: 56,
            BufferFromHostArgs: 120,
            DeviceDescriptionIdArgs: 28,
            DeviceDescriptionAttributesArgs: 40,
            DeviceDescriptionKindArgs: 40,
            DeviceGetDescriptionArgs: 32,
            DeviceMemoryStatsArgs: 185,
            ExecutableDestroyArgs: 24,
            ExecutableNumOutputsArgs: 32,
            ExecutableCostArgs: 40,
            ExecutableOptimizedProgramArgs: 32,
            LoadedExecutableDestroyArgs: 24,
            LoadedExecutableGetExecutableArgs: 32,
            ExecuteArgs: 80,
            BufferDestroyArgs: 24,
            BufferElementTypeArgs: 28,
            BufferDimensionsArgs: 40,
            BufferLayoutArgs: 104,
            BufferToHostArgs: 56,
            BufferReadyEventArgs: 32,
            TopologyCreateArgs: 56,
            TopologyDestroyArgs: 24,
            TopologyPlatformNameArgs: 40,
            TopologyPlatformVersionArgs: 40,
            TopologyDeviceDescriptionsArgs: 40,
            CompileArgs: 64,
            ExecutableOutputTypesArgs: 40,
            ExecutableOutputDimensionsArgs: 48,
            ExecutableMemoryArgs: 120,

            ErrorDestroyArgs: 24,
            ErrorMessageArgs: 40,
            ErrorGetCodeArgs: 28,
            PluginInitializeArgs: 16,
            Program: 48,
            ExecuteOptions: 112,
        };
        for (name, ours, expected) in sizes {
            assert_eq!(ours, expected, "{name}");
        }
        assert_eq!(size_of::<NamedValue>(), 56);
        assert_eq!(size_of::<TiledLayout>(), 56);
        assert_eq!(offset_of!(MemoryLayout, kind), 72);
        assert_eq!(size_of::<Version>(), 24);
        assert_eq!(size_of::<Table>(), 984);
    }
}
