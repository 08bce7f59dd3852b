//! Runs an image as far as this machine can, and judges what it says.
//!
//! Without its device an image must say so: by the CPU in its place where nobody asked for a
//! device, by exit code 3 where somebody did.

use std::process::Command;

use anyhow::Context;

use super::image::{Accelerator, Image};
use crate::{cargo, verdict::Verdict};

/// One start of an image, and what must come of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// What it shows.
    pub shows: &'static str,
    /// In place of the image's own program.
    entrypoint: Option<&'static str>,
    arguments: Vec<String>,
    code: i32,
    /// Must be in what it writes to stdout or stderr.
    says: &'static str,
}

/// Two short trainings through Beam's runner on one machine.
const PIPELINE: &str = "parallel-training plan --epochs 1 | head -n 2 > /tmp/runs.jsonl \
    && python beam/sweep.py --runs /tmp/runs.jsonl --out /tmp/runs --result /tmp/result.json \
    --program /opt/accelerators/bin/parallel-training --device cpu";

/// Dask's, with a cluster that it starts by itself.
const DASK: &str = " --runner apache_beam.runners.dask.dask_runner.DaskRunner --dask_npartitions 2";

impl Look {
    fn own(shows: &'static str, arguments: &[&str], code: i32, says: &'static str) -> Self {
        Self {
            shows,
            entrypoint: None,
            arguments: arguments.iter().map(|&argument| argument.into()).collect(),
            code,
            says,
        }
    }

    fn with(self, entrypoint: &'static str) -> Self {
        Self {
            entrypoint: Some(entrypoint),
            ..self
        }
    }

    /// The command, with an engine's arguments before the image's name.
    pub fn command(&self, mut run: Command, tag: &str) -> Command {
        if let Some(program) = self.entrypoint {
            run.args(["--entrypoint", program]);
        }
        run.arg(tag).args(&self.arguments);
        run
    }

    /// Runs the command and judges it; what it said is shown.
    ///
    /// # Errors
    /// If the engine cannot be started.
    pub fn judge(&self, mut command: Command) -> anyhow::Result<Verdict> {
        let output = command
            .output()
            .with_context(|| format!("cannot run {}", cargo::words(&command)))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        eprint!("{text}");
        Ok(self.verdict(output.status.code(), &text))
    }

    fn verdict(&self, code: Option<i32>, text: &str) -> Verdict {
        let Some(code) = code else {
            return Verdict::Failed("ended by a signal, see above".to_owned());
        };
        if code != self.code {
            let expected = self.code;
            return Verdict::Failed(format!("exit code {code}, expected {expected}; see above"));
        }
        match text.contains(self.says) {
            true => Verdict::Passed,
            false => Verdict::Failed(format!("it does not say {:?}, see above", self.says)),
        }
    }
}

/// How an image is looked at.
///
/// * `accelerator`: what this machine has of what the image can use
pub fn looks(image: Image, accelerator: Option<Accelerator>) -> Vec<Look> {
    let user = Look::own("its user", &["-u"], 0, "65532").with("id");
    let pipeline = |shows, more: &str| {
        let script = format!("{PIPELINE}{more}");
        Look::own(shows, &["-c", &script], 0, "2 runs done, 0 failed").with("sh")
    };
    let fallback = ["run", "--quick", "--device", "cuda", "--fallback"];
    match (image, accelerator) {
        (Image::Cpu, _) => vec![
            user,
            Look::own("its quick run", &[], 0, "accuracy"),
            Look::own("a device it has not", &fallback[..4], 3, "not available"),
        ],
        (Image::Gpu, Some(_)) => vec![
            user,
            Look::own("its quick run", &[], 0, "device cuda:0"),
            Look::own(
                "chapter 3 on the GPU",
                &["train", "--quick", "--device", "cuda"],
                0,
                "device cuda:0",
            )
            .with("tpu-training"),
        ],
        (Image::Gpu, None) => vec![
            user,
            Look::own("its quick run without a GPU", &[], 0, "device cpu"),
            Look::own("a GPU that is not here", &fallback[..4], 3, "not available"),
            Look::own("--fallback", &fallback, 0, "going on with cpu"),
            Look::own(
                "chapter 3 without a GPU",
                &["train", "--quick", "--device", "cuda"],
                3,
                "not available",
            )
            .with("tpu-training"),
        ],
        (Image::Tpu, here) => {
            let mut looks = vec![
                user,
                Look::own("its quick training", &[], 0, "accuracy"),
                Look::own(
                    "compiling for a TPU",
                    &["compile-for", "v5e:1x1"],
                    0,
                    "v5e:1x1",
                ),
            ];
            if here.is_none() {
                let named = ["train", "--quick", "--device", "tpu"];
                looks.push(Look::own(
                    "a TPU that is not here",
                    &named,
                    3,
                    "not available",
                ));
            }
            looks
        }
        (Image::Beam | Image::BeamGpu | Image::BeamTpu, _) => {
            vec![pipeline("Beam's runner on one machine", "")]
        }
        (Image::BeamDask, _) => vec![pipeline("Dask's runner", DASK)],
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_exit_code_and_the_words_count() {
        let look = Look::own("a", &[], 3, "not available");
        assert_eq!(
            look.verdict(Some(3), "cuda is not available"),
            Verdict::Passed
        );
        for (code, text, said) in [
            (Some(0), "cuda is not available", "exit code 0, expected 3"),
            (Some(3), "", "does not say \"not available\""),
            (None, "not available", "signal"),
        ] {
            match look.verdict(code, text) {
                Verdict::Failed(reason) => assert!(reason.contains(said), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn every_image_is_run_and_none_but_beams_as_root() {
        for &image in Image::value_variants() {
            for accelerator in [None, image.accelerator()] {
                let looks = looks(image, accelerator);
                assert!(!looks.is_empty(), "{image:?}");
                let user = looks.iter().any(|look| look.entrypoint == Some("id"));
                assert_eq!(user, !image.is_beams(), "{image:?}");
            }
        }
    }
}
