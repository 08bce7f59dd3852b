//! Calls of the Chrome DevTools Protocol with only the fields that are used here. The crate's
//! own have every field of the protocol's newest version, most of them not set.

use headless_chrome::protocol::cdp::types::Method;
use serde::{Deserialize, Serialize};

/// An answer whose content does not matter.
#[derive(Debug, Deserialize)]
pub struct Done {}

/// Says the size of the window, and whether it is a phone's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SetDeviceMetricsOverride {
    pub width: u32,
    pub height: u32,
    pub device_scale_factor: f64,
    pub mobile: bool,
}

impl Method for SetDeviceMetricsOverride {
    const NAME: &'static str = "Emulation.setDeviceMetricsOverride";
    type ReturnObject = Done;
}

/// Runs a script in each page before its own.
#[derive(Debug, Serialize)]
pub struct AddScriptToEvaluateOnNewDocument {
    pub source: String,
}

impl Method for AddScriptToEvaluateOnNewDocument {
    const NAME: &'static str = "Page.addScriptToEvaluateOnNewDocument";
    type ReturnObject = Done;
}

/// Tells each request from now on.
#[derive(Debug, Serialize)]
pub struct EnableNetwork {}

impl Method for EnableNetwork {
    const NAME: &'static str = "Network.enable";
    type ReturnObject = Done;
}
