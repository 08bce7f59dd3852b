//! Batch sizes 1, 2, 4 ... until the largest that was asked for, or until memory is out.

use std::time::Duration;

use accel::timing::{Plan, Samples};
use cpu_inference::engine::EngineError;

use crate::meter::{self, Consumption, Gauge};

/// What can run batches of any size.
pub trait Subject {
    /// Makes the input of a batch of this many images, and forgets the one before.
    ///
    /// # Errors
    /// [`EngineError::OutOfMemory`] if there is no room for it.
    fn prepare(&mut self, batch: usize) -> Result<(), EngineError>;

    /// Runs the batch, and waits for its logits on the host.
    ///
    /// Returns the seconds after which the host was free, before it waited.
    ///
    /// # Errors
    /// The engine's.
    fn run(&mut self) -> Result<f64, EngineError>;
}

/// One batch size that was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Images in the batch.
    pub batch: usize,
    /// Seconds of each batch.
    pub samples: Samples,
    /// Median of the seconds in which the host gave its orders.
    pub host_seconds: f64,
    /// What the device says of itself.
    pub spent: Consumption,
}

/// How a sweep ended.
#[derive(Debug)]
pub enum End {
    /// The largest batch was measured.
    Reached,
    /// A batch had no memory: a result like the others.
    OutOfMemory {
        /// Images in that batch.
        batch: usize,
        /// What was said.
        message: String,
    },
    /// Something else failed.
    Failed {
        /// Images in that batch.
        batch: usize,
        /// What failed.
        error: EngineError,
    },
}

/// How long each size is measured.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Shortest time to sample for.
    pub seconds: f64,
    /// Fewest samples, where one takes less than that time.
    pub samples: usize,
}

impl Pace {
    /// For a file that will be published.
    pub fn full() -> Self {
        Pace {
            seconds: 1.0,
            samples: 20,
        }
    }

    /// For looking.
    pub fn quick() -> Self {
        Pace {
            seconds: 0.1,
            samples: 3,
        }
    }

    /// * `expected`: seconds of one batch, as far as known
    fn plan(&self, expected: f64) -> Plan {
        // A batch of many seconds is measured twice, not twenty times.
        let few = (4.0 * self.seconds / expected.max(1e-9)).ceil();
        Plan {
            warmup: 1,
            min_samples: (few as usize).clamp(2, self.samples),
            max_samples: 1000,
            min_time: Duration::from_secs_f64(self.seconds),
        }
    }
}

// ANCHOR: sweep
/// Measures every power of two up to `most`.
///
/// * `gauge`: asked for power and energy
/// * `each`: told every size that was measured
pub fn sweep(
    subject: &mut dyn Subject,
    most: usize,
    pace: &Pace,
    gauge: Option<&dyn Gauge>,
    mut each: impl FnMut(Measured),
) -> End {
    let mut expected = pace.seconds;
    let sizes = (0..usize::BITS - 1).map(|power| 1 << power);
    for batch in sizes.take_while(|&batch| batch <= most) {
        match one(subject, batch, &pace.plan(2.0 * expected), gauge) {
            Ok(measured) => {
                expected = measured.samples.summary().map_or(expected, |s| s.median);
                each(measured);
            }
            Err(EngineError::OutOfMemory { message, .. }) => {
                return End::OutOfMemory { batch, message };
            }
            Err(error) => return End::Failed { batch, error },
        }
    }
    End::Reached
}
// ANCHOR_END: sweep

fn one(
    subject: &mut dyn Subject,
    batch: usize,
    plan: &Plan,
    gauge: Option<&dyn Gauge>,
) -> Result<Measured, EngineError> {
    subject.prepare(batch)?;
    // Tuning and compiling come first, and are no sample.
    subject.run()?;
    let mut host = vec![];
    let (samples, spent) = meter::during(gauge, || {
        let run = || subject.run().map(|seconds| host.push(seconds));
        accel::timing::measure(plan, batch, run, || Ok(()))
    });
    host.sort_by(f64::total_cmp);
    Ok(Measured {
        batch,
        samples: samples?,
        host_seconds: accel::timing::percentile(&host, 0.5),
        spent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes no time, and has memory for `room` images.
    struct Fake {
        room: usize,
        batch: usize,
        lost_at: usize,
    }

    impl Subject for Fake {
        fn prepare(&mut self, batch: usize) -> Result<(), EngineError> {
            self.batch = batch;
            if batch > self.room {
                return Err(EngineError::OutOfMemory {
                    engine: "fake",
                    images: batch,
                    message: "full".into(),
                });
            }
            Ok(())
        }

        fn run(&mut self) -> Result<f64, EngineError> {
            if self.batch >= self.lost_at {
                return Err(EngineError::DeviceLost {
                    engine: "fake",
                    message: "gone".into(),
                });
            }
            Ok(0.25)
        }
    }

    fn swept(room: usize, lost_at: usize, most: usize) -> (Vec<usize>, End) {
        let mut fake = Fake {
            room,
            batch: 0,
            lost_at,
        };
        let pace = Pace {
            seconds: 0.0,
            samples: 2,
        };
        let mut sizes = vec![];
        let end = sweep(&mut fake, most, &pace, None, |measured| {
            assert_eq!(measured.samples.items_per_sample, measured.batch);
            assert!(measured.samples.seconds.len() >= 2);
            assert_eq!(measured.host_seconds, 0.25);
            sizes.push(measured.batch);
        });
        (sizes, end)
    }

    #[test]
    fn it_goes_up_to_the_largest_batch_that_was_asked_for() {
        let (sizes, end) = swept(usize::MAX, usize::MAX, 20);
        assert_eq!(sizes, [1, 2, 4, 8, 16]);
        assert!(matches!(end, End::Reached), "{end:?}");
    }

    #[test]
    fn no_memory_is_a_result() {
        let (sizes, end) = swept(5, usize::MAX, 1 << 20);
        assert_eq!(sizes, [1, 2, 4]);
        assert!(
            matches!(&end, End::OutOfMemory { batch: 8, message } if message == "full"),
            "{end:?}"
        );
    }

    #[test]
    fn a_device_that_vanishes_is_a_failure_and_keeps_what_was_measured() {
        let (sizes, end) = swept(usize::MAX, 4, 1 << 20);
        assert_eq!(sizes, [1, 2]);
        assert!(matches!(end, End::Failed { batch: 4, .. }), "{end:?}");
    }

    #[test]
    fn a_slow_batch_is_sampled_less_often() {
        let pace = Pace::full();
        assert_eq!(pace.plan(0.001).min_samples, 20);
        assert_eq!(pace.plan(1.0).min_samples, 4);
        assert_eq!(pace.plan(100.0).min_samples, 2);
    }
}
