//! In which order an epoch visits the training rows.
//!
//! A training that was interrupted must go on with the same batches that it would have seen, so
//! the order is a function of the seed and the epoch's number and of nothing else: there is no
//! generator whose state a checkpoint would have to keep.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// How the epochs of a training visit its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Every epoch in another order, by [`epoch_order`].
    Shuffled {
        /// The run's seed.
        seed: u64,
    },
    /// Every epoch from the first row to the last: for comparing programs with each other.
    AsStored,
}

impl Order {
    /// The places `0..rows` in the order of one epoch, counted from 0.
    ///
    /// # Panics
    /// As [`epoch_order`].
    pub fn of_epoch(self, epoch: u64, rows: usize) -> Vec<i32> {
        match self {
            Order::Shuffled { seed } => epoch_order(seed, epoch, rows),
            Order::AsStored => (0..rows as i32).collect(),
        }
    }
}

/// A permutation of `0..rows`: the order of one epoch.
///
/// * `seed`: the run's seed
/// * `epoch`: the epoch's number, from 0
/// * `rows`: how many training rows there are, at most 2^31
///
/// Returns i32, the type that a gather on the device takes. The same arguments give the same
/// order on every machine and in every release: a checkpoint relies on it.
///
/// The generator is ChaCha with 8 rounds, whose output is fixed by its definition. Its key
/// comes from the seed; the epoch selects one of the 2^64 streams of that key, so that no two
/// epochs share numbers, nor two seeds that are neighbours. The shuffle (Fisher and Yates) is
/// written out here, because `rand`'s may change with a release.
///
/// # Panics
/// If `rows` is more than 2^31: no row could be told by an i32.
pub fn epoch_order(seed: u64, epoch: u64, rows: usize) -> Vec<i32> {
    let count = i32::try_from(rows.saturating_sub(1)).expect("at most 2^31 rows");
    if rows == 0 {
        return Vec::new();
    }
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(epoch);
    let mut order: Vec<i32> = (0..=count).collect();
    for last in (1..rows).rev() {
        order.swap(last, below(&mut generator, last as u64 + 1) as usize);
    }
    order
}

/// A number in `0..bound`, each equally likely. `bound` is at least 1.
fn below(generator: &mut impl RngCore, bound: u64) -> u64 {
    // The last, incomplete stretch of `bound` values below 2^64 would favour small numbers.
    let limit = u64::MAX - u64::MAX % bound;
    loop {
        let value = generator.next_u64();
        if value < limit {
            return value % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::epoch_order;

    #[test]
    fn the_order_is_the_one_that_checkpoints_rely_on() {
        // Another order would make a resumed training differ from an uninterrupted one. These
        // were also computed in Python, from the definitions of ChaCha and of PCG, by which
        // `seed_from_u64` makes a key.
        assert_eq!(epoch_order(0, 0, 10), [7, 8, 9, 0, 1, 5, 4, 6, 3, 2]);
        assert_eq!(epoch_order(0, 1, 10), [2, 3, 0, 9, 4, 8, 5, 7, 6, 1]);
        assert_eq!(epoch_order(u64::MAX, 7, 10), [6, 8, 7, 9, 4, 1, 2, 3, 0, 5]);
        let digits = epoch_order(42, 3, 1259);
        assert_eq!(digits[..6], [1227, 986, 554, 1107, 114, 882]);
        assert_eq!(digits[1256..], [605, 592, 1122]);
    }

    #[test]
    fn every_row_comes_once() {
        for rows in [0, 1, 2, 3, 64, 1259] {
            let mut order = epoch_order(5, 9, rows);
            order.sort_unstable();
            assert!(order.into_iter().eq(0..rows as i32), "{rows} rows");
        }
    }

    #[test]
    fn epochs_and_seeds_do_not_repeat_each_other() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..20 {
            for epoch in 0..20 {
                assert!(
                    seen.insert(epoch_order(seed, epoch, 100)),
                    "seed {seed}, epoch {epoch}"
                );
            }
        }
    }

    #[test]
    fn no_order_is_likelier_than_another() {
        // 24 orders of 4 rows in 24,000 epochs: each 1,000 times, give or take. For 23 degrees
        // of freedom, chi-squared is above 49.7 once in a thousand seeds.
        let mut count = std::collections::BTreeMap::<Vec<i32>, f64>::new();
        for epoch in 0..24_000 {
            *count.entry(epoch_order(1, epoch, 4)).or_default() += 1.0;
        }
        assert_eq!(count.len(), 24);
        let chi_squared: f64 = count.values().map(|n| (n - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi_squared < 49.7, "{chi_squared}");
    }
}
