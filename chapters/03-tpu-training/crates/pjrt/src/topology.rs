//! Chips that need not be present, and programs compiled for them.

use std::fmt;

use crate::{
    client::DeviceInfo,
    compile_options::CompileOptions,
    error::Error,
    ffi,
    memory::MemoryStats,
    plugin::Plugin,
    sys::{executable::Facts, owned::Owned},
    value::{ClientOption, CostValue},
};

/// What libtpu must find in the environment to compile on a machine without a TPU: it would ask
/// Google's metadata server who the machine is, and complain on stderr that nobody answers.
///
/// libtpu reads it once, when it is loaded: give it to a child process, or to
/// [`set_default_variable`](crate::set_default_variable) in `main` before anything else. Not in
/// a process that uses a TPU: there it would be a lie.
///
/// The accelerator's type only quiets a message; any [`Topology`] can be compiled for.
pub const LIBTPU_WITHOUT_TPU: [(&str, &str); 5] = [
    ("TPU_SKIP_MDS_QUERY", "1"),
    ("TPU_ACCELERATOR_TYPE", "v5litepod-1"),
    ("TPU_WORKER_HOSTNAMES", "localhost"),
    // A TPU is for one process, so libtpu locks a file in /tmp and a second process cannot load
    // it. There is nothing to lock here.
    ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"),
    // Else it leaves log files in /tmp/tpu_logs.
    ("TPU_LOG_DIR", "disabled"),
];

/// A description of chips, for compiling without having them: libtpu knows `v5e:1x1`,
/// `v5e:2x2` or `v6e:2x2`.
pub struct Topology {
    owned: Owned<ffi::Topology>,
    devices: Vec<DeviceInfo>,
    plugin: Plugin,
}

impl Topology {
    /// Describes the chips of that name.
    ///
    /// For libtpu on a machine without a TPU, see [`LIBTPU_WITHOUT_TPU`]. It takes an empty name
    /// for four chips of the oldest kind.
    ///
    /// # Errors
    /// [`Error::Pjrt`] if the plugin does not know the name, or compiles for no absent chips
    /// at all (the CPU's plugin says [`Code::Unimplemented`](crate::Code::Unimplemented)).
    pub fn new(plugin: &Plugin, name: &str) -> Result<Self, Error> {
        Self::with_options(plugin, name, &[])
    }

    /// As [`Topology::new`], with options of the plugin.
    ///
    /// # Errors
    /// As [`Topology::new`].
    pub fn with_options(
        plugin: &Plugin,
        name: &str,
        options: &[(&str, ClientOption)],
    ) -> Result<Self, Error> {
        let owned = Owned::<ffi::Topology>::create(plugin.api(), name, options)?;
        Ok(Self {
            devices: owned.devices()?,
            owned,
            plugin: plugin.clone(),
        })
    }

    /// The plugin that made it.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// The chips' devices.
    pub fn devices(&self) -> &[DeviceInfo] {
        &self.devices
    }

    /// What the chips are, in the plugin's words, e.g. `tpu`.
    ///
    /// # Errors
    /// [`Error::Pjrt`] if the plugin refuses.
    pub fn platform_name(&self) -> Result<String, Error> {
        self.owned.platform_name()
    }

    /// The compiler's own version, in its words.
    ///
    /// # Errors
    /// [`Error::Pjrt`] if the plugin refuses.
    pub fn platform_version(&self) -> Result<String, Error> {
        self.owned.platform_version()
    }

    /// Compiles a program for the chips.
    ///
    /// * `stablehlo`: the text of an MLIR module with a public function `main`
    ///
    /// # Errors
    /// [`Error::Pjrt`] if the text is no StableHLO or the compiler refuses it, e.g. because it
    /// needs more memory than the chip has ([`Error::is_out_of_memory`]);
    /// [`Error::Options`] if no plugin can follow the options.
    pub fn compile(
        &self,
        stablehlo: &str,
        options: &CompileOptions,
    ) -> Result<CompiledProgram, Error> {
        let facts = self.owned.compile(stablehlo, &options.for_topology()?)?;
        Ok(CompiledProgram { facts })
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology")
            .field("devices", &self.devices)
            .finish_non_exhaustive()
    }
}

/// A program compiled for chips that are not here: it can be asked, not run.
pub struct CompiledProgram {
    facts: Facts,
}

impl CompiledProgram {
    /// What the compiler says a run costs, e.g. `flops`, `bytes accessed` and, on TPUs,
    /// `optimal_seconds`. The compiler's estimate, not a measurement.
    ///
    /// # Errors
    /// [`Error::Pjrt`] where a plugin does not say.
    pub fn cost(&self) -> Result<Vec<(String, CostValue)>, Error> {
        self.facts.cost()
    }

    /// What the compiler says of the memory that a run needs on each chip.
    ///
    /// # Errors
    /// [`Error::Pjrt`] where a plugin does not say.
    pub fn memory(&self) -> Result<MemoryStats, Error> {
        self.facts.memory()
    }

    /// How many arrays a run returns on each device.
    ///
    /// # Errors
    /// [`Error::Pjrt`] where a plugin does not say.
    pub fn num_outputs(&self) -> Result<usize, Error> {
        self.facts.num_outputs()
    }
}

impl fmt::Debug for CompiledProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledProgram").finish_non_exhaustive()
    }
}
