//! The network computes what PyTorch's does, on every rung, and the rungs agree.

#[path = "reference/logits.rs"]
mod reference;

use cpu_inference::{
    engine::{Batch, Engine, Logits},
    model::{Model, Source, Wishes},
    pipeline::Input,
    resnet::{
        config::{Arch, Config, Stem},
        network::Network,
        seeded,
        weights::Weights,
    },
    source,
    tch_engine::{Dtype, LoadError, Rung, TchEngine},
};
use reference::{F32, Reference, rounding};
use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

/// Unit round-off of bf16: 8 significant bits.
const BF16: f64 = 1.0 / (1 << 9) as f64;

const ARCHS: [Arch; 3] = [Arch::Resnet18, Arch::Resnet34, Arch::Resnet50];
const STEMS: [Stem; 2] = [Stem::Imagenet, Stem::Small];

fn engine(config: &Config, weights: &Weights, side: usize, rung: Rung) -> TchEngine {
    TchEngine::load(config, weights, side, rung, Dtype::F32, Device::Cpu).unwrap()
}

/// Every rung in bf16. libtorch computes it on any CPU, if slowly, but for the
/// rungs of oneDNN, which want instructions for it: those may be left out.
fn bf16_engines(config: &Config, weights: &Weights, side: usize) -> Vec<(Rung, TchEngine)> {
    let load = |rung| {
        let dtype = Dtype::Bf16;
        match TchEngine::load(config, weights, side, rung, dtype, Device::Cpu) {
            Ok(engine) => Some((rung, engine)),
            Err(LoadError::Unsupported { .. })
                if matches!(rung, Rung::Prepacked | Rung::Streams) =>
            {
                println!("{rung} in bf16: not on this CPU");
                None
            }
            Err(error) => panic!("{rung} in bf16: {error}"),
        }
    };
    Rung::CPU.into_iter().filter_map(load).collect()
}

fn infer(engine: &mut TchEngine, pixels: &[f32], shape: [usize; 4]) -> Logits {
    engine.infer(Batch { pixels, shape }).unwrap()
}

/// Largest difference of a logit, over the largest |logit|.
fn difference(logits: &Logits, from: &Logits) -> f64 {
    assert_eq!(logits.values.len(), from.values.len());
    let largest = from
        .values
        .iter()
        .fold(0f64, |m, v| m.max(f64::from(v.abs())));
    let pairs = logits.values.iter().zip(&from.values);
    let differences = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    // A NaN must not pass as the smallest difference of all.
    differences.fold(0f64, |m, d| if d.is_nan() { d } else { m.max(d) }) / largest
}

#[test]
fn seeded_weights_are_those_of_the_python_recipe() {
    let reference = Reference::read();
    let first = |name: &str, shape: &[usize], n: usize| {
        let values = seeded::tensor(reference.seed, name, shape);
        values[..n].to_vec()
    };
    // The probes say which rule is wrong where the hash below only says that one is.
    let specs = Config::imagenet(Arch::Resnet18).specs();
    assert_eq!(reference.probes.len(), 7);
    for (name, expected) in &reference.probes {
        let spec = specs.iter().find(|s| s.name == *name).unwrap();
        assert_eq!(
            first(name, &spec.shape, expected.len()),
            *expected,
            "{name}"
        );
    }
    assert_eq!(reference.cases.len(), ARCHS.len() * STEMS.len());
    for case in &reference.cases {
        let network = format!("{} {}", case.arch, case.stem);
        let probe = &case.input_probe;
        let input = first("input", &case.input_shape, probe.len());
        assert_eq!(input, *probe, "{network}: input");

        let specs = case.config().specs();
        let mut specs: Vec<_> = specs.iter().filter(|s| !s.optional).collect();
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(specs.len(), case.tensors, "{network}: tensors");
        let mut sha256 = Sha256::new();
        for spec in specs {
            let values = seeded::tensor(reference.seed, &spec.name, &spec.shape);
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            sha256.update(&bytes);
        }
        let digest: String = sha256
            .finalize()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(
            digest, case.weights_sha256,
            "{network}: SHA-256 of the weights"
        );
    }
}

fn every_rung_gives_pytorchs_logits(arch: Arch) {
    let reference = Reference::read();
    for stem in STEMS {
        let case = reference.case(arch, stem);
        let config = case.config();
        let weights = Weights::seeded(&config, reference.seed).unwrap();
        let pixels = seeded::tensor(reference.seed, "input", &case.input_shape);
        for rung in Rung::CPU {
            let mut engine = engine(&config, &weights, case.input_shape[2], rung);
            let logits = infer(&mut engine, &pixels, case.input_shape);
            let difference = case.difference(logits.rows());
            let bound = rounding(arch, F32);
            println!("{arch} {stem} {rung}: {difference:.1e} of {bound:.1e}");
            assert!(
                difference <= bound,
                "{arch} {stem} {rung}: {difference:e} > {bound:e}"
            );
        }
    }
}

#[test]
fn resnet18_gives_pytorchs_logits_on_every_rung() {
    every_rung_gives_pytorchs_logits(Arch::Resnet18);
}

#[test]
fn resnet34_gives_pytorchs_logits_on_every_rung() {
    every_rung_gives_pytorchs_logits(Arch::Resnet34);
}

#[test]
fn resnet50_gives_pytorchs_logits_on_every_rung() {
    every_rung_gives_pytorchs_logits(Arch::Resnet50);
}

#[test]
fn bf16_gives_pytorchs_logits_within_its_rounding() {
    let reference = Reference::read();
    let case = reference.case(Arch::Resnet18, Stem::Small);
    let config = case.config();
    let weights = Weights::seeded(&config, reference.seed).unwrap();
    let pixels = seeded::tensor(reference.seed, "input", &case.input_shape);
    for (rung, mut engine) in bf16_engines(&config, &weights, case.input_shape[2]) {
        let logits = infer(&mut engine, &pixels, case.input_shape);
        let difference = case.difference(logits.rows());
        let bound = rounding(Arch::Resnet18, BF16);
        println!("bf16 {rung}: {difference:.1e} of {bound:.1e}");
        assert!(difference <= bound, "{rung}: {difference:e} > {bound:e}");
        // Closer than half of one rounding: then nothing was computed in bf16.
        assert!(difference > BF16 / 2.0, "{rung}: {difference:e} is f32's");
    }
}

/// The held-out digits as the model takes them, and their labels.
fn held_out(model: &Model) -> (Vec<f32>, [usize; 4], Vec<usize>) {
    let side = model.side();
    let mut resizer = Default::default();
    let (mut pixels, mut labels) = (vec![], vec![]);
    for item in source::digits(None).unwrap().items {
        let Input::Picture(picture) = item.input else {
            panic!("digits are pictures in memory");
        };
        let picture = model.transform.resize(&mut resizer, picture).unwrap();
        let mut image = vec![0.0; side * side];
        model.transform.normalise(&picture, &mut image);
        pixels.extend(image);
        labels.push(item.label.unwrap());
    }
    (pixels, [labels.len(), 1, side, side], labels)
}

fn likeliest(logits: &Logits) -> Vec<usize> {
    let likeliest = |row: &[f32]| {
        let mut classes: Vec<usize> = (0..row.len()).collect();
        classes.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        classes[0]
    };
    logits.rows().map(likeliest).collect()
}

fn accuracy(classes: &[usize], labels: &[usize]) -> f64 {
    let right = classes.iter().zip(labels).filter(|(c, l)| c == l).count();
    right as f64 / labels.len() as f64
}

#[test]
fn the_trained_digits_keep_their_answers_on_every_rung() {
    let model = Model::open(&Source::Digits, Wishes::default(), true).unwrap();
    let (pixels, shape, labels) = held_out(&model);
    assert_eq!(labels.len(), 269, "15% of 1,797 digits are held out");
    let (config, weights, side) = (&model.config, &model.weights, model.side());

    let unfolded = infer(
        &mut engine(config, weights, side, Rung::Eager),
        &pixels,
        shape,
    );
    let answers = likeliest(&unfolded);
    let bound = rounding(config.arch, F32);
    for rung in Rung::CPU {
        let logits = infer(&mut engine(config, weights, side, rung), &pixels, shape);
        let difference = difference(&logits, &unfolded);
        let accuracy = accuracy(&likeliest(&logits), &labels);
        println!("digits f32 {rung}: {difference:.1e} of {bound:.1e}, accuracy {accuracy:.4}");
        assert!(difference <= bound, "{rung}: {difference:e} > {bound:e}");
        assert_eq!(likeliest(&logits), answers, "{rung}");
        assert!(accuracy >= 0.97, "{rung}: {accuracy}");
    }
    for (rung, mut engine) in bf16_engines(config, weights, side) {
        let logits = infer(&mut engine, &pixels, shape);
        let accuracy = accuracy(&likeliest(&logits), &labels);
        println!("digits bf16 {rung}: accuracy {accuracy:.4}");
        assert!(accuracy >= 0.96, "{rung} in bf16: {accuracy}");
    }
}

fn narrow(arch: Arch, stem: Stem) -> Config {
    Config {
        arch,
        stem,
        width: 8,
        channels: 3,
        classes: 10,
    }
}

// At 17, 31 and 33 pixels a stride of 2 leaves odd sides on the way down.
#[test]
fn trimmed_equals_folded_at_every_size() {
    for arch in ARCHS {
        for stem in STEMS {
            let config = narrow(arch, stem);
            let weights = Weights::seeded(&config, 1).unwrap();
            for side in [8, 16, 17, 31, 32, 33, 64] {
                let shape = [2, 3, side, side];
                let pixels = seeded::tensor(1, "input", &shape);
                let [folded, trimmed] = [Rung::Folded, Rung::Trimmed]
                    .map(|rung| infer(&mut engine(&config, &weights, side, rung), &pixels, shape));
                let difference = difference(&trimmed, &folded);
                let bound = rounding(arch, F32);
                assert!(
                    difference <= bound,
                    "{arch} {stem} at {side} pixels: {difference:e} > {bound:e}"
                );
            }
        }
    }
}

// What `fuse` does to the numbers; its kernels need a GPU.
#[test]
fn a_projections_bias_can_be_added_by_the_layer_that_its_output_goes_to() {
    for arch in ARCHS {
        let config = narrow(arch, Stem::Imagenet);
        let weights = Weights::seeded(&config, 3).unwrap();
        let shape = [2, 3, 64, 64];
        let pixels = seeded::tensor(3, "input", &shape);
        let x = Tensor::from_slice(&pixels).view(shape.map(|n| n as i64));
        let logits = |join: bool| {
            let mut network = Network::new(&config, &weights).unwrap();
            network.fold();
            if join {
                let before = network.parameters();
                network.join_biases();
                assert!(network.parameters() < before, "{arch}: nothing was moved");
            }
            let values = Vec::<f32>::try_from(network.forward(&x, false).unwrap().view(-1));
            Logits {
                values: values.unwrap(),
                classes: config.classes,
            }
        };
        let difference = difference(&logits(true), &logits(false));
        let bound = rounding(arch, F32);
        assert!(difference <= bound, "{arch}: {difference:e} > {bound:e}");
    }
}

/// Numbers in a folded network, trimmed for images of `side` pixels.
fn parameters(config: &Config, side: Option<usize>) -> usize {
    let mut network = Network::new(config, &Weights::seeded(config, 1).unwrap()).unwrap();
    network.fold();
    if let Some(side) = side {
        network.trim(side);
    }
    network.parameters()
}

#[test]
fn trimming_cuts_what_only_meets_padding_and_nothing_else() {
    let config = narrow(Arch::Resnet18, Stem::Imagenet);
    // At 32 pixels the stem leaves 8, and the stages 8, 4, 2 and 1: the last one's
    // first 3x3 kernel steps over a 2x2 map and keeps 2x2 weights, its other three
    // see one pixel and keep one weight. It has 64 channels, the one before 32.
    let cut = 32 * 64 * (9 - 4) + 3 * 64 * 64 * (9 - 1);
    let full = parameters(&config, None);
    assert_eq!(parameters(&config, Some(32)), full - cut);
    // At 64 pixels the last stage has 2x2 pixels: its first kernel steps over 4x4
    // and its others over 2x2, where every weight meets a pixel.
    assert_eq!(parameters(&config, Some(64)), full);
    let small = narrow(Arch::Resnet50, Stem::Small);
    assert_eq!(parameters(&small, Some(32)), parameters(&small, None));
    assert!(parameters(&small, Some(8)) < parameters(&small, None));
}

#[test]
fn folding_saves_the_batch_norms() {
    let config = narrow(Arch::Resnet18, Stem::Small);
    let weights = Weights::seeded(&config, 1).unwrap();
    let network = Network::new(&config, &weights).unwrap();
    let stored: usize = weights.iter().map(|(_, tensor)| tensor.numel()).sum();
    assert_eq!(network.parameters(), stored);
    // Four numbers a channel become one.
    let channels: usize = config.convs().iter().map(|c| c.output).sum();
    assert_eq!(parameters(&config, None), stored - 3 * channels);
}

#[test]
fn logits_do_not_depend_on_the_batch() {
    let config = narrow(Arch::Resnet18, Stem::Small);
    let weights = Weights::seeded(&config, 2).unwrap();
    let (images, side) = (9, 32);
    let pixels = seeded::tensor(2, "input", &[images, 3, side, side]);
    let bound = rounding(config.arch, F32);
    for rung in Rung::CPU {
        let mut engine = engine(&config, &weights, side, rung);
        let together = infer(&mut engine, &pixels, [images, 3, side, side]);
        // 9 images as 2 + 2 + 2 + 2 + 1, and so on: each in another place of its batch.
        for batch in [1, 2, 5] {
            let mut apart = Logits {
                values: vec![],
                classes: config.classes,
            };
            for chunk in pixels.chunks(batch * 3 * side * side) {
                let shape = [chunk.len() / (3 * side * side), 3, side, side];
                apart.values.extend(infer(&mut engine, chunk, shape).values);
            }
            let difference = difference(&apart, &together);
            assert!(
                difference <= bound,
                "{rung}, batches of {batch}: {difference:e} > {bound:e}"
            );
        }
        // Images that all gave the same logits would pass as well.
        let rows: Vec<_> = together.rows().collect();
        assert!(rows.windows(2).all(|pair| pair[0] != pair[1]), "{rung}");
    }
}
