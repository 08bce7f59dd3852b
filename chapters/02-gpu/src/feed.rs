//! How a batch reaches the device. The network is the same; what differs is where the
//! pixels lie when a sample begins, and when the logits are waited for.

use std::{fmt, str::FromStr};

use cpu_inference::{
    engine::{Batch, Engine, EngineError, Logits},
    resnet::seeded,
    setting::Setting,
    tch_engine::{Dtype, LoadError, TchEngine, refused},
    worker::{self, Load, Loaded},
};
use serde_json::{Value, json};
use tch::{Device, Kind, TchError, Tensor};

/// Where the pixels lie, and how they are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// On the device already.
    Device,
    /// In ordinary host memory: the driver copies them into its own pinned buffer first.
    Pageable,
    /// In pinned host memory, which the device reads by itself; the host waits for the copy.
    Pinned,
    /// In pinned host memory; copies and kernels of several batches are queued before the
    /// first logits are read.
    Queued,
}

impl Feed {
    const ALL: [Feed; 4] = [Feed::Device, Feed::Pageable, Feed::Pinned, Feed::Queued];

    /// `device`, `pageable`, `pinned` or `queued`.
    pub fn name(self) -> &'static str {
        match self {
            Feed::Device => "device",
            Feed::Pageable => "pageable",
            Feed::Pinned => "pinned",
            Feed::Queued => "queued",
        }
    }
}

impl fmt::Display for Feed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Feed {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let names = Feed::ALL.map(Feed::name).join(", ");
        Feed::ALL
            .into_iter()
            .find(|feed| feed.name() == s)
            .ok_or_else(|| format!("feed: expected one of {names}, got {s:?}"))
    }
}

/// Batches that are queued before the host waits. It waits at the end of the queue: tch
/// has one CUDA stream, and logits that are read after a later batch was queued come after
/// that batch, too.
const AHEAD: usize = 4;

/// libtorch with its input on the host.
struct Fed {
    engine: TchEngine,
    feed: Feed,
    device: Device,
    settings: serde_json::Map<String, Value>,
    images: usize,
    /// The batch in host memory.
    source: Tensor,
}

/// Loads `tch-<rung>` with its input where the request's `feed` says.
///
/// # Errors
/// What was refused, or what this machine lacks.
pub fn open(request: &Load, setting: &Setting) -> anyhow::Result<Box<dyn Loaded>> {
    let feed = match &request.feed {
        None => Feed::Device,
        Some(name) => name.parse().map_err(anyhow::Error::msg)?,
    };
    if feed == Feed::Device {
        let request = Load {
            feed: None,
            ..request.clone()
        };
        return worker::open_tch(&request, setting);
    }
    let pinned = matches!(feed, Feed::Pinned | Feed::Queued);
    let engine = worker::load_tch(request, setting)?;
    if pinned && !setting.device.is_cuda() {
        return Err(LoadError::Unsupported {
            rung: engine.rung(),
            dtype: request.dtype.parse().unwrap_or(Dtype::F32),
            message: "pinned memory needs a CUDA device to read it".into(),
        }
        .into());
    }
    let [channels, height, width] = engine.image_shape();
    let shape = [request.batch, channels, height, width];
    let pixels = seeded::tensor(0, "input", &shape);
    let source = Tensor::f_from_slice(&pixels)
        .and_then(|host| host.f_reshape(shape.map(|n| n as i64)))
        .and_then(|host| match pinned {
            true => host.f_pin_memory(setting.device),
            false => Ok(host),
        })
        .map_err(|error| refused(error, request.batch))?;
    Ok(Box::new(Fed {
        engine,
        feed,
        device: setting.device,
        settings: setting.described(),
        images: request.batch,
        source,
    }))
}

impl Fed {
    // ANCHOR: queue
    /// Orders one batch: its copy to the device, and the network. With a copy that does
    /// not block, the host is back before the device has begun.
    fn order(&self) -> Result<Tensor, TchError> {
        let queued = self.feed == Feed::Queued;
        let x = self
            .source
            .f_to_device_(self.device, Kind::Float, queued, false)?;
        self.engine.forward(&self.engine.arrange(&x)?)
    }

    /// One sample: all its batches are ordered, then all their logits are read.
    fn one(&self) -> Result<(), TchError> {
        let ordered = (0..self.batches()).map(|_| self.order());
        for logits in ordered.collect::<Result<Vec<_>, _>>()? {
            drop(logits.f_to_device(Device::Cpu)?);
        }
        Ok(())
    }
    // ANCHOR_END: queue
}

impl Loaded for Fed {
    fn sample(&mut self) -> Result<(), EngineError> {
        self.one().map_err(|error| refused(error, self.images))
    }

    fn batches(&self) -> usize {
        match self.feed {
            Feed::Queued => AHEAD,
            _ => 1,
        }
    }

    fn logits(&mut self, batch: Batch) -> Result<Logits, EngineError> {
        self.engine.infer(batch)
    }

    fn settings(&self) -> serde_json::Map<String, Value> {
        let mut map = self.settings.clone();
        map.insert("feed".into(), json!(self.feed.name()));
        map
    }
}
