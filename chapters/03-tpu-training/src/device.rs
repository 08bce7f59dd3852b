//! From `--device` and `--plugin` to a client of that device.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
};

use accel::{
    checkout::checkout_root,
    device::{self, Device, DeviceError, DeviceRequest, PJRT_DEVICE, Probe},
};
use pjrt_runtime::{Client, ClientOption, Platform, Plugin, PluginError, SearchPath, find_plugin};

use crate::programs::Programs;

/// A device that is ready to compile and run.
pub struct Opened {
    /// Which one.
    pub device: Device,
    /// One line for the user: what was chosen, why, and by which plugin.
    pub reason: String,
    /// Its client.
    pub client: Client,
    /// The plugin that made it.
    pub plugin: Plugin,
    /// Number of the device among the client's.
    pub ordinal: usize,
    /// What was compiled for it.
    pub programs: Programs,
}

/// Why there is no such device.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The device asked for does not work here.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The plugin is not there, or is none.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The plugin has no client here.
    #[error("{}: {cause}", path.display())]
    Client {
        /// The plugin.
        path: PathBuf,
        /// What it said. Not a `source`: it is in the text, and would be told twice.
        cause: pjrt_runtime::Error,
    },
    /// `--plugin` is of another device than `--device`.
    #[error(
        "--plugin {} is a plugin for {got:?}, and --device is {wanted}; give the plugin of that \
         device, or leave out one of the two", path.display()
    )]
    OtherPlatform {
        /// The plugin.
        path: PathBuf,
        /// What it says it is for.
        got: String,
        /// What was asked for.
        wanted: DeviceRequest,
    },
}

/// Where plugins are looked for: `--plugin`, then `PJRT_PLUGIN_LIBRARY_PATH`, then
/// the project's own folder.
pub fn search_path(explicit: Option<&Path>) -> SearchPath {
    let root = checkout_root().unwrap_or_else(|| PathBuf::from("."));
    let folders = vec![root.join(".native/pjrt")];
    SearchPath::from_environment(explicit.map(Path::to_owned), folders)
}

/// Opens the device that was asked for.
///
/// * `plugin`: the file of `--plugin`
///
/// # Errors
/// [`OpenError`]; programs end with exit code 3.
pub fn open(request: DeviceRequest, plugin: Option<&Path>) -> Result<Opened, OpenError> {
    if let (Some(path), DeviceRequest::Auto) = (plugin, request) {
        return open_named(path);
    }
    let search = search_path(plugin);
    let probe = Plugins {
        search: &search,
        cuda: RefCell::new(None),
        tpu: RefCell::new(None),
    };
    let selection = device::select(request, &probe)?;
    let opened = match selection.device {
        Device::Cpu => start(Platform::Cpu, &search)?,
        Device::Cuda(_) => probe.take(&probe.cuda, Platform::Cuda)?,
        Device::Tpu => probe.take(&probe.tpu, Platform::Tpu)?,
    };
    let ordinal = match selection.device {
        Device::Cuda(index) => index,
        Device::Cpu | Device::Tpu => 0,
    };
    let (plugin, client) = opened;
    let platform = client.platform_name().to_owned();
    if platform_of(&platform) != Some(platform_for(selection.device)) {
        return Err(OpenError::OtherPlatform {
            path: plugin.path().to_owned(),
            got: platform,
            wanted: request,
        });
    }
    Ok(Opened {
        reason: reason(&selection.reason, &plugin),
        device: selection.device,
        client,
        plugin,
        ordinal,
        programs: Programs::default(),
    })
}

/// `--plugin` alone: its platform is the device.
fn open_named(path: &Path) -> Result<Opened, OpenError> {
    let plugin = Plugin::load(path)?;
    let client = client(&plugin)?;
    let platform = client.platform_name().to_owned();
    let device = match platform_of(&platform) {
        Some(Platform::Cpu) | None => Device::Cpu,
        Some(Platform::Cuda) => Device::Cuda(0),
        Some(Platform::Tpu) => Device::Tpu,
    };
    Ok(Opened {
        reason: reason(
            &format!("{device}: the platform of --plugin is {platform:?}"),
            &plugin,
        ),
        device,
        client,
        plugin,
        ordinal: 0,
        programs: Programs::default(),
    })
}

fn reason(choice: &str, plugin: &Plugin) -> String {
    let version = plugin.api_version();
    format!(
        "{choice}; PJRT plugin {} (C API {version})",
        shown(plugin.path())
    )
}

/// Relative to the checkout where it is inside.
fn shown(path: &Path) -> String {
    let root = checkout_root();
    let inside = root
        .as_deref()
        .and_then(|root| path.strip_prefix(root).ok());
    inside.unwrap_or(path).display().to_string()
}

/// The platform that a device needs.
fn platform_for(device: Device) -> Platform {
    match device {
        Device::Cpu => Platform::Cpu,
        Device::Cuda(_) => Platform::Cuda,
        Device::Tpu => Platform::Tpu,
    }
}

/// The platform by the name that plugins give it.
fn platform_of(name: &str) -> Option<Platform> {
    match name.to_ascii_lowercase().as_str() {
        "cpu" | "host" => Some(Platform::Cpu),
        "cuda" | "gpu" => Some(Platform::Cuda),
        "tpu" => Some(Platform::Tpu),
        _ => None,
    }
}

fn start(platform: Platform, search: &SearchPath) -> Result<(Plugin, Client), OpenError> {
    let plugin = Plugin::load(&find_plugin(platform, search)?)?;
    let client = client(&plugin)?;
    Ok((plugin, client))
}

fn client(plugin: &Plugin) -> Result<Client, OpenError> {
    Client::new(plugin, &options(plugin.path())).map_err(|cause| OpenError::Client {
        path: plugin.path().to_owned(),
        cause,
    })
}

/// Options of a plugin's client. A plugin refuses options that it does not know, and its
/// platform is known only when the client is there: the file's name must tell.
fn options(path: &Path) -> Vec<(&'static str, ClientOption)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.contains("cuda") || name.contains("gpu") {
        // Without it the client takes three quarters of the GPU's memory at once, and a
        // second process finds none.
        vec![("preallocate", ClientOption::Bool(false))]
    } else if name.contains("xla_cpu") {
        // By default this plugin makes several devices, whose threads are in each other's way.
        vec![("cpu_device_count", ClientOption::Int(1))]
    } else {
        vec![]
    }
}

/// Looks for devices by making their clients, and keeps what it made: a TPU
/// belongs to one client at a time.
struct Plugins<'a> {
    search: &'a SearchPath,
    cuda: RefCell<Option<(Plugin, Client)>>,
    tpu: RefCell<Option<(Plugin, Client)>>,
}

impl Plugins<'_> {
    fn look(
        &self,
        platform: Platform,
        found: &RefCell<Option<(Plugin, Client)>>,
    ) -> Result<usize, String> {
        let opened = start(platform, self.search).map_err(|error| error.to_string())?;
        let count = opened.1.devices().len();
        found.replace(Some(opened));
        Ok(count)
    }

    fn take(
        &self,
        found: &RefCell<Option<(Plugin, Client)>>,
        platform: Platform,
    ) -> Result<(Plugin, Client), OpenError> {
        match found.take() {
            Some(opened) => Ok(opened),
            None => start(platform, self.search),
        }
    }
}

impl Probe for Plugins<'_> {
    fn pjrt_device(&self) -> Option<String> {
        std::env::var(PJRT_DEVICE).ok()
    }

    fn tpu(&self) -> Result<(), String> {
        // libtpu would wait for minutes for a TPU that is not there.
        if !tpu_in_dev() {
            return Err("this machine has no TPU (neither /dev/accel* nor /dev/vfio/*)".to_owned());
        }
        match self.look(Platform::Tpu, &self.tpu)? {
            0 => Err("the TPU plugin sees no TPU".to_owned()),
            _ => Ok(()),
        }
    }

    fn cuda_devices(&self) -> Result<usize, String> {
        self.look(Platform::Cuda, &self.cuda)
    }
}

/// Whether the system shows a TPU: `/dev/accel0` up to TPU v4, `/dev/vfio/0` after it, as
/// Cloud TPU's documentation has it for containers.
fn tpu_in_dev() -> bool {
    let has = |folder: &str, prefix: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.any(|name| {
            let number = name.strip_prefix(prefix);
            number.is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
        })
    };
    has("/dev", "accel") || has("/dev/vfio", "")
}
