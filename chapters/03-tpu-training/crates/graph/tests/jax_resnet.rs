//! A whole training step against JAX: ResNet-18 for small images, four channels
//! wide. Logits, loss, every gradient and every running statistic.
//!
//! The network is written down once more here, as small as it can be; the one
//! that is trained stands in tpu-training and is tested against the same file.

mod jax;

use std::collections::BTreeMap;

use jax::{Reference, assert_close};
use training_graph::{
    Conv2d, ConvForm, ConvForms, DType, Graph, GraphError, Literal, Program, TensorType, Value,
};

const EPSILON: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;

/// Both computed in f64, the file was rounded to f32 once (6e-8), and the graph
/// holds its constants in f32: epsilon, momentum, factors of variances (6e-8 of
/// each). Seen: 7e-8.
const IN_F64: f64 = 1e-6;

/// With f32 after each operation, some hundred on the longest way add 6e-8 each,
/// and batch norms over as few as four numbers make differences larger. Seen: 2e-5.
const IN_F32: f64 = 1e-4;

/// The network, with its graph under construction.
struct Network<'a> {
    reference: &'a Reference,
    graph: Graph,
    /// Names of the tensors that are the program's arguments, in order.
    arguments: Vec<String>,
    parameters: BTreeMap<String, Value>,
    updated: BTreeMap<String, Value>,
    form: ConvForm,
    train: bool,
}

impl Network<'_> {
    fn argument(&mut self, name: &str) -> Result<Value, GraphError> {
        self.arguments.push(name.to_owned());
        self.graph.parameter(name, self.reference.ty(name))
    }

    fn parameter(&mut self, name: String) -> Result<Value, GraphError> {
        let value = self.argument(&format!("parameter.{name}"))?;
        self.parameters.insert(name, value);
        Ok(value)
    }

    fn convolution(&mut self, x: Value, name: &str, stride: usize) -> Result<Value, GraphError> {
        let weight = self.parameter(format!("{name}.weight"))?;
        let padding = self.graph.dims(weight)[2] as i64 / 2;
        // OIHW in the file, as in a torchvision checkpoint.
        let filter = self.graph.transpose(weight, &[2, 3, 1, 0])?;
        let attributes = Conv2d::square(stride, padding, ConvForms::all(self.form));
        self.graph.conv2d(x, filter, &attributes)
    }

    fn norm(&mut self, x: Value, name: &str) -> Result<Value, GraphError> {
        let scale = self.parameter(format!("{name}.weight"))?;
        let offset = self.parameter(format!("{name}.bias"))?;
        let [mean_name, variance_name] = ["mean", "var"].map(|s| format!("{name}.running_{s}"));
        let mean = self.argument(&format!("running.{mean_name}"))?;
        let variance = self.argument(&format!("running.{variance_name}"))?;
        let g = &mut self.graph;
        if !self.train {
            return g.batch_norm_inference(x, scale, offset, mean, variance, EPSILON);
        }
        let norm = g.batch_norm(x, scale, offset, EPSILON)?;
        let count: usize = g.dims(x)[..3].iter().product();
        let unbiased = count as f32 / (count as f32 - 1.0);
        let unbiased = g.mul_scalar(norm.variance, unbiased)?;
        for (name, before, batch) in [
            (mean_name, mean, norm.mean),
            (variance_name, variance, unbiased),
        ] {
            let before = g.mul_scalar(before, 1.0 - MOMENTUM)?;
            let batch = g.mul_scalar(batch, MOMENTUM)?;
            self.updated.insert(name, g.add(before, batch)?);
        }
        Ok(norm.y)
    }

    fn block(&mut self, x: Value, name: &str, stride: usize) -> Result<Value, GraphError> {
        let y = self.convolution(x, &format!("{name}.conv1"), stride)?;
        let y = self.norm(y, &format!("{name}.bn1"))?;
        let y = self.graph.relu(y)?;
        let y = self.convolution(y, &format!("{name}.conv2"), 1)?;
        let y = self.norm(y, &format!("{name}.bn2"))?;
        let shortcut = match stride {
            1 => x,
            _ => {
                let x = self.convolution(x, &format!("{name}.downsample.0"), stride)?;
                self.norm(x, &format!("{name}.downsample.1"))?
            }
        };
        let sum = self.graph.add(y, shortcut)?;
        self.graph.relu(sum)
    }

    fn logits(&mut self) -> Result<Value, GraphError> {
        let x = self.argument("input")?;
        let x = self.convolution(x, "conv1", 1)?;
        let x = self.norm(x, "bn1")?;
        let mut x = self.graph.relu(x)?;
        for stage in 1..=4 {
            for block in 0..2 {
                let stride = if stage > 1 && block == 0 { 2 } else { 1 };
                x = self.block(x, &format!("layer{stage}.{block}"), stride)?;
            }
        }
        let weight = self.parameter("fc.weight".into())?;
        let bias = self.parameter("fc.bias".into())?;
        let g = &mut self.graph;
        let features = g.global_average_pool(x)?;
        let weight = g.transpose(weight, &[1, 0])?;
        let products = g.matmul(features, weight)?;
        let dims = g.dims(products).to_vec();
        let bias = g.broadcast(bias, &dims, &[1])?;
        g.add(products, bias)
    }
}

/// The program, the tensors that are its arguments, and those that its outputs
/// should equal.
fn program(reference: &Reference, form: ConvForm, train: bool) -> (Program, [Vec<String>; 2]) {
    let mut network = Network {
        reference,
        graph: Graph::new(),
        arguments: vec![],
        parameters: BTreeMap::new(),
        updated: BTreeMap::new(),
        form,
        train,
    };
    let logits = network.logits().unwrap();
    let (mut names, mut outputs) = (vec![], vec![logits]);
    if train {
        let labels = network.argument("labels").unwrap();
        let loss = network.graph.softmax_cross_entropy(logits, labels).unwrap();
        let parameters: Vec<Value> = network.parameters.values().copied().collect();
        names.extend(["logits".to_owned(), "loss".to_owned()]);
        outputs.push(loss);
        names.extend(network.parameters.keys().map(|n| format!("gradient.{n}")));
        outputs.extend(network.graph.gradients(loss, &parameters).unwrap());
        names.extend(network.updated.keys().map(|n| format!("updated.{n}")));
        outputs.extend(network.updated.values());
    } else {
        names.push("inference.logits".into());
    }
    let program = Program {
        name: "resnet18".into(),
        graph: network.graph,
        outputs,
        donated: vec![],
    };
    (program, [network.arguments, names])
}

fn f64s(literal: &Literal) -> Vec<f64> {
    let numbers = literal.to_f32_vec().unwrap();
    numbers.into_iter().map(f64::from).collect()
}

/// Evaluates in f64 and in f32.
fn assert_equal_to_jax(form: ConvForm, train: bool) {
    let reference = Reference::open("resnet.safetensors");
    let (program, [arguments, expected]) = program(&reference, form, train);
    let numbers: Vec<Vec<f64>> = arguments.iter().map(|name| reference.f64(name)).collect();
    let literals: Vec<Literal> = arguments.iter().map(|n| reference.literal(n)).collect();
    let exact = program.interpret_f64(&numbers).unwrap();
    let stored = program.interpret(&literals).unwrap();
    for (index, name) in expected.iter().enumerate() {
        let expected = reference.f64(name);
        assert_eq!(stored[index].ty().dims, reference.dims(name), "{name}");
        assert_close(name, &exact[index], &expected, IN_F64);
        assert_close(name, &f64s(&stored[index]), &expected, IN_F32);
    }
}

#[test]
fn a_training_step_is_that_of_jax() {
    assert_equal_to_jax(ConvForm::Convolution, true);
}

#[test]
fn a_training_step_in_products_is_that_of_jax() {
    assert_equal_to_jax(ConvForm::Products, true);
}

#[test]
fn inference_is_that_of_jax() {
    assert_equal_to_jax(ConvForm::Convolution, false);
}

/// The test above compares what the file has: here that it has everything.
#[test]
fn the_reference_has_every_tensor_of_the_network() {
    let reference = Reference::open("resnet.safetensors");
    let (program, [_, expected]) = program(&reference, ConvForm::Convolution, true);
    assert_eq!(program.outputs.len(), expected.len());
    let names = |prefix: &str| reference.names(prefix);
    assert_eq!(names("parameter.").len(), 62);
    assert_eq!(names("gradient."), names("parameter."));
    assert_eq!(names("running.").len(), 40);
    assert_eq!(names("updated."), names("running."));
    let compared = |prefix: &str| expected.iter().filter(|n| n.starts_with(prefix)).count();
    assert_eq!((compared("gradient."), compared("updated.")), (62, 40));
    let scalar = TensorType::scalar(DType::F32);
    assert_eq!(reference.ty("loss"), scalar);
}
