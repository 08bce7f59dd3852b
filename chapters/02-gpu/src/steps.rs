//! The steps of the ladder: what each changes, and what it is compared with.

use cpu_inference::tch_engine::{Dtype, Rung};
use serde_json::{Value, json};

use crate::feed::Feed;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Id of its row.
    pub name: &'static str,
    /// For people.
    pub label: &'static str,
    /// How far the network is prepared.
    pub rung: Rung,
    /// Number format.
    pub dtype: Dtype,
    /// Whether f32 products may be rounded to TF32, as libtorch comes.
    pub tf32: bool,
    /// Whether cuDNN tries its kernels.
    pub autotune: bool,
    /// Where the batch lies.
    pub feed: Feed,
    /// Whether only a GPU has it.
    pub gpu: bool,
    /// The steps that it is compared with: the first of them that was measured.
    pub over: &'static [&'static str],
}

/// The variable by which NVIDIA's libraries are kept from TF32, in the whole process.
///
/// Source: cuBLAS and cuDNN documentation, `NVIDIA_TF32_OVERRIDE`.
pub const TF32_OFF: (&str, &str) = ("NVIDIA_TF32_OVERRIDE", "0");

const GPU: Step = Step {
    name: "",
    label: "",
    rung: Rung::Eager,
    dtype: Dtype::F32,
    tf32: true,
    autotune: true,
    feed: Feed::Device,
    gpu: true,
    over: &[],
};
const BOTH: Step = Step { gpu: false, ..GPU };

// ANCHOR: steps
/// All steps, lowest first.
pub const STEPS: [Step; 11] = [
    Step {
        name: "eager-f32",
        label: "eager, f32",
        tf32: false,
        autotune: false,
        ..BOTH
    },
    Step {
        name: "tf32",
        label: "products in TF32",
        autotune: false,
        over: &["eager-f32"],
        ..GPU
    },
    Step {
        name: "autotuned",
        label: "cuDNN's autotuner",
        over: &["tf32"],
        ..GPU
    },
    Step {
        name: "folded",
        label: "batch norm folded",
        rung: Rung::Folded,
        over: &["autotuned", "eager-f32"],
        ..BOTH
    },
    Step {
        name: "channels-last",
        label: "channels last",
        rung: Rung::ChannelsLast,
        over: &["folded"],
        ..BOTH
    },
    Step {
        name: "bf16",
        label: "bf16",
        rung: Rung::ChannelsLast,
        dtype: Dtype::Bf16,
        over: &["channels-last"],
        ..BOTH
    },
    Step {
        name: "f16",
        label: "f16",
        rung: Rung::ChannelsLast,
        dtype: Dtype::F16,
        over: &["channels-last"],
        ..GPU
    },
    Step {
        name: "fused",
        label: "bf16, one kernel a layer",
        rung: Rung::Fused,
        dtype: Dtype::Bf16,
        over: &["bf16"],
        ..GPU
    },
    Step {
        name: "pageable",
        label: "the batch in host memory",
        feed: Feed::Pageable,
        over: &["fused", "bf16", "channels-last"],
        ..BOTH
    },
    Step {
        name: "pinned",
        label: "the batch in pinned host memory",
        feed: Feed::Pinned,
        over: &["pageable"],
        ..GPU
    },
    Step {
        name: "queued",
        label: "copies that do not block",
        feed: Feed::Queued,
        over: &["pinned"],
        ..GPU
    },
];
// ANCHOR_END: steps

impl Step {
    /// What its process needs in its environment.
    pub fn environment(&self) -> &'static [(&'static str, &'static str)] {
        match self.tf32 {
            true => &[],
            false => &[TF32_OFF],
        }
    }

    /// Whether it measures the way of the batch, with the best network of the steps before.
    pub fn feeds(&self) -> bool {
        self.feed != Feed::Device
    }

    /// The network of another step, fed in this one's way.
    pub fn with_network_of(self, best: &Step) -> Step {
        Step {
            rung: best.rung,
            dtype: best.dtype,
            ..self
        }
    }

    /// What belongs into a request to a worker.
    pub fn request(&self) -> Value {
        json!({
            "engine": format!("tch-{}", self.rung),
            "dtype": self.dtype,
            "autotune": self.autotune,
            "feed": self.feed.name(),
        })
    }

    /// Largest difference of a logit from f32 that rounding explains, over the largest
    /// logit. TF32 has f16's 11 bits; bf16 has 8, and the roundings of 50 layers add up.
    pub fn tolerance(&self, cuda: bool) -> f64 {
        match (self.dtype, self.tf32 && cuda) {
            (Dtype::F32, false) => 1e-4,
            (Dtype::F32, true) | (Dtype::F16, _) => 1e-2,
            (Dtype::Bf16, _) => 5e-2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_compared_with_one_before_it() {
        for (index, step) in STEPS.iter().enumerate() {
            assert_eq!(step.over.is_empty(), index == 0, "{}", step.name);
            for over in step.over {
                assert!(
                    STEPS[..index].iter().any(|s| s.name == *over),
                    "{} over {over}",
                    step.name
                );
            }
        }
    }

    #[test]
    fn each_step_changes_one_thing_over_the_one_that_it_is_compared_with() {
        let by_name = |name: &str| STEPS.iter().find(|s| s.name == name).unwrap();
        for step in STEPS.iter().filter(|s| !s.over.is_empty()) {
            let over = by_name(step.over[0]);
            let step = match step.feeds() {
                true => step.with_network_of(over),
                false => *step,
            };
            let over = match over.feeds() {
                true => over.with_network_of(&step),
                false => *over,
            };
            let changes = [
                step.rung != over.rung,
                step.dtype != over.dtype,
                step.tf32 != over.tf32,
                step.autotune != over.autotune,
                step.feed != over.feed,
            ];
            let changed = changes.iter().filter(|c| **c).count();
            assert_eq!(changed, 1, "{} over {}", step.name, over.name);
        }
    }

    #[test]
    fn tf32_is_off_in_the_first_step_alone() {
        let off: Vec<&str> = STEPS
            .iter()
            .filter(|s| !s.environment().is_empty())
            .map(|s| s.name)
            .collect();
        assert_eq!(off, ["eager-f32"]);
    }
}
