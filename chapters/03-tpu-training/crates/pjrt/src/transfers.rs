//! A count of the copies between host and device.

use std::sync::atomic::{AtomicU64, Ordering};

/// Copies between host and device that a client has made. The difference of two readings shows
/// that a step of training copies nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Arrays copied to a device.
    pub host_to_device: u64,
    /// Their bytes.
    pub host_to_device_bytes: u64,
    /// Arrays copied to the host.
    pub device_to_host: u64,
    /// Their bytes.
    pub device_to_host_bytes: u64,
}

impl std::ops::Sub for Transfers {
    type Output = Self;

    /// What was copied between an earlier reading and this one.
    fn sub(self, earlier: Self) -> Self {
        Self {
            host_to_device: self.host_to_device - earlier.host_to_device,
            host_to_device_bytes: self.host_to_device_bytes - earlier.host_to_device_bytes,
            device_to_host: self.device_to_host - earlier.device_to_host,
            device_to_host_bytes: self.device_to_host_bytes - earlier.device_to_host_bytes,
        }
    }
}

/// The counters behind [`Transfers`].
#[derive(Default)]
pub(crate) struct Counters {
    host_to_device: AtomicU64,
    host_to_device_bytes: AtomicU64,
    device_to_host: AtomicU64,
    device_to_host_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn to_device(&self, bytes: usize) {
        self.host_to_device.fetch_add(1, Ordering::Relaxed);
        self.host_to_device_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn to_host(&self, bytes: usize) {
        self.device_to_host.fetch_add(1, Ordering::Relaxed);
        self.device_to_host_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Transfers {
        Transfers {
            host_to_device: self.host_to_device.load(Ordering::Relaxed),
            host_to_device_bytes: self.host_to_device_bytes.load(Ordering::Relaxed),
            device_to_host: self.device_to_host.load(Ordering::Relaxed),
            device_to_host_bytes: self.device_to_host_bytes.load(Ordering::Relaxed),
        }
    }
}
