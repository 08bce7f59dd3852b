//! `cpu-inference learn`: the chapter in one go, with result files.

use std::path::{Path, PathBuf};

use accel::{
    checkout::checkout_root,
    exit,
    results::{ResultFile, published_dir},
};
use anyhow::Context;
use clap::Parser;

use super::{ladder, run};
use crate::{
    cli::{LadderArgs, LearnArgs, RunArgs},
    failure::print_line,
};

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
        measurement: "ladder-resnet50-b8",
        question: "How fast is ResNet-50, and which rung matters?",
        command: "ladder --arch resnet50 --batch 8",
        quick: "--quick",
    },
    Step {
        measurement: "ladder-small-b1",
        question: "And one small image at a time?",
        command: "ladder --arch resnet18 --image 32 --batch 1 --rounds 20",
        quick: "--quick",
    },
    Step {
        measurement: "pipeline-photographs",
        question: "What do the stages around the model cost?",
        command: "run --images SAMPLES --repeat 160 --arch resnet50 --weights random --rung prepacked --batch 32",
        quick: "--quick --repeat 32",
    },
    Step {
        measurement: "memory-10000",
        question: "Does memory grow with the stream?",
        command: "run --data digits --count 10000 --batch 32",
        quick: "--quick",
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
    let mut code = exit::OK;
    for step in &STEPS {
        print_line(&format!("\n{} ({})", step.question, step.command))?;
        let (file, lines, exit) = measure(step, &args, &samples)
            .with_context(|| format!("measuring {}", step.measurement))?;
        for line in lines {
            print_line(&line)?;
        }
        let path = path(&args, root.as_deref(), &file);
        file.write(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        code = code.max(exit);
        if exit == exit::INTERRUPTED {
            break;
        }
    }
    Ok(code)
}

fn measure(
    step: &Step,
    args: &LearnArgs,
    samples: &Path,
) -> anyhow::Result<(ResultFile, Vec<String>, u8)> {
    let quick = if args.quick { step.quick } else { "" };
    let mut words: Vec<String> = step
        .command
        .split_whitespace()
        .map(|word| match word {
            "SAMPLES" => samples.display().to_string(),
            _ => word.to_owned(),
        })
        .collect();
    // A flag given again replaces the first.
    for pair in quick.split_whitespace() {
        match words.iter().position(|word| word == pair && pair != "--quick") {
            Some(at) => {
                words.drain(at..at + 2);
                words.push(pair.to_owned());
            }
            None => words.push(pair.to_owned()),
        }
    }
    words.push("--device".into());
    words.push(args.device.device.to_string());
    if let Some(threads) = args.device.threads {
        words.extend(["--threads".into(), threads.to_string()]);
    }
    if args.quiet {
        words.push("--quiet".into());
    }
    if words[0] == "ladder" {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: LadderArgs,
        }
        let args = Line::try_parse_from(&words)?.args;
        let file = ladder::measure(&args, step.measurement)?;
        let lines = ladder::table(&file);
        return Ok((file, lines, exit::OK));
    }
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }
    let predictions = PathBuf::from("results-local/01-cpu").join(step.measurement);
    let out = if args.publish {
        predictions
    } else {
        args.out.join(step.measurement)
    };
    words.extend(["--out".into(), out.display().to_string()]);
    let args = Line::try_parse_from(&words)?.args;
    let outcome = run::classify(&args)?;
    let file = run::result_file(step.measurement, &outcome);
    Ok((file, run::lines(&outcome), run::exit_code(&outcome)))
}

/// Published: by date and commit. A reader's own: `<slug>/<measurement>.json`.
fn path(args: &LearnArgs, root: Option<&Path>, file: &ResultFile) -> PathBuf {
    let slug = file.environment.machine_slug();
    if args.publish {
        let root = root.unwrap_or(Path::new("."));
        published_dir(root, "01-cpu", &slug, &file.measurement).join(file.published_name())
    } else {
        args.out.join(slug).join(format!("{}.json", file.measurement))
    }
}
