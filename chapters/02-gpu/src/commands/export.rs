//! `gpu-inference export`: a model as an ONNX file.

use accel::{exit, human, progress::Progress};
use cpu_inference::{
    failure::print_line,
    model::{Model, Wishes},
};
use inference_engines::onnx::Form;
use serde_json::json;

use crate::{
    cli::ExportArgs,
    contender::Format,
    exports::{Exports, calibrated_on, write},
};

/// Runs the command.
///
/// # Errors
/// What was refused, or what failed.
pub fn run(args: &ExportArgs) -> anyhow::Result<u8> {
    let wishes = Wishes {
        arch: args.model.arch,
        stem: args.model.stem,
        side: args.model.image,
        channels: None,
    };
    let model = Model::open(&args.model.weights, wishes, args.quiet)?;
    let format = match args.int8 {
        true => Format::Int8,
        false => args.dtype,
    };
    let form = format.form(args.marks);
    if let Form::Int8(_) = form {
        Progress::new(None, "images", args.quiet).println(&calibrated_on(&model));
    }
    let bytes = Exports::new(&model)?.bytes(form)?;
    write(&args.out, &bytes)?;
    let side = model.side();
    if args.json {
        let answer = json!({
            "schema_version": 1,
            "model": model.origin,
            "arch": model.config.arch,
            "image": side,
            "dtype": form.name(),
            "opset": form.opset(),
            "bytes": bytes.len(),
        });
        print_line(&answer.to_string())?;
    } else {
        print_line(&format!(
            "{}: {} in {form} for {side} x {side} images, any batch, {}, ONNX operators {}",
            args.out.display(),
            model.config.arch,
            human::bytes(bytes.len() as u64),
            form.opset(),
        ))?;
    }
    Ok(exit::OK)
}
