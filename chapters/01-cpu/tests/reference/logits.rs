//! `resnet_logits.json`, as `ci/peers/resnet_reference.py` writes it.

use std::{collections::BTreeMap, fs, path::Path};

use cpu_inference::resnet::config::{Arch, Config, Stem};
use serde::Deserialize;

/// The file.
#[derive(Deserialize)]
pub struct Reference {
    pub seed: u32,
    /// First elements of some tensors of ResNet-18 with the ImageNet stem.
    #[allow(dead_code, reason = "not every test reads all of it")]
    pub probes: BTreeMap<String, Vec<f32>>,
    pub cases: Vec<Case>,
}

/// One network, its input and its logits.
#[derive(Deserialize)]
#[allow(dead_code, reason = "not every test reads all of it")]
pub struct Case {
    pub arch: Arch,
    pub stem: Stem,
    pub classes: usize,
    /// NCHW.
    pub input_shape: [usize; 4],
    pub input_probe: Vec<f32>,
    pub tensors: usize,
    pub weights_sha256: String,
    pub max_abs_logit: f64,
    /// Computed in f64, `[batch, classes]`.
    pub logits: Vec<Vec<f64>>,
}

impl Reference {
    /// The committed file.
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/resnet_logits.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// The case of that network.
    #[allow(dead_code, reason = "not every test asks for one case")]
    pub fn case(&self, arch: Arch, stem: Stem) -> &Case {
        let mut cases = self.cases.iter();
        cases.find(|c| (c.arch, c.stem) == (arch, stem)).unwrap()
    }
}

impl Case {
    /// What fixes its tensors.
    pub fn config(&self) -> Config {
        Config {
            stem: self.stem,
            classes: self.classes,
            ..Config::imagenet(self.arch)
        }
    }

    /// Largest difference of a logit from the reference, over the largest |logit|.
    pub fn difference<'a>(&self, rows: impl ExactSizeIterator<Item = &'a [f32]>) -> f64 {
        assert_eq!(rows.len(), self.logits.len(), "images");
        let mut largest = 0f64;
        for (row, expected) in rows.zip(&self.logits) {
            assert_eq!(row.len(), expected.len(), "classes");
            for (got, expected) in row.iter().zip(expected) {
                assert!(got.is_finite());
                largest = largest.max((f64::from(*got) - expected).abs());
            }
        }
        largest / self.max_abs_logit
    }
}

/// How far logits may be from exact ones by rounding alone, over the largest |logit|.
///
/// Every layer rounds its weights (folding writes new ones) and its
/// activations; each rounding is off by `unit` of the value at most, and in the
/// worst direction the layers' errors add up. A layer's own sum is not counted:
/// libtorch keeps it in f32 for both dtypes, in blocks whose errors mostly cancel.
///
/// * `unit`: the dtype's unit round-off: 2^-24 for f32, 2^-9 for bf16
pub fn rounding(arch: Arch, unit: f64) -> f64 {
    let layers = match arch {
        Arch::Resnet18 => 18.0,
        Arch::Resnet34 => 34.0,
        Arch::Resnet50 => 50.0,
    };
    2.0 * layers * unit
}

/// Unit round-off of f32: 24 significant bits, rounded to nearest.
pub const F32: f64 = 1.0 / (1 << 24) as f64;
