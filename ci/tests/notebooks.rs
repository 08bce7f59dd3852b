//! `cargo x notebooks`: a notebook from its first cell to its charts, and what goes wrong.
//!
//! Executing wants Jupyter in `.native/venv/notebooks`, which `cargo x test` makes. All notebooks
//! with all measurements are for `cargo x notebooks` itself: that takes too long here.

mod project;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use assert_cmd::assert::OutputAssertExt;
use libtest_mimic::{Arguments, Failed, Trial};
use predicates::{prelude::PredicateBooleanExt, str::contains};
use project::Project;
use serde_json::{Value, json};

const NO_JUPYTER: &str = "needs: Jupyter; cargo x test";
const NO_LIBTORCH: &str = "needs: libtorch; cargo x setup";

fn main() -> ExitCode {
    let jupyter = jupyter().is_none().then_some(NO_JUPYTER);
    let chapter = jupyter.or((!has_libtorch()).then_some(NO_LIBTORCH));
    let tests: [Test; 6] = [
        (
            "the_notebooks_are_what_the_script_writes",
            None,
            the_notebooks_are_what_the_script_writes,
        ),
        (
            "one_that_was_edited_is_told",
            None,
            one_that_was_edited_is_told,
        ),
        (
            "without_jupyter_the_reason_is_told",
            None,
            without_jupyter_the_reason_is_told,
        ),
        (
            "a_cell_that_fails_is_named_with_its_output",
            jupyter,
            a_cell_that_fails_is_named_with_its_output,
        ),
        (
            "one_that_hangs_is_stopped_with_what_it_started",
            jupyter,
            one_that_hangs_is_stopped_with_what_it_started,
        ),
        (
            "a_chapter_goes_from_install_to_charts",
            chapter,
            a_chapter_goes_from_install_to_charts,
        ),
    ];
    let trials = tests.map(|(name, missing, test)| {
        let body = move || match missing {
            None => {
                test();
                Ok(())
            }
            // Asked for by --ignored.
            Some(reason) => Err(Failed::from(reason)),
        };
        let trial = Trial::test(name, body);
        match missing {
            Some(reason) => trial.with_ignored_flag(true).with_kind(reason),
            None => trial,
        }
    });
    let mut arguments = Arguments::from_args();
    // A chapter takes all cores, and the limits of the others are short.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// A name, why it cannot run here, and the test.
type Test = (&'static str, Option<&'static str>, fn());

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The Python of the notebooks' environment, if it can execute one.
fn jupyter() -> Option<PathBuf> {
    let python = root().join(".native/venv/notebooks/bin/python");
    let status = Command::new(&python)
        .args(["-c", "import nbconvert, ipykernel"])
        .stderr(Stdio::null())
        .status();
    status
        .is_ok_and(|status| status.success())
        .then_some(python)
}

fn has_libtorch() -> bool {
    root().join(".native/libtorch/cpu").is_dir() || std::env::var_os("LIBTORCH").is_some()
}

/// `cargo x` in this checkout.
fn x(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_x"));
    command.args(arguments).current_dir(root());
    command
}

fn the_notebooks_are_what_the_script_writes() {
    x(&["notebooks", "--check", "--required"])
        .assert()
        .success()
        .stdout("passed   as make_notebooks.py writes them\n");
}

fn one_that_was_edited_is_told() {
    let project = Project::new();
    for entry in fs::read_dir(root().join("book/notebooks")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let name = path.file_name().unwrap().to_str().unwrap();
            let text = fs::read_to_string(&path).unwrap();
            project.write(&format!("book/notebooks/{name}"), &text);
        }
    }
    // Not the project's stand-in for Python.
    let check = || {
        let mut check = project.x(&["notebooks", "--check"]);
        check.env("PATH", std::env::var_os("PATH").unwrap());
        check
    };
    check().assert().success();
    let path = "book/notebooks/03-tpu-training.ipynb";
    let text = fs::read_to_string(project.path(path)).unwrap();
    project.write(path, &text.replace("Predict first", "Predict last"));
    check()
        .assert()
        .code(1)
        .stderr(contains("03-tpu-training.ipynb; run it").and(contains("01-cpu").not()))
        .stdout(contains("failed   as make_notebooks.py writes them"));
}

fn without_jupyter_the_reason_is_told() {
    let project = Project::new();
    project.write(
        "ci/notebooks/requirements.txt",
        "nbconvert==1 \\\n    --hash=sha256:00\n",
    );
    project.fake("python3", "exit 0");
    project.fake(
        "python3.11",
        "case \"$*\" in *'-m venv'*) echo no room >&2; exit 1;; esac",
    );
    let reason = "skipped  02-gpu: needs Jupyter: `python3.11 -m venv";
    project
        .x(&["notebooks", "--chapter", "02-gpu"])
        .assert()
        .success()
        .stderr(contains("no room"))
        .stdout(contains(reason).and(contains("01-cpu").not()));
    project
        .x(&["notebooks", "--required"])
        .assert()
        .code(1)
        .stdout(contains(reason).and(contains("skipped  01-cpu")));
}

/// A notebook with these cells of code, `cell-0` and so on, executed within so many seconds.
fn executed(folder: &Path, cells: &[&str], limit: u32) -> Output {
    let cells: Vec<Value> = (cells.iter().enumerate())
        .map(|(number, source)| {
            json!({"cell_type": "code", "id": format!("cell-{number}"), "metadata": {},
                "execution_count": null, "outputs": [], "source": source})
        })
        .collect();
    let notebook = json!({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5});
    let path = folder.join("a.ipynb");
    fs::write(&path, notebook.to_string()).unwrap();
    Command::new(jupyter().unwrap())
        .arg(root().join("ci/notebooks/execute.py"))
        .arg(&path)
        .arg("--folder")
        .arg(folder)
        .arg("--to")
        .arg(folder.join("out.ipynb"))
        .args(["--limit", &limit.to_string()])
        .env("IPYTHONDIR", folder.join("ipython"))
        .env("JUPYTER_RUNTIME_DIR", folder.join("runtime"))
        .output()
        .unwrap()
}

/// What `execute.py` says of a failure.
fn failure(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn a_cell_that_fails_is_named_with_its_output() {
    let folder = tempfile::tempdir().unwrap();
    let cells = [
        "print('first')",
        "print('\\n'.join(map(str, range(50))))\nraise ValueError('no more')",
        "open('third', 'w')",
    ];
    let output = executed(folder.path(), &cells, 60);
    let failure = failure(&output);
    assert_eq!(failure["cell"], "cell-1");
    assert_eq!(failure["error"], "ValueError: no more");
    let said = failure["output"].as_str().unwrap();
    assert!(said.ends_with("48\n49\nValueError: no more"), "{said}");
    assert_eq!(said.lines().count(), 20, "{said}");
    assert!(
        !folder.path().join("third").exists(),
        "what follows is left"
    );
    let kept = fs::read_to_string(folder.path().join("out.ipynb")).unwrap();
    assert!(kept.contains("first"), "{kept}");
}

fn one_that_hangs_is_stopped_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let cells = ["import subprocess
with subprocess.Popen(['sleep', '600']) as child:
    with open('pid', 'w') as file:
        file.write(str(child.pid))"];
    let start = Instant::now();
    let failure = failure(&executed(folder.path(), &cells, 8));
    assert_eq!(
        failure["error"],
        "stopped: the notebook's limit of 8 s was over"
    );
    assert!(start.elapsed() < Duration::from_secs(60));
    let child = fs::read_to_string(folder.path().join("pid")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while runs(&child) {
        assert!(Instant::now() < deadline, "process {child} still runs");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Whether there is such a process, and not only what nobody has waited for.
fn runs(process: &str) -> bool {
    let ps = Command::new("ps")
        .args(["-o", "stat=", "-p", process])
        .output()
        .unwrap();
    let state = String::from_utf8(ps.stdout).unwrap();
    !matches!(state.trim().chars().next(), None | Some('Z'))
}

/// When a reader's own file was written.
fn written(path: &str) -> Option<SystemTime> {
    root().join(path).metadata().ok()?.modified().ok()
}

fn a_chapter_goes_from_install_to_charts() {
    let mine = [
        "results-local/02-gpu/tune/result.json",
        "book/html/index.html",
    ];
    let before = mine.map(written);
    // One of the chapter's measurements, and one that a chart of the notebook shows.
    let learn = "--quick --only tune";
    x(&[
        "notebooks",
        "--required",
        "--chapter",
        "02-gpu",
        "--limit",
        "1500",
    ])
    .args(["--learn", learn])
    .assert()
    .success()
    .stdout(contains("passed   02-gpu"));
    assert_eq!(mine.map(written), before, "the reader's own is left alone");

    let path = root().join("book/generated/notebooks/02-gpu.ipynb");
    let text = fs::read_to_string(path).unwrap();
    let notebook: Value = serde_json::from_str(&text).unwrap();
    let said: String = (notebook["cells"].as_array().unwrap().iter())
        .flat_map(|cell| cell["outputs"].as_array().into_iter().flatten())
        .flat_map(|output| output["text"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    for line in [
        "$ cargo x doctor\n",
        "$ cargo x setup\n",
        &format!("learn {learn} --device cpu --out results-local/02-gpu\n"),
        "\ntune: ",
        "rows, device cpu, ok\n",
        "$ cargo x book\n",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
}
