//! Chapter 4's sweep on Apache Beam beside the same sweep without it: what Beam adds.
//!
//! Four questions, each with rows of its own: what a request costs from Python, what a pipeline
//! costs that trains nothing, and what 18 trainings take more: where all share their programs, the
//! same with longer trainings, and where there are six programs. Beam's local runner deals runs out before it begins, and our
//! sweep gives the next one to whoever is free and has its program: the last question shows that,
//! with runs dealt out one by one and with those of a program together.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use accel::{
    environment::Environment,
    exit, human,
    progress::Progress,
    results::{ResultFile, Row},
    timing::Samples,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    BeamArgs, Written, cache, comparison,
    contender::{self, Ended, Launch},
    new_file, rounds, whole_commands, worker, wrong_usage,
};
use crate::python_environment::BEAM;

const CHAPTER: &str = "04-sweep";
const PACKAGE: &str = "parallel-training";
const MEASUREMENT: &str = "beam-overhead";
const PIPELINES: &str = "chapters/04-sweep/beam";
const DEPENDS_ON: [&str; 6] = [
    PIPELINES,
    "chapters/04-sweep/src",
    "chapters/03-tpu-training/src",
    "chapters/03-tpu-training/crates",
    "shared/data",
    "ci/native.toml",
];
/// Runs of a sweep.
const RUNS: usize = 18;
/// Runs of a program where there are six programs.
const RUNS_OF_A_PROGRAM: usize = RUNS / 6;
/// How many times the epochs of the others the longer runs train: enough that Beam's start, paid
/// once, is a small part.
const LONGER: u32 = 3;
/// Requests of a round, where each does nothing.
const EMPTY_RUNS: usize = 1000;

/// Which 18 runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grid {
    /// One network and batch size, 18 rates: all share their programs.
    OneProgram,
    /// The same, each trained [`LONGER`] times as long.
    OneProgramLonger,
    /// The chapter's: two networks, three batch sizes, three rates.
    SixPrograms,
}

impl Grid {
    /// Epochs of a run, where the others train so many.
    fn epochs(self, epochs: u32) -> u32 {
        match self {
            Self::OneProgramLonger => epochs * LONGER,
            Self::OneProgram | Self::SixPrograms => epochs,
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Requests from Python, without Beam.
    Element,
    /// A pipeline of 18 runs that train nothing.
    EmptyJob,
    /// Our own sweep.
    Tokio(Grid),
    /// The sweep on Beam, so many runs dealt out at once.
    Beam(Grid, usize),
}

impl Who {
    const ALL: [Self; 9] = [
        Self::Element,
        Self::EmptyJob,
        Self::Tokio(Grid::OneProgram),
        Self::Beam(Grid::OneProgram, 1),
        Self::Tokio(Grid::OneProgramLonger),
        Self::Beam(Grid::OneProgramLonger, 1),
        Self::Tokio(Grid::SixPrograms),
        Self::Beam(Grid::SixPrograms, 1),
        Self::Beam(Grid::SixPrograms, RUNS_OF_A_PROGRAM),
    ];

    /// Its row's id.
    fn id(self) -> &'static str {
        match self {
            Self::Element => "element",
            Self::EmptyJob => "empty-job",
            Self::Tokio(Grid::OneProgram) => "tokio-one-program",
            Self::Beam(Grid::OneProgram, _) => "beam-one-program",
            Self::Tokio(Grid::OneProgramLonger) => "tokio-one-program-longer",
            Self::Beam(Grid::OneProgramLonger, _) => "beam-one-program-longer",
            Self::Tokio(Grid::SixPrograms) => "tokio-six-programs",
            Self::Beam(Grid::SixPrograms, 1) => "beam-six-programs",
            Self::Beam(Grid::SixPrograms, _) => "beam-six-programs-together",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Element => "A request to the worker, from Python",
            Self::EmptyJob => "A pipeline of 18 runs that train nothing",
            Self::Tokio(Grid::OneProgram) => "18 runs of one program: parallel-training sweep",
            Self::Tokio(Grid::OneProgramLonger) => {
                "18 runs of one program, three times the epochs: parallel-training sweep"
            }
            Self::Beam(Grid::OneProgram | Grid::OneProgramLonger, _) => "The same on Beam",
            Self::Tokio(Grid::SixPrograms) => "18 runs of six programs: parallel-training sweep",
            Self::Beam(Grid::SixPrograms, 1) => "The same on Beam, dealt one by one",
            Self::Beam(Grid::SixPrograms, _) => "The same on Beam, runs of a program together",
        }
    }

    fn grid(self) -> Grid {
        match self {
            Self::Tokio(grid) | Self::Beam(grid, _) => grid,
            Self::Element | Self::EmptyJob => Grid::OneProgram,
        }
    }

    /// What one sample counts.
    fn items(self) -> usize {
        match self {
            Self::Element => EMPTY_RUNS,
            _ => RUNS,
        }
    }
}

/// The grid as our program reads it.
fn toml(grid: Grid, epochs: u32, width: u32, rates: usize) -> String {
    let epochs = grid.epochs(epochs);
    let common =
        format!("data = \"digits\"\nwidth = {width}\nepochs = {epochs}\ncompile = \"fast\"\n");
    let rest = match grid {
        Grid::OneProgram | Grid::OneProgramLonger => format!(
            "arch = \"resnet18\"\nbatch = 32\n\
             learning_rate = {{ from = 0.001, to = 0.1, count = {rates}, scale = \"log\" }}\n"
        ),
        Grid::SixPrograms => "arch = [\"resnet18\", \"resnet34\"]\nbatch = [16, 32, 64]\n\
             learning_rate = [0.1, 0.01, 0.001]\n"
            .to_owned(),
    };
    common + &rest
}

/// What all of them share.
struct Setup {
    python: PathBuf,
    worker: PathBuf,
    root: PathBuf,
    epochs: u32,
    width: u32,
    cores: usize,
    /// Longest wait for a whole command.
    time_limit: Duration,
}

/// What came of a command.
#[derive(Clone, Debug, Default)]
struct Finished {
    seconds: Vec<f64>,
    /// The run that won, where there was a training.
    winner: Option<String>,
    versions: BTreeMap<String, String>,
}

/// Runs `cargo x peers beam`.
///
/// # Errors
/// As [`super::run`].
pub fn run(args: &BeamArgs, environment: Environment, root: &Path) -> anyhow::Result<ExitCode> {
    let common = &args.common;
    let who = match whole_commands::selected(&Who::ALL, Who::id, common, MEASUREMENT) {
        Ok(who) => who,
        Err(message) => return Ok(wrong_usage(&message)),
    };
    if common.dry_run {
        let ids: Vec<_> = who.iter().map(|who| who.id()).collect();
        println!("{MEASUREMENT}: {}", ids.join(", "));
        return Ok(ExitCode::SUCCESS);
    }
    let (_, _lock) = cache(root)?;
    let python = match &common.python {
        Some(python) => std::path::absolute(python)?,
        None => match BEAM.ready(root, common.quiet) {
            Ok(python) => python,
            Err(error) => {
                eprintln!("error: {error:#}");
                return Ok(ExitCode::from(exit::DEVICE));
            }
        },
    };
    let setup = Setup {
        python,
        worker: worker(common, PACKAGE, root)?,
        root: root.to_owned(),
        epochs: if common.quick { 1 } else { args.epochs },
        width: args.width,
        cores: environment.cores,
        time_limit: Duration::from_secs(common.time_limit.unwrap_or(7200)),
    };
    let rounds = whole_commands::rounds(common);
    let progress = Progress::new(None, "rounds", common.quiet);
    let mut file = new_file(CHAPTER, MEASUREMENT, &environment, &DEPENDS_ON, common);
    file.title = Some(format!(
        "What Beam adds to a sweep of {RUNS} ResNets, width {}, {} epochs, {} processes",
        setup.width, setup.epochs, setup.cores
    ));
    measure(&setup, &who, rounds, &mut file, &progress);
    let mut written = Written::default();
    written.add(&file, &table(&file), common, root, &progress)?;
    progress.finish();
    Ok(written.end(common))
}

/// Measures everybody in turn and adds rows and notes to `file`. Nothing that happens to a
/// contender is an error here: it becomes a row.
fn measure(setup: &Setup, who: &[Who], rounds: usize, file: &mut ResultFile, progress: &Progress) {
    let load_before = comparison::load_average();
    let mut results: Vec<Result<Vec<Finished>, String>> = vec![Ok(Vec::new()); who.len()];
    whole_commands::in_turn(
        &who.iter().map(|who| who.id()).collect::<Vec<_>>(),
        rounds,
        &mut results,
        progress,
        |place| once(setup, who[place]),
        |one| one.seconds.iter().sum(),
    );
    for (who, result) in who.iter().zip(results) {
        let row = row(setup, *who, rounds, result, file);
        file.rows.push(row);
    }
    for beam in Who::ALL {
        if let Who::Beam(grid, _) = beam {
            compare(file, Who::Tokio(grid).id(), beam.id());
        }
    }
    file.notes.push(format!(
        "whole commands, one after another, timed from start to exit: {rounds} rounds, order \
         rotated and reversed from round to round; a fresh folder each time; one sample is {RUNS} \
         runs, of a request {EMPTY_RUNS} of them; Beam's DirectRunner with a process a core"
    ));
    rounds::note_loads(file, load_before, setup.cores);
}

/// Runs a contender once; an error is the reason for its row.
fn once(setup: &Setup, who: Who) -> Result<Finished, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| {
        std::fs::write(path(name), text).map_err(|error| format!("cannot write {name}: {error}"))
    };
    let rates = match who {
        Who::Element => EMPTY_RUNS,
        _ => RUNS,
    };
    write(
        "grid.toml",
        &toml(who.grid(), setup.epochs, setup.width, rates),
    )?;
    if !matches!(who, Who::Tokio(_)) {
        // Which runs there are is settled before the clock starts.
        let plan = std::process::Command::new(&setup.worker)
            .current_dir(&setup.root)
            .arg("plan")
            .arg("--grid")
            .arg(path("grid.toml"))
            .output()
            .map_err(|error| format!("cannot plan: {error}"))?;
        if !plan.status.success() {
            let words = String::from_utf8_lossy(&plan.stderr);
            return Err(format!("plan failed ({}): {words}", plan.status));
        }
        write("runs.jsonl", &String::from_utf8_lossy(&plan.stdout))?;
    }
    let ended = start(setup, who, &path)?;
    match who {
        Who::Element => requests(&ended.last_line),
        Who::EmptyJob => {
            counts(&ended.last_line)?;
            Ok(Finished {
                seconds: vec![ended.seconds],
                ..Finished::default()
            })
        }
        Who::Beam(..) => Ok(Finished {
            seconds: vec![ended.seconds],
            winner: Some(counts(&ended.last_line)?),
            versions: BTreeMap::new(),
        }),
        Who::Tokio(_) => {
            let file = ResultFile::read(path("out/result.json")).map_err(|e| e.to_string())?;
            let winner = file
                .row("sweep")
                .and_then(|row| row.workload.get("winner")?.as_str());
            Ok(Finished {
                seconds: vec![ended.seconds],
                winner: Some(winner.ok_or("result.json names no winner")?.to_owned()),
                versions: file.environment.libraries,
            })
        }
    }
}

/// Starts a contender's command and waits for its end.
fn start(setup: &Setup, who: Who, path: &dyn Fn(&str) -> PathBuf) -> Result<Ended, String> {
    let script = |name: &str| setup.root.join(PIPELINES).join(name).into_os_string();
    let cores = setup.cores.to_string();
    let beam = |more: &[&str]| {
        let words = ["--json", "--runner", "DirectRunner"];
        let mode = ["--direct_running_mode", "multi_processing"];
        let flags = [&words[..], &mode, &["--direct_num_workers", &cores], more].concat();
        let mut arguments = vec![
            script("sweep.py"),
            "--program".into(),
            setup.worker.clone().into(),
            "--runs".into(),
            path("runs.jsonl").into(),
            "--out".into(),
            path("out").into(),
            "--result".into(),
            path("result.json").into(),
        ];
        arguments.extend(flags.into_iter().map(OsString::from));
        arguments
    };
    let (program, arguments) = match who {
        Who::Element => {
            let arguments = vec![
                script("overhead.py"),
                "--program".into(),
                setup.worker.clone().into(),
                "--runs".into(),
                path("runs.jsonl").into(),
                "--rounds".into(),
                "1".into(),
            ];
            (&setup.python, arguments)
        }
        Who::EmptyJob => (&setup.python, beam(&["--empty"])),
        Who::Beam(_, together) => {
            let together = together.to_string();
            let flags = ["--device", "cpu", "--together", &together];
            (&setup.python, beam(&flags))
        }
        Who::Tokio(_) => {
            let words = ["sweep", "--quiet", "--device", "cpu", "--threads", "1"];
            let slots = ["--slots", &cores];
            let mut arguments: Vec<_> = words.iter().chain(&slots).map(OsString::from).collect();
            arguments.extend(["--grid".into(), path("grid.toml").into()]);
            arguments.extend(["--out".into(), path("out").into()]);
            (&setup.worker, arguments)
        }
    };
    let launch = Launch {
        program: program.clone(),
        arguments,
        variables: Vec::new(),
        folder: setup.root.clone(),
    };
    contender::run_to_its_end(&launch, "sweep", "", setup.time_limit)
        .map_err(|error| error.to_string())
}

/// Reads the line of `overhead.py`.
fn requests(line: &str) -> Result<Finished, String> {
    #[derive(Deserialize)]
    struct Answer {
        versions: BTreeMap<String, String>,
        elements: usize,
        seconds: Vec<f64>,
    }
    let answer: Answer = whole_commands::answer(line)?;
    if answer.elements != EMPTY_RUNS {
        let got = answer.elements;
        return Err(format!("{got} requests; expected {EMPTY_RUNS}"));
    }
    Ok(Finished {
        seconds: answer.seconds,
        winner: None,
        versions: answer.versions,
    })
}

/// Reads the line of `sweep.py`: the winner, if all runs are done.
fn counts(line: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Answer {
        done: usize,
        failed: usize,
        winner: Option<String>,
    }
    let answer: Answer = whole_commands::answer(line)?;
    match answer.winner {
        Some(winner) if (answer.done, answer.failed) == (RUNS, 0) => Ok(winner),
        _ => Err(format!(
            "{} runs done and {} failed; expected {RUNS} and 0",
            answer.done, answer.failed
        )),
    }
}

/// A contender's row.
fn row(
    setup: &Setup,
    who: Who,
    rounds: usize,
    result: Result<Vec<Finished>, String>,
    file: &mut ResultFile,
) -> Row {
    let on_beam = matches!(who, Who::Beam(..) | Who::EmptyJob);
    let describe = |row: Row| {
        row.with("engine", if on_beam { "apache-beam" } else { PACKAGE })
            .with("runs", who.items())
            .with(
                "processes",
                if who == Who::Element { 1 } else { setup.cores },
            )
            .with("ours", !on_beam)
    };
    let finished = match result {
        Ok(finished) => finished,
        Err(reason) => return describe(Row::failed(who.id(), who.label(), reason)),
    };
    for one in &finished {
        file.environment.libraries.extend(one.versions.clone());
    }
    let mut row = describe(Row::ok(who.id(), who.label()))
        .with("rounds", rounds)
        .with("samples_per_round", 1);
    if matches!(who, Who::Tokio(_) | Who::Beam(..)) {
        row = (row.with("width", setup.width)).with("epochs", who.grid().epochs(setup.epochs));
    }
    if let Who::Beam(_, together) = who {
        row = row.with("together", together);
    }
    if let Some(winner) = finished.iter().rev().find_map(|one| one.winner.as_deref()) {
        row = row.with("winner", winner);
    }
    row.with_samples(Samples {
        items_per_sample: who.items(),
        warmup_seconds: Vec::new(),
        seconds: finished.into_iter().flat_map(|one| one.seconds).collect(),
    })
}

/// Adds to Beam's row the share of time that it takes more, with the 95% interval; fails the row
/// if it has another winner.
fn compare(file: &mut ResultFile, tokio: &str, beam: &str) {
    let (Some(ours), Some(theirs)) = (file.row(tokio), file.row(beam)) else {
        return;
    };
    let winner = |row: &Row| {
        row.workload
            .get("winner")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let (Some(expected), Some(got)) = (winner(ours), winner(theirs)) else {
        return;
    };
    // Rates, paired by round: theirs in the denominator is their time over ours.
    let ratio = comparison::rate_ratio(ours, theirs);
    let Some(row) = file.rows.iter_mut().find(|row| row.id == beam) else {
        return;
    };
    if got != expected {
        let reason = format!("its winner is {got}; expected {expected}, as without Beam");
        *row = Row::failed(row.id.clone(), row.label.clone(), reason);
        return;
    }
    if let Some(ratio) = ratio {
        for (name, value) in [
            ("added_share", ratio.median),
            ("added_low_share", ratio.low),
            ("added_high_share", ratio.high),
        ] {
            row.metrics.insert(name.to_owned(), value - 1.0);
        }
    }
}

/// The result as text. Nobody competes here: a sweep on Beam stands beside the same without.
fn table(file: &ResultFile) -> String {
    let mut text = format!("{}\n", file.title.as_deref().unwrap_or(&file.measurement));
    for row in &file.rows {
        let per_item = row.samples.as_ref().and_then(Samples::items_per_second);
        let told = match (per_item, &row.reason) {
            (_, Some(reason)) => reason.clone(),
            (Some(rate), None) => format!("{} ms a run", human::three_digits(1000.0 / rate)),
            (None, None) => "no samples".to_owned(),
        };
        text += &format!("{:<26} {told}", row.id);
        let share = |name: &str| row.metrics.get(name).map(|share| 100.0 * share);
        if let (Some(added), Some(low), Some(high)) = (
            share("added_share"),
            share("added_low_share"),
            share("added_high_share"),
        ) {
            text += &format!("; Beam adds {added:.1}% ({low:.1} to {high:.1})");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use accel::results::Status;
    use std::os::unix::fs::PermissionsExt;

    /// Measures two rounds with shell scripts in place of the programs.
    ///
    /// * `element`, `empty`, `beam`: what Python does as overhead.py, as sweep.py with --empty and
    ///   without
    fn race(element: &str, empty: &str, beam: &str) -> ResultFile {
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, body: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
            path
        };
        let mut result = ResultFile::new(CHAPTER, "sweep", Environment::collect());
        let whole = Row::ok("sweep", "sweep")
            .with("winner", "best")
            .with_metric("runs", 18.0);
        result.rows.push(whole);
        let written = folder.path().join("written.json");
        result.write(&written).unwrap();
        let worker = program(
            "ours",
            format!(
                "case \"$1\" in plan) grep -q learning_rate \"$3\" && echo run;;\n\
                 sweep) for last; do :; done; mkdir \"$last\" && sleep 0.1 && \
                 cp '{}' \"$last/result.json\";; *) exit 2;; esac",
                written.display()
            ),
        );
        let python = program(
            "python",
            format!(
                "case \"$*\" in *overhead.py*) {element};; *--empty*) {empty};; *) {beam};; esac"
            ),
        );
        let setup = Setup {
            python,
            worker,
            root: folder.path().to_owned(),
            epochs: 2,
            width: 4,
            cores: 2,
            time_limit: Duration::from_secs(20),
        };
        let mut file = ResultFile::new(CHAPTER, MEASUREMENT, Environment::collect());
        let progress = Progress::new(None, "rounds", true);
        measure(&setup, &Who::ALL, 2, &mut file, &progress);
        file.validate().unwrap();
        file
    }

    fn element(elements: usize) -> String {
        format!(
            "echo '{{\"versions\": {{\"apache-beam\": \"2\"}}, \"elements\": {elements}, \"seconds\": [0.25]}}'"
        )
    }

    fn sweep(done: usize, winner: &str) -> String {
        let failed = RUNS - done;
        format!("echo '{{\"done\": {done}, \"failed\": {failed}, \"winner\": \"{winner}\"}}'")
    }

    #[test]
    fn what_beam_adds_is_a_share_of_the_time_without_it() {
        let beam = format!("sleep 0.4; {}", sweep(18, "best"));
        let file = race(&element(1000), &sweep(18, "x"), &beam);
        for row in &file.rows {
            assert_eq!(row.status, Status::Ok, "{}: {:?}", row.id, row.reason);
            assert_eq!(row.samples.as_ref().unwrap().seconds.len(), 2);
        }
        let element = file.row("element").unwrap().samples.as_ref().unwrap();
        assert_eq!((element.items_per_sample, element.seconds[0]), (1000, 0.25));
        for (id, together) in [
            ("beam-one-program", 1),
            ("beam-one-program-longer", 1),
            ("beam-six-programs", 1),
            ("beam-six-programs-together", 3),
        ] {
            let row = file.row(id).unwrap();
            let added = row.metrics["added_share"];
            assert!((0.5..=20.0).contains(&added), "{added}");
            assert!(row.metrics["added_low_share"] <= added);
            assert_eq!(row.workload["winner"], "best");
            assert_eq!(row.workload["together"], together);
        }
        let tokio = |id: &str| file.row(id).unwrap();
        assert!(tokio("tokio-one-program").metrics.is_empty());
        assert_eq!(tokio("tokio-one-program").workload["epochs"], 2);
        assert_eq!(tokio("tokio-one-program-longer").workload["epochs"], 6);
        let table = table(&file);
        assert!(
            table.contains("element                    0.250 ms a run\n"),
            "{table}"
        );
        assert_eq!(table.matches("; Beam adds ").count(), 4, "{table}");
        assert_eq!(file.environment.libraries["apache-beam"], "2");
    }

    #[test]
    fn another_winner_and_lost_runs_are_failures() {
        let file = race(&element(7), &sweep(17, "x"), &sweep(18, "other"));
        let reason = |id: &str| {
            let row = file.row(id).unwrap();
            assert_eq!(row.status, Status::Failed, "{id}");
            row.reason.clone().unwrap()
        };
        assert!(reason("element").contains("7 requests; expected 1000"));
        assert!(reason("empty-job").contains("17 runs done and 1 failed"));
        assert!(reason("beam-six-programs").contains("its winner is other; expected best"));
        assert_eq!(file.row("tokio-six-programs").unwrap().status, Status::Ok);
    }

    #[test]
    fn the_grids_have_what_they_say() {
        for (grid, programs, epochs) in [
            (Grid::OneProgram, 1, 3),
            (Grid::OneProgramLonger, 1, 9),
            (Grid::SixPrograms, 6, 3),
        ] {
            let table: toml::Table = toml(grid, 3, 8, RUNS).parse().unwrap();
            let count = |key: &str| match &table[key] {
                toml::Value::Array(values) => values.len(),
                toml::Value::Table(range) => range["count"].as_integer().unwrap() as usize,
                _ => 1,
            };
            let runs = count("arch") * count("batch") * count("learning_rate");
            assert_eq!(runs, RUNS);
            assert_eq!(count("arch") * count("batch"), programs);
            assert_eq!(table["epochs"].as_integer(), Some(epochs));
        }
    }
}
