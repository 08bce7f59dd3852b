//! ONNX Runtime and OpenVINO say what libtorch says, and refuse what is no model.

mod harness;

use std::{path::Path, process::ExitCode};

use accel::environment::Environment;
use cpu_inference::engine::{Batch, Engine, EngineError, Logits, SetupError};
use datasets::resnet::{Arch, Stem};
use harness::{Need, Sample, difference};
use inference_engines::{
    onnx::{Form, Quantisation},
    onnx_runtime::{self, OnnxRuntime, Provider},
    openvino::{self, OpenVino, Precision},
    staged::Staged,
};

/// Rounding of f32 through 50 layers.
const F32: f64 = 1e-5;
/// 8 significant bits through 50 layers.
const BF16: f64 = 0.03;
/// 256 steps for each value, of ranges that other images gave.
const INT8: f64 = 0.1;

fn main() -> ExitCode {
    let onnx_runtime = Need {
        reason: "needs: ONNX Runtime; cargo x setup --engines",
        here: onnx_runtime::load().is_ok(),
    };
    let openvino = Need {
        reason: "needs: OpenVINO; cargo x setup --engines",
        here: openvino::load().is_ok(),
    };
    harness::run(vec![
        (
            "onnx_runtime_agrees_in_f32",
            onnx_runtime,
            onnx_runtime_in_f32,
        ),
        (
            "onnx_runtime_agrees_in_int8",
            onnx_runtime,
            onnx_runtime_in_int8,
        ),
        (
            "onnx_runtime_has_no_bf16_on_a_cpu",
            onnx_runtime,
            onnx_runtime_in_bf16,
        ),
        (
            "onnx_runtime_has_no_cuda_in_this_build",
            onnx_runtime,
            onnx_runtime_on_cuda,
        ),
        (
            "onnx_runtime_refuses_broken_files",
            onnx_runtime,
            onnx_runtime_refuses,
        ),
        ("openvino_agrees_in_f32", openvino, openvino_in_f32),
        ("openvino_agrees_in_int8", openvino, openvino_in_int8),
        (
            "openvino_agrees_in_bf16_where_the_cpu_has_it",
            openvino,
            openvino_in_bf16,
        ),
        (
            "openvino_takes_any_number_of_images",
            openvino,
            openvino_in_turns,
        ),
        ("openvino_refuses_broken_files", openvino, openvino_refuses),
    ])
}

fn samples() -> [Sample; 3] {
    [
        Sample::new(Arch::Resnet18, Stem::Small, 8),
        Sample::new(Arch::Resnet34, Stem::Imagenet, 64),
        Sample::new(Arch::Resnet50, Stem::Imagenet, 64),
    ]
}

/// A file of the sample, while the closure runs.
fn with_file<T>(sample: &Sample, form: Form, run: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, sample.file(form)).unwrap();
    run(&path)
}

fn infer(engine: &mut dyn Staged, sample: &Sample, images: usize) -> Logits {
    let (pixels, shape) = sample.noise(0, images);
    let batch = Batch {
        pixels: &pixels,
        shape,
    };
    let logits = engine.infer(batch).unwrap();
    // The same by the other way, twice: nothing is left over from the first.
    engine.stage(batch).unwrap();
    for _ in 0..2 {
        assert_eq!(engine.run().unwrap(), logits);
    }
    logits
}

/// A wrong image size, and a run before there is an image, are errors.
fn refuses_wrong_batches(engine: &mut dyn Staged, sample: &Sample) {
    assert!(engine.run().is_err(), "nothing was laid ready");
    let [channels, height, width] = sample.image();
    for (shape, pixels) in [
        (
            [1, channels, height + 1, width],
            channels * (height + 1) * width,
        ),
        ([1, channels, height, width], 5),
        ([0, channels, height, width], 0),
    ] {
        let pixels = vec![0.0; pixels];
        let error = engine.infer(Batch {
            pixels: &pixels,
            shape,
        });
        assert!(matches!(error, Err(EngineError::Shape { .. })), "{shape:?}");
    }
}

fn open_onnx_runtime(
    path: &Path,
    sample: &Sample,
    provider: Provider,
) -> Result<OnnxRuntime, SetupError> {
    OnnxRuntime::open(path, sample.image(), 2, 2, provider)
}

fn onnx_runtime_in_f32() {
    for sample in samples() {
        with_file(&sample, Form::F32, |path| {
            let mut engine = open_onnx_runtime(path, &sample, Provider::Cpu).unwrap();
            refuses_wrong_batches(&mut engine, &sample);
            // The batch is open.
            for images in [1, 3] {
                let logits = infer(&mut engine, &sample, images);
                let off = difference(&logits, &sample.reference(images));
                assert!(off < F32, "{}: {off}", sample.config.arch);
            }
        });
    }
}

fn onnx_runtime_in_int8() {
    for sample in samples() {
        with_file(&sample, Form::Int8(Quantisation::Cpu), |path| {
            let mut engine = open_onnx_runtime(path, &sample, Provider::Cpu).unwrap();
            let logits = infer(&mut engine, &sample, 2);
            let off = difference(&logits, &sample.reference(2));
            // Not equal to f32: it did compute in 8 bits.
            assert!((1e-3..INT8).contains(&off), "{}: {off}", sample.config.arch);
        });
    }
}

fn onnx_runtime_in_bf16() {
    let sample = &samples()[0];
    with_file(sample, Form::Bf16, |path| {
        // A later release may have it: then it must be right.
        match open_onnx_runtime(path, sample, Provider::Cpu) {
            Ok(mut engine) => {
                let off = difference(&infer(&mut engine, sample, 2), &sample.reference(2));
                assert!(off < BF16, "{off}");
            }
            Err(error @ SetupError::Unavailable { .. }) => {
                assert!(error.to_string().contains("ONNX Runtime"), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    });
}

fn onnx_runtime_on_cuda() {
    let sample = &samples()[0];
    with_file(sample, Form::F32, |path| {
        match open_onnx_runtime(path, sample, Provider::Cuda(0)) {
            // A library of the user's, on a machine with a GPU.
            Ok(mut engine) => {
                let off = difference(&infer(&mut engine, sample, 2), &sample.reference(2));
                assert!(off < 1e-2, "{off}");
            }
            Err(error) => {
                assert!(matches!(error, SetupError::Unavailable { .. }), "{error}");
            }
        }
    });
}

/// Each is refused with the file's name, and without a folder.
fn refuses(open: impl Fn(&Path, &Sample) -> Result<(), SetupError>) {
    let sample = &samples()[0];
    let whole = sample.file(Form::F32);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.onnx");
    let contents: [(&str, &[u8]); 4] = [
        ("empty", b""),
        ("text", b"this is no model"),
        ("cut short", &whole[..whole.len() / 2]),
        ("zeros", &[0; 4096]),
    ];
    for (what, bytes) in contents {
        std::fs::write(&path, bytes).unwrap();
        let error = open(&path, sample).expect_err(what);
        assert!(matches!(error, SetupError::Model { .. }), "{what}: {error}");
        let text = error.to_string();
        assert!(text.contains("broken.onnx"), "{what}: {text}");
        assert!(text.contains("gpu-inference export"), "{what}: {text}");
    }
    std::fs::remove_file(&path).unwrap();
    let error = open(&path, sample).expect_err("no file");
    assert!(
        matches!(error, SetupError::Model { .. }),
        "no file: {error}"
    );
}

fn onnx_runtime_refuses() {
    refuses(|path, sample| open_onnx_runtime(path, sample, Provider::Cpu).map(drop));
}

fn open_openvino(
    path: &Path,
    sample: &Sample,
    precision: Precision,
) -> Result<OpenVino, SetupError> {
    OpenVino::open(path, sample.image(), 2, 2, 1, precision)
}

fn openvino_in_f32() {
    for sample in samples() {
        with_file(&sample, Form::F32, |path| {
            let mut engine = open_openvino(path, &sample, Precision::F32).unwrap();
            refuses_wrong_batches(&mut engine, &sample);
            let off = difference(&infer(&mut engine, &sample, 2), &sample.reference(2));
            assert!(off < F32, "{}: {off}", sample.config.arch);
        });
    }
}

fn openvino_in_int8() {
    for sample in samples() {
        with_file(&sample, Form::Int8(Quantisation::Cpu), |path| {
            let mut engine = open_openvino(path, &sample, Precision::F32).unwrap();
            let off = difference(&infer(&mut engine, &sample, 2), &sample.reference(2));
            assert!((1e-3..INT8).contains(&off), "{}: {off}", sample.config.arch);
        });
    }
}

fn openvino_in_bf16() {
    let features = Environment::collect().cpu_features;
    let has_bf16 = features.iter().any(|feature| feature.contains("bf16"));
    for sample in samples() {
        with_file(&sample, Form::F32, |path| {
            match open_openvino(path, &sample, Precision::Bf16) {
                Ok(mut engine) => {
                    let off = difference(&infer(&mut engine, &sample, 2), &sample.reference(2));
                    assert!((1e-5..BF16).contains(&off), "{}: {off}", sample.config.arch);
                }
                Err(error @ SetupError::Unavailable { .. }) => {
                    assert!(!has_bf16, "{error}");
                }
                Err(error) => panic!("{error}"),
            }
        });
    }
}

fn openvino_in_turns() {
    let sample = &samples()[2];
    with_file(sample, Form::F32, |path| {
        for (batch, streams) in [(4, 2), (3, 2), (1, 2), (2, 1)] {
            let open = OpenVino::open(path, sample.image(), batch, 2, streams, Precision::F32);
            let mut engine = open.unwrap();
            for images in [1, 2, 5] {
                let (pixels, shape) = sample.noise(0, images);
                let batch_of = Batch {
                    pixels: &pixels,
                    shape,
                };
                let logits = engine.infer(batch_of).unwrap();
                let off = difference(&logits, &sample.reference(images));
                assert!(off < F32, "{images} of {batch} on {streams}: {off}");
            }
            let (pixels, shape) = sample.noise(0, 9);
            let error = engine.stage(Batch {
                pixels: &pixels,
                shape,
            });
            assert!(error.unwrap_err().to_string().contains("got 9"));
        }
    });
}

fn openvino_refuses() {
    refuses(|path, sample| open_openvino(path, sample, Precision::F32).map(drop));
}
