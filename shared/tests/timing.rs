//! Measuring, and the statistics made from samples.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::time::Duration;

use accel::timing::{Plan, Samples, Summary, measure, paired_ratio, percentile};
use proptest::prelude::*;

fn plan(warmup: usize, min_samples: usize, max_samples: usize, min_ms: u64) -> Plan {
    Plan {
        warmup,
        min_samples,
        max_samples,
        min_time: Duration::from_millis(min_ms),
    }
}

fn samples(seconds: &[f64]) -> Samples {
    Samples {
        items_per_sample: 8,
        warmup_seconds: vec![],
        seconds: seconds.to_vec(),
    }
}

#[test]
fn runs_and_synchronizations_alternate_from_a_quiet_device() {
    let order = RefCell::new(String::new());
    let run = || {
        order.borrow_mut().push('r');
        Ok::<_, Infallible>(())
    };
    let synchronize = || {
        order.borrow_mut().push('s');
        Ok(())
    };
    let taken = measure(&plan(2, 3, 3, 0), 8, run, synchronize).unwrap();
    assert_eq!(order.into_inner(), "s rs rs rs rs rs".replace(' ', ""));
    assert_eq!(taken.items_per_sample, 8);
    assert_eq!(taken.warmup_seconds.len(), 2);
    assert_eq!(taken.seconds.len(), 3);
    assert!(taken.seconds.iter().all(|s| *s >= 0.0));
}

#[test]
fn the_wait_for_the_device_counts_into_the_sample() {
    let wait = || {
        std::thread::sleep(Duration::from_millis(5));
        Ok::<_, Infallible>(())
    };
    let taken = measure(&plan(1, 2, 2, 0), 1, || Ok(()), wait).unwrap();
    for seconds in taken.seconds.iter().chain(&taken.warmup_seconds) {
        assert!(*seconds >= 0.005, "{taken:?}");
    }
}

#[test]
fn the_plan_bounds_the_number_of_samples() {
    let count = |plan: &Plan| {
        let nothing = || Ok::<_, Infallible>(());
        measure(plan, 1, nothing, nothing).unwrap().seconds.len()
    };
    // Time left, but enough samples.
    assert_eq!(count(&plan(0, 1, 7, 60_000)), 7);
    // No time asked for: the fewest.
    assert_eq!(count(&plan(0, 4, 100, 0)), 4);
    // A contradiction: the fewest win, and there is always one.
    assert_eq!(count(&plan(0, 5, 2, 0)), 5);
    assert_eq!(count(&plan(0, 0, 0, 0)), 1);
    // Time counts: sleeping 2 ms for 20 ms cannot take a thousand samples.
    let sleepy = || {
        std::thread::sleep(Duration::from_millis(2));
        Ok::<_, Infallible>(())
    };
    let taken = measure(&plan(0, 1, 1000, 20), 1, sleepy, || Ok(())).unwrap();
    assert!((2..=11).contains(&taken.seconds.len()), "{taken:?}");
}

#[test]
fn the_first_error_ends_the_measurement() {
    let runs = Cell::new(0);
    let run = || {
        runs.set(runs.get() + 1);
        if runs.get() == 3 {
            Err("out of memory")
        } else {
            Ok(())
        }
    };
    assert_eq!(
        measure(&plan(1, 5, 5, 0), 1, run, || Ok(())),
        Err("out of memory")
    );
    assert_eq!(runs.get(), 3);
    assert_eq!(
        measure(&plan(0, 1, 1, 0), 1, || Ok(()), || Err("device lost")),
        Err("device lost")
    );
}

#[test]
fn percentiles_are_those_of_numpy() {
    // numpy.percentile([15, 20, 35, 40, 50], [5, 30, 40, 50, 95, 99])
    let sorted = [15.0, 20.0, 35.0, 40.0, 50.0];
    for (q, expected) in [
        (0.0, 15.0),
        (0.05, 16.0),
        (0.3, 23.0),
        (0.4, 29.0),
        (0.5, 35.0),
        (0.95, 48.0),
        (0.99, 49.6),
        (1.0, 50.0),
        (-1.0, 15.0),
        (2.0, 50.0),
    ] {
        assert!((percentile(&sorted, q) - expected).abs() < 1e-9, "{q}");
    }
    assert_eq!(percentile(&[7.0], 0.99), 7.0);
    assert!(percentile(&[], 0.5).is_nan());
    assert!(percentile(&sorted, f64::NAN).is_nan());
}

#[test]
fn a_summary_is_that_of_the_textbook() {
    let summary = samples(&[4.0, 2.0, 8.0, 6.0]).summary().unwrap();
    assert_eq!((summary.n, summary.min, summary.max), (4, 2.0, 8.0));
    assert_eq!((summary.mean, summary.median, summary.p50), (5.0, 5.0, 5.0));
    assert_eq!(summary.iqr, 3.0);
    assert!((summary.standard_deviation - (20.0f64 / 3.0).sqrt()).abs() < 1e-12);
    assert!((summary.p95 - 7.7).abs() < 1e-12);
    assert_eq!(summary.relative_iqr(), 0.6);

    let one = samples(&[2.0]).summary().unwrap();
    assert_eq!(
        (one.n, one.iqr, one.standard_deviation, one.p99),
        (1, 0.0, 0.0, 2.0)
    );
    assert_eq!(samples(&[]).summary(), None);
    assert_eq!(samples(&[1.0, f64::NAN]).summary(), None);
    assert_eq!(samples(&[1.0, f64::INFINITY]).summary(), None);
}

#[test]
fn throughput_is_items_over_the_median() {
    assert_eq!(samples(&[0.5, 0.25, 100.0]).items_per_second(), Some(16.0));
    assert_eq!(samples(&[]).items_per_second(), None);
    assert_eq!(samples(&[0.0]).items_per_second(), None);
}

#[test]
fn warnings_name_a_noisy_machine_and_a_cold_start() {
    assert!(samples(&[1.0, 1.01, 0.99, 1.0, 1.02]).warnings().is_empty());
    assert!(samples(&[]).warnings().is_empty());
    assert!(samples(&[1.0, 9.0]).warnings().is_empty());
    let noisy = samples(&[1.0, 2.0, 1.0, 2.0, 1.5]).warnings();
    assert!(
        noisy.len() == 1 && noisy[0].contains("spreads over"),
        "{noisy:?}"
    );
    let cold = samples(&[5.0, 1.0, 1.0, 1.0, 1.0, 1.0]).warnings();
    assert!(cold.len() == 1 && cold[0].contains("warm-up"), "{cold:?}");
}

#[test]
fn a_ratio_of_rounds_cancels_what_slows_both() {
    // The machine slows threefold half-way through; one contender takes 0.8 of the other.
    let slow = |round: usize| if round < 10 { 1.0 } else { 3.0 };
    let noise = |round: usize| 1.0 + 0.01 * ((round * 7919 % 11) as f64 - 5.0) / 5.0;
    let reference: Vec<f64> = (0..20).map(slow).collect();
    let faster: Vec<f64> = (0..20).map(|r| 0.8 * slow(r) * noise(r)).collect();
    let ratio = paired_ratio(&faster, &reference).unwrap();
    assert!((ratio.median - 0.8).abs() < 0.01, "{ratio:?}");
    assert!(ratio.low > 0.79 && ratio.high < 0.81, "{ratio:?}");
    assert!(ratio.low <= ratio.median && ratio.median <= ratio.high);
    assert!(ratio.contains(0.8) && !ratio.contains(1.0));
    // The same samples give the same interval, whenever the table is made.
    assert_eq!(paired_ratio(&faster, &reference), Some(ratio));
}

#[test]
fn a_ratio_covers_the_truth_about_as_often_as_it_says() {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let trials = 100;
    let covered = (0..trials)
        .filter(|_| {
            // Log-uniform noise around a true ratio of 1.2.
            let pairs: Vec<(f64, f64)> = (0..15)
                .map(|_| (1.2 * rng.random_range(-0.1f64..0.1).exp(), 1.0))
                .collect();
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            paired_ratio(&a, &b).unwrap().contains(1.2)
        })
        .count();
    // 95 of 100 expected; the percentile bootstrap of a median runs a little wide.
    assert!((88..=100).contains(&covered), "{covered} of {trials}");
}

#[test]
fn a_ratio_needs_pairs_of_positive_numbers() {
    assert_eq!(paired_ratio(&[], &[]), None);
    assert_eq!(paired_ratio(&[1.0], &[1.0, 2.0]), None);
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(paired_ratio(&[1.0, bad], &[1.0, 1.0]), None, "{bad}");
        assert_eq!(paired_ratio(&[1.0, 1.0], &[1.0, bad]), None, "{bad}");
    }
    let point = paired_ratio(&[3.0], &[2.0]).unwrap();
    assert_eq!((point.low, point.median, point.high), (1.5, 1.5, 1.5));
}

proptest! {
    #[test]
    fn statistics_are_ordered(seconds in prop::collection::vec(0.0f64..1e6, 1..60)) {
        let s = Summary::of(&seconds).unwrap();
        prop_assert!(s.min <= s.p50 && s.p50 <= s.p95 && s.p95 <= s.p99 && s.p99 <= s.max);
        // The sum rounds; a mean may leave the range by an ulp or so.
        prop_assert!(s.mean >= s.min * (1.0 - 1e-9) && s.mean <= s.max * (1.0 + 1e-9));
        prop_assert!(s.iqr >= 0.0 && s.standard_deviation >= 0.0);
    }
}
