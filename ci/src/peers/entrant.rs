//! Those who take part in one workload: started, loaded, and checked for agreement.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use accel::results::{ResultFile, Row, Status};
use serde_json::{Map, Value};

use super::{
    contender::{Contender, ContenderError, Launch},
    work::{Contestant, Shared, Work},
};
use crate::{cargo, quantities};

/// Memory that must be free before another contender is loaded, in bytes: a ResNet-50
/// at batch 32 takes about 1.5 GB, and swapping would be measured in place of it.
const FREE_MEMORY: u64 = 3 << 30;

/// What all workloads share.
pub struct Setup {
    /// Python of the peers' environment.
    pub python: PathBuf,
    /// The peers' script.
    pub script: PathBuf,
    /// The chapter's program; `None` if nobody of ours takes part.
    pub worker: Option<PathBuf>,
    /// The project's root, where contenders run.
    pub root: PathBuf,
    /// Weights given by the user.
    pub weights: Option<PathBuf>,
    /// Folder for seeded weights, inputs and compiled kernels.
    pub cache: PathBuf,
    /// Whether what compilers remember of earlier runs is forgotten before each workload.
    pub times_compilers: bool,
    /// Longest wait for one answer.
    pub time_limit: Duration,
}

impl Setup {
    /// Forgets what compilers remember, if their time is a result.
    pub fn forget_compiled(&self) {
        if self.times_compilers {
            // It may not be there; if it stays, the seconds of compiling say so by being few.
            let _ = std::fs::remove_dir_all(self.inductor_cache());
        }
    }

    /// Where inductor keeps what it has compiled.
    fn inductor_cache(&self) -> PathBuf {
        self.cache.join(match self.times_compilers {
            true => "inductor-of-this-run",
            false => "inductor",
        })
    }
}

/// A contestant with what became of it.
pub struct Entrant<'a> {
    /// Who it is.
    pub contestant: &'a Contestant,
    /// `None` once it has failed or was skipped.
    pub contender: Option<Contender>,
    /// What its row says so far.
    pub row: Row,
    /// Its samples so far.
    pub seconds: Vec<f64>,
}

impl<'a> Entrant<'a> {
    /// Before anything has happened.
    pub fn new(contestant: &'a Contestant, work: &dyn Work) -> Self {
        Self {
            contestant,
            contender: None,
            row: Row {
                workload: work.describe(contestant),
                ..Row::ok(&contestant.id, &contestant.label)
            },
            seconds: Vec::new(),
        }
    }

    /// Out of the race: something went wrong.
    pub fn fail(&mut self, reason: String) {
        self.contender = None;
        self.row.status = Status::Failed;
        self.row.reason = Some(reason);
    }

    /// Out of the race, for this reason.
    pub fn leave(&mut self, error: &ContenderError) {
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
pub fn prepare(setup: &Setup, work: &dyn Work) -> Result<Shared, String> {
    let folder = setup.cache.join("workload");
    // Made anew for each workload: it takes a second, and a ResNet-50 for each batch
    // size would fill the disk.
    let mut command = Command::new(&setup.python);
    command
        .arg(&setup.script)
        .arg("prepare")
        .args(work.preparation())
        .arg("--out")
        .arg(&folder)
        .env_remove("PYTHONPATH")
        .env_remove("PYTHONHOME");
    if let Some(weights) = &setup.weights {
        command.arg("--weights").arg(weights);
    }
    run(&mut command)?;
    let weights = setup
        .weights
        .clone()
        .unwrap_or_else(|| folder.join("weights.safetensors"));
    let weights = text(weights)?;
    let model = match work.export(&weights) {
        Some(arguments) => Some(export(setup, &arguments, &folder.join("model.onnx"))?),
        None => None,
    };
    Ok(Shared {
        weights,
        input: text(folder.join(work.input_file()))?,
        model,
    })
}

/// An absolute path as a message can hold it.
pub fn text(path: PathBuf) -> Result<String, String> {
    let path =
        std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| format!("{}: the path is not UTF-8", path.display()))
}

/// Has our program write a model file, and returns its path.
fn export(setup: &Setup, arguments: &[String], file: &Path) -> Result<String, String> {
    let Some(worker) = &setup.worker else {
        return Err("the chapter's program was not built".to_owned());
    };
    let mut command = Command::new(worker);
    command
        .args(arguments)
        .arg("--out")
        .arg(file)
        .current_dir(&setup.root);
    run(&mut command)?;
    text(file.to_owned())
}

/// Runs a program to its end; an error is its last line.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", cargo::words(command)))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("no message");
    Err(format!("{} ({})", last.trim(), output.status))
}

/// How to start this contender.
fn launch(
    setup: &Setup,
    work: &dyn Work,
    contestant: &Contestant,
) -> Result<Launch, ContenderError> {
    let mut variables: Vec<(String, OsString)> = vec![(
        "OMP_NUM_THREADS".to_owned(),
        work.threads().to_string().into(),
    )];
    for (name, value) in &contestant.variables {
        variables.push(((*name).to_owned(), value.into()));
    }
    if contestant.ours {
        let Some(worker) = &setup.worker else {
            return Err(ContenderError::Refused {
                message: "the chapter's program was not built".to_owned(),
                unsupported: false,
            });
        };
        return Ok(Launch {
            program: worker.clone(),
            arguments: std::iter::once(&"worker")
                .chain(&contestant.arguments)
                .map(OsString::from)
                .collect(),
            variables,
            folder: setup.root.clone(),
        });
    }
    variables.push((
        "TORCHINDUCTOR_CACHE_DIR".to_owned(),
        setup.inductor_cache().into(),
    ));
    Ok(Launch {
        program: setup.python.clone(),
        arguments: vec![setup.script.clone().into(), "worker".into()],
        variables,
        folder: setup.root.clone(),
    })
}

/// What the others must agree with, by a process that ends before anything is timed.
pub fn reference(
    setup: &Setup,
    work: &dyn Work,
    shared: &Shared,
) -> Result<Vec<f64>, ContenderError> {
    let contestant = Contestant::new("reference", "reference", false);
    let mut contender = Contender::start(&launch(setup, work, &contestant)?)?;
    contender.ask("load", &work.reference_message(shared), setup.time_limit)?;
    checked(setup, work, shared, &mut contender)
}

/// What the contender answers to the check of agreement.
fn checked(
    setup: &Setup,
    work: &dyn Work,
    shared: &Shared,
    contender: &mut Contender,
) -> Result<Vec<f64>, ContenderError> {
    let (kind, message) = work.check_request(shared);
    let answer = contender.ask(kind, &message, setup.time_limit)?;
    work.check_answer(&answer)
        .map_err(|expected| contender.garbage(kind, expected, &answer.to_string()))
}

/// Sends a load message and returns what was loaded.
fn load(
    setup: &Setup,
    contender: &mut Contender,
    message: &Value,
) -> Result<Map<String, Value>, ContenderError> {
    let answer = contender.ask("load", message, setup.time_limit)?;
    match answer.get("loaded").and_then(Value::as_object) {
        Some(loaded) => Ok(loaded.clone()),
        None => Err(contender.garbage("load", "{\"loaded\": {...}}", &answer.to_string())),
    }
}

/// Starts and loads one entrant and checks that it agrees with the reference.
pub fn enter(
    setup: &Setup,
    work: &dyn Work,
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
    let mut contender = Contender::start(&launch(setup, work, entrant.contestant)?)?;
    let message = work.load_message(entrant.contestant, shared);
    let check_message = work.check_message(entrant.contestant, shared);
    let start = Instant::now();
    let first = check_message.as_ref().unwrap_or(&message);
    let loaded = load(setup, &mut contender, first)?;
    let load_seconds = start.elapsed().as_secs_f64();
    let metrics = &mut entrant.row.metrics;
    metrics.insert("load_seconds".to_owned(), load_seconds);
    // Of the first load: in a second one a compiler may remember.
    let compile_seconds = loaded.get("compile_seconds").and_then(Value::as_f64);
    if let Some(seconds) = compile_seconds.filter(|seconds| seconds.is_finite()) {
        metrics.insert("compile_seconds".to_owned(), seconds);
    }
    for (library, version) in texts(loaded.get("versions")) {
        file.environment.libraries.insert(library, version);
    }
    for (name, value) in texts(loaded.get("settings")) {
        entrant.row.workload.entry(name).or_insert(value.into());
    }
    if let Some(reference) = reference {
        let got = checked(setup, work, shared, &mut contender)?;
        let agreement = work.compare(&got, reference);
        for (name, value) in agreement.metrics {
            if value.is_finite() {
                entrant.row.metrics.insert(name.to_owned(), value);
            }
        }
        if let Some(fault) = agreement.fault {
            entrant.fail(fault);
            return Ok(());
        }
    }
    if check_message.is_some() {
        load(setup, &mut contender, &message)?;
    }
    entrant.contender = Some(contender);
    Ok(())
}

/// The entries of a JSON object that are text.
pub fn texts(object: Option<&Value>) -> Vec<(String, String)> {
    let entries = object.and_then(Value::as_object).into_iter().flatten();
    entries
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .filter(|(name, value)| !name.trim().is_empty() && !value.trim().is_empty())
        .collect()
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
