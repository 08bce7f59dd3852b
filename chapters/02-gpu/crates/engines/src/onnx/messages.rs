//! The messages of ONNX's file format that a ResNet needs, by hand: the format is protobuf, and
//! these are a tenth of it.
//!
//! Source: `onnx/onnx.proto` of the ONNX project (Apache 2.0). Numbers and names are that file's.

use prost::Message;

/// `ModelProto`: the file.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    /// Version of the format.
    #[prost(int64, optional, tag = "1")]
    pub ir_version: Option<i64>,
    /// Program that wrote it.
    #[prost(string, optional, tag = "2")]
    pub producer_name: Option<String>,
    /// Its version.
    #[prost(string, optional, tag = "3")]
    pub producer_version: Option<String>,
    /// For people.
    #[prost(string, optional, tag = "6")]
    pub doc_string: Option<String>,
    /// The network.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// Which version of each operator is meant.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    /// Empty for ONNX's own operators.
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    /// Number of the set.
    #[prost(int64, optional, tag = "2")]
    pub version: Option<i64>,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    /// Operations, each after those that it reads.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    /// Its name.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    /// What goes in.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    /// What comes out.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

/// `NodeProto`: one operation.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Names of values and constants.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of new values.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Its name.
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    /// The operator.
    #[prost(string, optional, tag = "4")]
    pub op_type: Option<String>,
    /// Its settings.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
}

/// `AttributeProto`, of integers only.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    /// Its name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// One integer.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// Several integers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// 2 for one integer, 7 for several.
    #[prost(int32, optional, tag = "20")]
    pub kind: Option<i32>,
}

impl Attribute {
    /// An attribute of one integer.
    pub fn int(name: &str, value: i64) -> Self {
        Attribute {
            name: Some(name.into()),
            i: Some(value),
            ints: vec![],
            kind: Some(2),
        }
    }

    /// An attribute of several integers.
    pub fn ints(name: &str, values: &[i64]) -> Self {
        Attribute {
            name: Some(name.into()),
            i: None,
            ints: values.to_vec(),
            kind: Some(7),
        }
    }
}

/// `TensorProto.DataType`, as far as it is used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum DataType {
    /// f32.
    Float = 1,
    /// u8.
    Uint8 = 2,
    /// i8.
    Int8 = 3,
    /// i32.
    Int32 = 6,
    /// f16.
    Float16 = 10,
    /// bf16.
    Bfloat16 = 16,
}

/// `TensorProto`: a constant.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// Shape.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// [`DataType`].
    #[prost(int32, optional, tag = "2")]
    pub data_type: Option<i32>,
    /// Its name.
    #[prost(string, optional, tag = "8")]
    pub name: Option<String>,
    /// Little-endian, row-major.
    #[prost(bytes = "vec", optional, tag = "9")]
    pub raw_data: Option<Vec<u8>>,
}

/// `ValueInfoProto`: name and type of an input or output.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    /// Its name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub kind: Option<ValueType>,
}

/// `TypeProto`, of tensors only.
#[derive(Clone, PartialEq, Message)]
pub struct ValueType {
    /// Element type and shape.
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorType>,
}

/// `TypeProto.Tensor`.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// [`DataType`].
    #[prost(int32, optional, tag = "1")]
    pub element: Option<i32>,
    /// Its shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// `TensorShapeProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    /// One a dimension.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`: a number or a name.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// Its length.
    #[prost(int64, optional, tag = "1")]
    pub value: Option<i64>,
    /// A name, where the length is open.
    #[prost(string, optional, tag = "2")]
    pub parameter: Option<String>,
}

impl ValueInfo {
    /// An f32 tensor whose first dimension is open and named `batch`.
    pub fn batch_of(name: &str, image: &[usize]) -> Self {
        let batch = Dimension {
            value: None,
            parameter: Some("batch".into()),
        };
        let fixed = image.iter().map(|&n| Dimension {
            value: Some(n as i64),
            parameter: None,
        });
        ValueInfo {
            name: Some(name.into()),
            kind: Some(ValueType {
                tensor: Some(TensorType {
                    element: Some(DataType::Float as i32),
                    shape: Some(Shape {
                        dim: std::iter::once(batch).chain(fixed).collect(),
                    }),
                }),
            }),
        }
    }
}
