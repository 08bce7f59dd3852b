//! ONNX's own checker accepts every form of file. It is a Python package: without it the test is
//! ignored.

mod harness;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use datasets::resnet::{Arch, Stem};
use harness::{Need, Sample};
use inference_engines::onnx::{Form, Quantisation};

const CHECK: &str = "
import sys, onnx
for path in sys.argv[1:]:
    onnx.checker.check_model(path, full_check=True)
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)
    shape = model.graph.output[0].type.tensor_type.shape
    print([d.dim_param or d.dim_value for d in shape.dim])
";

fn main() -> ExitCode {
    let need = Need {
        reason: "needs: the checker of ONNX (package onnx); cargo x peers cpu",
        here: python().is_some(),
    };
    harness::run(vec![("every_form_passes_the_checker", need, every_form)])
}

/// A Python that has the package: the peers' own, or the system's.
fn python() -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let own = above.map(|folder| folder.join(".native/venv/peers/bin/python"));
    own.chain([PathBuf::from("python3")]).find(|python| {
        let import = Command::new(python).args(["-c", "import onnx"]).output();
        import.is_ok_and(|output| output.status.success())
    })
}

fn every_form() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(python().unwrap());
    command.args(["-c", CHECK]);
    let forms = [
        Form::F32,
        Form::F16,
        Form::Bf16,
        Form::Int8(Quantisation::Cpu),
        Form::Int8(Quantisation::TensorRt),
    ];
    let mut files = 0;
    for (arch, stem) in [
        (Arch::Resnet18, Stem::Imagenet),
        (Arch::Resnet50, Stem::Small),
    ] {
        let sample = Sample::new(arch, stem, 32);
        for form in forms {
            files += 1;
            let path = folder.path().join(format!("{files}.onnx"));
            std::fs::write(&path, sample.file(form)).unwrap();
            command.arg(&path);
        }
    }
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.lines().count(), files);
    assert!(said.lines().all(|line| line == "['batch', 10]"), "{said}");
}
