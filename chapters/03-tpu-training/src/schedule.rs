//! The learning rate of each step: a linear warm-up, then constant or a cosine.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the learning rate does after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// It stays at the peak.
    Constant,
    /// It falls from the peak to 0 along half a cosine (Loshchilov and Hutter, SGDR, 2016,
    /// without restarts: <https://arxiv.org/abs/1608.03983>).
    Cosine,
}

impl Shape {
    /// All shapes, in the order that help texts list them.
    pub const ALL: [Self; 2] = [Self::Constant, Self::Cosine];

    /// The name on the command line and in checkpoints.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Cosine => "cosine",
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Shape {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        Self::ALL
            .into_iter()
            .find(|shape| shape.name() == text)
            .ok_or_else(|| ScheduleError::Shape {
                got: text.to_owned(),
            })
    }
}

/// The learning rate as a function of the step.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    shape: Shape,
    peak: f64,
    warmup_steps: u64,
    total_steps: u64,
}

/// Why there is no such schedule.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// Not a name of a [`Shape`].
    #[error("schedule: expected constant or cosine, got {got:?}")]
    Shape {
        /// The text that came.
        got: String,
    },
    /// Zero, negative, infinite, or not a number.
    #[error("learning rate: expected a finite number above 0, such as 0.05, got {got}")]
    Peak {
        /// The number that came.
        got: f64,
    },
    /// The run would end before the learning rate had reached its peak.
    #[error(
        "warm-up: expected fewer steps than the run's {total_steps}, got {warmup_steps}; \
         lower --warmup-steps or train for more epochs"
    )]
    Warmup {
        /// The steps of warm-up asked for.
        warmup_steps: u64,
        /// The steps of the whole run.
        total_steps: u64,
    },
    /// A run of no steps has no learning rate.
    #[error("schedule: expected a run of at least 1 step, got 0; train for at least 1 epoch")]
    NoSteps,
}

impl Schedule {
    /// A schedule for a run.
    ///
    /// * `peak`: the learning rate after the warm-up
    /// * `warmup_steps`: steps that rise to it, fewer than `total_steps`; 0 for none
    /// * `total_steps`: steps of the whole run, all epochs together; at least 1
    ///
    /// # Errors
    /// [`ScheduleError`]: a peak that is not a finite number above 0, a warm-up as long as the
    /// run, a run of no steps.
    pub fn new(
        shape: Shape,
        peak: f64,
        warmup_steps: u64,
        total_steps: u64,
    ) -> Result<Self, ScheduleError> {
        // The step computes in f32: a peak that becomes 0 or infinite there is none, either.
        let in_f32 = peak as f32;
        if !(in_f32.is_finite() && in_f32 > 0.0) {
            return Err(ScheduleError::Peak { got: peak });
        }
        if total_steps == 0 {
            return Err(ScheduleError::NoSteps);
        }
        if warmup_steps >= total_steps {
            return Err(ScheduleError::Warmup {
                warmup_steps,
                total_steps,
            });
        }
        Ok(Self {
            shape,
            peak,
            warmup_steps,
            total_steps,
        })
    }

    /// The learning rate of one step.
    ///
    /// * `step`: its number since the run began, from 0
    ///
    /// The warm-up's step `i` has `peak * (i + 1) / (warmup_steps + 1)`, so that the first step
    /// already learns and the first one after the warm-up has the peak. The cosine has the peak
    /// there, too, and would be 0 at `total_steps`, a step that the run does not have. Later
    /// steps get what `total_steps` would: the constant, or 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / (self.warmup_steps + 1) as f64;
        }
        match self.shape {
            Shape::Constant => self.peak,
            Shape::Cosine => {
                let done = step.min(self.total_steps) - self.warmup_steps;
                let all = self.total_steps - self.warmup_steps;
                self.peak * 0.5 * (1.0 + (PI * done as f64 / all as f64).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Schedule, ScheduleError, Shape};

    fn rates(shape: Shape, peak: f64, warmup: u64, total: u64) -> Vec<f64> {
        let schedule = Schedule::new(shape, peak, warmup, total).unwrap();
        (0..total)
            .map(|step| schedule.learning_rate(step))
            .collect()
    }

    #[track_caller]
    fn assert_near(got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() <= 1e-15, "{got} for {expected}");
        }
    }

    #[test]
    fn constant_with_and_without_warm_up() {
        assert_near(&rates(Shape::Constant, 0.4, 0, 3), &[0.4; 3]);
        assert_near(
            &rates(Shape::Constant, 0.4, 3, 5),
            &[0.1, 0.2, 0.3, 0.4, 0.4],
        );
    }

    #[test]
    fn cosine_falls_from_the_peak() {
        // Four steps: the cosine of 0, 45, 90 and 135 degrees.
        let half = 0.5_f64.sqrt() / 2.0;
        assert_near(
            &rates(Shape::Cosine, 1.0, 0, 4),
            &[1.0, 0.5 + half, 0.5, 0.5 - half],
        );
        assert_near(
            &rates(Shape::Cosine, 1.0, 1, 5),
            &[0.5, 1.0, 0.5 + half, 0.5, 0.5 - half],
        );
    }

    #[test]
    fn it_rises_then_falls_and_stays_above_0() {
        let rates = rates(Shape::Cosine, 0.1, 100, 1_000);
        assert!(rates[..=100].is_sorted_by(|a, b| a < b));
        assert!(rates[100..].is_sorted_by(|a, b| a > b));
        assert_eq!(rates[100], 0.1);
        assert!(rates.iter().all(|rate| *rate > 0.0));
    }

    #[test]
    fn steps_after_the_end_have_the_last_value() {
        let after = |shape| {
            let schedule = Schedule::new(shape, 0.1, 2, 10).unwrap();
            [10, 11, u64::MAX].map(|step| schedule.learning_rate(step))
        };
        assert_eq!(after(Shape::Constant), [0.1; 3]);
        assert_near(&after(Shape::Cosine), &[0.0; 3]);
    }

    #[test]
    fn peaks_that_do_not_learn_are_refused() {
        // The last two become 0 and infinite where the step computes, in f32.
        for peak in [0.0, -0.0, -0.1, f64::NAN, f64::INFINITY, 1e-50, 1e39] {
            let error = Schedule::new(Shape::Cosine, peak, 0, 10).unwrap_err();
            assert!(
                matches!(error, ScheduleError::Peak { .. }),
                "{peak}: {error}"
            );
            assert!(
                error.to_string().ends_with(&format!("got {peak}")),
                "{error}"
            );
        }
    }

    #[test]
    fn warm_ups_and_runs_of_no_use_are_refused() {
        for warmup_steps in [10, 11, u64::MAX] {
            let error = Schedule::new(Shape::Constant, 0.1, warmup_steps, 10).unwrap_err();
            let expected = ScheduleError::Warmup {
                warmup_steps,
                total_steps: 10,
            };
            assert_eq!(error, expected);
        }
        let error = Schedule::new(Shape::Constant, 0.1, 0, 0).unwrap_err();
        assert_eq!(error, ScheduleError::NoSteps);
    }

    #[test]
    fn shapes_have_names() {
        for shape in Shape::ALL {
            assert_eq!(shape.to_string().parse(), Ok(shape));
            assert_eq!(serde_json::json!(shape), shape.name());
        }
        assert_eq!(
            "linear".parse::<Shape>().unwrap_err().to_string(),
            "schedule: expected constant or cosine, got \"linear\""
        );
    }
}
