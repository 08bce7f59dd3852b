//! Memory: what a compiled program needs, and what a device has.

/// What the compiler says a program needs, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// The machine code.
    pub generated_code_bytes: i64,
    /// All arguments.
    pub argument_bytes: i64,
    /// All outputs.
    pub output_bytes: i64,
    /// How much of the outputs reuses donated arguments.
    pub alias_bytes: i64,
    /// Room for intermediate values.
    pub temp_bytes: i64,
    /// The most at any moment, as far as the compiler knows; 0 where it does not say.
    pub peak_bytes: i64,
    /// All of the device's memory that the program takes; 0 from plugins before 0.90.
    pub total_bytes: i64,
    /// What it needs in the host's memory beside that.
    pub host_bytes: i64,
}

impl MemoryStats {
    /// Device memory for a run: arguments, outputs that do not reuse them, intermediate
    /// values and code, in bytes. This is what must fit the chip.
    pub fn device_bytes(&self) -> i64 {
        self.argument_bytes
            .saturating_add(self.output_bytes)
            .saturating_sub(self.alias_bytes)
            .saturating_add(self.temp_bytes)
            .saturating_add(self.generated_code_bytes)
    }
}

/// What a device says of its memory now, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceMemory {
    /// In use by buffers.
    pub bytes_in_use: i64,
    /// The most that was ever in use.
    pub peak_bytes_in_use: Option<i64>,
    /// The most that can be used.
    pub bytes_limit: Option<i64>,
}
