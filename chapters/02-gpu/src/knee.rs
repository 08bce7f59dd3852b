//! Which batch size to take: the knee of a curve of throughput.

/// Throughput of one batch size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Images in a batch.
    pub batch: usize,
    /// Images a second.
    pub rate: f64,
}

// ANCHOR: knee
/// The knee: the smallest batch whose throughput reaches `share` of the best one
/// measured. A larger batch would add latency and memory for the rest.
///
/// * `points`: in any order
/// * `share`: `0..=1`
///
/// Returns `None` without a point whose rate is a number.
pub fn knee(points: &[Point], share: f64) -> Option<Point> {
    let measured = || points.iter().filter(|point| point.rate.is_finite());
    let best = measured().map(|point| point.rate).reduce(f64::max)?;
    measured()
        .filter(|point| point.rate >= share * best)
        .min_by_key(|point| point.batch)
        .copied()
}
// ANCHOR_END: knee

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(rates: &[(usize, f64)]) -> Vec<Point> {
        let point = |&(batch, rate)| Point { batch, rate };
        rates.iter().map(point).collect()
    }

    fn at(rates: &[(usize, f64)], share: f64) -> Option<usize> {
        knee(&curve(rates), share).map(|point| point.batch)
    }

    #[test]
    fn a_curve_that_saturates_has_its_knee_where_it_bends() {
        let gpu = [
            (1, 300.0),
            (2, 590.0),
            (4, 1150.0),
            (8, 2100.0),
            (16, 3500.0),
            (32, 4700.0),
            (64, 5200.0),
            (128, 5300.0),
        ];
        assert_eq!(at(&gpu, 0.9), Some(64));
        assert_eq!(at(&gpu, 0.8), Some(32));
        assert_eq!(at(&gpu, 1.0), Some(128));
        assert_eq!(at(&gpu, 0.0), Some(1));
    }

    #[test]
    fn a_flat_curve_has_its_knee_at_the_first_batch() {
        assert_eq!(at(&[(1, 25.0), (2, 25.5), (4, 26.0)], 0.9), Some(1));
    }

    #[test]
    fn a_curve_that_falls_again_is_measured_by_its_top() {
        let cpu = [(1, 20.0), (2, 24.0), (4, 25.0), (8, 16.0), (16, 11.0)];
        assert_eq!(at(&cpu, 0.9), Some(2));
        assert_eq!(at(&cpu, 1.0), Some(4));
    }

    #[test]
    fn order_does_not_matter_and_nothing_gives_nothing() {
        assert_eq!(at(&[(8, 10.0), (1, 9.5)], 0.9), Some(1));
        assert_eq!(at(&[], 0.9), None);
        assert_eq!(at(&[(1, f64::NAN)], 0.9), None);
        assert_eq!(at(&[(1, f64::NAN), (2, 1.0)], 0.9), Some(2));
    }
}
