//! The network's tensors: their names and order, their first values, and their
//! way between a file's layout and the device's.
//!
//! A file has torchvision's names and layout (`[out, in, height, width]`), so that
//! chapter 1 and PyTorch open it. On the device a filter is `[height, width, in,
//! out]`: with channels last, images and filters both end in what a matrix product
//! runs over.

use datasets::resnet::Config;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// What becomes of a tensor in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Changed by gradients.
    Learned,
    /// A batch norm's running mean or variance: changed by averaging.
    Running,
}

/// One tensor of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// torchvision's name.
    pub name: String,
    /// Shape in a file.
    pub file_dims: Vec<usize>,
    /// What becomes of it.
    pub role: Role,
}

impl Parameter {
    /// Shape on the device.
    pub fn device_dims(&self) -> Vec<usize> {
        match self.file_dims[..] {
            [output, input, height, width] => vec![height, width, input, output],
            _ => self.file_dims.clone(),
        }
    }

    /// From a file's order of elements to the device's.
    pub fn to_device_order(&self, values: &[f32]) -> Vec<f32> {
        match self.file_dims[..] {
            [output, input, height, width] => {
                permuted(values, [output, input, height, width], [2, 3, 1, 0])
            }
            _ => values.to_vec(),
        }
    }

    /// From the device's order of elements to a file's.
    pub fn to_file_order(&self, values: &[f32]) -> Vec<f32> {
        match self.file_dims[..] {
            [output, input, height, width] => {
                permuted(values, [height, width, input, output], [3, 2, 0, 1])
            }
            _ => values.to_vec(),
        }
    }

    /// How many elements.
    pub fn elements(&self) -> usize {
        self.file_dims.iter().product()
    }

    /// First values, in a file's order: Kaiming's normal initialisation for
    /// filters, torch's uniform one for the classifier, batch norms as identities.
    ///
    /// Each tensor has a random stream of its own, by its place in the list.
    ///
    /// Source: He et al. 2015, "Delving Deep into Rectifiers", section 2.2.
    fn initial(&self, seed: u64, place: usize) -> Vec<f32> {
        let count = self.elements();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(place as u64);
        match self.file_dims[..] {
            [_, input, height, width] => {
                let deviation = (2.0 / (input * height * width) as f64).sqrt();
                (0..count)
                    .map(|_| {
                        let draw: f64 = StandardNormal.sample(&mut random);
                        (draw * deviation) as f32
                    })
                    .collect()
            }
            [_, features] => {
                let bound = 1.0 / (features as f64).sqrt();
                (0..count)
                    .map(|_| random.random_range(-bound..bound) as f32)
                    .collect()
            }
            _ if self.name.ends_with("running_var") => vec![1.0; count],
            _ if self.name.ends_with(".weight") => vec![1.0; count],
            _ => vec![0.0; count],
        }
    }
}

/// Elements of a row-major array with its axes in another order.
fn permuted(values: &[f32], dims: [usize; 4], order: [usize; 4]) -> Vec<f32> {
    let strides = [dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1];
    let [a, b, c, d] = order.map(|axis| (dims[axis], strides[axis]));
    let mut out = Vec::with_capacity(values.len());
    for i in 0..a.0 {
        for j in 0..b.0 {
            for k in 0..c.0 {
                let start = i * a.1 + j * b.1 + k * c.1;
                out.extend((0..d.0).map(|l| values[start + l * d.1]));
            }
        }
    }
    out
}

/// Every tensor of the network: first the learned ones, then the running ones,
/// each in torchvision's order. Programs, optimiser and checkpoints keep this order.
pub fn parameters(config: &Config) -> Vec<Parameter> {
    let all = config
        .specs()
        .into_iter()
        .filter(|spec| !spec.optional)
        .map(|spec| Parameter {
            role: match spec.name.contains("running_") {
                true => Role::Running,
                false => Role::Learned,
            },
            name: spec.name,
            file_dims: spec.shape,
        });
    let (mut learned, running): (Vec<_>, Vec<_>) = all.partition(|p| p.role == Role::Learned);
    learned.extend(running);
    learned
}

/// An array on the device: one tensor of the network, or many small ones end to end.
///
/// A network has three vectors for every two filters. On its own each would cost the
/// device a step of bookkeeping, longer than its arithmetic takes; packed, they are
/// updated at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// The tensor's name, or `vectors` or `running`.
    pub name: String,
    /// Shape on the device.
    pub dims: Vec<usize>,
    /// What becomes of it.
    pub role: Role,
    /// Its tensors: places in the list of parameters.
    pub parts: Vec<usize>,
}

impl Array {
    /// The array's elements on the device.
    ///
    /// * `values`: of every parameter, in a file's order of elements
    pub fn pack(&self, parameters: &[Parameter], values: &[Vec<f32>]) -> Vec<f32> {
        let parts = self.parts.iter();
        parts
            .flat_map(|&part| parameters[part].to_device_order(&values[part]))
            .collect()
    }

    /// Its tensors, in a file's order of elements, by their places.
    ///
    /// * `elements`: of the array on the device
    pub fn unpack<'a>(
        &'a self,
        parameters: &'a [Parameter],
        elements: &'a [f32],
    ) -> impl Iterator<Item = (usize, Vec<f32>)> + 'a {
        let mut rest = elements;
        self.parts.iter().map(move |&part| {
            let (own, after) = rest.split_at(parameters[part].elements());
            rest = after;
            (part, parameters[part].to_file_order(own))
        })
    }
}

/// The arrays that hold the parameters on the device: learned ones first.
pub fn arrays(parameters: &[Parameter]) -> Vec<Array> {
    let packed = |name: &str, role: Role| {
        let parts: Vec<usize> = (0..parameters.len())
            .filter(|&place| parameters[place].role == role)
            .filter(|&place| parameters[place].file_dims.len() == 1)
            .collect();
        let elements = parts.iter().map(|&part| parameters[part].elements()).sum();
        Array {
            name: name.into(),
            dims: vec![elements],
            role,
            parts,
        }
    };
    let alone = parameters
        .iter()
        .enumerate()
        .filter(|(_, p)| p.file_dims.len() > 1);
    let mut arrays: Vec<_> = alone
        .map(|(place, parameter)| Array {
            name: parameter.name.clone(),
            dims: parameter.device_dims(),
            role: parameter.role,
            parts: vec![place],
        })
        .collect();
    arrays.push(packed("vectors", Role::Learned));
    arrays.push(packed("running", Role::Running));
    arrays
}

/// First values of every tensor, in a file's order of elements.
pub fn initial(parameters: &[Parameter], seed: u64) -> Vec<Vec<f32>> {
    let values = |(place, parameter): (usize, &Parameter)| parameter.initial(seed, place);
    parameters.iter().enumerate().map(values).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TrainConfig;

    #[test]
    fn there_and_back() {
        let filter = Parameter {
            name: "conv1.weight".into(),
            file_dims: vec![2, 3, 1, 2],
            role: Role::Learned,
        };
        assert_eq!(filter.device_dims(), [1, 2, 3, 2]);
        let values: Vec<f32> = (0..12u8).map(f32::from).collect();
        let there = filter.to_device_order(&values);
        // [height 0, width 0, in 0..3, out 0..2]: out is 6 elements apart, in is 2.
        assert_eq!(there[..6], [0., 6., 2., 8., 4., 10.]);
        assert_eq!(filter.to_file_order(&there), values);
    }

    #[test]
    fn learned_first_and_nothing_lost() {
        let config = TrainConfig::digits().network;
        let all = parameters(&config);
        let first_running = all.iter().position(|p| p.role == Role::Running).unwrap();
        assert!(all[first_running..].iter().all(|p| p.role == Role::Running));
        let wanted = config.specs().iter().filter(|s| !s.optional).count();
        assert_eq!(all.len(), wanted);
    }

    #[test]
    fn packing_loses_nothing() {
        let all = parameters(&TrainConfig::digits().network);
        let values = initial(&all, 3);
        let mut back = vec![vec![]; all.len()];
        for array in arrays(&all) {
            let packed = array.pack(&all, &values);
            assert_eq!(
                packed.len(),
                array.dims.iter().product::<usize>(),
                "{}",
                array.name
            );
            for (place, tensor) in array.unpack(&all, &packed) {
                back[place] = tensor;
            }
        }
        assert_eq!(back, values);
    }

    #[test]
    fn first_values_have_the_deviation_that_the_paper_gives() {
        let all = parameters(&TrainConfig::digits().network);
        let values = initial(&all, 7);
        let place = all
            .iter()
            .position(|p| p.name == "layer4.1.conv2.weight")
            .unwrap();
        let (count, wanted) = (values[place].len() as f64, 2.0 / (128.0 * 9.0));
        let variance = values[place]
            .iter()
            .map(|&v| f64::from(v).powi(2))
            .sum::<f64>()
            / count;
        // 147,456 draws: the variance is within 2% at over five standard errors.
        assert!(
            (variance / wanted - 1.0).abs() < 0.02,
            "{variance} against {wanted}"
        );
        assert_eq!(values, initial(&all, 7));
        assert_ne!(values[0], initial(&all, 8)[0]);
    }
}
