//! `tpu-training learn`: the chapter in one go, with result files.

use std::path::Path;

use accel::learn::{Learn, Step};
use anyhow::Context;

use crate::{cli::LearnArgs, run_folder::RunFolder, store::Place};

// ANCHOR: steps
/// What the chapter measures.
const STEPS: [Step; 7] = [
    Step {
        measurement: "train-digits",
        question: "Does it learn to read handwriting, and how long does that take?",
        command: "train --data digits --out SCRATCH",
        quick: Some(""),
    },
    Step {
        measurement: "steps-per-call",
        question: "What does a call cost, and what does a loop?",
        command: "steps-per-call --data digits",
        quick: Some("--quick --steps 1,4"),
    },
    Step {
        measurement: "steps-per-call-convolution",
        question: "What does XLA's own convolution cost in a loop?",
        command: "steps-per-call --data digits --steps 1,4 --conv convolution",
        quick: None,
    },
    Step {
        measurement: "conv-forms",
        question: "How should a convolution be written down?",
        command: "conv-forms",
        quick: Some("--quick --images 8"),
    },
    Step {
        measurement: "compile-for-digits",
        question: "What would a TPU make of it?",
        command: "compile-for v5e:1x1 v6e:1x1 --data digits",
        quick: Some(""),
    },
    Step {
        measurement: "compile-for",
        question: "And of a network at full width on larger images?",
        command: "compile-for v5e:1x1 v6e:1x1 --data cifar10 --width 64 --batch 256 --precision bf16",
        // Minutes of compiling.
        quick: None,
    },
    Step {
        measurement: "compile-for-inference",
        question: "And of ResNet-34 at inference?",
        command: "compile-for v5e:1x1 v6e:1x1 --data cifar10 --width 64 --arch resnet34 --batch 256 --precision bf16 --inference",
        quick: None,
    },
];
// ANCHOR_END: steps

/// Runs the command: a measurement that needs a plugin which is not here is left
/// out and named.
///
/// # Errors
/// What failed; the steps before it are written.
pub fn run(args: &LearnArgs) -> anyhow::Result<u8> {
    let learn = Learn {
        chapter: "03-tpu-training",
        program: "tpu-training",
        out: &args.out,
        quick: args.quick,
        publish: args.publish,
        only: args.only.as_deref(),
    };
    learn.run(&STEPS, |step, folder| {
        if trains(step) {
            // A training begins anew, whatever an earlier run of this command has left.
            remove_run(folder)?;
        }
        Ok(words(step, args, folder))
    })
}

/// Whether its `--out` is the folder of a training.
fn trains(step: &Step) -> bool {
    step.command.contains("SCRATCH")
}

/// The arguments of a step, as a reader would type them.
fn words(step: &Step, args: &LearnArgs, folder: &Path) -> Vec<String> {
    let mut words = step.words(args.quick, |word| {
        (word == "SCRATCH").then(|| folder.display().to_string())
    });
    if !words[0].starts_with("compile-for") {
        words.extend(["--device".into(), args.device.device.to_string()]);
        if let Some(plugin) = &args.device.plugin {
            words.extend(["--plugin".into(), plugin.display().to_string()]);
        }
    }
    if !trains(step) {
        let file = folder.join("result.json");
        words.extend(["--out".into(), file.display().to_string()]);
    }
    if args.quiet {
        words.push("--quiet".into());
    }
    words
}

/// Removes checkpoints and results of an earlier run, and nothing else.
///
/// # Errors
/// If another run has the folder; if something cannot be removed.
fn remove_run(folder: &Path) -> anyhow::Result<()> {
    // Taken first: what is there may be a run that goes on.
    let _taken = RunFolder::open(&Place::from(folder), 1)?;
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        let removed = match () {
            () if name.starts_with("step-") && path.is_dir() => std::fs::remove_dir_all(&path),
            () if name == "result.json" || name == "model.safetensors" => {
                std::fs::remove_file(&path)
            }
            () => Ok(()),
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}
