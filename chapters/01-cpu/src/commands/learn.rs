//! `cpu-inference learn`: the chapter in one go, with result files.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use accel::{
    checkout::checkout_root,
    exit,
    results::{ResultFile, published_dir},
};
use anyhow::Context;

use crate::{cli::LearnArgs, failure::print_line, setting};

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
const STEPS: [Step; 9] = [
    Step {
        measurement: "batch",
        question: "Is a larger batch faster, and what has malloc to do with it?",
        command: "ladder --arch resnet50 --rungs eager,channels-last --dtypes f32 --batch 1,8,32 --both-mallocs --rounds 5",
        quick: "--quick --rungs eager --batch 1,32",
    },
    Step {
        measurement: "digits",
        question: "Does it read handwriting?",
        command: "run --data digits --batch 32",
        quick: "--quick",
    },
    Step {
        measurement: "ladder-digits",
        question: "Does a faster rung still read it?",
        command: "ladder --weights digits --batch 32 --rounds 20",
        quick: "--quick",
    },
    Step {
        measurement: "ladder",
        question: "How fast is ResNet-50, and which rung matters?",
        command: "ladder --arch resnet50 --batch 8 --rungs eager,folded,channels-last,prepacked,streams",
        quick: "--quick",
    },
    Step {
        measurement: "threads",
        question: "What does each core add?",
        command: "ladder --arch resnet50 --batch 8 --rungs prepacked --dtypes f32 --thread-counts THREADS --rounds 5",
        quick: "--quick",
    },
    Step {
        measurement: "ladder-small",
        question: "And one small image at a time?",
        command: "ladder --arch resnet18 --image 32 --batch 1 --rungs eager,folded,channels-last,prepacked,trimmed --dtypes f32 --rounds 20",
        quick: "--quick",
    },
    Step {
        measurement: "pipeline",
        question: "What do the stages around the model cost?",
        command: "run --images SAMPLES --repeat 160 --arch resnet50 --weights random --rung streams --batch 32",
        quick: "--quick --repeat 32",
    },
    Step {
        measurement: "pipeline-barriers",
        question: "The same with a barrier at every layer?",
        command: "run --images SAMPLES --repeat 160 --arch resnet50 --weights random --rung prepacked --batch 32",
        quick: "--quick --repeat 32",
    },
    Step {
        measurement: "memory",
        question: "Does memory grow with the stream?",
        // Small images: 10,000 of them take less than a minute.
        command: "run --images SAMPLES --repeat 5000 --arch resnet18 --weights random --image 96 --rung streams --batch 32",
        quick: "--quick --repeat 250",
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
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut code = exit::OK;
    for step in &STEPS {
        let words = words(step, &args, &samples);
        print_line(&format!(
            "\n{}\n$ cpu-inference {}",
            step.question,
            words.join(" ")
        ))?;
        let out = args.out.join(step.measurement);
        let result = out.join("result.json");
        let out = match words[0].as_str() {
            "ladder" => &result,
            _ => &out,
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
        code = code.max(exit);
        match exit {
            exit::OK | exit::FAILED if result.is_file() => {}
            exit::INTERRUPTED => return Ok(exit),
            _ => anyhow::bail!("measuring {} failed ({status})", step.measurement),
        }
        let mut file =
            ResultFile::read(&result).with_context(|| format!("measuring {}", step.measurement))?;
        step.measurement.clone_into(&mut file.measurement);
        let path = path(&args, root.as_deref(), &file);
        file.write(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(code)
}

/// The arguments of a step, as a reader would type them.
fn words(step: &Step, args: &LearnArgs, samples: &Path) -> Vec<String> {
    let quick: Vec<&str> = match args.quick {
        true => step.quick.split_whitespace().collect(),
        false => vec![],
    };
    let mut words: Vec<String> = step
        .command
        .split_whitespace()
        .map(|word| match word {
            "SAMPLES" => samples.display().to_string(),
            "THREADS" => thread_counts(),
            _ => word.to_owned(),
        })
        .collect();
    // A flag that quick mode gives again replaces the first.
    for flag in quick.iter().filter(|word| word.starts_with("--")) {
        if let Some(at) = words.iter().position(|word| word == flag) {
            words.drain(at..at + 2);
        }
    }
    words.extend(quick.into_iter().map(str::to_owned));
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

/// Published: by date and commit. A reader's own: `<slug>/<measurement>.json`.
fn path(args: &LearnArgs, root: Option<&Path>, file: &ResultFile) -> PathBuf {
    let slug = file.environment.machine_slug();
    if args.publish {
        let root = root.unwrap_or(Path::new("."));
        published_dir(root, "01-cpu", &slug, &file.measurement).join(file.published_name())
    } else {
        args.out
            .join(slug)
            .join(format!("{}.json", file.measurement))
    }
}
