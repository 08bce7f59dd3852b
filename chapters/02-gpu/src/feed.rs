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
    /// In pinned host memory; copy and kernels are queued, and the logits of a batch are
    /// read when the next one is under way.
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

/// libtorch with its input on the host.
struct Fed {
    engine: TchEngine,
    feed: Feed,
    device: Device,
    device_name: String,
    images: usize,
    /// Batches in host memory. Two where copies are queued: while one is filled, the
    /// other may be under way.
    sources: [Tensor; 2],
    next: usize,
    /// Logits that were queued and not read.
    pending: Option<Tensor>,
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
    let source = || -> Result<Tensor, TchError> {
        let host = Tensor::f_from_slice(&pixels)?.f_reshape(shape.map(|n| n as i64))?;
        match pinned {
            true => host.f_pin_memory(setting.device),
            false => Ok(host),
        }
    };
    let failed = |error| refused(error, request.batch);
    Ok(Box::new(Fed {
        engine,
        feed,
        device: setting.device,
        device_name: setting.device_name(),
        images: request.batch,
        sources: [source().map_err(failed)?, source().map_err(failed)?],
        next: 0,
        pending: None,
    }))
}

impl Fed {
    // ANCHOR: queue
    /// Queues one batch: its copy to the device, and the network. With a copy that does
    /// not block, the host is back before the device has begun.
    fn queue(&mut self) -> Result<Tensor, TchError> {
        let queued = self.feed == Feed::Queued;
        let source = &self.sources[self.next];
        self.next = (self.next + 1) % self.sources.len();
        let x = source.f_to_device_(self.device, Kind::Float, queued, false)?;
        self.engine.forward(&self.engine.arrange(&x)?)
    }

    /// One sample: the logits of a batch on the host. Queued, they are those of the batch
    /// before, while this one is computed.
    fn one(&mut self) -> Result<(), TchError> {
        let logits = self.queue()?;
        let ready = match self.feed {
            Feed::Queued => self.pending.replace(logits),
            _ => Some(logits),
        };
        if let Some(logits) = ready {
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

    fn logits(&mut self, batch: Batch) -> Result<Logits, EngineError> {
        self.engine.infer(batch)
    }

    fn settings(&self) -> serde_json::Map<String, Value> {
        let mut map = serde_json::Map::new();
        map.insert("device".into(), json!(self.device_name));
        map.insert("feed".into(), json!(self.feed.name()));
        map
    }
}
