//! The trainer against JAX's numbers: five steps of SGD and of AdamW on one batch.
//!
//! `crates/graph/tests/reference/make_jax_reference.py` computed them in f64.

#[path = "../crates/pjrt/tests/harness/mod.rs"]
mod harness;

use std::{ops::ControlFlow, path::Path, process::ExitCode};

use datasets::{
    checkpoint::Checkpoint,
    resnet::{Arch, Config as Network, Stem},
};
use harness::Need;
use pjrt_runtime::Platform;
use tpu_training::{
    config::{CompileEffort, ConvStyle, LoopStyle, Optimizer, Precision, TrainConfig},
    data_set::{DataSet, Pixels},
    device,
    order::Order,
    parameters::Role,
    schedule::Shape,
    trainer::{Driving, Snapshot, Trainer},
};

fn main() -> ExitCode {
    let need = Need::plugin(Platform::Cpu);
    let tests = tests![
        sgd_takes_the_steps_that_jax_takes_in_every_form,
        adamw_takes_the_steps_that_jax_takes,
        logits_and_running_statistics_are_those_of_jax,
    ];
    harness::run(&need, false, tests)
}

struct Reference(Checkpoint);

impl Reference {
    fn open() -> Self {
        let path = "crates/graph/tests/reference/resnet.safetensors";
        Reference(Checkpoint::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        harness::floats(
            self.0
                .tensor(name)
                .unwrap_or_else(|| panic!("no {name}"))
                .bytes,
        )
    }

    fn data(&self) -> DataSet {
        let labels = self.0.tensor("labels").unwrap().bytes.as_chunks::<4>().0;
        DataSet {
            name: "reference".into(),
            side: 8,
            channels: 1,
            pixels: Pixels::F32(self.floats("input")),
            labels: labels
                .iter()
                .map(|label| i32::from_le_bytes(*label))
                .collect(),
            class_names: (0..10).map(|class| class.to_string()).collect(),
            mean: vec![0.0],
            std: vec![1.0],
            train: vec![0, 1, 2, 3],
            validation: vec![],
            test: vec![0, 1, 2, 3],
        }
    }
}

/// A trainer that starts from the reference's parameters.
fn trainer(
    plugin: &Path,
    reference: &Reference,
    optimizer: Optimizer,
    rate: f64,
    conv: ConvStyle,
) -> Trainer {
    let opened = device::open("cpu".parse().unwrap(), Some(plugin)).unwrap();
    let config = TrainConfig {
        network: Network {
            arch: Arch::Resnet18,
            stem: Stem::Small,
            width: 4,
            channels: 1,
            classes: 10,
        },
        batch: 4,
        epochs: 5,
        optimizer,
        learning_rate: rate,
        schedule: Shape::Constant,
        warmup_steps: 0,
        seed: 0,
        precision: Precision::F32,
        augment: false,
        conv,
        compile: CompileEffort::Thorough,
    };
    let driving = Driving {
        steps_per_call: 1,
        loop_style: LoopStyle::While,
    };
    let data = reference.data();
    let mut trainer =
        Trainer::new(&opened.client, opened.ordinal, &config, &data, driving).unwrap();
    trainer.set_order(Order::AsStored);
    let untrained = trainer.snapshot().unwrap();
    let tensors = trainer
        .parameters()
        .iter()
        .map(|parameter| match parameter.role {
            Role::Learned => reference.floats(&format!("parameter.{}", parameter.name)),
            Role::Running => reference.floats(&format!("running.{}", parameter.name)),
        });
    let start = Snapshot {
        tensors: tensors.collect(),
        ..untrained
    };
    trainer.restore(&start).unwrap();
    trainer
}

fn losses(trainer: &mut Trainer) -> Vec<f32> {
    let mut epoch = || {
        trainer
            .train_epoch(|_| ControlFlow::Continue(()))
            .unwrap()
            .losses[0]
    };
    (0..5).map(|_| epoch()).collect()
}

#[track_caller]
fn close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let largest = expected
        .iter()
        .fold(0f32, |most, value| most.max(value.abs()));
    for (place, (got, expected)) in got.iter().zip(expected).enumerate() {
        let difference = (got - expected).abs();
        assert!(
            difference <= tolerance * largest,
            "{what}[{place}]: {got}, not {expected}"
        );
    }
}

/// The settings that the script trained with, from the file's own words.
fn settings(reference: &Reference, optimizer: &str) -> serde_json::Value {
    let about = reference
        .0
        .extra
        .get("about")
        .expect("the script describes its file");
    let about: serde_json::Value = serde_json::from_str(about).unwrap();
    about[optimizer].clone()
}

fn sgd_takes_the_steps_that_jax_takes_in_every_form(plugin: &Path) {
    let reference = Reference::open();
    let sgd = settings(&reference, "sgd");
    let number = |name: &str| {
        sgd[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name} in {sgd}"))
    };
    let optimizer = Optimizer::Sgd {
        momentum: number("momentum"),
        weight_decay: number("weight_decay"),
    };
    let expected = reference.floats("sgd.losses");
    for conv in [
        ConvStyle::Auto,
        ConvStyle::Convolution,
        ConvStyle::Patches,
        ConvStyle::Columns,
    ] {
        let mut trainer = trainer(plugin, &reference, optimizer, number("learning_rate"), conv);
        // f32 against f64: 1e-6 in the first loss, and each step on one batch of four amplifies
        // what the one before left.
        close(&losses(&mut trainer), &expected, 1e-3, conv.name());
    }
}

fn adamw_takes_the_steps_that_jax_takes(plugin: &Path) {
    let reference = Reference::open();
    let adamw = settings(&reference, "adamw");
    let number = |name: &str| {
        adamw[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name} in {adamw}"))
    };
    let optimizer = Optimizer::AdamW {
        beta1: number("beta1"),
        beta2: number("beta2"),
        epsilon: number("epsilon"),
        weight_decay: number("weight_decay"),
    };
    let rate = number("learning_rate");
    let mut trainer = trainer(plugin, &reference, optimizer, rate, ConvStyle::Auto);
    let expected = reference.floats("adamw.losses");
    // The first steps are the signs of gradients: where one is all but 0, rounding decides.
    close(&losses(&mut trainer), &expected, 2e-2, "adamw");
}

fn logits_and_running_statistics_are_those_of_jax(plugin: &Path) {
    let reference = Reference::open();
    let mut trainer = trainer(plugin, &reference, Optimizer::SGD, 1e-9, ConvStyle::Auto);
    let logits = trainer.logits(&reference.floats("input"), 8).unwrap();
    close(
        &logits,
        &reference.floats("inference.logits"),
        1e-5,
        "inference.logits",
    );
    trainer.train_epoch(|_| ControlFlow::Continue(())).unwrap();
    let snapshot = trainer.snapshot().unwrap();
    for (parameter, values) in trainer.parameters().iter().zip(&snapshot.tensors) {
        if parameter.role == Role::Running {
            let expected = reference.floats(&format!("updated.{}", parameter.name));
            close(values, &expected, 1e-5, &parameter.name);
        }
    }
}
