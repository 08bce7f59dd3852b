//! Options of a compilation, and the bytes that plugins want for them.

use crate::{client::DeviceInfo, error::Error, protobuf::Message};

/// Options of a compilation.
///
/// The default compiles for the client's first device.
#[derive(Clone, Debug, PartialEq)]
pub struct CompileOptions {
    /// The device to run on, an index into [`Client::devices`](crate::Client::devices). A
    /// topology does not look at it.
    pub device: usize,
    /// How many copies of the program run side by side, each with data of its own. More than
    /// one only with a [`Topology`](crate::Topology).
    pub replicas: u32,
    /// Over how many devices each copy is split. More than one only with a topology.
    pub partitions: u32,
    /// Flags of the compiler by name, e.g. `("xla_cpu_enable_fast_math", Bool(false))`: those
    /// that `XLA_FLAGS` takes, for this program alone. The plugin refuses one that it does not
    /// know.
    pub env_overrides: Vec<(String, OptionValue)>,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self {
            device: 0,
            replicas: 1,
            partitions: 1,
            env_overrides: Vec::new(),
        }
    }
}

/// The value of a compiler flag.
#[derive(Clone, Debug, PartialEq)]
pub enum OptionValue {
    /// Text. For a flag of another type, XLA parses it: `True`, `False`, `3`.
    Text(String),
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number.
    Float(f64),
}

impl CompileOptions {
    /// The same with one more flag of the compiler.
    pub fn with_override(mut self, name: &str, value: OptionValue) -> Self {
        self.env_overrides.push((name.to_owned(), value));
        self
    }

    /// The same for another device.
    pub fn on_device(mut self, device: usize) -> Self {
        self.device = device;
        self
    }

    /// The same for several copies: replicas, each split over so many partitions.
    pub fn with_copies(mut self, replicas: u32, partitions: u32) -> Self {
        self.replicas = replicas;
        self.partitions = partitions;
        self
    }

    /// The bytes for a program that this process will run on one device.
    pub(crate) fn for_client(&self, devices: &[DeviceInfo]) -> Result<Vec<u8>, Error> {
        if (self.replicas, self.partitions) != (1, 1) {
            return Err(Error::Options {
                problem: "a client runs a program on one device: \
                          more than one replica or partition is for a topology",
            });
        }
        let device = devices.get(self.device).ok_or(Error::Device {
            index: self.device,
            devices: devices.len(),
        })?;
        Ok(self.encode(Some(device.id)))
    }

    /// The bytes for a program that is only looked at.
    pub(crate) fn for_topology(&self) -> Result<Vec<u8>, Error> {
        if self.replicas == 0 || self.partitions == 0 {
            return Err(Error::Options {
                problem: "there must be at least one replica and one partition",
            });
        }
        Ok(self.encode(None))
    }

    /// A serialized `xla.CompileOptionsProto` (`xla/pjrt/proto/compile_options.proto`). With
    /// fewer than one replica or partition, as in empty bytes, XLA ends the process.
    fn encode(&self, device_id: Option<i32>) -> Vec<u8> {
        let (replicas, partitions) = (i64::from(self.replicas), i64::from(self.partitions));
        let mut build = Message::default();
        build.int(field::DEVICE_ORDINAL, -1);
        build.int(field::NUM_REPLICAS, replicas);
        build.int(field::NUM_PARTITIONS, partitions);
        if let Some(id) = device_id {
            let mut computation = Message::default();
            computation.packed(field::REPLICA_DEVICE_IDS, &[i64::from(id)]);
            let mut assignment = Message::default();
            assignment.int(field::REPLICA_COUNT, replicas);
            assignment.int(field::COMPUTATION_COUNT, partitions);
            assignment.message(field::COMPUTATION_DEVICES, &computation);
            build.message(field::DEVICE_ASSIGNMENT, &assignment);
        }
        let mut options = Message::default();
        options.message(field::EXECUTABLE_BUILD_OPTIONS, &build);
        for (name, value) in &self.env_overrides {
            let mut option = Message::default();
            match value {
                OptionValue::Text(text) => option.bytes(field::STRING, text.as_bytes()),
                OptionValue::Bool(flag) => option.int(field::BOOL, i64::from(*flag)),
                OptionValue::Int(int) => option.int(field::INT, *int),
                OptionValue::Float(float) => option.double(field::DOUBLE, *float),
            }
            let mut entry = Message::default();
            entry.bytes(field::MAP_KEY, name.as_bytes());
            entry.message(field::MAP_VALUE, &option);
            options.message(field::ENV_OPTION_OVERRIDES, &entry);
        }
        options.into_bytes()
    }
}

/// Field numbers, from `compile_options.proto` and `xla_data.proto`.
mod field {
    // CompileOptionsProto
    pub const EXECUTABLE_BUILD_OPTIONS: u32 = 3;
    pub const ENV_OPTION_OVERRIDES: u32 = 7;
    // A map is a list of entries.
    pub const MAP_KEY: u32 = 1;
    pub const MAP_VALUE: u32 = 2;
    // OptionOverrideProto
    pub const STRING: u32 = 1;
    pub const BOOL: u32 = 2;
    pub const INT: u32 = 3;
    pub const DOUBLE: u32 = 4;
    // ExecutableBuildOptionsProto
    pub const DEVICE_ORDINAL: u32 = 1;
    pub const NUM_REPLICAS: u32 = 4;
    pub const NUM_PARTITIONS: u32 = 5;
    pub const DEVICE_ASSIGNMENT: u32 = 9;
    // DeviceAssignmentProto
    pub const REPLICA_COUNT: u32 = 1;
    pub const COMPUTATION_COUNT: u32 = 2;
    pub const COMPUTATION_DEVICES: u32 = 3;
    // DeviceAssignmentProto.ComputationDevice
    pub const REPLICA_DEVICE_IDS: u32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: i32) -> DeviceInfo {
        DeviceInfo {
            id,
            kind: "a kind".to_owned(),
            attributes: Vec::new(),
        }
    }

    #[test]
    fn the_default_is_one_replica_on_one_partition() {
        // As `xla.CompileOptionsProto` is written by JAX: device ordinal -1, counts of 1.
        let expected = [
            0x1a, 15, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 32, 1, 40, 1,
        ];
        let bytes = CompileOptions::default().for_topology();
        assert_eq!(bytes.unwrap(), expected);
    }

    #[test]
    fn a_client_gets_the_number_of_its_device() {
        let options = CompileOptions::default().on_device(1);
        let bytes = options.for_client(&[device(0), device(300)]).unwrap();
        // After the default's: one replica, one computation, on the device with number 300.
        let assignment = [0x4a, 10, 8, 1, 16, 1, 0x1a, 4, 0x0a, 2, 0xac, 2];
        assert_eq!(bytes[..2], [0x1a, 15 + 12]);
        assert_eq!(bytes[17..], assignment);
        let error = options.for_client(&[device(0)]).unwrap_err();
        assert_eq!(
            error,
            Error::Device {
                index: 1,
                devices: 1
            }
        );
    }

    #[test]
    fn flags_are_entries_of_a_map() {
        let options = CompileOptions::default()
            .with_override("t", OptionValue::Text("xy".to_owned()))
            .with_override("b", OptionValue::Bool(true))
            .with_override("i", OptionValue::Int(300))
            .with_override("f", OptionValue::Float(1.0));
        let bytes = options.for_topology().unwrap();
        let entries = [
            &[0x3a, 9, 0x0a, 1, b't', 0x12, 4, 0x0a, 2, b'x', b'y'][..],
            &[0x3a, 7, 0x0a, 1, b'b', 0x12, 2, 0x10, 1],
            &[0x3a, 8, 0x0a, 1, b'i', 0x12, 3, 0x18, 0xac, 2],
            &[
                0x3a, 14, 0x0a, 1, b'f', 0x12, 9, 0x21, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f,
            ],
        ];
        assert_eq!(bytes[17..], entries.concat());
    }

    #[test]
    fn counts_that_would_end_the_process_are_refused() {
        for (replicas, partitions) in [(0, 1), (1, 0)] {
            let options = CompileOptions::default().with_copies(replicas, partitions);
            assert!(matches!(options.for_topology(), Err(Error::Options { .. })));
        }
        let several = CompileOptions::default()
            .with_copies(4, 2)
            .for_topology()
            .unwrap();
        assert_eq!(several[13..], [32, 4, 40, 2]);
    }
}
