//! Which run is the best.
//!
//! By the validation rows alone: whoever chooses by the test rows has nothing left that tells
//! how good the choice is.

use std::cmp::Ordering;

use crate::{
    manifest::{Entry, State},
    protocol::Trained,
};

// ANCHOR: better
/// The better of two runs comes first: more right answers on the validation rows; of equals the
/// smaller validation loss; of equals the id that comes first in the alphabet, so that no
/// accident of time decides.
pub fn better_first(a: &Trained, b: &Trained) -> Ordering {
    let by_accuracy = b.validation.accuracy.total_cmp(&a.validation.accuracy);
    by_accuracy
        .then_with(|| a.validation.loss.total_cmp(&b.validation.loss))
        .then_with(|| a.id.cmp(&b.id))
}
// ANCHOR_END: better

/// Places of the runs that are done on a rung, the best first.
pub fn ranked(entries: &[Entry], rung: usize) -> Vec<usize> {
    let done = |entry: &Entry| entry.rung == rung && entry.state == State::Done;
    let mut places: Vec<usize> = (0..entries.len())
        .filter(|&at| done(&entries[at]))
        .collect();
    places.sort_by(|&a, &b| match (&entries[a].trained, &entries[b].trained) {
        (Some(a), Some(b)) => better_first(a, b),
        _ => Ordering::Equal,
    });
    places
}

/// A configuration that was trained with several seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Repeated {
    /// Places of its runs, the first one's seed first.
    pub places: Vec<usize>,
    /// Mean validation accuracy.
    pub mean: f64,
    /// Standard deviation of the same, with n - 1; none for one run.
    pub deviation: Option<f64>,
    /// Mean validation loss.
    pub loss: f64,
}

impl Repeated {
    /// Of runs that are done.
    fn of(entries: &[Entry], places: Vec<usize>) -> Self {
        let trained = || places.iter().filter_map(|&at| entries[at].trained.as_ref());
        let count = places.len() as f64;
        let mean = trained().map(|run| run.validation.accuracy).sum::<f64>() / count;
        let squares = trained().map(|run| (run.validation.accuracy - mean).powi(2));
        Repeated {
            mean,
            deviation: (places.len() > 1).then(|| (squares.sum::<f64>() / (count - 1.0)).sqrt()),
            loss: trained().map(|run| run.validation.loss).sum::<f64>() / count,
            places,
        }
    }
}

// ANCHOR: leaders
/// The configurations that are compared in the end, the best first: by the mean over their
/// seeds where they have several, else as [`better_first`] has it.
///
/// * `rung`: the last one
pub fn leaders(entries: &[Entry], rung: usize) -> Vec<Repeated> {
    let ranked = ranked(entries, rung);
    let firsts = ranked.iter().filter(|&&at| entries[at].repeats.is_none());
    let group = |&first: &usize| {
        let id = &entries[first].run.id;
        let repeats = |at: &usize| entries[*at].repeats.as_deref() == Some(id);
        let mut places = vec![first];
        let others = (0..entries.len()).filter(|at| ranked.contains(at) && repeats(at));
        places.extend(others);
        Repeated::of(entries, places)
    };
    let mut groups: Vec<Repeated> = firsts.map(group).collect();
    // With several seeds only those that were repeated compete: one lucky run is no mean.
    let most = groups
        .iter()
        .map(|group| group.places.len())
        .max()
        .unwrap_or(0);
    if most > 1 {
        groups.retain(|group| group.places.len() > 1);
        // Stable: of equal means the one whose first run was better.
        groups.sort_by(|a, b| b.mean.total_cmp(&a.mean).then(a.loss.total_cmp(&b.loss)));
    }
    groups
}
// ANCHOR_END: leaders

/// The place of the winner: the best run of the best configuration.
pub fn winner(entries: &[Entry], rung: usize) -> Option<usize> {
    let leaders = leaders(entries, rung);
    let best = leaders.first()?;
    let trained = |at: usize| entries[at].trained.as_ref();
    best.places
        .iter()
        .copied()
        .min_by(|&a, &b| match (trained(a), trained(b)) {
            (Some(a), Some(b)) => better_first(a, b),
            _ => Ordering::Equal,
        })
}

#[cfg(test)]
mod tests {
    use tpu_training::{cli::Data, config::TrainConfig};

    use super::*;
    use crate::{protocol::Score, run::Run};

    fn entry(rate: f64, seed: u64, of: Option<&Entry>, accuracy: f64, loss: f64) -> Entry {
        let mut config = TrainConfig::digits();
        config.learning_rate = rate;
        config.seed = seed;
        let run = Run::new(Data::Digits, config);
        let mut entry = Entry::new(run, of.map(|of| of.run.id.clone()), 0);
        entry.state = State::Done;
        entry.trained = Some(Trained {
            id: entry.run.id.clone(),
            epochs: 1,
            validation: Score {
                loss,
                accuracy,
                images: 100,
            },
            test: None,
            training_loss: 0.0,
            images_per_epoch: 0,
            epoch_seconds: vec![],
            compile_seconds: 0.0,
            seconds: 0.0,
            waited_seconds: 0.0,
            device_bytes: None,
            model: None,
        });
        entry
    }

    #[test]
    fn ties_are_broken_by_loss_and_then_by_name() {
        let mut runs = vec![
            entry(0.1, 0, None, 0.9, 0.3),
            entry(0.2, 0, None, 0.9, 0.2),
            entry(0.3, 0, None, 0.95, 0.9),
            entry(0.4, 0, None, 0.9, 0.2),
        ];
        let ids = |places: Vec<usize>| {
            places
                .iter()
                .map(|&at| runs[at].run.config.learning_rate)
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(ranked(&runs, 0)), [0.3, 0.2, 0.4, 0.1]);
        assert_eq!(winner(&runs, 0), Some(2));
        runs[2].state = State::Dropped;
        assert_eq!(winner(&runs, 0), Some(1));
        assert_eq!(winner(&runs, 1), None);
    }

    #[test]
    fn several_seeds_are_compared_by_their_mean() {
        let lucky = entry(0.1, 0, None, 0.99, 0.1);
        let steady = entry(0.2, 0, None, 0.97, 0.1);
        let third = entry(0.3, 0, None, 0.98, 0.1);
        let runs = vec![
            entry(0.1, 1, Some(&lucky), 0.91, 0.1),
            lucky,
            entry(0.2, 1, Some(&steady), 0.98, 0.1),
            steady,
            third,
        ];
        let leaders = leaders(&runs, 0);
        assert_eq!(leaders.len(), 2, "the third was not repeated");
        assert_eq!(leaders[0].places, [3, 2]);
        assert!((leaders[0].mean - 0.975).abs() < 1e-12);
        let deviation = leaders[0].deviation.unwrap();
        assert!(
            (deviation - 0.005 * 2f64.sqrt()).abs() < 1e-12,
            "{deviation}"
        );
        assert_eq!(
            winner(&runs, 0),
            Some(2),
            "the better seed of the better configuration"
        );
    }
}
