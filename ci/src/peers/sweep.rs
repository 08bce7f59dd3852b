//! The sweep: 18 trainings by ours, by joblib with PyTorch, and by a loop in PyTorch.
//!
//! Here a contender is a whole command, timed from its start to its exit: start-up and
//! compiling are a part of what one waits for. They run one after another, never at the
//! same time, in an order that turns from round to round.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use accel::{
    environment::Environment,
    exit,
    progress::Progress,
    results::{ResultFile, Row, Status},
    timing::Samples,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    SweepArgs, Written, cache, comparison,
    contender::{self, Launch},
    entrant, new_file, python, rounds, whole_commands, worker, wrong_usage,
};

const CHAPTER: &str = "04-sweep";
const PACKAGE: &str = "parallel-training";
const SCRIPT: &str = "ci/peers/sweep_with_pytorch.py";
/// Where the data set lies, from the root.
const DATA: &str = "shared/data/digits";
const DEPENDS_ON: [&str; 5] = [
    "chapters/04-sweep/src",
    "chapters/03-tpu-training/src",
    "chapters/03-tpu-training/crates",
    "shared/data",
    "ci/native.toml",
];

/// What is swept over. Ours gets it as a grid, the peers as a list of runs: both are made
/// from here.
const ARCHS: [&str; 2] = ["resnet18", "resnet34"];
const BATCHES: [u64; 3] = [16, 32, 64];
const LEARNING_RATES: [f64; 3] = [0.1, 0.01, 0.001];
/// How many runs that is.
const RUNS: usize = ARCHS.len() * BATCHES.len() * LEARNING_RATES.len();

/// The 18 runs, as far as they are chosen on the command line.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    epochs: u32,
    width: u32,
}

/// One run of it.
#[derive(Clone, Debug, PartialEq)]
struct Run {
    arch: &'static str,
    batch: u64,
    learning_rate: f64,
}

impl Sweep {
    /// The grid as our program reads it.
    fn toml(self) -> String {
        let Self { epochs, width } = self;
        format!(
            "data = \"digits\"\nwidth = {width}\nepochs = {epochs}\ncompile = \"fast\"\narch = {ARCHS:?}\n\
             batch = {BATCHES:?}\nlearning_rate = {LEARNING_RATES:?}\n"
        )
    }

    /// The runs: the last list changes fastest.
    fn runs(self) -> Vec<Run> {
        let pairs = ARCHS
            .iter()
            .flat_map(|arch| BATCHES.iter().map(move |batch| (*arch, *batch)));
        pairs
            .flat_map(|(arch, batch)| {
                LEARNING_RATES.iter().map(move |&learning_rate| Run {
                    arch,
                    batch,
                    learning_rate,
                })
            })
            .collect()
    }

    /// What the script reads.
    ///
    /// * `data`: the folder of the digits
    fn message(self, data: &str) -> String {
        let runs: Vec<_> = (self.runs().into_iter())
            .map(|run| {
                json!({"arch": run.arch, "batch": run.batch, "learning_rate": run.learning_rate})
            })
            .collect();
        json!({
            "data": data, "epochs": self.epochs, "width": self.width, "seed": 0, "runs": runs,
        })
        .to_string()
    }
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Ours,
    Joblib,
    Sequential,
}

impl Who {
    const ALL: [Self; 3] = [Self::Ours, Self::Joblib, Self::Sequential];

    /// Its row's id.
    fn id(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Joblib => "joblib",
            Self::Sequential => "sequential",
        }
    }

    fn label(self, cores: usize) -> String {
        match self {
            Self::Ours => "Ours: parallel-training sweep".to_owned(),
            Self::Joblib => format!("PyTorch, joblib with {cores} processes"),
            Self::Sequential => "PyTorch, one run after another".to_owned(),
        }
    }

    fn engine(self) -> &'static str {
        match self {
            Self::Ours => PACKAGE,
            Self::Joblib | Self::Sequential => "pytorch",
        }
    }
}

/// What all of them share.
struct Setup {
    python: PathBuf,
    script: PathBuf,
    /// `None` if ours does not take part.
    worker: Option<PathBuf>,
    root: PathBuf,
    /// The folder of the digits.
    data: String,
    cores: usize,
    /// Longest wait for a whole command.
    time_limit: Duration,
}

/// What came of a command: its time, and how well the runs have learned.
#[derive(Clone, Debug)]
struct Finished {
    seconds: f64,
    accuracies: Vec<f64>,
    versions: BTreeMap<String, String>,
    settings: BTreeMap<String, String>,
}

/// Runs `cargo x peers sweep`.
///
/// # Errors
/// As [`super::run`].
pub fn run(args: &SweepArgs, environment: Environment, root: &Path) -> anyhow::Result<ExitCode> {
    let common = &args.common;
    let measurement = format!("peers-sweep-{RUNS}");
    let who = match whole_commands::selected(&Who::ALL, Who::id, common, &measurement) {
        Ok(who) => who,
        Err(message) => return Ok(wrong_usage(&message)),
    };
    if common.dry_run {
        let ids: Vec<_> = who.iter().map(|who| who.id()).collect();
        println!("{measurement}: {}", ids.join(", "));
        return Ok(ExitCode::SUCCESS);
    }
    let (_, _lock) = cache(root)?;
    let python = match python(common, root) {
        Ok(python) => python,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::from(exit::DEVICE));
        }
    };
    let worker = match who.contains(&Who::Ours) {
        true => Some(worker(common, PACKAGE, root)?),
        false => None,
    };
    let setup = Setup {
        python,
        script: root.join(SCRIPT),
        worker,
        root: root.to_owned(),
        data: entrant::text(root.join(DATA)).map_err(anyhow::Error::msg)?,
        cores: environment.cores,
        time_limit: Duration::from_secs(common.time_limit.unwrap_or(7200)),
    };
    let sweep = Sweep {
        epochs: if common.quick { 1 } else { args.epochs },
        width: args.width,
    };
    let rounds = whole_commands::rounds(common);
    let progress = Progress::new(None, "rounds", common.quiet);
    let mut file = new_file(CHAPTER, &measurement, &environment, &DEPENDS_ON, common);
    file.title = Some(format!(
        "A sweep of {RUNS} ResNets on the digits, width {}, {} epochs, {} threads",
        sweep.width, sweep.epochs, environment.cores
    ));
    measure(
        &setup,
        sweep,
        &who,
        rounds,
        !common.quick,
        &mut file,
        &progress,
    );
    let mut written = Written::default();
    let table = comparison::table(&file, "runs");
    written.add(&file, &table, common, root, &progress)?;
    progress.finish();
    Ok(written.end(common))
}

/// Measures everybody in turn and adds rows and notes to `file`.
///
/// * `warm_up`: whether a sweep of one epoch comes first, so that nobody's programs and
///   libraries are read from the disk in the first round
///
/// Nothing that happens to a contender is an error here: it becomes a row.
fn measure(
    setup: &Setup,
    sweep: Sweep,
    who: &[Who],
    rounds: usize,
    warm_up: bool,
    file: &mut ResultFile,
    progress: &Progress,
) {
    let load_before = comparison::load_average();
    let mut results: Vec<Result<Vec<Finished>, String>> = vec![Ok(Vec::new()); who.len()];
    if warm_up {
        progress.println("  one epoch each, not counted");
        let short = Sweep { epochs: 1, ..sweep };
        for (who, result) in who.iter().zip(&mut results) {
            if let Err(reason) = once(setup, short, *who) {
                *result = Err(reason);
            }
        }
    }
    whole_commands::in_turn(
        &who.iter().map(|who| who.id()).collect::<Vec<_>>(),
        rounds,
        &mut results,
        progress,
        |place| once(setup, sweep, who[place]),
        |one| one.seconds,
    );
    for (who, result) in who.iter().zip(results) {
        let row = row(setup, sweep, *who, rounds, result, file);
        file.rows.push(row);
    }
    add_ratio(file);
    file.notes.push(format!(
        "whole commands, one after another, timed from start to exit: {rounds} rounds, order \
         rotated and reversed from round to round; {}a fresh folder each time; one sample is \
         {RUNS} runs of {} epochs",
        match warm_up {
            true => "before them a sweep of one epoch each, which is not counted; ",
            false => "",
        },
        sweep.epochs,
    ));
    rounds::note_loads(file, load_before, setup.cores);
}

/// Runs a contender's whole command once; an error is the reason for its row.
fn once(setup: &Setup, sweep: Sweep, who: Who) -> Result<Finished, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let out = folder.path().join("out");
    let grid = folder.path().join("grid.toml");
    std::fs::write(&grid, sweep.toml())
        .map_err(|error| format!("cannot write the grid: {error}"))?;
    let script = || vec![setup.script.clone().into_os_string()];
    let (program, mut arguments) = match who {
        Who::Ours => {
            let words = ["sweep", "--quiet", "--grid"].map(OsString::from);
            (setup.worker.clone(), [&words[..], &[grid.into()]].concat())
        }
        Who::Joblib => {
            let words = ["--workers".into(), setup.cores.to_string().into()];
            (
                Some(setup.python.clone()),
                [script(), words.into()].concat(),
            )
        }
        Who::Sequential => {
            let words = vec!["--sequential".into()];
            (Some(setup.python.clone()), [script(), words].concat())
        }
    };
    arguments.extend(["--out".into(), out.clone().into()]);
    let launch = Launch {
        program: program.ok_or("the chapter's program was not built")?,
        arguments,
        variables: Vec::new(),
        folder: setup.root.clone(),
    };
    let input = match who {
        Who::Ours => String::new(),
        Who::Joblib | Who::Sequential => sweep.message(&setup.data),
    };
    let ended = contender::run_to_its_end(&launch, "sweep", &input, setup.time_limit)
        .map_err(|error| error.to_string())?;
    let finished = match who {
        Who::Ours => ours(sweep, &out.join("result.json"))?,
        Who::Joblib | Who::Sequential => theirs(sweep, &ended.last_line)?,
    };
    Ok(Finished {
        seconds: ended.seconds,
        ..finished
    })
}

/// Reads the result file of our program: each run of the sweep must be there and have learned.
fn ours(sweep: Sweep, path: &Path) -> Result<Finished, String> {
    let file = ResultFile::read(path).map_err(|error| error.to_string())?;
    let mut accuracies = Vec::new();
    for run in sweep.runs() {
        let Some(row) = file.rows.iter().find(|row| is_row_of(row, &run)) else {
            return Err(format!("result.json has no row of {}", name(&run)));
        };
        match (row.status, row.metrics.get("validation_accuracy")) {
            (Status::Ok, Some(accuracy)) => accuracies.push(*accuracy),
            _ => {
                let reason = row.reason.as_deref().unwrap_or("no validation_accuracy");
                return Err(format!("{}: {reason}", name(&run)));
            }
        }
    }
    Ok(Finished {
        seconds: 0.0,
        accuracies,
        versions: file.environment.libraries,
        settings: BTreeMap::new(),
    })
}

/// Whether our program's row is of this run: its own fields say so, not its id.
fn is_row_of(row: &Row, run: &Run) -> bool {
    let field = |name: &str| row.workload.get(name);
    let rate = (row.metrics.get("learning_rate").copied())
        .or_else(|| field("learning_rate").and_then(Value::as_f64));
    field("arch").and_then(Value::as_str) == Some(run.arch)
        && field("batch").and_then(Value::as_u64) == Some(run.batch)
        && rate.is_some_and(|rate| (rate / run.learning_rate - 1.0).abs() < 1e-6)
}

fn name(run: &Run) -> String {
    let Run {
        arch,
        batch,
        learning_rate,
    } = run;
    format!("{arch}, batch {batch}, learning rate {learning_rate}")
}

/// Reads the line that the script prints.
fn theirs(sweep: Sweep, line: &str) -> Result<Finished, String> {
    #[derive(Deserialize)]
    struct Answer {
        versions: BTreeMap<String, String>,
        settings: BTreeMap<String, String>,
        runs: Vec<Learned>,
    }
    #[derive(Deserialize)]
    struct Learned {
        validation_accuracy: f64,
    }
    let answer: Answer = whole_commands::answer(line)?;
    let wanted = sweep.runs().len();
    if answer.runs.len() != wanted {
        let got = answer.runs.len();
        return Err(format!("answered with {got} runs; expected {wanted}"));
    }
    let accuracies = answer.runs.iter().map(|run| run.validation_accuracy);
    Ok(Finished {
        seconds: 0.0,
        accuracies: accuracies.collect(),
        versions: answer.versions,
        settings: answer.settings,
    })
}

/// A contender's row.
fn row(
    setup: &Setup,
    sweep: Sweep,
    who: Who,
    rounds: usize,
    result: Result<Vec<Finished>, String>,
    file: &mut ResultFile,
) -> Row {
    let label = who.label(setup.cores);
    let describe = |row: Row| {
        row.with("engine", who.engine())
            .with("data", "digits")
            .with("width", sweep.width)
            .with("epochs", sweep.epochs)
            .with("runs", RUNS)
            .with("precision", "f32")
            .with("threads", setup.cores)
            .with("ours", who == Who::Ours)
    };
    let finished = match result {
        Ok(finished) => finished,
        Err(reason) => return describe(Row::failed(who.id(), label, reason)),
    };
    let mut row = describe(Row::ok(who.id(), label))
        .with("rounds", rounds)
        .with("samples_per_round", 1);
    for one in &finished {
        file.environment.libraries.extend(one.versions.clone());
        for (name, value) in &one.settings {
            row.workload.entry(name).or_insert(value.as_str().into());
        }
    }
    // The same seed in each round: rounds differ in their time, and hardly in what is learned.
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let best = |one: &Finished| one.accuracies.iter().copied().fold(0.0, f64::max);
    let means: Vec<_> = finished.iter().map(|one| mean(&one.accuracies)).collect();
    let bests: Vec<_> = finished.iter().map(best).collect();
    row.with_metric("mean_validation_accuracy", mean(&means))
        .with_metric("best_validation_accuracy", mean(&bests))
        .with_samples(Samples {
            items_per_sample: RUNS,
            warmup_seconds: Vec::new(),
            seconds: finished.iter().map(|one| one.seconds).collect(),
        })
}

/// Adds to our row how many times as fast it is as the faster peer, with the 95% interval.
fn add_ratio(file: &mut ResultFile) {
    let (Some(ours), Some(peer)) = (comparison::best_of_ours(file), comparison::best_peer(file))
    else {
        return;
    };
    let Some(ratio) = comparison::rate_ratio(ours, peer) else {
        return;
    };
    let peer = peer.id.clone();
    let Some(row) = file.rows.iter_mut().find(|row| row.id == Who::Ours.id()) else {
        return;
    };
    row.workload.insert("best_peer".to_owned(), peer.into());
    for (name, value) in [
        ("over_best_peer_ratio", ratio.median),
        ("over_best_peer_low_ratio", ratio.low),
        ("over_best_peer_high_ratio", ratio.high),
    ] {
        row.metrics.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const SWEEP: Sweep = Sweep {
        epochs: 2,
        width: 4,
    };

    /// What our program would write.
    fn result(sweep: Sweep) -> ResultFile {
        let mut file = ResultFile::new(CHAPTER, "sweep", Environment::collect());
        for (number, run) in sweep.runs().into_iter().enumerate() {
            let row = Row::ok(format!("run-{number}"), name(&run))
                .with("arch", run.arch)
                .with("batch", run.batch)
                .with("width", sweep.width)
                .with_metric("learning_rate", run.learning_rate)
                .with_metric("validation_accuracy", 0.5 + 0.01 * number as f64);
            file.rows.push(row);
        }
        file
    }

    /// What the script would print.
    fn answer(runs: usize) -> String {
        let runs = vec![json!({"arch": "resnet18", "validation_accuracy": 0.75}); runs];
        json!({"versions": {"torch": "2"}, "settings": {"mode": "eager"}, "runs": runs}).to_string()
    }

    /// Measures two rounds with shell scripts in place of the programs.
    ///
    /// * `file`: the result that ours writes, into the folder that is its last argument
    /// * `joblib`, `sequential`: what the peers do; `$input` is what they were sent
    fn race(ours: &ResultFile, joblib: &str, sequential: &str) -> ResultFile {
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, body: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
            path
        };
        let written = folder.path().join("written.json");
        ours.write(&written).unwrap();
        let worker = program(
            "ours",
            format!(
                "test \"$1 $2 $3 $5\" = 'sweep --quiet --grid --out' || exit 2\n\
                 grep -q 'epochs = ' \"$4\" && mkdir \"$6\" && cp '{}' \"$6/result.json\"",
                written.display()
            ),
        );
        let python = program(
            "python",
            format!(
                "read input\ncase \"$2\" in --workers) {joblib};; --sequential) {sequential};; esac"
            ),
        );
        let setup = Setup {
            python,
            script: "sweep.py".into(),
            worker: Some(worker),
            root: folder.path().to_owned(),
            data: "/digits".to_owned(),
            cores: 2,
            time_limit: Duration::from_secs(20),
        };
        let mut file = ResultFile::new(CHAPTER, "peers-sweep-18", Environment::collect());
        let progress = Progress::new(None, "rounds", true);
        measure(&setup, SWEEP, &Who::ALL, 2, true, &mut file, &progress);
        file.validate().unwrap();
        file
    }

    #[test]
    fn the_grid_and_the_runs_are_the_same() {
        let grid: toml::Table = SWEEP.toml().parse().unwrap();
        let list = |key: &str| grid[key].as_array().unwrap().clone();
        let mut expected = Vec::new();
        for arch in list("arch") {
            for batch in list("batch") {
                for rate in list("learning_rate") {
                    let batch = batch.as_integer().unwrap();
                    let rate = rate.as_float().unwrap();
                    expected.push((arch.as_str().unwrap().to_owned(), batch as u64, rate));
                }
            }
        }
        let runs = SWEEP.runs().into_iter();
        let runs: Vec<_> = runs
            .map(|run| (run.arch.to_owned(), run.batch, run.learning_rate))
            .collect();
        assert_eq!(runs, expected);
        assert_eq!(runs.len(), 18);
        assert_eq!(runs[1], ("resnet18".to_owned(), 16, 0.01));
        assert_eq!(grid["data"].as_str(), Some("digits"));
        assert_eq!(grid["epochs"].as_integer(), Some(2));
        assert_eq!(grid["width"].as_integer(), Some(4));
        let message: Value = serde_json::from_str(&SWEEP.message("/d")).unwrap();
        assert_eq!(message["runs"].as_array().unwrap().len(), 18);
        assert_eq!(message["runs"][17]["arch"], "resnet34");
        assert_eq!(message["epochs"], 2);
    }

    #[test]
    fn ours_is_compared_with_the_faster_peer() {
        let line = answer(18);
        let file = race(
            &result(SWEEP),
            &format!("sleep 0.3; echo '{line}'"),
            &format!("echo news >&2; sleep 0.6; echo '{line}'"),
        );
        let [ours, joblib, sequential] = Who::ALL.map(|who| file.row(who.id()).unwrap());
        for row in [ours, joblib, sequential] {
            assert_eq!(row.status, Status::Ok, "{:?}", row.reason);
            let samples = row.samples.as_ref().unwrap();
            assert_eq!((samples.seconds.len(), samples.items_per_sample), (2, 18));
            assert_eq!(row.workload["epochs"], 2);
        }
        assert_eq!(ours.workload["best_peer"], "joblib");
        let metric = |name: &str| ours.metrics[name];
        assert!(metric("over_best_peer_ratio") > 1.0);
        assert!(metric("over_best_peer_low_ratio") <= metric("over_best_peer_ratio"));
        assert!(metric("over_best_peer_high_ratio") >= metric("over_best_peer_ratio"));
        assert!((metric("mean_validation_accuracy") - 0.585).abs() < 1e-9);
        assert!((metric("best_validation_accuracy") - 0.67).abs() < 1e-9);
        assert_eq!(joblib.metrics["mean_validation_accuracy"], 0.75);
        assert_eq!(joblib.workload["mode"], "eager");
        assert_eq!(file.environment.libraries["torch"], "2");
        let table = comparison::table(&file, "runs");
        assert!(
            table.contains("best peer: joblib; best of ours: ours"),
            "{table}"
        );
        assert!(table.contains("runs/s"), "{table}");
    }

    #[test]
    fn who_fails_has_a_row_and_the_others_go_on() {
        // It survives the warm-up, which is of one epoch.
        let dies = "case $input in *'\"epochs\":1,'*) ;; *) echo out of memory >&2; exit 9;; esac";
        let line = answer(18);
        let joblib = format!("{dies}; echo '{line}'");
        let file = race(&result(SWEEP), &joblib, &format!("echo '{}'", answer(17)));
        let reason = |id: &str| {
            let row = file.row(id).unwrap();
            assert_eq!(row.status, Status::Failed);
            assert!(row.samples.is_none());
            assert_eq!(row.workload["engine"], "pytorch");
            row.reason.clone().unwrap()
        };
        assert!(reason("joblib").contains("out of memory"));
        assert!(reason("sequential").contains("answered with 17 runs; expected 18"));
        let ours = file.row("ours").unwrap();
        assert_eq!(ours.status, Status::Ok, "{:?}", ours.reason);
        assert!(!ours.metrics.contains_key("over_best_peer_ratio"));
    }

    #[test]
    fn a_run_that_ours_lacks_or_lost_is_a_failure() {
        let line = format!("echo '{}'", answer(18));
        let mut lacks = result(SWEEP);
        lacks.rows.remove(4);
        let mut lost = result(SWEEP);
        lost.rows[4].status = Status::Failed;
        lost.rows[4].reason = Some("the loss is NaN".to_owned());
        for (ours, expected) in [
            (lacks, "no row of resnet18, batch 32, learning rate 0.01"),
            (
                lost,
                "resnet18, batch 32, learning rate 0.01: the loss is NaN",
            ),
        ] {
            let file = race(&ours, &line, &line);
            let row = file.row("ours").unwrap();
            assert_eq!(row.status, Status::Failed);
            let reason = row.reason.as_deref().unwrap();
            assert!(reason.contains(expected), "{reason}");
            assert_eq!(file.row("joblib").unwrap().status, Status::Ok);
        }
    }
}
