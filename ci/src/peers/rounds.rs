//! Interleaved measurement of one workload: load, compare logits, measure in turn.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use accel::{
    progress::Progress,
    results::{ResultFile, Row, Status},
    timing::{Samples, Summary},
};
use serde_json::{Map, Value, json};

use super::{
    comparison,
    contender::{Contender, ContenderError, Launch},
    workloads::{Contestant, MALLOC_TUNABLES, Workload},
};
use crate::quantities;

/// Pause between two contenders. An engine's threads spin for a few milliseconds
/// after its last parallel region (libgomp: 300,000 iterations unless OMP_WAIT_POLICY
/// says otherwise) and would take the cores from the next one.
/// Source: <https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html>
const PAUSE: Duration = Duration::from_millis(50);

/// Memory that must be free before another contender is loaded, in bytes: a ResNet-50
/// at batch 32 takes about 1.5 GB, and swapping would be measured in place of it.
const FREE_MEMORY: u64 = 3 << 30;

/// Largest difference of a logit from PyTorch eager in f32, relative to the largest
/// |logit|. Another order of summation makes 1e-6; Winograd convolution 1e-5. bf16
/// has 8 bits of mantissa: a rounding is 4e-3, and those of 50 layers add up to 1e-2
/// (measured with seeded weights). A wrong stride, stem or fold makes 1e-1 and more.
fn tolerance(dtype: &str) -> f64 {
    match dtype {
        "f32" => 1e-4,
        _ => 5e-2,
    }
}

/// How often and how long.
#[derive(Clone, Debug)]
pub struct Pace {
    rounds: usize,
    /// Time that the median contender's samples of one round should take, in seconds.
    turn_seconds: f64,
    /// Fewest and most samples a round.
    samples: (usize, usize),
    /// Runs before the samples of each round: the others have emptied the caches.
    warmup: usize,
}

impl Pace {
    /// For publishing.
    pub fn full() -> Self {
        Self {
            rounds: 12,
            turn_seconds: 1.0,
            samples: (2, 40),
            warmup: 2,
        }
    }

    /// For a look.
    pub fn quick() -> Self {
        Self {
            rounds: 3,
            turn_seconds: 0.2,
            samples: (1, 10),
            warmup: 1,
        }
    }

    /// With the number of rounds that the user chose, if any.
    pub fn with_rounds(mut self, rounds: Option<u32>) -> Self {
        self.rounds = rounds.map_or(self.rounds, |rounds| rounds as usize);
        self
    }
}

/// What all workloads share.
pub struct Setup {
    /// Python of the peers' environment.
    pub python: PathBuf,
    /// `cpu_inference.py`.
    pub script: PathBuf,
    /// The cpu-inference program; `None` if no rung of ours takes part.
    pub worker: Option<PathBuf>,
    /// Weights given by the user.
    pub weights: Option<PathBuf>,
    /// Folder for seeded weights, inputs and compiled kernels.
    pub cache: PathBuf,
    /// How often and how long.
    pub pace: Pace,
    /// Longest wait for one answer.
    pub time_limit: Duration,
}

/// The files that all contenders of one workload read.
struct Shared {
    weights: String,
    input: String,
}

/// A contestant with what became of it.
struct Entrant<'a> {
    contestant: &'a Contestant,
    /// `None` once it has failed or was skipped.
    contender: Option<Contender>,
    row: Row,
    seconds: Vec<f64>,
}

/// Measures one workload and adds its rows and notes to `file`.
///
/// Nothing that happens to a contender is an error here: it becomes a row.
pub fn measure(
    setup: &Setup,
    workload: &Workload,
    contestants: &[Contestant],
    file: &mut ResultFile,
    progress: &Progress,
) {
    let load_before = comparison::load_average();
    let mut entrants: Vec<_> = contestants
        .iter()
        .map(|contestant| Entrant {
            contestant,
            contender: None,
            row: Row {
                workload: workload.describe(contestant),
                ..Row::ok(&contestant.id, &contestant.label)
            },
            seconds: Vec::new(),
        })
        .collect();
    match prepare(setup, workload) {
        Ok(shared) => {
            let reference = reference_logits(setup, workload, &shared);
            if let Err(error) = &reference {
                progress.warn(&format!("logits are not compared: {error}"));
                file.notes
                    .push(format!("logits were not compared: {error}"));
            }
            for entrant in &mut entrants {
                progress.println(&format!("  loading {}", entrant.contestant.id));
                let started = enter(
                    setup,
                    workload,
                    &shared,
                    entrant,
                    file,
                    reference.as_deref().ok(),
                );
                if let Err(error) = started {
                    entrant.leave(&error);
                }
            }
            run_rounds(setup, workload, &mut entrants, file, progress);
        }
        Err(error) => {
            for entrant in &mut entrants {
                entrant.fail(format!("the shared weights could not be made: {error}"));
            }
        }
    }
    // Every process of this workload ends before the next one loads.
    for entrant in entrants {
        let mut row = entrant.row;
        drop(entrant.contender);
        if row.status == Status::Ok {
            row = row.with_samples(Samples {
                items_per_sample: workload.batch,
                warmup_seconds: Vec::new(),
                seconds: entrant.seconds,
            });
        }
        file.rows.push(row);
    }
    let after = comparison::load_average();
    let text = |load: Option<[f64; 3]>| {
        load.map_or("unknown".to_owned(), |load| format!("{:.2}", load[0]))
    };
    file.notes.push(format!(
        "load average over 1 minute: {} before, {} after (contenders use {} of {} cores)",
        text(load_before),
        text(after),
        workload.threads,
        file.environment.cores,
    ));
}

impl Entrant<'_> {
    fn fail(&mut self, reason: String) {
        self.contender = None;
        self.row.status = Status::Failed;
        self.row.reason = Some(reason);
    }

    /// Out of the race, for this reason.
    fn leave(&mut self, error: &ContenderError) {
        self.fail(error.to_string());
        if matches!(
            error,
            ContenderError::Refused {
                unsupported: true,
                ..
            }
        ) {
            self.row.status = Status::Skipped;
        }
    }
}

/// Makes the weights and the input that all contenders share.
fn prepare(setup: &Setup, workload: &Workload) -> Result<Shared, String> {
    let folder = setup.cache.join("workload");
    // Made anew for each workload: it takes a second, and a ResNet-50 for each batch
    // size would fill the disk.
    let mut command = Command::new(&setup.python);
    command
        .arg(&setup.script)
        .args(["prepare", "--arch", workload.arch, "--stem", workload.stem])
        .args(["--image", &workload.image.to_string()])
        .args(["--batch", &workload.batch.to_string(), "--out"])
        .arg(&folder)
        .env_remove("PYTHONPATH")
        .env_remove("PYTHONHOME")
        .stdin(Stdio::null());
    if let Some(weights) = &setup.weights {
        command.arg("--weights").arg(weights);
    }
    let output = command
        .output()
        .map_err(|error| format!("cannot run {}: {error}", setup.python.display()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("no message");
        return Err(format!("{} ({})", last.trim(), output.status));
    }
    let weights = setup
        .weights
        .clone()
        .unwrap_or_else(|| folder.join("weights.safetensors"));
    let text = |path: PathBuf| {
        let path =
            std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        path.into_os_string()
            .into_string()
            .map_err(|path| format!("{}: the path is not UTF-8", path.display()))
    };
    Ok(Shared {
        weights: text(weights)?,
        input: text(folder.join("input.safetensors"))?,
    })
}

/// How to start this contender.
fn launch(
    setup: &Setup,
    workload: &Workload,
    contestant: &Contestant,
) -> Result<Launch, ContenderError> {
    let mut variables: Vec<(String, OsString)> = vec![(
        "OMP_NUM_THREADS".to_owned(),
        workload.threads.to_string().into(),
    )];
    if contestant.tuned_malloc {
        variables.push(("GLIBC_TUNABLES".to_owned(), MALLOC_TUNABLES.into()));
    }
    if contestant.ours {
        let Some(worker) = &setup.worker else {
            return Err(ContenderError::Refused {
                message: "cpu-inference was not built".to_owned(),
                unsupported: false,
            });
        };
        return Ok(Launch {
            program: worker.clone(),
            arguments: std::iter::once("worker")
                .chain(contestant.system_malloc.then_some("--system-malloc"))
                .map(OsString::from)
                .collect(),
            variables,
        });
    }
    variables.push((
        "TORCHINDUCTOR_CACHE_DIR".to_owned(),
        setup.cache.join("inductor").into(),
    ));
    Ok(Launch {
        program: setup.python.clone(),
        arguments: vec![setup.script.clone().into(), "worker".into()],
        variables,
    })
}

/// Logits of PyTorch eager in f32, by a process that ends before anything is timed.
fn reference_logits(
    setup: &Setup,
    workload: &Workload,
    shared: &Shared,
) -> Result<Vec<f64>, ContenderError> {
    let contestant = Contestant {
        id: "reference".to_owned(),
        label: "reference".to_owned(),
        engine: "pytorch-eager",
        ours: false,
        tuned_malloc: false,
        system_malloc: false,
    };
    let mut contender = Contender::start(&launch(setup, workload, &contestant)?)?;
    let message = workload.load_message("pytorch-eager", "f32", &shared.weights);
    contender.ask("load", &message, setup.time_limit)?;
    logits(setup, workload, shared, &mut contender)
}

/// The contender's logits of the shared input, row by row.
fn logits(
    setup: &Setup,
    workload: &Workload,
    shared: &Shared,
    contender: &mut Contender,
) -> Result<Vec<f64>, ContenderError> {
    const EXPECTED: &str = "{\"logits\": [[numbers]]}, a row an image";
    let answer = contender.ask(
        "logits",
        &json!({"logits": {"input": shared.input}}),
        setup.time_limit,
    )?;
    let rows = answer.get("logits").and_then(Value::as_array);
    let values: Option<Vec<Vec<f64>>> = rows.and_then(|rows| {
        rows.iter()
            .map(|row| row.as_array()?.iter().map(Value::as_f64).collect())
            .collect()
    });
    match values {
        Some(values)
            if values.len() == workload.batch
                && values
                    .iter()
                    .all(|row| row.len() == values[0].len() && !row.is_empty()) =>
        {
            Ok(values.concat())
        }
        _ => Err(contender.garbage("logits", EXPECTED, &answer.to_string())),
    }
}

/// Largest difference relative to the largest |reference|; infinite for another length.
fn relative_difference(logits: &[f64], reference: &[f64]) -> f64 {
    if logits.len() != reference.len() {
        return f64::INFINITY;
    }
    let largest = reference.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let difference = logits
        .iter()
        .zip(reference)
        .fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
    difference / largest.max(f64::MIN_POSITIVE)
}

/// Starts and loads one entrant and compares its logits.
fn enter(
    setup: &Setup,
    workload: &Workload,
    shared: &Shared,
    entrant: &mut Entrant<'_>,
    file: &mut ResultFile,
    reference: Option<&[f64]>,
) -> Result<(), ContenderError> {
    if let Some(free) = available_memory().filter(|free| *free < FREE_MEMORY) {
        entrant.fail(format!(
            "not loaded: {} of memory is free beside the other contenders, {} is wanted; \
             measure fewer at once with --contender",
            quantities::size(free),
            quantities::size(FREE_MEMORY),
        ));
        return Ok(());
    }
    let mut contender = Contender::start(&launch(setup, workload, entrant.contestant)?)?;
    let message = workload.load_message(entrant.contestant.engine, workload.dtype, &shared.weights);
    let start = Instant::now();
    let answer = contender.ask("load", &message, setup.time_limit)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let Some(loaded) = answer.get("loaded").and_then(Value::as_object) else {
        return Err(contender.garbage("load", "{\"loaded\": {...}}", &answer.to_string()));
    };
    entrant
        .row
        .metrics
        .insert("load_seconds".to_owned(), load_seconds);
    for (library, version) in texts(loaded.get("versions")) {
        file.environment.libraries.insert(library, version);
    }
    for (name, value) in texts(loaded.get("settings")) {
        entrant.row.workload.entry(name).or_insert(value.into());
    }
    if let Some(reference) = reference {
        let difference =
            relative_difference(&logits(setup, workload, shared, &mut contender)?, reference);
        let tolerance = tolerance(workload.dtype);
        if difference.is_finite() {
            let name = "logit_max_relative_difference".to_owned();
            entrant.row.metrics.insert(name, difference);
        }
        if difference > tolerance {
            entrant.fail(format!(
                "its logits differ from PyTorch eager in f32 by {difference:.1e} of the largest \
                 |logit|; {tolerance:.0e} is allowed in {}",
                workload.dtype
            ));
            return Ok(());
        }
    }
    entrant.contender = Some(contender);
    Ok(())
}

/// The entries of a JSON object that are text.
fn texts(object: Option<&Value>) -> Vec<(String, String)> {
    let entries = object.and_then(Value::as_object).into_iter().flatten();
    entries
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .filter(|(name, value)| !name.trim().is_empty() && !value.trim().is_empty())
        .collect()
}

/// Measures those who are still in, in turn.
fn run_rounds(
    setup: &Setup,
    workload: &Workload,
    entrants: &mut [Entrant<'_>],
    file: &mut ResultFile,
    progress: &Progress,
) {
    let pace = &setup.pace;
    // The same number of samples for all, so that sample i of one row and of another
    // are of the same round; the median contender decides how many.
    let mut firsts = Vec::new();
    for entrant in entrants.iter_mut() {
        if let Some(seconds) = turn(setup, entrant, 1, 1) {
            firsts.extend(seconds);
        }
    }
    let Some(median) = Summary::of(&firsts).map(|summary| summary.median) else {
        return;
    };
    // A positive time: checked in `turn`. The cast saturates.
    let samples = ((pace.turn_seconds / median) as usize).clamp(pace.samples.0, pace.samples.1);
    let count = entrants.len();
    for round in 0..pace.rounds {
        progress.println(&format!(
            "  round {} of {}, {samples} samples each",
            round + 1,
            pace.rounds
        ));
        for position in 0..count {
            let entrant = &mut entrants[place_in_round(round, position, count)];
            if let Some(seconds) = turn(setup, entrant, pace.warmup, samples) {
                entrant.seconds.extend(seconds);
            }
        }
    }
    for entrant in entrants
        .iter_mut()
        .filter(|entrant| entrant.contender.is_some())
    {
        for (name, value) in [("rounds", pace.rounds), ("samples_per_round", samples)] {
            entrant.row.workload.insert(name.to_owned(), value.into());
        }
    }
    file.notes.push(format!(
        "contenders measured in turn: {} rounds of {samples} samples after {} warm-up runs each; \
         samples i*{samples} to (i+1)*{samples}-1 of every row are of round i; order rotated and \
         reversed from round to round; {} ms of pause before each turn; one sample is one batch of {}",
        pace.rounds,
        pace.warmup,
        PAUSE.as_millis(),
        workload.batch,
    ));
}

/// Who comes at `position` in `round`: every second round runs backwards, and each
/// pair of rounds begins one further, so that nobody always follows the same one.
fn place_in_round(round: usize, position: usize, count: usize) -> usize {
    let position = if round % 2 == 1 {
        count - 1 - position
    } else {
        position
    };
    (position + round / 2) % count
}

/// One turn of one entrant; `None` if it is out, or goes out now.
fn turn(
    setup: &Setup,
    entrant: &mut Entrant<'_>,
    warmup: usize,
    samples: usize,
) -> Option<Vec<f64>> {
    const EXPECTED: &str = "{\"seconds\": [...]}, a positive number a sample";
    let contender = entrant.contender.as_mut()?;
    std::thread::sleep(PAUSE);
    let message = json!({"run": {"warmup": warmup, "samples": samples}});
    let seconds = contender
        .ask("run", &message, setup.time_limit)
        .and_then(|answer| {
            let seconds = answer.get("seconds").and_then(Value::as_array);
            let seconds: Option<Vec<f64>> =
                seconds.and_then(|values| values.iter().map(Value::as_f64).collect());
            match seconds {
                Some(seconds)
                    if seconds.len() == samples
                        && seconds.iter().all(|s| s.is_finite() && *s > 0.0) =>
                {
                    Ok(seconds)
                }
                _ => Err(contender.garbage("run", EXPECTED, &answer.to_string())),
            }
        });
    match seconds {
        Ok(seconds) => Some(seconds),
        Err(error) => {
            entrant.leave(&error);
            None
        }
    }
}

/// Memory that can be had without swapping, in bytes; `None` where Linux does not say.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The number of rounds that a row's workload tells.
pub fn rounds_of(workload: &Map<String, Value>) -> Option<usize> {
    let rounds = workload.get("rounds")?.as_u64()?;
    usize::try_from(rounds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use accel::environment::Environment;

    /// A contender in the shell: loads, has logits [[1, 2]] and takes `seconds`.
    fn good(seconds: &str) -> String {
        format!(
            r#"echo '{{"loaded": {{"versions": {{"toy": "1"}}, "settings": {{"mode": "fast"}}}}}}'
            while read line; do case "$line" in
                *'"logits"'*) echo '{{"logits": [[1, 2]]}}';;
                *'"samples":1'*) echo '{{"seconds": [{seconds}]}}';;
                *) echo '{{"seconds": [{seconds}, {seconds}]}}';;
            esac; done"#
        )
    }

    /// Runs the measurement with shell scripts in place of engines.
    fn race(scripts: &[(&str, String)]) -> ResultFile {
        let folder = tempfile::tempdir().unwrap();
        // Stands in for Python and for cpu-inference: `prepare` writes nothing,
        // and `worker` reads the load message and becomes the script that it names.
        let mut body = String::from("case \"$1$2\" in *prepare*) exit 0;; esac\n");
        body.push_str("read first\ncase \"$first\" in\n");
        let all = scripts
            .iter()
            .map(|(engine, script)| (*engine, script.clone()));
        for (engine, script) in all.chain([("pytorch-eager", good("0.5"))]) {
            let path = folder.path().join(format!("{engine}.sh"));
            std::fs::write(&path, script).unwrap();
            let path = path.display();
            body.push_str(&format!(
                "*'\"engine\":\"{engine}\"'*) exec /bin/sh '{path}';;\n"
            ));
        }
        body.push_str("esac\n");
        let engine = folder.path().join("engine.sh");
        std::fs::write(&engine, body).unwrap();

        let setup = Setup {
            python: "/bin/sh".into(),
            script: engine,
            worker: None,
            weights: None,
            cache: folder.path().to_path_buf(),
            pace: Pace {
                rounds: 4,
                turn_seconds: 1.0,
                samples: (2, 2),
                warmup: 0,
            },
            time_limit: Duration::from_secs(2),
        };
        let workload = Workload {
            arch: "resnet18",
            stem: "imagenet",
            image: 32,
            batch: 1,
            dtype: "f32",
            threads: 1,
            threads_in_name: false,
        };
        let contestants: Vec<_> = scripts
            .iter()
            .map(|(engine, _)| Contestant {
                id: (*engine).to_owned(),
                label: (*engine).to_owned(),
                // The engine's name lives as long as a row's: leaked in a test.
                engine: Box::leak((*engine).to_owned().into_boxed_str()),
                ours: false,
                tuned_malloc: false,
                system_malloc: false,
            })
            .collect();
        let mut file = ResultFile::new("01-cpu", "peers-test", Environment::collect());
        let progress = Progress::new(None, "workloads", true);
        measure(&setup, &workload, &contestants, &mut file, &progress);
        file.validate().unwrap();
        file
    }

    #[test]
    fn the_others_go_on_when_one_dies_hangs_or_babbles() {
        let loaded = r#"echo '{"loaded": {}}'; read l; echo '{"logits": [[1, 2]]}';"#;
        let file = race(&[
            ("a", good("0.5")),
            (
                "dies",
                format!("{loaded} read l; echo out of memory >&2; exit 9"),
            ),
            ("hangs", format!("{loaded} exec sleep 30")),
            (
                "babbles",
                format!("{loaded} read l; echo 'Segmentation fault'; read l"),
            ),
            (
                "wrong",
                "echo '{\"loaded\": {}}'; read l; echo '{\"logits\": [[1, 3]]}'; read l".to_owned(),
            ),
            (
                "unable",
                "echo '{\"error\": \"no bf16\", \"unsupported\": true}'; read l".to_owned(),
            ),
            ("b", good("0.25")),
        ]);
        let row = |id: &str| file.row(id).unwrap();
        for (id, seconds) in [("a", 0.5), ("b", 0.25)] {
            assert_eq!(row(id).status, Status::Ok, "{:?}", row(id).reason);
            assert_eq!(row(id).samples.as_ref().unwrap().seconds, vec![seconds; 8]);
            assert_eq!(row(id).metrics["logit_max_relative_difference"], 0.0);
            assert_eq!(row(id).workload["mode"], "fast");
            assert_eq!(rounds_of(&row(id).workload), Some(4));
        }
        for (id, status, reason) in [
            ("dies", Status::Failed, "out of memory"),
            ("hangs", Status::Failed, "no answer to run within 2.0 s"),
            ("babbles", Status::Failed, "Segmentation fault"),
            (
                "wrong",
                Status::Failed,
                "differ from PyTorch eager in f32 by 5.0e-1",
            ),
            ("unable", Status::Skipped, "no bf16"),
        ] {
            assert_eq!(row(id).status, status, "{id}");
            let got = row(id).reason.as_deref().unwrap();
            assert!(got.contains(reason), "{id}: {got}");
            assert!(row(id).samples.is_none());
        }
        assert_eq!(file.environment.libraries["toy"], "1");
        assert!(
            file.notes
                .iter()
                .any(|note| note.contains("4 rounds of 2 samples"))
        );
        let table = comparison::table(&file);
        assert!(table.contains("no bf16"), "{table}");
    }

    #[test]
    fn a_workload_of_failures_is_still_a_result_file() {
        let file = race(&[("dies", "exit 1".to_owned())]);
        assert_eq!(file.rows.len(), 1);
        assert_eq!(file.rows[0].status, Status::Failed);
    }

    #[test]
    fn everybody_runs_once_a_round_and_nobody_always_after_the_same() {
        for count in 1..6 {
            for round in 0..8 {
                let mut order: Vec<_> = (0..count)
                    .map(|p| place_in_round(round, p, count))
                    .collect();
                order.sort_unstable();
                assert_eq!(order, (0..count).collect::<Vec<_>>());
            }
        }
        let order = |round| {
            (0..4)
                .map(|p| place_in_round(round, p, 4))
                .collect::<Vec<_>>()
        };
        assert_eq!(order(0), [0, 1, 2, 3]);
        assert_eq!(order(1), [3, 2, 1, 0]);
        assert_eq!(order(2), [1, 2, 3, 0]);
    }

    #[test]
    fn differences_are_relative_to_the_largest_logit() {
        assert_eq!(relative_difference(&[1.0, -4.0], &[1.0, -4.0]), 0.0);
        assert_eq!(relative_difference(&[2.0, -4.0], &[1.0, -4.0]), 0.25);
        assert_eq!(relative_difference(&[1.0], &[1.0, 2.0]), f64::INFINITY);
        assert!(relative_difference(&[1.0], &[0.0]) > 1.0);
    }
}
