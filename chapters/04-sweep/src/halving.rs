//! Who goes on: every run to its end, or the better ones after each rung.
//!
//! Successive halving (Jamieson and Talwalkar, 2016; Li et al., 2018): train all runs a little,
//! keep the better third, train those three times as long, and so on. A run that is promoted
//! goes on from its checkpoint.

use serde::{Deserialize, Serialize};

/// The rungs: after how many epochs runs are compared, and how many go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rungs {
    rungs: Vec<Rung>,
}

/// A rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// Runs are trained for so many epochs in all; `None`: to their end.
    pub epochs: Option<usize>,
    /// So many of them go on; all that there are on the last rung.
    pub keep: usize,
}

impl Rungs {
    /// Every run to its end.
    pub fn single() -> Self {
        Rungs {
            rungs: vec![Rung {
                epochs: None,
                keep: usize::MAX,
            }],
        }
    }

    // ANCHOR: halving
    /// Successive halving.
    ///
    /// * `runs`: how many begin
    /// * `epochs`: of a whole training
    /// * `factor`: one in so many goes on, and is trained so many times as long
    pub fn halving(runs: usize, epochs: usize, factor: usize) -> Self {
        let mut rungs = vec![Rung {
            epochs: None,
            keep: usize::MAX,
        }];
        let (mut span, mut count) = (epochs, vec![]);
        while span / factor >= 1 && count.len() < levels(runs, factor) {
            span /= factor;
            count.push(span);
        }
        for (level, &epochs) in count.iter().rev().enumerate() {
            let keep = runs.div_ceil(factor.pow(level as u32 + 1));
            rungs.insert(
                level,
                Rung {
                    epochs: Some(epochs),
                    keep,
                },
            );
        }
        Rungs { rungs }
    }
    // ANCHOR_END: halving

    /// How many.
    pub fn len(&self) -> usize {
        self.rungs.len()
    }

    /// Never: there is always the last one.
    pub fn is_empty(&self) -> bool {
        self.rungs.is_empty()
    }

    /// One of them, from 0.
    pub fn get(&self, rung: usize) -> Option<Rung> {
        self.rungs.get(rung).copied()
    }

    /// The last one's number.
    pub fn last(&self) -> usize {
        self.rungs.len().saturating_sub(1)
    }
}

/// How often the runs can be divided before one is left.
fn levels(runs: usize, factor: usize) -> usize {
    let mut levels = 0;
    let mut left = runs;
    while left > 1 {
        left = left.div_ceil(factor);
        levels += 1;
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rungs(runs: usize, epochs: usize, factor: usize) -> Vec<(Option<usize>, usize)> {
        let rungs = Rungs::halving(runs, epochs, factor);
        rungs
            .rungs
            .iter()
            .map(|rung| (rung.epochs, rung.keep))
            .collect()
    }

    #[test]
    fn a_third_goes_on_for_three_times_as_long() {
        let all = usize::MAX;
        assert_eq!(rungs(18, 20, 3), [(Some(2), 6), (Some(6), 2), (None, all)]);
        assert_eq!(rungs(4, 8, 2), [(Some(2), 2), (Some(4), 1), (None, all)]);
        assert_eq!(rungs(18, 1, 3), [(None, all)]);
        assert_eq!(rungs(1, 20, 3), [(None, all)]);
        assert_eq!(Rungs::single().len(), 1);
    }
}
