//! `tpu-training conv-forms`: how should a convolution be written down?
//!
//! Every shape of a ResNet-18's convolutions, each pass on its own, in every form.

use std::collections::BTreeSet;

use accel::{
    human,
    progress::Progress,
    results::{ResultFile, Row},
    stdout::print_line,
    timing::Samples,
};
use anyhow::Context;
use datasets::resnet::{Arch, Config as Network, Conv, Stem};
use pjrt_runtime::{Argument, Buffer, Executable};
use training_graph::{
    Conv2d, ConvForm, ConvForms, DType, Graph, GraphError, Literal, Program, TensorType,
};

use crate::{
    bridge,
    cli::ConvFormsArgs,
    commands::{
        steps_per_call::finish,
        train::{depends_on, environment, open},
    },
    config::{CompileEffort, ConvStyle},
    conv_forms as choice,
    device::Opened,
    trainer::compile_options,
};

const FORMS: [(&str, ConvForm); 7] = [
    ("convolution", ConvForm::Convolution),
    ("products", ConvForm::Products),
    ("padded-products", ConvForm::PaddedProducts),
    ("patches", ConvForm::Patches),
    ("columns", ConvForm::Columns),
    ("mixed", ConvForm::Mixed),
    ("dense", ConvForm::Dense),
];

/// A part of a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Forward,
    InputGradient,
    FilterGradient,
}

const PASSES: [(&str, Pass); 3] = [
    ("forward", Pass::Forward),
    ("input-gradient", Pass::InputGradient),
    ("filter-gradient", Pass::FilterGradient),
];

/// Runs the command.
///
/// # Errors
/// What failed.
pub fn run(args: &ConvFormsArgs) -> anyhow::Result<u8> {
    let progress = Progress::new(None, "programs", args.quiet);
    let opened = open(&args.device, &progress)?;
    let rounds = if args.quick { 3 } else { args.rounds };
    let mut file = ResultFile::new("03-tpu-training", "conv-forms", environment(&opened));
    file.title = Some("Ways to write a convolution down, ResNet-18's shapes".into());
    file.depends_on = depends_on();
    if args.quick {
        file.notes
            .push("quick mode: whether it works, not how fast it is".into());
    }
    for &image in &args.images {
        for (conv, side) in shapes(args.width, image) {
            for (pass_name, pass) in PASSES {
                if pass == Pass::InputGradient && choice::is_first(&conv) {
                    continue;
                }
                let rows = measure(&opened, &conv, side, (pass_name, pass), args.batch, rounds)?;
                if !args.json {
                    describe(&rows)?;
                }
                progress.inc(rows.len() as u64);
                file.rows.extend(rows);
            }
        }
    }
    progress.finish();
    finish(&file, args.out.as_ref(), args.json)
}

/// The convolutions of a ResNet-18 that differ, each with the side of its input.
fn shapes(width: usize, image: usize) -> Vec<(Conv, usize)> {
    let network = Network {
        arch: Arch::Resnet18,
        stem: Stem::Small,
        width,
        channels: if image > 8 { 3 } else { 1 },
        classes: 10,
    };
    let mut seen = BTreeSet::new();
    let mut shapes = vec![];
    for conv in network.convs() {
        // Stage n halves the image in its first convolution and in its projection.
        let stage = conv.output.ilog2() - width.ilog2();
        let side = image.div_ceil(1 << stage) * conv.stride;
        let side = side.min(image);
        if seen.insert((conv.kernel, conv.stride, conv.input, conv.output, side)) {
            shapes.push((conv, side));
        }
    }
    shapes
}

/// One pass of one convolution as a program: its inputs are what the pass reads.
fn program(
    conv: &Conv,
    side: usize,
    batch: usize,
    pass: Pass,
    form: ConvForm,
) -> Result<(Program, Vec<TensorType>), GraphError> {
    let mut graph = Graph::new();
    let image = TensorType::new(DType::F32, [batch, side, side, conv.input]);
    let filter = [conv.kernel, conv.kernel, conv.input, conv.output];
    let filter = TensorType::new(DType::F32, &filter[..]);
    let out = side.div_ceil(conv.stride);
    let cotangent = TensorType::new(DType::F32, [batch, out, out, conv.output]);
    let x = graph.parameter("x", image.clone())?;
    let w = graph.parameter("filter", filter.clone())?;
    let padding = conv.padding() as i64;
    let attributes = Conv2d::square(conv.stride, padding, ConvForms::all(form));
    let y = graph.conv2d(x, w, &attributes)?;
    let types = vec![image, filter, cotangent.clone()];
    let dy = graph.parameter("cotangent", cotangent)?;
    let wanted = match pass {
        Pass::Forward => y,
        // The gradient of sum(y * dy) by an operand is the operand's pass.
        Pass::InputGradient | Pass::FilterGradient => {
            let product = graph.mul(y, dy)?;
            let loss = graph.reduce_sum(product, &[0, 1, 2, 3])?;
            let by = if pass == Pass::InputGradient { x } else { w };
            graph.gradients(loss, &[by])?[0]
        }
    };
    let program = Program {
        name: "pass".into(),
        graph,
        outputs: vec![wanted],
        donated: vec![],
    };
    Ok((program, types))
}

fn measure(
    opened: &Opened,
    conv: &Conv,
    side: usize,
    (pass_name, pass): (&str, Pass),
    batch: usize,
    rounds: usize,
) -> anyhow::Result<Vec<Row>> {
    let options = compile_options(&opened.client, opened.ordinal, CompileEffort::Thorough);
    let mut measured: Vec<(&str, Executable, Samples)> = vec![];
    let mut inputs: Vec<Buffer> = vec![];
    for (name, form) in FORMS {
        // Its filter has as many elements as pairs of pixels: past this, gigabytes.
        if form == ConvForm::Dense && side > 4 {
            continue;
        }
        let (program, types) = program(conv, side, batch, pass, form)?;
        let compiled = opened
            .client
            .compile(&program.stablehlo()?, &options)
            .with_context(|| format!("{} of {} in form {name}", pass_name, conv.name))?;
        if inputs.is_empty() {
            for ty in &types {
                let literal = Literal::splat(0.5, ty.clone())?;
                inputs.push(bridge::to_device(&opened.client, opened.ordinal, &literal)?);
            }
        }
        measured.push((
            name,
            compiled,
            Samples {
                items_per_sample: batch,
                ..Samples::default()
            },
        ));
    }
    for round in 0..=rounds {
        for (_, program, samples) in &mut measured {
            // Small programs: many runs a sample, so that the clock's grain does not count.
            let start = std::time::Instant::now();
            let mut runs = 0u32;
            while runs == 0 || start.elapsed().as_millis() < 5 {
                let arguments = inputs.iter().map(Argument::Keep).collect();
                program.execute(arguments)?[0].wait()?;
                runs += 1;
            }
            let seconds = start.elapsed().as_secs_f64() / f64::from(runs);
            match round {
                0 => samples.warmup_seconds.push(seconds),
                _ => samples.seconds.push(seconds),
            }
        }
    }
    let taken = choice::ConvForms::new(ConvStyle::Auto, opened.client.platform_name());
    let taken = taken.choose(conv, side);
    let taken = match pass {
        Pass::Forward => taken.forward,
        Pass::InputGradient => taken.input_gradient,
        Pass::FilterGradient => taken.filter_gradient,
    };
    let (kernel, stride) = (conv.kernel, conv.stride);
    let shape = format!(
        "{kernel}x{kernel}s{stride} {}x{} at {side}",
        conv.input, conv.output
    );
    let rows = measured.into_iter().map(|(name, _, samples)| {
        let id = format!(
            "side{side}-k{kernel}-s{stride}-{}-{}-{pass_name}-{name}",
            conv.input, conv.output
        );
        let chosen = FORMS
            .iter()
            .any(|(known, form)| *known == name && *form == taken);
        Row::ok(id, format!("{shape}, {pass_name}, {name}"))
            .with("shape", shape.clone())
            .with("side", side)
            .with("kernel", kernel)
            .with("stride", stride)
            .with("input_channels", conv.input)
            .with("output_channels", conv.output)
            .with("pass", pass_name)
            .with("form", name)
            .with("chosen", chosen)
            .with("batch", batch)
            .with("device", opened.device.to_string())
            .with_samples(samples)
    });
    Ok(rows.collect())
}

/// One line: the forms of a pass, fastest first.
fn describe(rows: &[Row]) -> anyhow::Result<()> {
    let median = |row: &Row| {
        let summary = row.samples.as_ref().and_then(Samples::summary);
        summary.map_or(f64::NAN, |summary| summary.p50)
    };
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by(|a, b| median(a).total_cmp(&median(b)));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let forms = sorted.iter().map(|row| {
        let mark = if row.workload["chosen"] == true {
            "*"
        } else {
            ""
        };
        format!(
            "{}{mark} {}",
            text(&row.workload["form"]),
            human::duration(median(row))
        )
    });
    let first = &rows[0].workload;
    print_line(&format!(
        "{:<24} {:<16} {}",
        text(&first["shape"]),
        text(&first["pass"]),
        forms.collect::<Vec<_>>().join(", ")
    ))?;
    Ok(())
}
