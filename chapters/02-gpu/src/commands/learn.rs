//! `gpu-inference learn`: the chapter in one go, with result files.

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

use crate::{cli::LearnArgs, commands::CHAPTER, device};

/// One measurement of the chapter: the name of its file, and the arguments
/// that a reader would type.
struct Step {
    measurement: &'static str,
    question: &'static str,
    command: &'static str,
    quick: &'static str,
}

// ANCHOR: steps
/// What the chapter measures.
const STEPS: [Step; 6] = [
    Step {
        measurement: "run-digits",
        question: "Does it read handwriting as chapter 1 does?",
        command: "run --data digits --batch 32",
        quick: "--quick",
    },
    Step {
        measurement: "ladder",
        question: "What does each step towards the device gain?",
        command: "ladder --arch resnet50",
        quick: "--quick",
    },
    Step {
        measurement: "tune",
        question: "Which batch size?",
        command: "tune --arch resnet50",
        quick: "--quick --max-batch 8",
    },
    Step {
        measurement: "roofline",
        question: "How fast could it be, and how fast is it?",
        command: "roofline",
        quick: "--quick --archs resnet18,resnet50",
    },
    Step {
        measurement: "pipeline",
        question: "Do the decoders keep ahead of the device?",
        command: "run --images SAMPLES --repeat REPEAT --arch resnet50 --weights random --dtype DTYPE --batch 32",
        quick: "--quick --repeat 32",
    },
    Step {
        measurement: "engines",
        question: "And with other engines?",
        command: "engines",
        quick: "--quick",
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
    let program = std::env::current_exe().context("cannot find this program")?;
    // Chosen once, and named to every step: all must measure the same device.
    let setting = device::apply(&args.device, args.quiet)?;
    let place = Place {
        device: setting.device_name(),
        gpu: setting.device.is_cuda(),
        samples: &samples,
    };
    let wanted = |step: &&Step| {
        let only = args.only.as_deref();
        only.is_none_or(|part| step.measurement.contains(part))
    };
    let mut left_out = vec![];
    let mut code = exit::OK;
    for step in STEPS.iter().filter(wanted) {
        let folder = args.out.join(step.measurement);
        let words = words(step, args, &place);
        print_line(&format!(
            "\n{}\n$ gpu-inference {}",
            step.question,
            words.join(" ")
        ))?;
        let result = folder.join("result.json");
        let out = match words[0].as_str() {
            "run" => &folder,
            _ => &result,
        };
        // A process of its own: memory and malloc start afresh, Ctrl-C reaches it,
        // and the file has the command that a reader can type.
        let status = Command::new(&program)
            .args(&words)
            .arg("--out")
            .arg(out)
            .status()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let exit = status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(exit::FAILED);
        match exit {
            exit::OK => {}
            exit::FAILED if result.is_file() => code = exit::FAILED,
            exit::DEVICE => {
                left_out.push(step.measurement);
                continue;
            }
            exit::INTERRUPTED => return Ok(exit),
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
    Ok(code)
}

/// What the words of a step stand for here.
struct Place<'a> {
    device: String,
    gpu: bool,
    samples: &'a Path,
}

/// The arguments of a step, as a reader would type them.
fn words(step: &Step, args: &LearnArgs, place: &Place) -> Vec<String> {
    let mut words: Vec<String> = step
        .command
        .split_whitespace()
        .map(|word| match (word, place.gpu) {
            ("SAMPLES", _) => place.samples.display().to_string(),
            // Some seconds of work.
            ("REPEAT", true) => "5000".to_owned(),
            ("REPEAT", false) => "160".to_owned(),
            ("DTYPE", true) => "bf16".to_owned(),
            ("DTYPE", false) => "f32".to_owned(),
            _ => word.to_owned(),
        })
        .collect();
    let quick: Vec<&str> = match args.quick {
        true => step.quick.split_whitespace().collect(),
        false => vec![],
    };
    // A flag that quick mode gives again replaces the first.
    for flag in quick.iter().filter(|word| word.starts_with("--")) {
        if let Some(at) = words.iter().position(|word| word == flag) {
            words.drain(at..at + 2);
        }
    }
    words.extend(quick.into_iter().map(str::to_owned));
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
    words
}

/// Published: by date and commit. A reader's own: `<slug>/<measurement>.json`.
fn path(args: &LearnArgs, root: Option<&Path>, file: &ResultFile) -> PathBuf {
    let slug = file.environment.machine_slug();
    if args.publish {
        let root = root.unwrap_or(Path::new("."));
        published_dir(root, CHAPTER.name, &slug, &file.measurement).join(file.published_name())
    } else {
        args.out
            .join(slug)
            .join(format!("{}.json", file.measurement))
    }
}
