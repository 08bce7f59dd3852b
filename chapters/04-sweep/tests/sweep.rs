//! Whole sweeps through the program, on the CPU's plugin.

#[path = "../../03-tpu-training/crates/pjrt/tests/harness/mod.rs"]
mod harness;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use accel::results::{ResultFile, Row, Status};
use harness::Need;
use pjrt_runtime::Platform;
use serde_json::Value;

fn main() -> ExitCode {
    // While there is one thread.
    pjrt_runtime::quiet_plugins();
    let need = Need::plugin(Platform::Cpu);
    let tests = tests![
        a_dry_run_takes_the_whole_path_and_leaves_nothing,
        the_best_run_wins_whatever_the_number_of_workers,
        a_sweep_that_is_killed_ends_as_if_it_had_not_been,
        a_worker_that_is_killed_is_replaced_and_its_run_goes_on,
        an_interrupt_saves_and_a_second_one_ends_everything,
        a_run_that_diverges_is_a_row,
        halving_trains_less_and_seeds_are_told,
        a_run_alone_is_taken_by_the_worker_that_has_its_program,
        a_worker_answers_every_line,
        trainings_are_measured_as_threads_and_as_processes,
    ];
    harness::run(&need, false, tests)
}

fn program(plugin: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parallel-training"));
    command.env("PJRT_PLUGIN_LIBRARY_PATH", plugin);
    command
}

/// Networks that compile fast, and a few runs of one program.
const GRID: &str = "
width = 2
conv = 'convolution'
arch = 'resnet18'
batch = 64
epochs = 4
learning_rate = [0.1, 0.03, 0.01]
";

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new(grid: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("grid.toml"), grid).unwrap();
        Scratch(scratch)
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("sweep")
    }

    fn sweep(&self, plugin: &Path, words: &[&str]) -> Command {
        let mut command = program(plugin);
        command
            .args(["sweep", "--device", "cpu", "--quiet", "--out"])
            .arg(self.out());
        if !words.contains(&"--resume") {
            command.arg("--grid").arg(self.0.path().join("grid.toml"));
        }
        command.args(words);
        command
    }

    fn result(&self) -> ResultFile {
        ResultFile::read(self.out().join("result.json")).unwrap()
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(&fs::read(self.out().join("manifest.json")).unwrap()).unwrap()
    }

    fn journal(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.out().join("journal.jsonl")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Every run's model, as bytes.
    fn models(&self) -> BTreeMap<String, Vec<u8>> {
        let runs = fs::read_dir(self.out().join("runs")).unwrap();
        let named = runs.map(|run| {
            let run = run.unwrap();
            let model = fs::read(run.path().join("model.safetensors")).unwrap();
            (run.file_name().into_string().unwrap(), model)
        });
        named.collect()
    }
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{errors}");
    output
}

fn runs(file: &ResultFile) -> impl Iterator<Item = &Row> {
    file.rows.iter().filter(|row| row.id != "sweep")
}

/// What a run came to, without its times.
fn figures(file: &ResultFile) -> BTreeMap<String, Vec<f64>> {
    let names = [
        "validation_accuracy",
        "validation_loss",
        "training_loss",
        "epochs_trained",
    ];
    runs(file)
        .map(|row| (row.id.clone(), names.map(|name| row.metrics[name]).to_vec()))
        .collect()
}

/// Waits until something is there, or the child has ended.
fn wait_for(child: &mut Child, there: impl Fn() -> bool) {
    let start = Instant::now();
    while !there() && child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(300), "it never came");
        thread::sleep(Duration::from_millis(5));
    }
}

fn epochs_told(scratch: &Scratch) -> usize {
    let epoch = |event: &&Value| event["event"] == "epoch";
    scratch.journal().iter().filter(epoch).count()
}

#[cfg(unix)]
fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill")
        .args([name, &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// Workers of a sweep: the children of its process.
fn workers(parent: u32) -> Vec<u32> {
    let output = Command::new("pgrep")
        .args(["-P", &parent.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn a_dry_run_takes_the_whole_path_and_leaves_nothing(plugin: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let output = succeed(
        program(plugin)
            .args(["sweep", "--dry-run", "--device", "cpu", "--json", "--quiet"])
            .current_dir(scratch.path()),
    );
    let file = ResultFile::parse(&output.stdout).unwrap();
    assert_eq!(runs(&file).count(), 6);
    assert!(runs(&file).all(|row| row.status == Status::Ok));
    assert!(file.row("sweep").unwrap().metrics["winner_test_images"] > 0.0);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

fn the_best_run_wins_whatever_the_number_of_workers(plugin: &Path) {
    let two = Scratch::new(GRID);
    let output = succeed(&mut two.sweep(plugin, &["--slots", "2", "--threads", "1"]));
    let one = Scratch::new(GRID);
    succeed(&mut one.sweep(plugin, &["--slots", "1", "--threads", "1"]));
    assert_eq!(figures(&one.result()), figures(&two.result()));
    assert!(one.models() == two.models());

    let file = two.result();
    let rows: Vec<_> = runs(&file).collect();
    assert_eq!(rows.len(), 3);
    let accuracy = |row: &Row| row.metrics["validation_accuracy"];
    assert!(
        rows.is_sorted_by(|a, b| accuracy(a) >= accuracy(b)),
        "the best comes first"
    );
    assert!(
        rows.iter()
            .all(|row| row.samples.as_ref().unwrap().seconds.len() == 4)
    );
    let whole = file.row("sweep").unwrap();
    assert_eq!(whole.workload["winner"], Value::from(rows[0].id.clone()));
    assert_eq!(whole.workload["slots"], 2);
    let test = whole.metrics["winner_test_accuracy"];
    assert!((0.0..=1.0).contains(&test));
    for name in ["scheduling_share", "busy_share_until_tail"] {
        assert!((0.0..=1.0).contains(&whole.metrics[name]), "{name}");
    }
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&format!("winner: {}", rows[0].id)), "{said}");

    // The programs were compiled once by the one worker.
    let compiled = |row: &&Row| row.metrics["compile_seconds"] > 0.5;
    let file = one.result();
    assert_eq!(runs(&file).filter(compiled).count(), 1);

    // Nothing is trained again, and nothing is overwritten.
    let again = two.sweep(plugin, &[]).output().unwrap();
    assert_eq!(again.status.code(), Some(2));
    let errors = String::from_utf8(again.stderr).unwrap();
    assert!(
        errors.contains("a sweep of 3 runs, 3 of them done; --resume goes on"),
        "{errors}"
    );
    let told = epochs_told(&two);
    succeed(&mut two.sweep(plugin, &["--resume"]));
    assert_eq!(epochs_told(&two), told);
    assert_eq!(figures(&two.result()), figures(&one.result()));
}

#[cfg(unix)]
fn a_sweep_that_is_killed_ends_as_if_it_had_not_been(plugin: &Path) {
    let undisturbed = Scratch::new(GRID);
    succeed(&mut undisturbed.sweep(plugin, &["--slots", "1", "--threads", "1"]));

    let killed = Scratch::new(GRID);
    for at in [1, 6] {
        let mut command = killed.sweep(plugin, &["--slots", "1", "--threads", "1"]);
        if killed.out().join("manifest.json").exists() {
            command = killed.sweep(plugin, &["--resume", "--slots", "1"]);
        }
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        wait_for(&mut child, || epochs_told(&killed) >= at);
        signal("-KILL", child.id());
        assert!(!child.wait().unwrap().success());
    }
    succeed(&mut killed.sweep(plugin, &["--resume"]));
    assert_eq!(figures(&killed.result()), figures(&undisturbed.result()));
    assert!(killed.models() == undisturbed.models());
    let run_epochs: Vec<_> = (killed.journal().iter())
        .filter(|event| event["event"] == "epoch")
        .map(|event| (event["id"].to_string(), event["epoch"].to_string()))
        .collect();
    let mut different = run_epochs.clone();
    different.sort();
    different.dedup();
    assert!(
        run_epochs.len() <= different.len() + 2,
        "a kill costs an epoch at most"
    );
}

#[cfg(not(unix))]
fn a_sweep_that_is_killed_ends_as_if_it_had_not_been(_plugin: &Path) {}

#[cfg(unix)]
fn a_worker_that_is_killed_is_replaced_and_its_run_goes_on(plugin: &Path) {
    let scratch = Scratch::new(&GRID.replace("[0.1, 0.03, 0.01]", "0.1"));
    let mut child = scratch
        .sweep(plugin, &["--slots", "1", "--threads", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&mut child, || epochs_told(&scratch) >= 1);
    for worker in workers(child.id()) {
        signal("-KILL", worker);
    }
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let ended_before = scratch.manifest()["runs"][0]["attempts"] == 1;
    assert!(output.status.success(), "{errors}");
    // On a fast machine the run may have been over.
    if !ended_before {
        assert!(errors.contains("it is tried again"), "{errors}");
        assert!(errors.contains("signal: 9"), "{errors}");
    }
    let undisturbed = Scratch::new(&GRID.replace("[0.1, 0.03, 0.01]", "0.1"));
    succeed(&mut undisturbed.sweep(plugin, &["--slots", "1", "--threads", "1"]));
    assert!(scratch.models() == undisturbed.models());
}

#[cfg(not(unix))]
fn a_worker_that_is_killed_is_replaced_and_its_run_goes_on(_plugin: &Path) {}

#[cfg(unix)]
fn an_interrupt_saves_and_a_second_one_ends_everything(plugin: &Path) {
    let scratch = Scratch::new(&GRID.replace("epochs = 4", "epochs = 200"));
    let mut child = scratch
        .sweep(plugin, &["--slots", "1", "--threads", "1"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&mut child, || epochs_told(&scratch) >= 2);
    signal("-INT", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let states: Vec<_> = (scratch.manifest()["runs"].as_array().unwrap().iter())
        .map(|run| run["state"]["name"].clone())
        .collect();
    assert_eq!(states, ["waiting"; 3]);
    assert!(
        scratch
            .journal()
            .iter()
            .any(|event| event["event"] == "stopped")
    );
    let file = scratch.result();
    assert!(file.notes.iter().any(|note| note.contains("stopped")));

    // The second one, while the first one's saving is under way or has not begun.
    let told = epochs_told(&scratch);
    let mut child = scratch
        .sweep(plugin, &["--resume", "--slots", "1"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&mut child, || epochs_told(&scratch) > told);
    let orphans = workers(child.id());
    assert_eq!(orphans.len(), 1);
    signal("-INT", child.id());
    // It may be gone already.
    let _ = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .output();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let start = Instant::now();
    while Command::new("kill")
        .args(["-0", &orphans[0].to_string()])
        .output()
        .unwrap()
        .status
        .success()
    {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "its worker lives on"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(not(unix))]
fn an_interrupt_saves_and_a_second_one_ends_everything(_plugin: &Path) {}

fn a_run_that_diverges_is_a_row(plugin: &Path) {
    let scratch = Scratch::new(&GRID.replace("[0.1, 0.03, 0.01]", "[0.1, 1e30]"));
    let output = scratch.sweep(plugin, &["--slots", "1"]).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let file = scratch.result();
    let failed: Vec<_> = runs(&file)
        .filter(|row| row.status == Status::Failed)
        .collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0].reason.as_ref().unwrap().contains("the loss is"));
    assert_eq!(failed[0].workload["attempts"], 1, "it would diverge again");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("winner: resnet18-b64-lr0.1"), "{said}");

    let deploy = |out: &Path, serve: &str| {
        let mut command = program(plugin);
        command
            .arg("deploy")
            .arg("--out")
            .arg(out)
            .arg("--serve")
            .arg(scratch.0.path().join(serve));
        command.output().unwrap()
    };
    let deployed = deploy(&scratch.out(), "serving");
    assert!(deployed.status.success());
    let serving = scratch.0.path().join("serving");
    let version = fs::read_to_string(serving.join("current")).unwrap();
    let card = fs::read(serving.join(version.trim()).join("card.json")).unwrap();
    let card: Value = serde_json::from_slice(&card).unwrap();
    assert_eq!(card["data"]["licence"], "CC BY 4.0");
    assert_eq!(card["chosen_from"], 2);
    assert!(card["test"]["accuracy"].as_f64().is_some());
    assert!(
        card["command"]
            .as_array()
            .unwrap()
            .contains(&Value::from("sweep"))
    );

    let hopeless = Scratch::new(&GRID.replace("[0.1, 0.03, 0.01]", "[1e29, 1e30]"));
    let output = hopeless.sweep(plugin, &["--slots", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("no winner: every run failed"), "{said}");
    let refused = deploy(&hopeless.out(), "none");
    assert_eq!(refused.status.code(), Some(2));
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert!(
        errors.contains("all 2 runs failed, there is no winner"),
        "{errors}"
    );
}

fn halving_trains_less_and_seeds_are_told(plugin: &Path) {
    let grid = GRID.replace("epochs = 4", "epochs = 9");
    let scratch = Scratch::new(&grid);
    let words = [
        "--halving",
        "--seeds",
        "2",
        "--leaders",
        "1",
        "--slots",
        "1",
    ];
    let output = succeed(&mut scratch.sweep(plugin, &words));
    let file = scratch.result();
    let epochs = |row: &Row| row.metrics["epochs_trained"] as usize;
    // Three runs of three epochs, then one of nine, and that one with another seed.
    let mut trained: Vec<_> = runs(&file).map(epochs).collect();
    trained.sort_unstable();
    assert_eq!(trained, [3, 3, 9, 9]);
    let whole = &file.row("sweep").unwrap().metrics;
    assert_eq!(
        (whole["epochs_trained"], whole["epochs_of_full_grid"]),
        (24.0, 36.0)
    );
    let leader: Vec<_> = runs(&file)
        .filter(|row| row.metrics.contains_key("seeds"))
        .collect();
    assert_eq!(leader.len(), 1);
    assert_eq!(leader[0].metrics["seeds"], 2.0);
    assert!(leader[0].metrics["deviation_of_validation_accuracy"] >= 0.0);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("mean of 2 seeds"), "{said}");

    // What halving leaves at nine epochs is what a plain sweep of that run comes to.
    let id = leader[0].id.clone();
    let plain = Scratch::new(&grid);
    succeed(&mut plain.sweep(plugin, &["--slots", "1"]));
    assert!(
        plain.models()[&id]
            == fs::read(
                scratch
                    .out()
                    .join("runs")
                    .join(&id)
                    .join("model.safetensors")
            )
            .unwrap()
    );
}

/// What is left of a sweep for its last steps is of programs that one of two workers has, and
/// too short for the other to compile them, too.
fn a_run_alone_is_taken_by_the_worker_that_has_its_program(plugin: &Path) {
    let grid = GRID.replace("batch = 64", "batch = [32, 64]");
    let scratch = Scratch::new(&grid);
    let words = [
        "--slots",
        "2",
        "--threads",
        "1",
        "--seeds",
        "2",
        "--leaders",
        "4",
    ];
    succeed(&mut scratch.sweep(plugin, &words));
    let file = scratch.result();
    assert_eq!(runs(&file).count(), 6 + 4);
    let compiled = |row: &&Row| row.metrics["compile_seconds"] > 0.5;
    assert!(
        runs(&file).filter(compiled).count() <= 4,
        "two workers, two programs"
    );
    let mut slots: Vec<_> = (scratch.journal().iter())
        .filter(|event| event["event"] == "started")
        .map(|event| event["slot"].as_u64().unwrap())
        .collect();
    slots.dedup();
    assert!(slots.len() > 1, "both worked");
}

fn a_worker_answers_every_line(plugin: &Path) {
    let scratch = Scratch::new(
        &GRID
            .replace("epochs = 4", "epochs = 1")
            .replace("[0.1, 0.03, 0.01]", "0.1"),
    );
    let plan = program(plugin)
        .arg("plan")
        .arg("--grid")
        .arg(scratch.0.path().join("grid.toml"))
        .output()
        .unwrap();
    let line = String::from_utf8(plan.stdout).unwrap();
    assert_eq!(line.lines().count(), 1);
    let forged = line.replace("resnet18-b64", "../resnet18-b64");
    let requests = format!("{line}not json\n\n{forged}{line}");
    let requests_file = scratch.0.path().join("requests");
    fs::write(&requests_file, requests).unwrap();
    let output = succeed(
        program(plugin)
            .args(["worker", "--device", "cpu", "--out"])
            .arg(scratch.out())
            .stdin(fs::File::open(requests_file).unwrap()),
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_object().unwrap().keys().next().unwrap().as_str())
        .collect();
    assert_eq!(kinds, ["done", "failed", "failed", "done"]);
    assert_eq!(answers[1]["failed"]["kind"], "refused");
    // The second time it was there already.
    assert_eq!(
        answers[0]["done"]["validation"],
        answers[3]["done"]["validation"]
    );
    assert_eq!(
        fs::read_dir(scratch.out()).unwrap().count(),
        1,
        "one run, one folder"
    );
}

fn trainings_are_measured_as_threads_and_as_processes(plugin: &Path) {
    let output = succeed(program(plugin).args(["isolation", "--quick", "--json", "--quiet"]));
    let file: ResultFile = serde_json::from_slice(&output.stdout).unwrap();
    file.validate().unwrap();
    let images = |id: &str| {
        let row = file.row(id).unwrap();
        let samples = row.samples.as_ref().unwrap();
        let trainings = row.workload["trainings"].as_u64().unwrap() as usize;
        assert_eq!(samples.seconds.len(), 1);
        (trainings, samples.items_per_sample / trainings)
    };
    let alone = images("alone");
    assert_eq!(alone.0, 1);
    // As many trainings in both ways, and each sees what one alone sees.
    assert_eq!(images("processes"), images("threads"));
    assert_eq!(images("threads").1, alone.1);
}
