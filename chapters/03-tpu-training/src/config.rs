//! What a training run is made of: everything that changes its result, and
//! nothing that does not.
//!
//! The same configuration and seed give the same numbers on the same device.
//! Folders, devices and quietness are the command line's business.

use std::{fmt, str::FromStr};

use datasets::resnet::{Arch, Config as Network, Stem};
use serde::{Deserialize, Serialize};

use crate::schedule::Shape;

/// A configuration that cannot be trained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A word that is none of those known.
    #[error("unknown {what} {got:?}; expected {expected}")]
    Unknown {
        /// What the word should name.
        what: &'static str,
        /// The word.
        got: String,
        /// The words that are known.
        expected: &'static str,
    },
    /// A number out of its range.
    #[error("{name} = {got}: {expected}")]
    OutOfRange {
        /// The flag's name without dashes.
        name: &'static str,
        /// Its value.
        got: String,
        /// What would do.
        expected: String,
    },
}

fn out_of_range(
    name: &'static str,
    got: impl fmt::Display,
    expected: impl Into<String>,
) -> ConfigError {
    ConfigError::OutOfRange {
        name,
        got: got.to_string(),
        expected: expected.into(),
    }
}

/// A fieldless enum that is written as a word on the command line and in files.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $what:literal, $expected:literal,
     $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// The word for it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = ConfigError;
            fn from_str(text: &str) -> Result<Self, ConfigError> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(ConfigError::Unknown {
                        what: $what,
                        got: text.to_owned(),
                        expected: $expected,
                    }),
                }
            }
        }
    };
}

words! {
    /// The arithmetic of the layers. Parameters, batch statistics and the loss are f32 in both.
    Precision, "precision", "f32 or bf16",
    /// IEEE single precision.
    F32 = "f32",
    /// Convolutions and activations in bfloat16, from f32 master weights.
    Bf16 = "bf16",
}

words! {
    /// How a call of several steps is written down.
    LoopStyle, "loop", "while or unroll",
    /// One `while` around one step: small program, one body.
    While = "while",
    /// The steps one after another: the compiler sees straight-line code.
    Unroll = "unroll",
}

words! {
    /// How convolutions are expressed; see [`training_graph::ConvForm`].
    ConvStyle, "conv", "auto, convolution, products, patches or columns",
    /// By shape and device, from measurements.
    Auto = "auto",
    /// XLA's own convolution in all three passes.
    Convolution = "convolution",
    /// One matrix product for each tap of the filter.
    Products = "products",
    /// Patches side by side, then one matrix product.
    Patches = "patches",
    /// One matrix product with all taps side by side, then shifted sums.
    Columns = "columns",
}

words! {
    /// How much work the compiler puts into a program, where it can be told: on the CPU.
    CompileEffort, "compile", "thorough or fast",
    /// All that makes a long training faster.
    Thorough = "thorough",
    /// What is compiled soon: for trainings that take no longer than the compiler.
    Fast = "fast",
}

/// The rule by which gradients change parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Optimizer {
    /// Stochastic gradient descent as in PyTorch: decay joins the gradient,
    /// `velocity = momentum * velocity + gradient`, `w -= rate * velocity`.
    Sgd {
        /// Share of the last step's velocity that is kept.
        momentum: f64,
        /// Decay of every learned parameter.
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019).
    AdamW {
        /// Decay rate of the first moment.
        beta1: f64,
        /// Decay rate of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// Decay of every learned parameter.
        weight_decay: f64,
    },
}

impl Optimizer {
    /// SGD as most ResNets are trained: momentum 0.9, weight decay 5e-4.
    pub const SGD: Optimizer = Optimizer::Sgd {
        momentum: 0.9,
        weight_decay: 5e-4,
    };
    /// AdamW with PyTorch's defaults.
    pub const ADAMW: Optimizer = Optimizer::AdamW {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 1e-2,
    };

    /// `sgd` or `adamw`.
    pub fn name(&self) -> &'static str {
        match self {
            Optimizer::Sgd { .. } => "sgd",
            Optimizer::AdamW { .. } => "adamw",
        }
    }

    /// Names of the tensors that it keeps for each parameter, as PyTorch calls them.
    pub fn slots(&self) -> &'static [&'static str] {
        match self {
            Optimizer::Sgd { .. } => &["momentum_buffer"],
            Optimizer::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
        }
    }

    /// Checks its numbers.
    ///
    /// # Errors
    /// The first that is out of range, with the range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let share = |name, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Err(out_of_range(name, value, "expected 0 <= value < 1")),
        };
        let decay = match *self {
            Optimizer::Sgd {
                momentum,
                weight_decay,
            } => {
                share("momentum", momentum)?;
                weight_decay
            }
            Optimizer::AdamW {
                beta1,
                beta2,
                epsilon,
                weight_decay,
            } => {
                share("beta1", beta1)?;
                share("beta2", beta2)?;
                if !(epsilon.is_finite() && epsilon > 0.0) {
                    return Err(out_of_range("epsilon", epsilon, "expected a number over 0"));
                }
                weight_decay
            }
        };
        match decay.is_finite() && decay >= 0.0 {
            true => Ok(()),
            false => Err(out_of_range(
                "weight-decay",
                decay,
                "expected 0 or more; 5e-4 is usual for SGD",
            )),
        }
    }
}

/// A training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// The network.
    pub network: Network,
    /// Images in a batch. The rows that do not fill a last batch wait for the next epoch's order.
    pub batch: usize,
    /// Passes over the training rows.
    pub epochs: usize,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Its course.
    pub schedule: Shape,
    /// Steps over which it rises from 0.
    pub warmup_steps: usize,
    /// Seed of weights, order and augmentation.
    pub seed: u64,
    /// Arithmetic of the layers.
    pub precision: Precision,
    /// Whether images are shifted (and, in colour, mirrored) at random on the device.
    pub augment: bool,
    /// How convolutions are expressed: changes speed, and the last bits of the result.
    pub conv: ConvStyle,
    /// How much work the compiler puts into it: changes speed, and the last bits of the result.
    pub compile: CompileEffort,
}

impl TrainConfig {
    /// The chapter's example: a ResNet-18 of width 16 on the handwritten digits.
    pub fn digits() -> Self {
        TrainConfig {
            network: Network {
                arch: Arch::Resnet18,
                stem: Stem::Small,
                width: 16,
                channels: 1,
                classes: datasets::digits::CLASSES,
            },
            batch: 64,
            epochs: 40,
            optimizer: Optimizer::SGD,
            learning_rate: 0.1,
            schedule: Shape::Cosine,
            warmup_steps: 100,
            seed: 0,
            precision: Precision::F32,
            augment: true,
            conv: ConvStyle::Auto,
            compile: CompileEffort::Thorough,
        }
    }

    /// Checks every number against what can be trained with `rows` training rows.
    ///
    /// # Errors
    /// The first number that is out of range, with the range.
    pub fn check(&self, rows: usize) -> Result<(), ConfigError> {
        let positive = |name, value: usize| match value {
            0 => Err(out_of_range(name, 0, "expected at least 1")),
            _ => Ok(()),
        };
        positive("batch", self.batch)?;
        positive("epochs", self.epochs)?;
        positive("width", self.network.width)?;
        if self.batch > rows {
            return Err(out_of_range(
                "batch",
                self.batch,
                format!("there are {rows} training rows; expected at most as many"),
            ));
        }
        if self.batch == 1 {
            return Err(out_of_range(
                "batch",
                1,
                "a batch norm over one image of 1x1 pixels has no variance; expected at least 2",
            ));
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(out_of_range(
                "lr",
                self.learning_rate,
                "expected a number over 0; 0.1 is usual for SGD, 0.001 for AdamW",
            ));
        }
        let Some(steps) = self.epochs.checked_mul(rows / self.batch) else {
            let expected = "more steps than can be counted; expected fewer";
            return Err(out_of_range("epochs", self.epochs, expected));
        };
        if self.warmup_steps > steps {
            return Err(out_of_range(
                "warmup-steps",
                self.warmup_steps,
                format!("the run has {steps} steps; expected at most as many"),
            ));
        }
        self.optimizer.check()
    }
}
