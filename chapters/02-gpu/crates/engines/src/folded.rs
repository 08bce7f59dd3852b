//! A ResNet's numbers with the batch norms folded away, for other engines than libtorch.

use std::collections::BTreeMap;

use cpu_inference::resnet::{
    network::Network,
    weights::{Weights, WeightsError},
};
use datasets::resnet::Config;
use tch::{TchError, Tensor};

/// Weight and bias of one layer; f32, dense.
#[derive(Debug)]
pub struct Layer {
    /// `[output, input, kernel, kernel]` of a convolution, `[classes, features]` of the classifier.
    pub weight: Tensor,
    /// `[output]` or `[classes]`.
    pub bias: Tensor,
}

/// All layers of a network.
#[derive(Debug)]
pub struct Folded {
    /// The network's shape.
    pub config: Config,
    /// Convolutions by torchvision's name.
    pub convolutions: BTreeMap<String, Layer>,
    /// The last layer.
    pub classifier: Layer,
}

impl Folded {
    /// Folds a copy of the weights; see [`Network::fold`].
    ///
    /// # Errors
    /// [`WeightsError`] if a tensor is missing or has another shape.
    pub fn new(config: &Config, weights: &Weights) -> Result<Self, WeightsError> {
        let _inference = tch::no_grad_guard();
        let mut network = Network::new(config, weights)?;
        network.fold();
        let convolutions = network
            .convolutions()
            .map(|(conv, weight, bias)| {
                let layer = Layer {
                    weight: weight.shallow_clone(),
                    bias: match bias {
                        Some(bias) => bias.shallow_clone(),
                        None => weight
                            .f_new_zeros([conv.output as i64], (weight.kind(), weight.device()))?,
                    },
                };
                Ok((conv.name.clone(), layer))
            })
            .collect::<Result<_, TchError>>()?;
        let (weight, bias) = network.classifier();
        Ok(Folded {
            config: *config,
            convolutions,
            classifier: Layer {
                weight: weight.shallow_clone(),
                bias: bias.shallow_clone(),
            },
        })
    }
}

/// The numbers of a tensor, row-major.
///
/// # Errors
/// libtorch's.
pub fn values(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    Vec::<f32>::try_from(tensor.f_reshape([-1])?)
}
