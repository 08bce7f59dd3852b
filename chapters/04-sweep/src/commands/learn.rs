//! `parallel-training learn`: the chapter in one go, with result files.

use std::path::Path;

use accel::learn::{Learn, Step};
use anyhow::Context;

use crate::{cli::LearnArgs, manifest};

// ANCHOR: steps
/// What the chapter measures.
const STEPS: [Step; 7] = [
    Step {
        measurement: "sweep-18",
        question: "Which of 18 networks reads handwriting best, and how long does it take to know?",
        command: "sweep --out SCRATCH",
        quick: Some("--quick"),
    },
    Step {
        measurement: "sweep-18-one-slot",
        question: "And one after the other, each on all cores?",
        command: "sweep --slots 1 --out SCRATCH",
        quick: None,
    },
    Step {
        measurement: "halving-18",
        question: "Must every run go to its end?",
        command: "sweep --halving --out SCRATCH",
        quick: None,
    },
    Step {
        measurement: "seeds-18",
        question: "Is the winner better, or lucky?",
        command: "sweep --seeds 4 --leaders 4 --out SCRATCH",
        quick: None,
    },
    Step {
        measurement: "overhead",
        question: "What does a run cost that trains nothing?",
        command: "overhead --out RESULT",
        quick: Some("--quick"),
    },
    Step {
        measurement: "isolation",
        question: "Side by side: as threads, or as processes?",
        command: "isolation --out RESULT",
        quick: None,
    },
    Step {
        measurement: "cost-model",
        question: "And what would the 18 cost on more machines?",
        command: "cost --result SWEEP --out RESULT",
        quick: Some(""),
    },
];
// ANCHOR_END: steps

/// Runs the command.
///
/// # Errors
/// What failed; the steps before it are written.
pub fn run(args: &LearnArgs) -> anyhow::Result<u8> {
    let learn = Learn {
        chapter: "04-sweep",
        program: "parallel-training",
        out: &args.out,
        quick: args.quick,
        publish: args.publish,
        only: args.only.as_deref(),
    };
    learn.run(&STEPS, |step, folder| {
        let sweeps = step.command.contains("SCRATCH");
        if sweeps {
            // A sweep begins anew, whatever an earlier run of this command has left.
            remove_sweep(folder)?;
        }
        let place = |word: &str| match word {
            "SCRATCH" => Some(folder.display().to_string()),
            "RESULT" => Some(folder.join("result.json").display().to_string()),
            // That of the first step.
            "SWEEP" => {
                let sweep = folder.with_file_name(STEPS[0].measurement);
                Some(sweep.join("result.json").display().to_string())
            }
            _ => None,
        };
        let mut words = step.words(args.quick, place);
        if sweeps {
            words.extend(["--device".into(), args.device.device.to_string()]);
            if let Some(plugin) = &args.device.plugin {
                words.extend(["--plugin".into(), plugin.display().to_string()]);
            }
        }
        // What is computed has nothing to say on its way.
        if args.quiet && step.measurement != "cost-model" {
            words.push("--quiet".into());
        }
        Ok::<_, anyhow::Error>(words)
    })
}

/// Removes a sweep's folder, if that is what it is.
fn remove_sweep(folder: &Path) -> anyhow::Result<()> {
    if !folder.join(manifest::FILE).is_file() {
        return Ok(());
    }
    // Refused while another sweep works there.
    let taken = manifest::SweepFolder::open(folder)?;
    let removed = std::fs::remove_dir_all(folder);
    drop(taken);
    removed.with_context(|| format!("cannot remove {}", folder.display()))
}
