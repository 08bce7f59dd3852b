//! Measuring: warm-up, every sample kept, and the statistics made from them.
//!
//! A measurement is a list of [`Samples`]; a [`Summary`] is derived from it and
//! never stored in its place, so that a reader can compute another one.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How long to measure.
///
/// Sampling goes on until there are `min_samples` and `min_time` has passed, and
/// ends in any case at `max_samples` (or at `min_samples`, if that is more).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Runs before the first sample, timed but kept apart: the first runs pay for
    /// lazy initialisation, cold caches and kernel selection.
    pub warmup: usize,
    /// The fewest samples to take; 0 counts as 1.
    pub min_samples: usize,
    /// The most samples to take.
    pub max_samples: usize,
    /// The shortest time to sample for, without the warm-up.
    pub min_time: Duration,
}

impl Default for Plan {
    /// 3 runs of warm-up, then 10 to 1,000 samples over at least 3 seconds:
    /// hyperfine's defaults, with a cap.
    fn default() -> Self {
        Self {
            warmup: 3,
            min_samples: 10,
            max_samples: 1_000,
            min_time: Duration::from_secs(3),
        }
    }
}

impl Plan {
    /// The plan of `--quick`: a figure in about half a second, for looking, not
    /// for publishing.
    pub fn quick() -> Self {
        Self {
            warmup: 1,
            min_samples: 3,
            max_samples: 50,
            min_time: Duration::from_millis(500),
        }
    }
}

/// Raw samples of one measurement. Times are wall-clock seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Samples {
    /// Items (images, steps, ...) that one sample worked through, at least 1.
    pub items_per_sample: usize,
    /// Seconds of each warm-up run, in order.
    pub warmup_seconds: Vec<f64>,
    /// Seconds of each sample, in order.
    pub seconds: Vec<f64>,
}

/// Times `run` after a warm-up and keeps every sample.
///
/// * `plan`: how often
/// * `items_per_sample`: items that one call of `run` works through
/// * `run`: one sample's work
/// * `synchronize`: waits until the device has finished what `run` started; its
///   time counts into the sample. Without it an asynchronous device would be
///   measured by how fast it takes orders. `|| Ok(())` on the CPU.
///
/// # Errors
/// The first error of `run` or `synchronize`, as it came; samples taken before
/// it are dropped.
pub fn measure<E>(
    plan: &Plan,
    items_per_sample: usize,
    mut run: impl FnMut() -> Result<(), E>,
    mut synchronize: impl FnMut() -> Result<(), E>,
) -> Result<Samples, E> {
    let mut samples = Samples {
        items_per_sample,
        ..Samples::default()
    };
    // Work queued by whoever came before must not count into the first run.
    synchronize()?;
    let mut timed = || -> Result<f64, E> {
        let start = Instant::now();
        run()?;
        synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    };
    for _ in 0..plan.warmup {
        samples.warmup_seconds.push(timed()?);
    }
    let min_samples = plan.min_samples.max(1);
    let max_samples = plan.max_samples.max(min_samples);
    let start = Instant::now();
    while samples.seconds.len() < max_samples {
        if samples.seconds.len() >= min_samples && start.elapsed() >= plan.min_time {
            break;
        }
        samples.seconds.push(timed()?);
    }
    Ok(samples)
}

/// Statistics of a list of samples. All but `n` are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Number of samples.
    pub n: usize,
    /// Shortest sample.
    pub min: f64,
    /// 50th percentile, the median.
    pub p50: f64,
    /// 95th percentile. Below 20 samples it is an interpolation towards the maximum.
    pub p95: f64,
    /// 99th percentile. Below 100 samples it is an interpolation towards the maximum.
    pub p99: f64,
    /// Longest sample.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// The median, equal to `p50`.
    pub median: f64,
    /// Interquartile range: 75th minus 25th percentile.
    pub iqr: f64,
    /// Sample standard deviation (divisor `n - 1`); 0 for one sample.
    pub standard_deviation: f64,
}

impl Summary {
    /// The summary of seconds in any order; `None` if there are none or if one of
    /// them is not a finite number.
    pub fn of(seconds: &[f64]) -> Option<Self> {
        let sorted = sorted_finite(seconds)?;
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let n = sorted.len();
        let mean = sorted.iter().sum::<f64>() / n as f64;
        let squares: f64 = sorted.iter().map(|x| (x - mean).powi(2)).sum();
        let standard_deviation = match n {
            1 => 0.0,
            _ => (squares / (n - 1) as f64).sqrt(),
        };
        let median = percentile(&sorted, 0.5);
        Some(Self {
            n,
            min,
            p50: median,
            p95: percentile(&sorted, 0.95),
            p99: percentile(&sorted, 0.99),
            max,
            mean,
            median,
            iqr: percentile(&sorted, 0.75) - percentile(&sorted, 0.25),
            standard_deviation,
        })
    }

    /// Spread relative to the median: `iqr / median`; 0 where the median is 0.
    pub fn relative_iqr(&self) -> f64 {
        if self.median > 0.0 {
            self.iqr / self.median
        } else {
            0.0
        }
    }
}

impl Samples {
    /// Statistics of the samples; `None` if there are none.
    pub fn summary(&self) -> Option<Summary> {
        Summary::of(&self.seconds)
    }

    /// Throughput: items of one sample over its median time, per second. `None` if
    /// there are no samples or the clock saw no time pass.
    pub fn items_per_second(&self) -> Option<f64> {
        let median = self.summary()?.median;
        let rate = self.items_per_sample as f64 / median;
        rate.is_finite().then_some(rate)
    }

    /// Why these samples should not be trusted, as lines for the user: a wide
    /// spread, or a first sample far from the rest. Empty when nothing is wrong.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let Some(summary) = self.summary() else {
            return warnings;
        };
        // A quiet machine keeps the middle half within a few percent.
        if summary.n >= 4 && summary.relative_iqr() > 0.10 {
            warnings.push(format!(
                "the middle half of the samples spreads over {:.0}% of the median; is something \
                 else running on this machine? Measure again on a quiet one",
                100.0 * summary.relative_iqr()
            ));
        }
        if summary.n >= 4 && summary.median > 0.0 && self.seconds[0] > 1.5 * summary.median {
            warnings.push(format!(
                "the first sample took {:.1} times the median; more runs of warm-up would help",
                self.seconds[0] / summary.median
            ));
        }
        warnings
    }
}

/// The `q`-quantile of values in rising order, with linear interpolation between
/// neighbours (type 7 of Hyndman and Fan 1996: the default of NumPy and R).
///
/// * `sorted`: in rising order; NaN if it is empty
/// * `q`: in `0.0..=1.0`, clamped to it
pub fn percentile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let position = q.clamp(0.0, 1.0) * last as f64;
    // A NaN `q` becomes index 0: a saturating cast, never out of bounds.
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    let weight = position - below as f64;
    let (low, high) = (sorted[below], sorted[above]);
    low + (high - low) * weight
}

fn sorted_finite(values: &[f64]) -> Option<Vec<f64>> {
    if !values.iter().all(|value| value.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(sorted)
}

/// A median and its 95% confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The point estimate.
    pub median: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether the interval holds this value.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// Resamples of the bootstrap. The Monte Carlo error of an end is then under a
/// hundredth of the interval's width: sqrt(0.025 * 0.975 / 10,000) over the normal
/// density at that quantile, 0.03 standard errors of an interval 3.9 wide.
const RESAMPLES: usize = 10_000;

/// Seed of the bootstrap: fixed, so that a table made twice is the same table.
const BOOTSTRAP_SEED: u64 = 0x5EED;

/// The ratio of two contenders that were measured in turn, pair by pair.
///
/// Sample `i` of both was taken in the same round, so that what slows the machine
/// for a while slows both and cancels in the ratio.
///
/// * `numerator`, `denominator`: seconds, one a round, in the order of the rounds
///
/// Returns the median of the pairwise ratios with the 2.5th and 97.5th percentile
/// of the medians of 10,000 resamples (percentile bootstrap, fixed seed). A ratio of
/// seconds under 1 says that the numerator is faster; exchange the two for a ratio
/// of rates. With few pairs the interval is too narrow: one pair gives a point,
/// take at least 10. `None` if the lists differ in length, are empty, or hold
/// something that is not a positive finite number.
///
/// Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
pub fn paired_ratio(numerator: &[f64], denominator: &[f64]) -> Option<Interval> {
    if numerator.len() != denominator.len() || numerator.is_empty() {
        return None;
    }
    let positive = |values: &[f64]| values.iter().all(|v| v.is_finite() && *v > 0.0);
    if !positive(numerator) || !positive(denominator) {
        return None;
    }
    let ratios: Vec<f64> = numerator
        .iter()
        .zip(denominator)
        .map(|(a, b)| a / b)
        .collect();
    let sorted = sorted_finite(&ratios)?;
    let mut rng = ChaCha8Rng::seed_from_u64(BOOTSTRAP_SEED);
    let mut medians = Vec::with_capacity(RESAMPLES);
    let mut resample = vec![0.0; ratios.len()];
    for _ in 0..RESAMPLES {
        for slot in &mut resample {
            *slot = ratios[rng.random_range(0..ratios.len())];
        }
        resample.sort_unstable_by(f64::total_cmp);
        medians.push(percentile(&resample, 0.5));
    }
    medians.sort_by(f64::total_cmp);
    Some(Interval {
        median: percentile(&sorted, 0.5),
        low: percentile(&medians, 0.025),
        high: percentile(&medians, 0.975),
    })
}
