//! The engine of this chapter: libtorch, on each rung of the speed ladder.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};
use thiserror::Error;

use crate::{
    engine::{Batch, Engine, EngineError, Logits},
    resnet::{
        config::Config,
        network::{Network, f_channels_last},
        weights::{Weights, WeightsError},
    },
    stream::Stream,
};

/// How far the model is prepared for the machine. Each rung but the first
/// includes the folding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// As trained: convolution, batch norm, relu, one after the other.
    Eager,
    /// Batch norms folded into the convolutions.
    Folded,
    /// Activations and weights stored as NHWC.
    ChannelsLast,
    /// Weights and activations in oneDNN's blocked layout.
    Prepacked,
    /// Prepacked, and the batch split over copies of one thread each.
    Streams,
    /// Channels-last, with the kernels cut to what the image size can use.
    Trimmed,
    /// Channels-last; convolution, bias, shortcut and relu by one kernel of cuDNN's.
    Fused,
}

impl Rung {
    /// The rungs of the CPU, lowest first.
    pub const CPU: [Rung; 6] = [
        Rung::Eager,
        Rung::Folded,
        Rung::ChannelsLast,
        Rung::Prepacked,
        Rung::Streams,
        Rung::Trimmed,
    ];

    /// The rungs of a GPU, lowest first.
    pub const CUDA: [Rung; 5] = [
        Rung::Eager,
        Rung::Folded,
        Rung::ChannelsLast,
        Rung::Fused,
        Rung::Trimmed,
    ];

    /// All rungs.
    pub const ALL: [Rung; 7] = [
        Rung::Eager,
        Rung::Folded,
        Rung::ChannelsLast,
        Rung::Prepacked,
        Rung::Streams,
        Rung::Trimmed,
        Rung::Fused,
    ];

    /// The name of the flag: `eager`, `folded`, `channels-last`, `prepacked`, `streams`,
    /// `trimmed`, `fused`.
    pub fn name(self) -> &'static str {
        match self {
            Rung::Eager => "eager",
            Rung::Folded => "folded",
            Rung::ChannelsLast => "channels-last",
            Rung::Prepacked => "prepacked",
            Rung::Streams => "streams",
            Rung::Trimmed => "trimmed",
            Rung::Fused => "fused",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Rung {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Rung::ALL
            .into_iter()
            .find(|rung| rung.name() == s)
            .ok_or_else(|| {
                format!(
                    "expected one of {}, got {s:?}",
                    Rung::ALL.map(Rung::name).join(", ")
                )
            })
    }
}

/// The number format of weights and activations; logits are f32 in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits, 24 of them significant.
    F32,
    /// 16 bits, 8 of them significant, with f32's range.
    Bf16,
    /// 16 bits, 11 of them significant, up to 65,504.
    F16,
}

impl Dtype {
    /// libtorch's name for it.
    pub fn kind(self) -> Kind {
        match self {
            Dtype::F32 => Kind::Float,
            Dtype::Bf16 => Kind::BFloat16,
            Dtype::F16 => Kind::Half,
        }
    }

    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::Bf16 | Dtype::F16 => 2,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::F16 => "f16",
        })
    }
}

impl FromStr for Dtype {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "f32" => Ok(Dtype::F32),
            "bf16" => Ok(Dtype::Bf16),
            "f16" => Ok(Dtype::F16),
            _ => Err(format!("expected f32, bf16 or f16, got {s:?}")),
        }
    }
}

/// Why a network cannot be prepared for a rung.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The tensors do not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// This build of libtorch, or this CPU, lacks what the rung needs.
    #[error(
        "the rung {rung} in {dtype} does not work on this machine ({message}); \
         use --rung channels-last"
    )]
    Unsupported {
        /// As asked for.
        rung: Rung,
        /// As asked for.
        dtype: Dtype,
        /// First line of what libtorch said.
        message: String,
    },
    /// The device has no room for the weights.
    #[error(
        "no memory for the model: {message}; end what else uses the device, or take a smaller model"
    )]
    OutOfMemory {
        /// First line of what libtorch said.
        message: String,
    },
    /// The device did not take the weights.
    #[error(transparent)]
    Device(EngineError),
}

/// A ResNet on libtorch.
#[derive(Debug)]
pub struct TchEngine {
    network: Network,
    config: Config,
    side: usize,
    rung: Rung,
    dtype: Dtype,
    device: Device,
    /// One a thread on the rung of that name, else none.
    streams: Vec<Stream>,
    /// Threads of one operator, where the batch is not shared out.
    threads: usize,
}

/// A batch, laid out as the network wants it, in one part for each stream.
#[derive(Debug)]
pub struct Prepared(Vec<Tensor>);

impl TchEngine {
    // ANCHOR: load
    /// Builds the network and prepares it for a rung.
    ///
    /// * `side`: height and width of the images, in pixels
    /// * `device`: where tensors live; the one line that chapter 2 changes
    ///
    /// # Errors
    /// [`LoadError`] if a tensor is missing or misshapen, if this machine
    /// cannot do it, or if the weights do not fit into the device's memory.
    pub fn load(
        config: &Config,
        weights: &Weights,
        side: usize,
        rung: Rung,
        dtype: Dtype,
        device: Device,
    ) -> Result<Self, LoadError> {
        let _inference = tch::no_grad_guard();
        let mut network = Network::new(config, weights)?;
        if rung != Rung::Eager {
            network.fold();
        }
        network.to_kind(dtype.kind());
        match rung {
            Rung::Eager | Rung::Folded => {}
            Rung::ChannelsLast => network.to_channels_last(),
            Rung::Prepacked | Rung::Streams => {
                if device != Device::Cpu {
                    return Err(LoadError::Unsupported {
                        rung,
                        dtype,
                        message: "its layout is oneDNN's, which computes on the CPU".into(),
                    });
                }
                network.prepack().map_err(|error| LoadError::Unsupported {
                    rung,
                    dtype,
                    message: first_line(&error),
                })?
            }
            Rung::Trimmed => {
                network.trim(side);
                network.to_channels_last();
            }
            Rung::Fused if device.is_cuda() => {
                network.to_channels_last();
                network.fuse();
            }
            Rung::Fused => {
                return Err(LoadError::Unsupported {
                    rung,
                    dtype,
                    message: "its kernels are cuDNN's, and need a CUDA device".into(),
                });
            }
        }
        network
            .to_device(device)
            .map_err(|error| not_computed(refused(error, 0)))?;
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1);
        let streams = match rung {
            Rung::Streams => (0..threads)
                .map(|_| Stream::start(network.share()))
                .collect(),
            _ => vec![],
        };
        let engine = TchEngine {
            streams,
            threads,
            network,
            config: *config,
            side,
            rung,
            dtype,
            device,
        };
        if rung == Rung::Fused {
            engine.try_one()?;
        }
        Ok(engine)
    }
    // ANCHOR_END: load

    /// Whether cuDNN has the fused kernels for this GPU and format shows in a first image.
    fn try_one(&self) -> Result<(), LoadError> {
        let logits = self
            .made_on_device(1)
            .and_then(|x| self.forward(&x))
            .and_then(|y| wait_for(&y));
        logits.map_err(|error| match refused(error, 1) {
            EngineError::Library { message, .. } => LoadError::Unsupported {
                rung: self.rung,
                dtype: self.dtype,
                message,
            },
            error => not_computed(error),
        })
    }

    /// How far it was prepared.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// Puts a batch where and how the network wants it.
    ///
    /// * `batch`: NCHW, f32, of the shape that the engine was loaded for
    ///
    /// # Errors
    /// libtorch's.
    pub fn prepare(&self, batch: Batch) -> Result<Prepared, TchError> {
        let shape = batch.shape.map(|n| n as i64);
        let x = Tensor::f_from_slice(batch.pixels)?
            .f_reshape(shape)?
            .f_to_device(self.device)?;
        self.arrange(&x)
    }

    /// A batch of noise, made where the network is: no copy, and no memory of the host.
    ///
    /// * `batch`: images
    ///
    /// # Errors
    /// libtorch's, such as no memory for it.
    pub fn made_on_device(&self, batch: usize) -> Result<Prepared, TchError> {
        let [channels, height, width] = self.image_shape();
        let shape = [batch, channels, height, width].map(|n| n as i64);
        self.arrange(&Tensor::f_rand(shape, (self.dtype.kind(), self.device))?)
    }

    /// Converts a batch to the network's number format and layout.
    ///
    /// * `x`: NCHW, on the network's device
    ///
    /// # Errors
    /// libtorch's.
    pub fn arrange(&self, x: &Tensor) -> Result<Prepared, TchError> {
        let x = x.f_to_kind(self.dtype.kind())?;
        let images = usize::try_from(x.size().first().copied().unwrap_or(0)).unwrap_or(0);
        let parts = match self.streams.len() {
            // Too few images to share out: all threads work on each operator.
            n if n > images => vec![x],
            0 | 1 => vec![x],
            n => x.f_chunk(n as i64, 0)?,
        };
        let parts = parts.into_iter().map(|x| match self.rung {
            Rung::Eager | Rung::Folded => Ok(x),
            Rung::ChannelsLast | Rung::Trimmed | Rung::Fused => f_channels_last(&x),
            Rung::Prepacked | Rung::Streams => x.f_to_mkldnn(None::<Kind>),
        });
        Ok(Prepared(parts.collect::<Result<_, _>>()?))
    }

    /// Runs the network on a prepared batch; f32 `[batch, classes]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, batch: &Prepared) -> Result<Tensor, TchError> {
        let _inference = tch::no_grad_guard();
        match batch.0.as_slice() {
            [x] => {
                // libtorch takes the number from whichever thread set it last, and
                // a stream sets 1.
                set_threads(self.threads);
                self.network.forward(x, false)?.f_to_kind(Kind::Float)
            }
            parts => {
                let waiting: Vec<_> = self
                    .streams
                    .iter()
                    .zip(parts)
                    .map(|(stream, x)| stream.send(x.shallow_clone()))
                    .collect();
                let logits: Vec<Tensor> = waiting
                    .into_iter()
                    .map(|reply| reply.wait())
                    .collect::<Result<_, _>>()?;
                Tensor::f_cat(&logits, 0)?.f_to_kind(Kind::Float)
            }
        }
    }
}

impl Engine for TchEngine {
    fn infer(&mut self, batch: Batch) -> Result<Logits, EngineError> {
        let expected = self.image_shape();
        let [_, channels, height, width] = batch.shape;
        let got = [channels, height, width];
        if got != expected || batch.pixels.len() != batch.shape.iter().product::<usize>() {
            return Err(EngineError::Shape { expected, got });
        }
        let logits = self
            .prepare(batch)
            .and_then(|x| self.forward(&x))
            .and_then(|y| y.f_reshape([-1]))
            .and_then(Vec::<f32>::try_from)
            .map_err(|error| refused(error, batch.shape[0]))?;
        Ok(Logits {
            values: logits,
            classes: self.config.classes,
        })
    }

    fn image_shape(&self) -> [usize; 3] {
        [self.config.channels, self.side, self.side]
    }
}

/// libtorch's error, sorted, and without its C++ stack trace.
///
/// * `images`: images in the batch that was under way
pub fn refused(error: TchError, images: usize) -> EngineError {
    let message = first_line(&error);
    let said = |words: &[&str]| words.iter().any(|&word| message.contains(word));
    if said(&OUT_OF_MEMORY) {
        EngineError::OutOfMemory {
            engine: LIBTORCH,
            images,
            message,
        }
    } else if said(&DEVICE_LOST) {
        EngineError::DeviceLost {
            engine: LIBTORCH,
            message,
        }
    } else {
        EngineError::Library {
            engine: LIBTORCH,
            message,
        }
    }
}

fn not_computed(error: EngineError) -> LoadError {
    match error {
        EngineError::OutOfMemory { message, .. } => LoadError::OutOfMemory { message },
        error => LoadError::Device(error),
    }
}

const LIBTORCH: &str = "libtorch";

/// How the allocators of libtorch 2.11, and the libraries below it, say that there is no
/// memory: c10's CUDA allocator, c10's CPU allocator, C++, cuDNN and cuBLAS, oneDNN.
const OUT_OF_MEMORY: [&str; 5] = [
    "out of memory",
    "can't allocate memory",
    "bad_alloc",
    "STATUS_ALLOC_FAILED",
    "out_of_memory",
];

/// How c10 begins every error of the CUDA runtime. After one, all that follow fail, too.
const DEVICE_LOST: [&str; 1] = ["CUDA error"];

fn first_line(error: &TchError) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or("no message")
        .into()
}

/// Waits until the device has computed `x`, and all that was queued before it.
///
/// A GPU takes orders and answers later; reading one number waits for the answer.
/// tch's `Cuda::synchronize` would panic where the device has failed.
///
/// # Errors
/// libtorch's, also of the work that was waited for.
pub fn wait_for(x: &Tensor) -> Result<(), TchError> {
    if x.device() == Device::Cpu {
        return Ok(());
    }
    let mut one = x.f_flatten(0, -1)?;
    if one.numel() > 1 {
        one = one.f_narrow(0, 0, 1)?;
    }
    one.f_to_device(Device::Cpu).map(drop)
}

/// Sets how many threads one operator of libtorch may use, in the whole process.
///
/// * `threads`: at least 1
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
}
