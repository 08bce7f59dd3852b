//! The function table of the PJRT C API, version 0.81: 118 pointers in the header's order.
//!
//! A plugin's table can be shorter (an older plugin) or longer (a newer one); functions are
//! only ever added at its end. So it is read through a pointer, one slot at a time, after a
//! look at its size; nobody copies it.

use std::{ffi::c_void, mem::offset_of};

use super::*;

// `NAME: Args;` is a function that this crate calls, and ties the arguments' type to the slot.
// `NAME;` only holds its place.
macro_rules! table {
    ($($name:ident $(: $kind:ident $($args:ident)?)?;)*) => {
        /// `PJRT_Api`
        #[repr(C)]
        #[allow(non_snake_case, reason = "the header's names")]
        pub struct Table {
            pub struct_size: usize,
            pub extension_start: *mut c_void,
            pub version: Version,
            $(pub $name: table!(@slot $($kind $($args)?)?),)*
        }
        $($(table!(@call $name $kind $($args)?);)?)*
    };
    (@slot) => { *const c_void };
    (@slot void $args:ident) => { Option<VoidFunction<$args>> };
    (@slot $args:ident) => { Option<Function<$args>> };
    (@call $name:ident void $args:ident) => {};
    (@call $name:ident $args:ident) => {
        impl Call for $args {
            const NAME: &'static str = stringify!($name);
            const OFFSET: usize = offset_of!(Table, $name);
        }
    };
}

table! {
    PJRT_Error_Destroy: void ErrorDestroyArgs;
    PJRT_Error_Message: void ErrorMessageArgs;
    PJRT_Error_GetCode: ErrorGetCodeArgs;
    PJRT_Plugin_Initialize: PluginInitializeArgs;
    PJRT_Plugin_Attributes: PluginAttributesArgs;
    PJRT_Event_Destroy: EventDestroyArgs;
    PJRT_Event_IsReady;
    PJRT_Event_Error;
    PJRT_Event_Await: EventAwaitArgs;
    PJRT_Event_OnReady;
    PJRT_Client_Create: ClientCreateArgs;
    PJRT_Client_Destroy: ClientDestroyArgs;
    PJRT_Client_PlatformName: ClientPlatformNameArgs;
    PJRT_Client_ProcessIndex;
    PJRT_Client_PlatformVersion: ClientPlatformVersionArgs;
    PJRT_Client_Devices;
    PJRT_Client_AddressableDevices: ClientAddressableDevicesArgs;
    PJRT_Client_LookupDevice;
    PJRT_Client_LookupAddressableDevice;
    PJRT_Client_AddressableMemories;
    PJRT_Client_Compile: ClientCompileArgs;
    PJRT_Client_DefaultDeviceAssignment;
    PJRT_Client_BufferFromHostBuffer: BufferFromHostArgs;
    PJRT_DeviceDescription_Id: DeviceDescriptionIdArgs;
    PJRT_DeviceDescription_ProcessIndex;
    PJRT_DeviceDescription_Attributes: DeviceDescriptionAttributesArgs;
    PJRT_DeviceDescription_Kind: DeviceDescriptionKindArgs;
    PJRT_DeviceDescription_DebugString;
    PJRT_DeviceDescription_ToString;
    PJRT_Device_GetDescription: DeviceGetDescriptionArgs;
    PJRT_Device_IsAddressable;
    PJRT_Device_LocalHardwareId;
    PJRT_Device_AddressableMemories;
    PJRT_Device_DefaultMemory;
    PJRT_Device_MemoryStats: DeviceMemoryStatsArgs;
    PJRT_Memory_Id;
    PJRT_Memory_Kind;
    PJRT_Memory_DebugString;
    PJRT_Memory_ToString;
    PJRT_Memory_AddressableByDevices;
    PJRT_Executable_Destroy: ExecutableDestroyArgs;
    PJRT_Executable_Name;
    PJRT_Executable_NumReplicas;
    PJRT_Executable_NumPartitions;
    PJRT_Executable_NumOutputs: ExecutableNumOutputsArgs;
    PJRT_Executable_SizeOfGeneratedCodeInBytes;
    PJRT_Executable_GetCostAnalysis: ExecutableCostArgs;
    PJRT_Executable_OutputMemoryKinds;
    PJRT_Executable_OptimizedProgram: ExecutableOptimizedProgramArgs;
    PJRT_Executable_Serialize;
    PJRT_LoadedExecutable_Destroy: LoadedExecutableDestroyArgs;
    PJRT_LoadedExecutable_GetExecutable: LoadedExecutableGetExecutableArgs;
    PJRT_LoadedExecutable_AddressableDevices;
    PJRT_LoadedExecutable_Delete;
    PJRT_LoadedExecutable_IsDeleted;
    PJRT_LoadedExecutable_Execute: ExecuteArgs;
    PJRT_Executable_DeserializeAndLoad;
    PJRT_LoadedExecutable_Fingerprint;
    PJRT_Buffer_Destroy: BufferDestroyArgs;
    PJRT_Buffer_ElementType: BufferElementTypeArgs;
    PJRT_Buffer_Dimensions: BufferDimensionsArgs;
    PJRT_Buffer_UnpaddedDimensions;
    PJRT_Buffer_DynamicDimensionIndices;
    PJRT_Buffer_GetMemoryLayout: BufferLayoutArgs;
    PJRT_Buffer_OnDeviceSizeInBytes;
    PJRT_Buffer_Device;
    PJRT_Buffer_Memory;
    PJRT_Buffer_Delete;
    PJRT_Buffer_IsDeleted;
    PJRT_Buffer_CopyToDevice;
    PJRT_Buffer_ToHostBuffer: BufferToHostArgs;
    PJRT_Buffer_IsOnCpu;
    PJRT_Buffer_ReadyEvent: BufferReadyEventArgs;
    PJRT_Buffer_UnsafePointer;
    PJRT_Buffer_IncreaseExternalReferenceCount;
    PJRT_Buffer_DecreaseExternalReferenceCount;
    PJRT_Buffer_OpaqueDeviceMemoryDataPointer;
    PJRT_CopyToDeviceStream_Destroy;
    PJRT_CopyToDeviceStream_AddChunk;
    PJRT_CopyToDeviceStream_TotalBytes;
    PJRT_CopyToDeviceStream_GranuleSize;
    PJRT_CopyToDeviceStream_CurrentBytes;
    PJRT_TopologyDescription_Create: TopologyCreateArgs;
    PJRT_TopologyDescription_Destroy: TopologyDestroyArgs;
    PJRT_TopologyDescription_PlatformName: TopologyPlatformNameArgs;
    PJRT_TopologyDescription_PlatformVersion: TopologyPlatformVersionArgs;
    PJRT_TopologyDescription_GetDeviceDescriptions: TopologyDeviceDescriptionsArgs;
    PJRT_TopologyDescription_Serialize;
    PJRT_TopologyDescription_Attributes;
    PJRT_Compile: CompileArgs;
    PJRT_Executable_OutputElementTypes: ExecutableOutputTypesArgs;
    PJRT_Executable_OutputDimensions: ExecutableOutputDimensionsArgs;
    PJRT_Buffer_CopyToMemory;
    PJRT_Client_CreateViewOfDeviceBuffer;
    PJRT_Executable_Fingerprint;
    PJRT_Client_TopologyDescription;
    PJRT_Executable_GetCompiledMemoryStats: ExecutableMemoryArgs;
    PJRT_Memory_Kind_Id;
    PJRT_ExecuteContext_Create;
    PJRT_ExecuteContext_Destroy;
    PJRT_Buffer_CopyRawToHost;
    PJRT_AsyncHostToDeviceTransferManager_Destroy;
    PJRT_AsyncHostToDeviceTransferManager_TransferData;
    PJRT_Client_CreateBuffersForAsyncHostToDevice;
    PJRT_AsyncHostToDeviceTransferManager_RetrieveBuffer;
    PJRT_AsyncHostToDeviceTransferManager_Device;
    PJRT_AsyncHostToDeviceTransferManager_BufferCount;
    PJRT_AsyncHostToDeviceTransferManager_BufferSize;
    PJRT_AsyncHostToDeviceTransferManager_SetBufferError;
    PJRT_AsyncHostToDeviceTransferManager_AddMetadata;
    PJRT_Client_DmaMap;
    PJRT_Client_DmaUnmap;
    PJRT_Client_CreateUninitializedBuffer;
    PJRT_Client_UpdateGlobalProcessInfo;
    PJRT_TopologyDescription_Deserialize;
    PJRT_Client_CreateAliasBuffer;
    PJRT_Client_FulfillAliasBuffer;
    PJRT_LoadedExecutable_GetDeviceAssignment;
}
