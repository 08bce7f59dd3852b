//! `tpu-training learn`: the chapter in one go, with result files.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use accel::{
    checkout::checkout_root,
    exit,
    results::{ResultFile, published_dir},
    stdout::print_line,
};
use anyhow::Context;

use crate::{cli::LearnArgs, failure::Refused, run_folder::RunFolder, store::Place};

/// One measurement of the chapter: the name of its file, and the arguments
/// that a reader would type.
struct Step {
    measurement: &'static str,
    question: &'static str,
    command: &'static str,
    /// In place of `--quick`, where that is not all; None: left out of quick mode.
    quick: Option<&'static str>,
}

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
    let root = checkout_root();
    let program = std::env::current_exe().context("cannot find this program")?;
    let wanted = |step: &&Step| {
        let named = args
            .only
            .as_ref()
            .is_none_or(|part| step.measurement.contains(part.as_str()));
        named && (!args.quick || step.quick.is_some())
    };
    if !STEPS.iter().any(|step| wanted(&step)) {
        let possible = STEPS
            .iter()
            .filter(|step| !args.quick || step.quick.is_some());
        let possible: Vec<_> = possible.map(|step| step.measurement).collect();
        return Err(Refused(format!(
            "--only {}: no such measurement; expected a part of one of {}",
            args.only.as_deref().unwrap_or_default(),
            possible.join(", ")
        ))
        .into());
    }
    let mut left_out = vec![];
    for step in STEPS.iter().filter(wanted) {
        let folder = args.out.join(step.measurement);
        let words = words(step, args, &folder);
        print_line(&format!(
            "\n{}\n$ tpu-training {}",
            step.question,
            words.join(" ")
        ))?;
        if step.command.contains("SCRATCH") {
            // A training begins anew, whatever an earlier run of this command has left.
            remove_run(&folder)?;
        }
        // A process of its own: memory starts afresh, Ctrl-C reaches it, and the file has the
        // command that a reader can type.
        let status = Command::new(&program)
            .args(&words)
            .status()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let result = folder.join("result.json");
        match status.code().and_then(|code| u8::try_from(code).ok()) {
            Some(exit::OK) => {}
            Some(exit::INTERRUPTED) => return Ok(exit::INTERRUPTED),
            Some(exit::DEVICE) => {
                left_out.push(step.measurement);
                continue;
            }
            _ => anyhow::bail!("measuring {} failed ({status})", step.measurement),
        }
        let mut file =
            ResultFile::read(&result).with_context(|| format!("measuring {}", step.measurement))?;
        step.measurement.clone_into(&mut file.measurement);
        let path = path(args, root.as_deref(), &file);
        file.write(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if !left_out.is_empty() {
        print_line(&format!(
            "\nleft out, for the reasons above: {}",
            left_out.join(", ")
        ))?;
    }
    Ok(exit::OK)
}

/// The arguments of a step, as a reader would type them.
fn words(step: &Step, args: &LearnArgs, folder: &Path) -> Vec<String> {
    let trains = step.command.contains("SCRATCH");
    let mut words: Vec<String> = step
        .command
        .split_whitespace()
        .map(|word| match word {
            "SCRATCH" => folder.display().to_string(),
            _ => word.to_owned(),
        })
        .collect();
    let quick: Vec<&str> = match (args.quick, step.quick) {
        (true, Some(words)) => words.split_whitespace().collect(),
        _ => vec![],
    };
    // A flag that quick mode gives again replaces the first.
    for flag in quick.iter().filter(|word| word.starts_with("--")) {
        if let Some(at) = words.iter().position(|word| word == flag) {
            words.drain(at..at + 2);
        }
    }
    words.extend(quick.into_iter().map(str::to_owned));
    if !words[0].starts_with("compile-for") {
        words.extend(["--device".into(), args.device.device.to_string()]);
        if let Some(plugin) = &args.device.plugin {
            words.extend(["--plugin".into(), plugin.display().to_string()]);
        }
    }
    if !trains {
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

/// Published: by date and commit. A reader's own: `<slug>/<measurement>.json`.
fn path(args: &LearnArgs, root: Option<&Path>, file: &ResultFile) -> PathBuf {
    let slug = file.environment.machine_slug();
    if args.publish {
        let root = root.unwrap_or(Path::new("."));
        published_dir(root, "03-tpu-training", &slug, &file.measurement).join(file.published_name())
    } else {
        args.out
            .join(slug)
            .join(format!("{}.json", file.measurement))
    }
}
