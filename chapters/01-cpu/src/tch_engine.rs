//! The engine of this chapter: libtorch, on each rung of the speed ladder.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};
use thiserror::Error;

use crate::{
    engine::{Batch, Engine, EngineError, Logits},
    resnet::{
        config::Config,
        network::{Network, channels_last},
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
}

impl Rung {
    /// All rungs, lowest first.
    pub const ALL: [Rung; 6] = [
        Rung::Eager,
        Rung::Folded,
        Rung::ChannelsLast,
        Rung::Prepacked,
        Rung::Streams,
        Rung::Trimmed,
    ];

    /// The name of the flag: `eager`, `folded`, `channels-last`, `prepacked`, `streams`, `trimmed`.
    pub fn name(self) -> &'static str {
        match self {
            Rung::Eager => "eager",
            Rung::Folded => "folded",
            Rung::ChannelsLast => "channels-last",
            Rung::Prepacked => "prepacked",
            Rung::Streams => "streams",
            Rung::Trimmed => "trimmed",
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
}

impl Dtype {
    fn kind(self) -> Kind {
        match self {
            Dtype::F32 => Kind::Float,
            Dtype::Bf16 => Kind::BFloat16,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
        })
    }
}

impl FromStr for Dtype {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "f32" => Ok(Dtype::F32),
            "bf16" => Ok(Dtype::Bf16),
            _ => Err(format!("expected f32 or bf16, got {s:?}")),
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
    /// [`LoadError`] if a tensor is missing or misshapen, or if this machine
    /// cannot do it.
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
        }
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1);
        let streams = match rung {
            Rung::Streams => (0..threads)
                .map(|_| Stream::start(network.share()))
                .collect(),
            _ => vec![],
        };
        Ok(TchEngine {
            streams,
            threads,
            network,
            config: *config,
            side,
            rung,
            dtype,
            device,
        })
    }
    // ANCHOR_END: load

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
            .f_to_device(self.device)?
            .f_to_kind(self.dtype.kind())?;
        let parts = match self.streams.len() {
            // Too few images to share out: all threads work on each operator.
            n if n > batch.shape[0] => vec![x],
            0 | 1 => vec![x],
            n => x.f_chunk(n as i64, 0)?,
        };
        let parts = parts.into_iter().map(|x| match self.rung {
            Rung::Eager | Rung::Folded => Ok(x),
            Rung::ChannelsLast | Rung::Trimmed => Ok(channels_last(&x)),
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
            .map_err(refused)?;
        Ok(Logits {
            values: logits,
            classes: self.config.classes,
        })
    }

    fn image_shape(&self) -> [usize; 3] {
        [self.config.channels, self.side, self.side]
    }
}

/// libtorch's message without its C++ stack trace.
pub fn refused(error: TchError) -> EngineError {
    EngineError::Library {
        engine: "libtorch",
        message: first_line(&error),
    }
}

fn first_line(error: &TchError) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or("no message")
        .into()
}

/// Sets how many threads one operator of libtorch may use, in the whole process.
///
/// * `threads`: at least 1
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
}
