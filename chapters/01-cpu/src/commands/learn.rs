//! `cpu-inference learn`: the chapter in one go, with result files.

use std::path::Path;

use accel::{
    checkout::checkout_root,
    learn::{Learn, Step},
};

use crate::{cli::LearnArgs, setting};

// ANCHOR: steps
/// What the chapter measures.
const STEPS: [Step; 9] = [
    Step {
        measurement: "batch",
        question: "Is a larger batch faster, and what has malloc to do with it?",
        command: "ladder --arch resnet50 --rungs eager,channels-last --dtypes f32 --batch 1,8,32 --both-mallocs --rounds 5",
        quick: Some("--quick --rungs eager --batch 1,32"),
    },
    Step {
        measurement: "digits",
        question: "Does it read handwriting?",
        command: "run --data digits --batch 32",
        quick: Some("--quick"),
    },
    Step {
        measurement: "ladder-digits",
        question: "Does a faster rung still read it?",
        command: "ladder --weights digits --batch 32 --rounds 20",
        quick: Some("--quick"),
    },
    Step {
        measurement: "ladder",
        question: "How fast is ResNet-50, and which rung matters?",
        command: "ladder --arch resnet50 --batch 8 --rungs eager,folded,channels-last,prepacked,streams",
        quick: Some("--quick"),
    },
    Step {
        measurement: "threads",
        question: "What does each core add?",
        command: "ladder --arch resnet50 --batch 8 --rungs prepacked --dtypes f32 --thread-counts THREADS --rounds 5",
        quick: Some("--quick"),
    },
    Step {
        measurement: "ladder-small",
        question: "And one small image at a time?",
        command: "ladder --arch resnet18 --image 32 --batch 1 --rungs eager,folded,channels-last,prepacked,trimmed --dtypes f32 --rounds 20",
        quick: Some("--quick"),
    },
    Step {
        measurement: "pipeline",
        question: "What do the stages around the model cost?",
        command: "run --images SAMPLES --repeat 160 --arch resnet50 --weights random --rung streams --batch 32",
        quick: Some("--quick --repeat 32"),
    },
    Step {
        measurement: "pipeline-barriers",
        question: "The same with a barrier at every layer?",
        command: "run --images SAMPLES --repeat 160 --arch resnet50 --weights random --rung prepacked --batch 32",
        quick: Some("--quick --repeat 32"),
    },
    Step {
        measurement: "memory",
        question: "Does memory grow with the stream?",
        // Small images: 10,000 of them take less than a minute.
        command: "run --images SAMPLES --repeat 5000 --arch resnet18 --weights random --image 96 --rung streams --batch 32",
        quick: Some("--quick --repeat 250"),
    },
];
// ANCHOR_END: steps

/// Runs the command.
///
/// # Errors
/// What failed; the steps before it are written.
pub fn run(args: LearnArgs) -> anyhow::Result<u8> {
    let root = checkout_root();
    let samples = root
        .as_deref()
        .unwrap_or(Path::new("."))
        .join("chapters/01-cpu/samples");
    let learn = Learn {
        chapter: "01-cpu",
        program: "cpu-inference",
        out: &args.out,
        quick: args.quick,
        publish: args.publish,
        only: None,
    };
    learn.run(&STEPS, |step, folder| {
        Ok(words(step, &args, &samples, folder))
    })
}

/// The arguments of a step, as a reader would type them.
fn words(step: &Step, args: &LearnArgs, samples: &Path, folder: &Path) -> Vec<String> {
    let mut words = step.words(args.quick, |word| match word {
        "SAMPLES" => Some(samples.display().to_string()),
        "THREADS" => Some(thread_counts()),
        _ => None,
    });
    words.extend(["--device".into(), args.device.device.to_string()]);
    if let Some(threads) = args.device.threads {
        words.extend(["--threads".into(), threads.to_string()]);
    }
    if args.device.system_malloc && !words.iter().any(|word| word == "--both-mallocs") {
        words.push("--system-malloc".into());
    }
    if args.quiet {
        words.push("--quiet".into());
    }
    let out = match words[0].as_str() {
        "ladder" => folder.join("result.json"),
        _ => folder.to_owned(),
    };
    words.extend(["--out".into(), out.display().to_string()]);
    words
}

/// 1, 2, 4 ... up to the cores of this machine.
fn thread_counts() -> String {
    let cores = setting::cores();
    let mut counts: Vec<usize> = (0..)
        .map(|power| 1 << power)
        .take_while(|&n| n < cores)
        .collect();
    counts.push(cores);
    counts
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}
