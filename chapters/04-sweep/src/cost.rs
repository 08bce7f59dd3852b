//! What a sweep would take and cost on several workers, computed from one that was measured.
//!
//! A worker is what it was in the measurement: a process with its threads on its own core. What it
//! takes until it can work (a machine that must be started, an image that must be fetched) is an
//! assumption, and counted on every worker. Not in it: a bucket's latency, and workers that differ.

use std::collections::{BTreeMap, BTreeSet};

use accel::{
    hardware::Price,
    results::{ResultFile, Row, Status},
};
use serde_json::Value;

/// A run, as it was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its row's id.
    pub id: String,
    /// What runs with the same compiled programs have in common.
    pub program: String,
    /// Seconds without compiling.
    pub seconds: f64,
}

/// All runs of a sweep, and what compiling took.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The runs.
    pub jobs: Vec<Job>,
    /// Seconds in the compiler for each program, by the longest that was measured.
    pub compile_seconds: BTreeMap<String, f64>,
}

/// Why a result file says nothing about cost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CostError {
    /// It has no run.
    #[error(
        "no run with run_seconds and compile_seconds in it; expected the result.json of a sweep"
    )]
    NoRuns,
    /// A run without figures would make the sweep look cheaper.
    #[error("{id} {what}; a cost can be computed from a sweep whose runs are all done")]
    Run {
        /// The row.
        id: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Measured {
    /// Reads the runs of a sweep's result file.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn of(file: &ResultFile) -> Result<Self, CostError> {
        let mut jobs = vec![];
        let mut compile_seconds = BTreeMap::new();
        for row in file.rows.iter().filter(|row| row.id != "sweep") {
            let wrong = |what: String| CostError::Run {
                id: row.id.clone(),
                what,
            };
            if row.status != Status::Ok {
                return Err(wrong("is not done".to_owned()));
            }
            let metric = |name: &str| {
                let value = row.metrics.get(name).copied();
                value
                    .filter(|value| value.is_finite() && *value >= 0.0)
                    .ok_or_else(|| wrong(format!("has no {name}")))
            };
            let (run, compile) = (metric("run_seconds")?, metric("compile_seconds")?);
            let program = program(row);
            let longest = compile_seconds.entry(program.clone()).or_insert(0.0);
            *longest = f64::max(*longest, compile);
            jobs.push(Job {
                id: row.id.clone(),
                program,
                seconds: (run - compile).max(0.0),
            });
        }
        match jobs.is_empty() {
            true => Err(CostError::NoRuns),
            false => Ok(Measured {
                jobs,
                compile_seconds,
            }),
        }
    }

    fn compile(&self, program: &str) -> f64 {
        self.compile_seconds.get(program).copied().unwrap_or(0.0)
    }
}

/// The fields of [`crate::run::Run::program`] that a result file has.
fn program(row: &Row) -> String {
    let fields = ["arch", "width", "batch", "dtype", "optimizer"];
    let value = |name: &&str| {
        row.workload
            .get(*name)
            .map_or(String::new(), Value::to_string)
    };
    fields.iter().map(value).collect::<Vec<_>>().join(" ")
}

/// Who does what, and how long that takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// Seconds of each worker that has a run, its start included.
    pub seconds: Vec<f64>,
    /// Programs that were compiled, by all workers together.
    pub compiled: usize,
}

impl Placement {
    // ANCHOR: place
    /// Gives each run to a worker: the longest run first, each to the worker that ends it first.
    /// A worker compiles a program once, so a run is shorter where its program is there already.
    ///
    /// * `workers`: how many there may be, at least 1
    /// * `start_seconds`: from the wish for a worker to its first run
    pub fn of(measured: &Measured, workers: usize, start_seconds: f64) -> Self {
        let alone = |job: &Job| job.seconds + measured.compile(&job.program);
        let mut jobs: Vec<&Job> = measured.jobs.iter().collect();
        jobs.sort_by(|a, b| alone(b).total_cmp(&alone(a)).then(a.id.cmp(&b.id)));
        let mut seconds = vec![0.0; workers.max(1)];
        let mut programs = vec![BTreeSet::new(); seconds.len()];
        for job in jobs {
            let end = |worker: &usize| {
                let start = if programs[*worker].is_empty() {
                    start_seconds
                } else {
                    0.0
                };
                let compile = match programs[*worker].contains(&job.program) {
                    true => 0.0,
                    false => measured.compile(&job.program),
                };
                seconds[*worker] + start + compile + job.seconds
            };
            let ends = (0..seconds.len()).map(|worker| (worker, end(&worker)));
            // Of equals the first: `min_by` keeps it.
            let first = ends.min_by(|a, b| a.1.total_cmp(&b.1));
            let (worker, end) = first.expect("there is a worker");
            seconds[worker] = end;
            programs[worker].insert(job.program.clone());
        }
        seconds.retain(|seconds| *seconds > 0.0);
        Placement {
            seconds,
            compiled: programs.iter().map(BTreeSet::len).sum(),
        }
    }
    // ANCHOR_END: place

    /// Seconds until the last worker ends.
    pub fn wall_seconds(&self) -> f64 {
        self.seconds.iter().copied().fold(0.0, f64::max)
    }

    // ANCHOR: bill
    /// Seconds that are paid for: each worker from its start to its own end.
    pub fn worker_seconds(&self) -> f64 {
        self.seconds.iter().sum()
    }

    /// Seconds that are paid for where all workers are held until the last one ends.
    pub fn held_seconds(&self) -> f64 {
        self.seconds.len() as f64 * self.wall_seconds()
    }
    // ANCHOR_END: bill

    /// The placement as a row of a result file: every figure is an estimate.
    ///
    /// * `workers`: how many were allowed
    pub fn row(&self, workers: usize, start_seconds: f64, price: &Price) -> Row {
        let cents = |seconds: f64| 100.0 * price.usd_per_hour * seconds / 3600.0;
        let count = match workers {
            1 => "1 worker".to_owned(),
            more => format!("{more} workers"),
        };
        let (id, label) = if start_seconds > 0.0 {
            (
                format!("workers-{workers}-start-{start_seconds}"),
                format!("{count}, started in {start_seconds} s"),
            )
        } else {
            (format!("workers-{workers}"), count)
        };
        Row::ok(id, label)
            .with("workers", workers)
            .with("start_seconds", start_seconds)
            .with("usd_per_hour", price.usd_per_hour)
            .with("price_source", price.source.as_str())
            .with("price_date", price.date.as_str())
            .with_metric("estimated_wall_seconds", self.wall_seconds())
            .with_metric("estimated_worker_seconds", self.worker_seconds())
            .with_metric("estimated_compilations", self.compiled as f64)
            .with_metric("estimated_cents", cents(self.worker_seconds()))
            .with_metric("estimated_cents_if_held", cents(self.held_seconds()))
    }
}

#[cfg(test)]
mod tests {
    use accel::environment::Environment;

    use super::*;

    fn job(id: &str, program: &str, seconds: f64) -> Job {
        Job {
            id: id.into(),
            program: program.into(),
            seconds,
        }
    }

    fn measured() -> Measured {
        Measured {
            jobs: vec![
                job("a1", "a", 10.0),
                job("a2", "a", 10.0),
                job("b1", "b", 30.0),
                job("b2", "b", 30.0),
            ],
            compile_seconds: BTreeMap::from([("a".into(), 5.0), ("b".into(), 20.0)]),
        }
    }

    #[test]
    fn one_worker_does_everything_and_compiles_each_program_once() {
        let one = Placement::of(&measured(), 1, 7.0);
        assert_eq!(one.seconds, [7.0 + 80.0 + 25.0]);
        assert_eq!(one.compiled, 2);
        assert_eq!(one.worker_seconds(), one.wall_seconds());
    }

    #[test]
    fn two_workers_part_the_programs_where_that_ends_sooner() {
        // b1 to the first (50). b2: there 80, with the second 50. a1: 65 on either, a2: 75 or 65.
        let two = Placement::of(&measured(), 2, 0.0);
        assert_eq!(two.seconds, [65.0, 65.0]);
        assert_eq!(two.compiled, 4);
    }

    #[test]
    fn a_program_that_is_there_is_used_again_where_the_others_are_busy() {
        let long = Measured {
            jobs: vec![
                job("a1", "a", 100.0),
                job("b1", "b", 30.0),
                job("b2", "b", 30.0),
            ],
            ..measured()
        };
        let two = Placement::of(&long, 2, 40.0);
        assert_eq!(two.seconds, [40.0 + 105.0, 40.0 + 20.0 + 60.0]);
        assert_eq!(two.compiled, 2);
        assert_eq!(two.held_seconds(), 290.0);
    }

    #[test]
    fn a_worker_without_a_run_is_not_started_and_each_start_is_paid() {
        let many = Placement::of(&measured(), 18, 60.0);
        assert_eq!(many.seconds.len(), 4);
        assert_eq!(many.wall_seconds(), 60.0 + 20.0 + 30.0);
        assert_eq!(many.worker_seconds(), 4.0 * 60.0 + 80.0 + 50.0);
    }

    #[test]
    fn more_workers_never_end_later_and_never_cost_less() {
        let placements: Vec<_> = (1..=8)
            .map(|workers| Placement::of(&measured(), workers, 30.0))
            .collect();
        for pair in placements.windows(2) {
            assert!(pair[1].wall_seconds() <= pair[0].wall_seconds());
            assert!(pair[1].worker_seconds() >= pair[0].worker_seconds());
        }
    }

    #[test]
    fn a_row_is_in_cents_of_the_price() {
        let price = Price {
            usd_per_hour: 0.36,
            source: "https://example.org".into(),
            date: "2026-11-22".into(),
            note: None,
        };
        let placement = Placement {
            seconds: vec![100.0, 50.0],
            compiled: 3,
        };
        let row = placement.row(2, 10.0, &price);
        assert_eq!(row.id, "workers-2-start-10");
        assert!((row.metrics["estimated_cents"] - 1.5).abs() < 1e-12);
        assert!((row.metrics["estimated_cents_if_held"] - 2.0).abs() < 1e-12);
        assert_eq!(row.workload["price_date"], "2026-11-22");
        assert!(
            row.metrics
                .keys()
                .all(|name| name.starts_with("estimated_"))
        );
        assert_eq!(placement.row(1, 0.0, &price).id, "workers-1");
    }

    fn sweep() -> ResultFile {
        let mut file = ResultFile::new("04-sweep", "sweep", Environment::collect());
        file.rows.push(Row::ok("sweep", "the whole sweep"));
        for (id, batch, run, compile) in [
            ("x", 16, 9.0, 4.0),
            ("y", 16, 6.0, 0.1),
            ("z", 32, 7.0, 2.0),
        ] {
            let row = Row::ok(id, id)
                .with("arch", "resnet18")
                .with("batch", batch)
                .with_metric("run_seconds", run)
                .with_metric("compile_seconds", compile);
            file.rows.push(row);
        }
        file
    }

    #[test]
    fn runs_are_read_with_their_programs() {
        let measured = Measured::of(&sweep()).unwrap();
        let [x, y, z] = &measured.jobs[..] else {
            panic!("{measured:?}");
        };
        assert_eq!(x.program, y.program);
        assert_ne!(x.program, z.program);
        assert_eq!(x.seconds, 5.0);
        let compile: Vec<_> = measured.compile_seconds.values().copied().collect();
        assert_eq!(compile, [4.0, 2.0]);
    }

    #[test]
    fn a_sweep_that_is_not_whole_is_refused() {
        let mut file = sweep();
        file.rows[2].status = Status::Failed;
        let error = Measured::of(&file).unwrap_err().to_string();
        assert!(error.starts_with("y is not done"), "{error}");
        file.rows[2].status = Status::Ok;
        file.rows[3].metrics.remove("run_seconds");
        let error = Measured::of(&file).unwrap_err().to_string();
        assert!(error.starts_with("z has no run_seconds"), "{error}");
        file.rows.truncate(1);
        assert_eq!(Measured::of(&file), Err(CostError::NoRuns));
    }
}
