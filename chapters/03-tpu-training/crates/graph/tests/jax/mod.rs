//! The numbers that JAX made: `tests/reference/*.safetensors`.
//!
//! The names of the tensors stand at the head of `make_jax_reference.py`.

// Each test program is a crate of its own and uses what it needs of this.
#![allow(dead_code)]

use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use training_graph::{DType, Literal, TensorType};

/// One of the files, read whole.
pub struct Reference {
    name: String,
    bytes: Vec<u8>,
}

impl Reference {
    pub fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let name = name.to_owned();
        Reference { name, bytes }
    }

    /// What the script says of the file: versions, attributes, settings.
    pub fn about(&self) -> serde_json::Value {
        let (_, metadata) = SafeTensors::read_metadata(&self.bytes).unwrap();
        let about = &metadata.metadata().as_ref().unwrap()["about"];
        serde_json::from_str(about).unwrap()
    }

    /// Names of all tensors that begin with `prefix`, without it, in order.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let file = self.file();
        let names = file.names().into_iter();
        let mut names: Vec<String> = names
            .filter_map(|name| Some(name.strip_prefix(prefix)?.to_owned()))
            .collect();
        names.sort();
        names
    }

    pub fn dims(&self, name: &str) -> Vec<usize> {
        self.with(name, |tensor| tensor.shape().to_vec())
    }

    pub fn ty(&self, name: &str) -> TensorType {
        let dtype = self.with(name, |tensor| match tensor.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::I32 => DType::I32,
            Dtype::U32 => DType::U32,
            other => panic!("{name} is {other:?}"),
        });
        TensorType::new(dtype, self.dims(name))
    }

    pub fn literal(&self, name: &str) -> Literal {
        let bytes = self.with(name, |tensor| tensor.data().to_vec());
        Literal::from_bytes(self.ty(name), bytes).unwrap()
    }

    /// Elements of an f32 tensor.
    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.literal(name).to_f32_vec().unwrap()
    }

    /// Elements of any tensor, as f64 holds them exactly.
    pub fn f64(&self, name: &str) -> Vec<f64> {
        let literal = self.literal(name);
        match literal.ty().dtype {
            DType::I32 => literal
                .to_i32_vec()
                .unwrap()
                .into_iter()
                .map(f64::from)
                .collect(),
            DType::U32 => literal
                .to_u32_vec()
                .unwrap()
                .into_iter()
                .map(f64::from)
                .collect(),
            _ => literal
                .to_f32_vec()
                .unwrap()
                .into_iter()
                .map(f64::from)
                .collect(),
        }
    }

    /// Bits of a tensor of 16-bit numbers.
    pub fn u16(&self, name: &str) -> Vec<u16> {
        self.with(name, |tensor| {
            assert_eq!(tensor.dtype(), Dtype::U16, "{name}");
            let (pairs, _) = tensor.data().as_chunks();
            pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect()
        })
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    fn with<T>(&self, name: &str, read: impl Fn(TensorView<'_>) -> T) -> T {
        match self.file().tensor(name) {
            Ok(tensor) => read(tensor),
            Err(error) => panic!("{} has no {name}: {error}", self.name),
        }
    }
}

/// Fails where two arrays differ by more than `tolerance` times the largest
/// element of `expected`.
///
/// Not of each element: what is added up to nearly nothing keeps the rounding of
/// what it was added up from.
pub fn assert_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: number of elements");
    let largest = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let difference = (got - expected).abs();
        // Written so that a NaN fails.
        assert!(
            difference <= tolerance * largest,
            "{what}, element {index}: {got} instead of {expected}"
        );
    }
}
