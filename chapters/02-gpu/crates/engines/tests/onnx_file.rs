//! What stands in an ONNX file, read back.

#[path = "harness/mod.rs"]
mod harness;

use std::collections::{BTreeMap, BTreeSet};

use datasets::resnet::{Arch, Stem};
use harness::Sample;
use inference_engines::{
    calibration::Ranges,
    folded::Folded,
    onnx::{
        self, Form, OnnxError, Quantisation,
        messages::{Graph, Model, Tensor},
    },
};
use prost::Message;

fn read(sample: &Sample, form: Form) -> (i64, Graph) {
    let model = Model::decode(&*sample.file(form)).unwrap();
    let opset = model.opset_import[0].version.unwrap();
    (opset, model.graph.unwrap())
}

fn count(graph: &Graph, operator: &str) -> usize {
    let nodes = graph.node.iter();
    nodes
        .filter(|n| n.op_type.as_deref() == Some(operator))
        .count()
}

fn constants(graph: &Graph) -> BTreeMap<&str, &Tensor> {
    let named = graph.initializer.iter();
    named.map(|t| (t.name.as_deref().unwrap(), t)).collect()
}

#[test]
fn every_name_is_made_before_it_is_read() {
    for form in [
        Form::F32,
        Form::F16,
        Form::Bf16,
        Form::Int8(Quantisation::Cpu),
        Form::Int8(Quantisation::TensorRt),
    ] {
        let (opset, graph) = read(&Sample::new(Arch::Resnet50, Stem::Imagenet, 32), form);
        assert_eq!(opset, form.opset());
        let mut known: BTreeSet<&str> = constants(&graph).into_keys().collect();
        assert_eq!(
            known.len(),
            graph.initializer.len(),
            "constants with one name"
        );
        known.insert("input");
        let mut read = BTreeSet::new();
        for node in &graph.node {
            for input in &node.input {
                assert!(known.contains(input.as_str()), "{input}: {form:?}");
                read.insert(input.as_str());
            }
            for output in &node.output {
                assert!(known.insert(output), "{output} twice: {form:?}");
            }
        }
        assert!(known.contains("logits"));
        let unread: Vec<_> = known.difference(&read).collect();
        assert_eq!(unread, [&"logits"], "{form:?}");
    }
}

#[test]
fn sixteen_bits_take_half_the_room_and_eight_a_quarter() {
    let sample = Sample::new(Arch::Resnet50, Stem::Imagenet, 32);
    let size = |form| sample.file(form).len() as f64;
    let f32 = size(Form::F32);
    for (form, share) in [
        (Form::F16, 0.5),
        (Form::Bf16, 0.5),
        (Form::Int8(Quantisation::Cpu), 0.25),
    ] {
        let got = size(form) / f32;
        assert!((share..share + 0.15).contains(&got), "{form}: {got}");
    }
}

#[test]
fn sums_are_marked_where_the_engine_wants_it() {
    let sample = Sample::new(Arch::Resnet18, Stem::Imagenet, 32);
    let convs = sample.config.convs().len();
    let blocks = sample.config.arch.blocks().iter().sum::<usize>();
    let projections = 3;
    // The input, the pool, and each relu: one a convolution that no sum follows, and one a sum.
    let activations = 2 + convs - projections;
    let marks = |quantisation| {
        let (_, graph) = read(&sample, Form::Int8(quantisation));
        assert_eq!(count(&graph, "Conv"), convs);
        count(&graph, "QuantizeLinear")
    };
    assert_eq!(marks(Quantisation::TensorRt), activations);
    assert_eq!(marks(Quantisation::Cpu), activations + blocks + projections);
}

#[test]
fn tensor_rt_gets_signed_bytes_around_zero_and_float_biases() {
    let sample = Sample::new(Arch::Resnet18, Stem::Small, 8);
    let (_, graph) = read(&sample, Form::Int8(Quantisation::TensorRt));
    let constants = constants(&graph);
    let (int8, int32) = (Some(3), Some(6));
    for (name, tensor) in &constants {
        assert_ne!(tensor.data_type, int32, "{name}");
        if let Some(value) = name.strip_suffix(".zero") {
            assert_eq!(tensor.data_type, int8, "{value}");
            let bytes = tensor.raw_data.as_ref().unwrap();
            assert!(bytes.iter().all(|b| *b == 0), "{value}");
        }
    }
}

#[test]
fn eight_bits_without_a_calibration_are_refused() {
    let sample = Sample::new(Arch::Resnet18, Stem::Small, 8);
    let folded = Folded::new(&sample.config, &sample.weights).unwrap();
    let form = Form::Int8(Quantisation::Cpu);
    let error = onnx::file(&folded, 8, form, &Ranges::default()).unwrap_err();
    assert!(
        matches!(&error, OnnxError::Range(name) if name == "input"),
        "{error}"
    );
}
