//! Which waiting run a free worker takes.
//!
//! Compiling can take longer than training. A worker keeps its programs, so it goes on with
//! runs of the programs that it has; and long programs come first, so that the end is even.

use std::collections::{BTreeMap, BTreeSet};

/// A run that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Its place in the manifest.
    pub entry: usize,
    /// What it shares with runs of the same programs.
    pub program: String,
    /// How much there is to compute, in units of [`crate::run::Run::work`].
    pub work: f64,
}

/// What is known of a program once a run of it is over.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    compile_seconds: f64,
    seconds_per_work: f64,
}

/// The runs that wait.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    waiting: Vec<Waiting>,
    /// The programs that each slot's worker has compiled or is compiling.
    has: BTreeMap<usize, BTreeSet<String>>,
    known: BTreeMap<String, Known>,
}

impl Queue {
    /// Adds a run; one that failed comes back so.
    pub fn add(&mut self, run: Waiting) {
        self.waiting.push(run);
    }

    /// Runs that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Leaves the runs to another time.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    /// A slot's worker has ended, and with it its programs.
    pub fn forget(&mut self, slot: usize) {
        self.has.remove(&slot);
    }

    /// A run is over: what it took.
    ///
    /// * `compile_seconds`: 0 where the worker had the programs
    /// * `seconds`: without compiling
    pub fn learn(&mut self, program: &str, work: f64, compile_seconds: f64, seconds: f64) {
        let before = self
            .known
            .get(program)
            .map_or(0.0, |known| known.compile_seconds);
        let known = Known {
            compile_seconds: before.max(compile_seconds),
            seconds_per_work: seconds / work.max(f64::MIN_POSITIVE),
        };
        self.known.insert(program.to_owned(), known);
    }

    // ANCHOR: take
    /// The run that a slot's worker should take now, if any is worth it.
    ///
    /// First a run whose program the worker has. Then the program with most work among those
    /// that nobody has. Then half of another worker's, where that is quicker than to compile.
    pub fn take(&mut self, slot: usize) -> Option<Waiting> {
        let own = self.has.get(&slot).cloned().unwrap_or_default();
        let taken: BTreeSet<_> = self.has.values().flatten().cloned().collect();
        let mut waiting: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
        for run in &self.waiting {
            let (count, work) = waiting.entry(&run.program).or_default();
            *count += 1;
            *work += run.work;
        }
        let most = |wanted: &dyn Fn(&str) -> bool| {
            let of = waiting.iter().filter(|(program, _)| wanted(program));
            let most = of.max_by(|(_, (_, a)), (_, (_, b))| a.total_cmp(b));
            most.map(|(program, _)| (*program).to_owned())
        };
        let program = most(&|program| own.contains(program))
            .or_else(|| most(&|program| !taken.contains(program)))
            .or_else(|| most(&|program| self.help_is_worth_it(program, waiting[program])))?;
        self.has.entry(slot).or_default().insert(program.clone());
        let at = (0..self.waiting.len())
            .filter(|&at| self.waiting[at].program == program)
            .max_by(|&a, &b| {
                let by_work = self.waiting[a].work.total_cmp(&self.waiting[b].work);
                // Of equals the first: the grid's order.
                by_work.then(b.cmp(&a))
            })?;
        Some(self.waiting.remove(at))
    }
    // ANCHOR_END: take

    // ANCHOR: worth
    /// Whether a second worker for a program's runs ends them sooner than the first alone.
    fn help_is_worth_it(&self, program: &str, (count, work): (usize, f64)) -> bool {
        match self.known.get(program) {
            Some(known) => work * known.seconds_per_work > known.compile_seconds,
            // Nothing is known yet: one run is left to who compiles its program just now.
            None => count > 1,
        }
    }
    // ANCHOR_END: worth
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(runs: &[(&str, f64)]) -> Queue {
        let mut queue = Queue::default();
        for (entry, (program, work)) in runs.iter().enumerate() {
            queue.add(Waiting {
                entry,
                program: (*program).to_owned(),
                work: *work,
            });
        }
        queue
    }

    fn takes(queue: &mut Queue, slots: &[usize]) -> Vec<Option<usize>> {
        let take = |slot: &usize| queue.take(*slot).map(|run| run.entry);
        slots.iter().map(take).collect()
    }

    #[test]
    fn a_worker_stays_with_its_program_and_long_ones_come_first() {
        let mut queue = queue(&[("a", 1.0), ("a", 1.0), ("b", 3.0), ("b", 3.0), ("c", 1.0)]);
        let order = takes(&mut queue, &[0, 1, 1, 0, 0]);
        assert_eq!(order, [Some(2), Some(0), Some(1), Some(3), Some(4)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn help_comes_where_it_is_quicker_than_compiling() {
        let runs = [("a", 1.0), ("a", 1.0), ("a", 1.0)];
        let mut unknown = queue(&runs);
        assert_eq!(takes(&mut unknown, &[0, 1, 1]), [Some(0), Some(1), Some(2)]);

        let mut slow_to_compile = queue(&runs);
        slow_to_compile.learn("a", 1.0, 10.0, 1.0);
        assert_eq!(
            takes(&mut slow_to_compile, &[0, 1, 0]),
            [Some(0), None, Some(1)]
        );

        let mut slow_to_train = queue(&runs);
        slow_to_train.learn("a", 1.0, 10.0, 60.0);
        slow_to_train.learn("a", 1.0, 0.0, 60.0);
        assert_eq!(takes(&mut slow_to_train, &[0, 1]), [Some(0), Some(1)]);
    }

    #[test]
    fn a_worker_that_ended_has_its_programs_no_more() {
        let mut queue = queue(&[("a", 1.0), ("b", 2.0)]);
        queue.learn("b", 2.0, 100.0, 1.0);
        assert_eq!(queue.take(0).unwrap().program, "b");
        queue.forget(0);
        queue.add(Waiting {
            entry: 1,
            program: "b".into(),
            work: 2.0,
        });
        assert_eq!(queue.take(1).unwrap().program, "b");
        assert_eq!(queue.take(0).unwrap().program, "a");
        assert_eq!((queue.take(0), queue.len()), (None, 0));
    }
}
