//! Runs tests that need something which may not be here, and ignores them with the reason where
//! it is not. `cargo x test` lists such reasons with the command that brings the thing.

#![allow(dead_code, reason = "not every test program uses all of it")]

use std::process::ExitCode;

use cpu_inference::{
    engine::{Batch, Engine, Logits},
    resnet::weights::Weights,
    tch_engine::{Dtype, Rung, TchEngine},
};
use datasets::resnet::{Arch, Config, Stem, seeded};
use inference_engines::{
    calibration::{Ranges, Rule, observe},
    folded::Folded,
    onnx::{self, Form},
};
use libtest_mimic::{Arguments, Failed, Trial};
use tch::Device;

/// What tests need, in the project's form, and whether it is here.
#[derive(Clone, Copy)]
pub struct Need {
    /// `needs: WHAT; COMMAND`.
    pub reason: &'static str,
    /// Whether it is here.
    pub here: bool,
}

/// Runs the tests that the command line selects.
pub fn run(tests: Vec<(&'static str, Need, fn())>) -> ExitCode {
    let trial = |(name, need, test): (&str, Need, fn())| {
        let run = move || match need.here {
            true => {
                test();
                Ok(())
            }
            // Asked for by --ignored.
            false => Err(Failed::from(need.reason)),
        };
        match need.here {
            true => Trial::test(name, run),
            false => Trial::test(name, run)
                .with_ignored_flag(true)
                .with_kind(need.reason),
        }
    };
    let arguments = Arguments::from_args();
    libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect()).exit_code()
}

/// A small network with all that a large one has, and images for it.
pub struct Sample {
    pub config: Config,
    pub weights: Weights,
    pub side: usize,
}

impl Sample {
    /// * `side`: at least 8; 32 or more with the ImageNet stem
    pub fn new(arch: Arch, stem: Stem, side: usize) -> Self {
        let config = Config {
            arch,
            stem,
            width: 16,
            channels: 3,
            classes: 10,
        };
        let weights = Weights::seeded(&config, 0).unwrap();
        Sample {
            config,
            weights,
            side,
        }
    }

    pub fn image(&self) -> [usize; 3] {
        [self.config.channels, self.side, self.side]
    }

    pub fn noise(&self, seed: u32, images: usize) -> (Vec<f32>, [usize; 4]) {
        let shape = [images, self.config.channels, self.side, self.side];
        (seeded::tensor(seed, "input", &shape), shape)
    }

    /// libtorch's logits of the noise of seed 0.
    pub fn reference(&self, images: usize) -> Logits {
        let mut engine = TchEngine::load(
            &self.config,
            &self.weights,
            self.side,
            Rung::Eager,
            Dtype::F32,
            Device::Cpu,
        )
        .unwrap();
        let (pixels, shape) = self.noise(0, images);
        engine
            .infer(Batch {
                pixels: &pixels,
                shape,
            })
            .unwrap()
    }

    pub fn ranges(&self) -> Ranges {
        let folded = Folded::new(&self.config, &self.weights).unwrap();
        let (pixels, shape) = self.noise(1, 8);
        let batch = Batch {
            pixels: &pixels,
            shape,
        };
        observe(&folded, [batch], Rule::MinMax).unwrap()
    }

    pub fn file(&self, form: Form) -> Vec<u8> {
        let folded = Folded::new(&self.config, &self.weights).unwrap();
        onnx::file(&folded, self.side, form, &self.ranges()).unwrap()
    }
}

/// Largest difference of a logit, over the largest logit.
pub fn difference(logits: &Logits, reference: &Logits) -> f64 {
    assert_eq!(logits.classes, reference.classes);
    assert_eq!(logits.values.len(), reference.values.len());
    assert!(logits.values.iter().all(|v| v.is_finite()));
    cpu_inference::comparison::relative_difference(logits, reference)
}
