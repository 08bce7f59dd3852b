//! A ResNet as an ONNX file, without Python.
//!
//! The batch is open: the file takes any number of images. The number formats:
//!
//! - f32, as trained;
//! - f16 and bf16: converted at the door, so that input and output stay f32;
//! - int8 by ONNX's "QDQ" form: the file says in f32 what is computed, and marks by pairs of
//!   QuantizeLinear and DequantizeLinear which values an engine may keep in 8 bits. Weights are i8
//!   with a scale for each output channel. The classifier stays f32: it is one product in two
//!   thousand.

pub mod messages;
pub mod quantise;

use std::{fmt, str::FromStr};

use half::{bf16, f16};
use prost::Message;
use tch::TchError;
use thiserror::Error;

use crate::{
    calibration::Ranges,
    folded::{Folded, Layer, values},
    plan::{INPUT, OUTPUT, Operation, Step, steps},
};
use messages::{Attribute, DataType, Graph, Model, Node, OperatorSet, Tensor, ValueInfo};
use quantise::{Activations, Scale};

/// The operators' version of f32 and int8 files: old enough for every engine, and the first with
/// scales for each channel was 13.
const OPSET: i64 = 17;
/// The first version whose convolution takes bf16.
const OPSET_BF16: i64 = 22;
/// Version of the file format that goes with each: ONNX's `docs/Versioning.md`.
const IR: i64 = 8;
const IR_BF16: i64 = 10;

/// The number format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// 32 bits.
    F32,
    /// 16 bits, 11 of them significant.
    F16,
    /// 16 bits, 8 of them significant.
    Bf16,
    /// 8 bits.
    Int8(Quantisation),
}

/// Which values are marked as 8 bits, and how: engines want different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantisation {
    /// For ONNX Runtime and OpenVINO on CPUs: u8, and also what a convolution adds to a shortcut.
    /// ONNX Runtime's integer convolution has no other output; OpenVINO is as fast with the mark
    /// as without it.
    Cpu,
    /// For TensorRT: i8 around zero, and a sum is taken before it is rounded.
    TensorRt,
}

impl Quantisation {
    /// How activations become 8 bits.
    pub fn activations(self) -> Activations {
        match self {
            Quantisation::Cpu => Activations::Unsigned,
            Quantisation::TensorRt => Activations::Signed,
        }
    }

    /// Whether what a convolution adds to a shortcut is marked.
    fn sums(self) -> bool {
        self == Quantisation::Cpu
    }
}

impl Form {
    /// `f32`, `f16`, `bf16` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Form::F32 => "f32",
            Form::F16 => "f16",
            Form::Bf16 => "bf16",
            Form::Int8(_) => "int8",
        }
    }

    /// The version of ONNX's operators in the file.
    pub fn opset(self) -> i64 {
        match self {
            Form::Bf16 => OPSET_BF16,
            _ => OPSET,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Quantisation {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "cpu" => Ok(Quantisation::Cpu),
            "tensorrt" => Ok(Quantisation::TensorRt),
            _ => Err(format!("expected cpu or tensorrt, got {s:?}")),
        }
    }
}

/// Why no file was made.
#[derive(Debug, Error)]
pub enum OnnxError {
    /// An int8 file needs the range of every value.
    #[error("no range of {0:?} for int8; calibrate on at least one batch first")]
    Range(String),
    /// The folded weights lack a layer of the plan.
    #[error("no weights of the convolution {0:?}")]
    Layer(String),
    /// libtorch refused to give the numbers.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

/// The bytes of an ONNX file.
///
/// * `side`: height and width of the images, in pixels
/// * `ranges`: needed for int8, by [`crate::calibration::observe`]
///
/// # Errors
/// [`OnnxError`] if a range or a layer is missing.
pub fn file(
    folded: &Folded,
    side: usize,
    form: Form,
    ranges: &Ranges,
) -> Result<Vec<u8>, OnnxError> {
    let config = &folded.config;
    let plan = steps(config);
    let mut writer = Writer {
        folded,
        form,
        ranges,
        nodes: vec![],
        constants: vec![],
    };
    writer.enter();
    for (index, step) in plan.iter().enumerate() {
        writer.step(step, &plan[index + 1..])?;
    }
    let model = Model {
        ir_version: Some(match form {
            Form::Bf16 => IR_BF16,
            _ => IR,
        }),
        producer_name: Some("gpu-inference".into()),
        producer_version: Some(env!("CARGO_PKG_VERSION").into()),
        doc_string: Some(format!("{} in {form}, batch norms folded", config.arch)),
        graph: Some(Graph {
            node: writer.nodes,
            name: Some(config.arch.name().into()),
            initializer: writer.constants,
            input: vec![ValueInfo::batch_of(INPUT, &[config.channels, side, side])],
            output: vec![ValueInfo::batch_of(OUTPUT, &[config.classes])],
        }),
        opset_import: vec![OperatorSet {
            domain: Some(String::new()),
            version: Some(form.opset()),
        }],
    };
    Ok(model.encode_to_vec())
}

struct Writer<'a> {
    folded: &'a Folded,
    form: Form,
    ranges: &'a Ranges,
    nodes: Vec<Node>,
    constants: Vec<Tensor>,
}

impl Writer<'_> {
    /// The type of weights and activations, where it is a float.
    fn float(&self) -> DataType {
        match self.form {
            Form::F16 => DataType::Float16,
            Form::Bf16 => DataType::Bfloat16,
            Form::F32 | Form::Int8(_) => DataType::Float,
        }
    }

    /// Takes the f32 input into the number format of the file.
    fn enter(&mut self) {
        if self.float() != DataType::Float {
            let to = Attribute::int("to", self.float() as i64);
            self.node("Cast", &[INPUT], &format!("{INPUT}.cast"), vec![to]);
        }
    }

    /// The name under which a step reads a value: after the marks of 8 bits, if it has them.
    fn reads(&self, name: &str) -> String {
        match self.form {
            Form::F16 | Form::Bf16 if name == INPUT => format!("{INPUT}.cast"),
            Form::Int8(_) if self.has(&format!("{name}.dq")) => format!("{name}.dq"),
            _ => name.to_owned(),
        }
    }

    fn has(&self, output: &str) -> bool {
        self.nodes
            .iter()
            .any(|node| node.output.iter().any(|o| o == output))
    }

    fn step(&mut self, step: &Step, later: &[Step]) -> Result<(), OnnxError> {
        if let Form::Int8(quantisation) = self.form
            && step.inputs.iter().any(|input| input == INPUT)
        {
            self.mark(INPUT, quantisation)?;
        }
        let inputs: Vec<String> = step.inputs.iter().map(|name| self.reads(name)).collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let x = inputs.first().copied().unwrap_or(INPUT);
        let output = &step.output;
        match &step.operation {
            Operation::Convolution(conv) => {
                let missing = || OnnxError::Layer(conv.name.clone());
                let layer = self
                    .folded
                    .convolutions
                    .get(&conv.name)
                    .ok_or_else(missing)?;
                let (weight, bias) = match self.form {
                    Form::Int8(q) => self.quantised_layer(layer, &conv.name, &step.inputs[0], q)?,
                    _ => self.layer(layer, &conv.name)?,
                };
                let (kernel, stride) = (conv.kernel as i64, conv.stride as i64);
                let attributes = vec![
                    Attribute::ints("dilations", &[1, 1]),
                    Attribute::int("group", 1),
                    Attribute::ints("kernel_shape", &[kernel; 2]),
                    Attribute::ints("pads", &[conv.padding() as i64; 4]),
                    Attribute::ints("strides", &[stride; 2]),
                ];
                self.node("Conv", &[x, &weight, &bias], output, attributes);
            }
            Operation::Relu => self.node("Relu", &[x], output, vec![]),
            Operation::MaxPool => {
                let attributes = vec![
                    Attribute::ints("kernel_shape", &[3, 3]),
                    Attribute::ints("pads", &[1; 4]),
                    Attribute::ints("strides", &[2, 2]),
                ];
                self.node("MaxPool", &[x], output, attributes);
            }
            Operation::Add => self.node("Add", &inputs, output, vec![]),
            Operation::GlobalAveragePool => self.node("GlobalAveragePool", &[x], output, vec![]),
            Operation::Flatten => {
                self.node("Flatten", &[x], output, vec![Attribute::int("axis", 1)])
            }
            Operation::Linear => {
                let (weight, bias) = self.layer(&self.folded.classifier, "fc")?;
                let attributes = vec![Attribute::int("transB", 1)];
                if self.float() == DataType::Float {
                    self.node("Gemm", &[x, &weight, &bias], output, attributes);
                } else {
                    let narrow = format!("{output}.narrow");
                    self.node("Gemm", &[x, &weight, &bias], &narrow, attributes);
                    let to = Attribute::int("to", DataType::Float as i64);
                    self.node("Cast", &[&narrow], output, vec![to]);
                }
            }
        }
        self.mark_output(step, later)
    }

    /// Marks what a step made as 8 bits, if it is kept so: what goes into a convolution, a pool or
    /// a sum. What a relu reads is not: the relu's own output is, and the pair then fuses.
    fn mark_output(&mut self, step: &Step, later: &[Step]) -> Result<(), OnnxError> {
        let Form::Int8(quantisation) = self.form else {
            return Ok(());
        };
        let readers = || later.iter().filter(|s| s.inputs.contains(&step.output));
        let into_sum_only = readers().all(|s| s.operation == Operation::Add);
        match &step.operation {
            Operation::Convolution(_) if into_sum_only && quantisation.sums() => {
                self.mark(&step.output, quantisation)
            }
            Operation::Relu | Operation::MaxPool => self.mark(&step.output, quantisation),
            _ => Ok(()),
        }
    }

    fn scale(&self, name: &str, quantisation: Quantisation) -> Result<Scale, OnnxError> {
        let range = self.ranges.get(name);
        let range = range.ok_or_else(|| OnnxError::Range(name.to_owned()))?;
        Ok(quantise::activation(range, quantisation.activations()))
    }

    /// QuantizeLinear and DequantizeLinear after a value.
    fn mark(&mut self, name: &str, quantisation: Quantisation) -> Result<(), OnnxError> {
        if self.has(&format!("{name}.dq")) {
            return Ok(());
        }
        let Scale { scale, zero } = self.scale(name, quantisation)?;
        let (scale_name, zero_name) = (format!("{name}.scale"), format!("{name}.zero"));
        self.constant(
            &scale_name,
            &[],
            DataType::Float,
            scale.to_le_bytes().to_vec(),
        );
        let kind = match quantisation.activations() {
            Activations::Unsigned => DataType::Uint8,
            // 0 has the same bits in both.
            Activations::Signed => DataType::Int8,
        };
        self.constant(&zero_name, &[], kind, vec![zero]);
        let (q, dq) = (format!("{name}.q"), format!("{name}.dq"));
        self.node(
            "QuantizeLinear",
            &[name, &scale_name, &zero_name],
            &q,
            vec![],
        );
        self.node(
            "DequantizeLinear",
            &[&q, &scale_name, &zero_name],
            &dq,
            vec![],
        );
        Ok(())
    }

    /// Weight and bias as floats; returns their names.
    fn layer(&mut self, layer: &Layer, name: &str) -> Result<(String, String), OnnxError> {
        let names = (format!("{name}.weight"), format!("{name}.bias"));
        for (name, tensor) in [(&names.0, &layer.weight), (&names.1, &layer.bias)] {
            let bytes = self.bytes(&values(tensor)?);
            self.constant(name, &tensor.size(), self.float(), bytes);
        }
        Ok(names)
    }

    /// Weight and bias as integers with their scales; returns the names of what they stand for.
    ///
    /// * `input`: the value that the layer reads
    fn quantised_layer(
        &mut self,
        layer: &Layer,
        name: &str,
        input: &str,
        quantisation: Quantisation,
    ) -> Result<(String, String), OnnxError> {
        let size = layer.weight.size();
        let channels = layer.bias.numel();
        let (integers, scales) = quantise::weights(&values(&layer.weight)?, channels);
        let weight = format!("{name}.weight");
        let bytes = integers.iter().map(|v| v.to_le_bytes()[0]).collect();
        self.integers(&weight, &size, DataType::Int8, bytes, &scales);
        let bias = format!("{name}.bias");
        let numbers = values(&layer.bias)?;
        match quantisation.activations() {
            Activations::Unsigned => {
                let input = self.scale(input, quantisation)?.scale;
                let (integers, steps) = quantise::bias(&numbers, input, &scales);
                let bytes = integers.iter().flat_map(|v| v.to_le_bytes()).collect();
                self.integers(&bias, &[channels as i64], DataType::Int32, bytes, &steps);
                Ok((format!("{weight}.dq"), format!("{bias}.dq")))
            }
            // TensorRT takes a bias as it is.
            Activations::Signed => {
                let bytes = self.bytes(&numbers);
                self.constant(&bias, &[channels as i64], DataType::Float, bytes);
                Ok((format!("{weight}.dq"), bias))
            }
        }
    }

    /// A constant of integers and the node that turns it into floats, channel by channel.
    fn integers(
        &mut self,
        name: &str,
        size: &[i64],
        kind: DataType,
        bytes: Vec<u8>,
        scales: &[f32],
    ) {
        let width = bytes.len() / size.iter().product::<i64>().max(1) as usize;
        self.constant(name, size, kind, bytes);
        let channels = [scales.len() as i64];
        let (scale, zero) = (format!("{name}.scale"), format!("{name}.zero"));
        let scale_bytes = scales.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(&scale, &channels, DataType::Float, scale_bytes);
        self.constant(&zero, &channels, kind, vec![0; width * scales.len()]);
        let axis = vec![Attribute::int("axis", 0)];
        self.node(
            "DequantizeLinear",
            &[name, &scale, &zero],
            &format!("{name}.dq"),
            axis,
        );
    }

    /// Numbers in the format of the file, little-endian.
    fn bytes(&self, values: &[f32]) -> Vec<u8> {
        let values = values.iter();
        match self.float() {
            DataType::Float16 => values
                .flat_map(|v| f16::from_f32(*v).to_le_bytes())
                .collect(),
            DataType::Bfloat16 => values
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect(),
            _ => values.flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    fn constant(&mut self, name: &str, size: &[i64], kind: DataType, bytes: Vec<u8>) {
        self.constants.push(Tensor {
            dims: size.to_vec(),
            data_type: Some(kind as i32),
            name: Some(name.into()),
            raw_data: Some(bytes),
        });
    }

    fn node(&mut self, operator: &str, inputs: &[&str], output: &str, attribute: Vec<Attribute>) {
        self.nodes.push(Node {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(format!("{operator}:{output}")),
            op_type: Some(operator.to_owned()),
            attribute,
        });
    }
}
