//! `gpu-inference learn`: the chapter in one go, with result files.

use std::path::Path;

use accel::{
    checkout::checkout_root,
    learn::{Learn, Step},
};

use crate::{cli::LearnArgs, commands::CHAPTER, device};

// ANCHOR: steps
/// What the chapter measures.
const STEPS: [Step; 6] = [
    Step {
        measurement: "run-digits",
        question: "Does it read handwriting as chapter 1 does?",
        command: "run --data digits --batch 32",
        quick: Some("--quick"),
    },
    Step {
        measurement: "ladder",
        question: "What does each step towards the device gain?",
        command: "ladder --arch resnet50",
        quick: Some("--quick --batch 4"),
    },
    Step {
        measurement: "tune",
        question: "Which batch size?",
        command: "tune --arch resnet50",
        quick: Some("--quick --max-batch 8"),
    },
    Step {
        measurement: "roofline",
        question: "How fast could it be, and how fast is it?",
        command: "roofline",
        quick: Some("--quick --archs resnet18,resnet50"),
    },
    Step {
        measurement: "pipeline",
        question: "Do the decoders keep ahead of the device?",
        command: "run --images SAMPLES --repeat REPEAT --arch resnet50 --weights random --dtype DTYPE --batch 32",
        quick: Some("--quick --repeat 32"),
    },
    Step {
        measurement: "engines",
        question: "And with other engines?",
        command: "engines",
        quick: Some("--quick"),
    },
];
// ANCHOR_END: steps

/// Runs the command: a measurement that needs a library which is not here is left out
/// and named.
///
/// # Errors
/// What failed; the steps before it are written.
pub fn run(args: &LearnArgs) -> anyhow::Result<u8> {
    let root = checkout_root();
    let samples = root
        .as_deref()
        .unwrap_or(Path::new("."))
        .join("chapters/01-cpu/samples");
    // Chosen once, and named to every step: all must measure the same device.
    let setting = device::apply(&args.device, args.quiet)?;
    let place = Place {
        device: setting.device_name(),
        gpu: setting.device.is_cuda(),
        samples: &samples,
    };
    let learn = Learn {
        chapter: CHAPTER.name,
        program: "gpu-inference",
        out: &args.out,
        quick: args.quick,
        publish: args.publish,
        only: args.only.as_deref(),
    };
    learn.run(&STEPS, |step, folder| Ok(words(step, args, &place, folder)))
}

/// What the words of a step stand for here.
struct Place<'a> {
    device: String,
    gpu: bool,
    samples: &'a Path,
}

/// The arguments of a step, as a reader would type them.
fn words(step: &Step, args: &LearnArgs, place: &Place, folder: &Path) -> Vec<String> {
    let mut words = step.words(args.quick, |word| match (word, place.gpu) {
        ("SAMPLES", _) => Some(place.samples.display().to_string()),
        // Some seconds of work.
        ("REPEAT", true) => Some("5000".to_owned()),
        ("REPEAT", false) => Some("160".to_owned()),
        ("DTYPE", true) => Some("bf16".to_owned()),
        ("DTYPE", false) => Some("f32".to_owned()),
        _ => None,
    });
    words.extend(["--device".into(), place.device.clone()]);
    if let Some(threads) = args.device.threads {
        words.extend(["--threads".into(), threads.to_string()]);
    }
    if args.device.system_malloc {
        words.push("--system-malloc".into());
    }
    if args.quiet {
        words.push("--quiet".into());
    }
    let out = match words[0].as_str() {
        "run" => folder.to_owned(),
        _ => folder.join("result.json"),
    };
    words.extend(["--out".into(), out.display().to_string()]);
    words
}
