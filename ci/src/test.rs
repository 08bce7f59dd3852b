//! `cargo x test`: sets up what is missing and runs every test of the workspace.

use std::{
    io::{self, Read, Write},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, bail};

use crate::{
    cargo,
    phases::Phases,
    python_environment::{BEAM, EMULATORS, NOTEBOOKS, PythonEnvironment},
    setup,
    test_output::{Skip, Tally},
};

/// Options of `cargo x test`.
#[derive(clap::Args)]
pub struct Args {
    /// Test only these packages.
    #[arg(short, long, value_name = "NAME")]
    package: Vec<String>,
    /// Leave these packages out.
    #[arg(long, value_name = "NAME", conflicts_with = "package")]
    exclude: Vec<String>,
    /// A skip for want of this (one or more words of its reason) is a failure.
    #[arg(long, value_name = "WORDS")]
    fail_on_skip: Vec<String>,
    /// Do not fetch libtpu; where it is not there already, its tests are skipped.
    #[arg(long)]
    no_tpu: bool,
    /// Do not fetch ONNX Runtime and OpenVINO; where they are not there already, their tests
    /// are skipped.
    #[arg(long)]
    no_engines: bool,
    /// Do not fetch Apache Beam and Dask; where they are not there already, their tests are
    /// skipped.
    #[arg(long)]
    no_beam: bool,
    /// Do not fetch emulators of object stores; where they are not there already, their tests are
    /// skipped.
    #[arg(long)]
    no_emulators: bool,
    /// Do not fetch Jupyter; where it is not there already, the tests that execute notebooks are
    /// skipped.
    #[arg(long)]
    no_notebooks: bool,
    /// Goes to the test programs, e.g. a filter.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs the command: exit code 1 if a test failed, or was skipped without a reason.
///
/// # Errors
/// If set-up fails or cargo cannot be run.
pub fn run(args: Args, root: &Path) -> anyhow::Result<ExitCode> {
    let mut phases = Phases::default();
    // The TPU compiler needs no TPU; a GPU's libraries are of no use without one.
    let also: Vec<&str> = [("tpu", args.no_tpu), ("engines", args.no_engines)]
        .into_iter()
        .filter_map(|(flag, unwanted)| (!unwanted).then_some(flag))
        .collect();
    phases.time("setup", || setup::ensure(root, &also))?;
    for environment in environments(&args) {
        // A machine without Python's venv, or without a network, tests all the rest.
        if let Err(error) = phases.time(environment.name, || environment.ready(root, false)) {
            eprintln!("left out: {error:#}");
        }
    }

    let mut build = test_command(&args, root);
    build.arg("--no-run");
    let built = phases.time("build", || cargo::status(&mut build))?;
    if !built.success() {
        eprintln!("{phases}");
        bail!("{} failed ({built}): see above", cargo::words(&build));
    }

    let mut test = test_command(&args, root);
    test.arg("--").args(&args.arguments);
    let mut tally = Tally::default();
    let succeeded = phases.time("tests", || run_tests(&mut test, &mut tally))?;
    if !succeeded && tally.failed == 0 {
        // A documentation test that does not compile, or a program that could not start.
        tally.failed = 1;
        tally.failures.push(format!(
            "{} failed without naming a test: see above",
            cargo::words(&test)
        ));
    }
    let complaints = complaints(&tally, &args.fail_on_skip);
    report(&tally, &complaints, &phases);
    Ok(if tally.failed == 0 && complaints.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The environments that the wanted tests start programs of.
fn environments(args: &Args) -> Vec<PythonEnvironment> {
    let all: [(_, _, &[_]); 3] = [
        (BEAM, args.no_beam, &["parallel-training"]),
        (
            EMULATORS,
            args.no_emulators,
            &["tpu-training", "parallel-training"],
        ),
        (NOTEBOOKS, args.no_notebooks, &["x"]),
    ];
    all.into_iter()
        .filter(|(_, unwanted, packages)| {
            !unwanted && packages.iter().any(|package| tests_package(args, package))
        })
        .map(|(environment, ..)| environment)
        .collect()
}

/// Whether the tests of a package are among those that are wanted.
fn tests_package(args: &Args, package: &str) -> bool {
    let named = |names: &[String]| names.iter().any(|name| name == package);
    (args.package.is_empty() || named(&args.package)) && !named(&args.exclude)
}

fn test_command(args: &Args, root: &Path) -> Command {
    let mut command = cargo::command(root);
    command.args(["test", "--release", "--no-fail-fast"]);
    if args.package.is_empty() {
        command.arg("--workspace");
    }
    for package in &args.package {
        command.args(["--package", package]);
    }
    for package in &args.exclude {
        command.args(["--exclude", package]);
    }
    command
}

/// Runs the tests, passing their output through while reading it; whether cargo succeeded.
fn run_tests(command: &mut Command, tally: &mut Tally) -> anyhow::Result<bool> {
    let words = cargo::words(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {words}"))?;
    let mut output = child.stdout.take().context("the tests' output")?;
    let mut stdout = io::stdout().lock();
    let mut line = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("reading the tests' output"),
        };
        // A closed pipe (`| head`) must not stop the count.
        let _ = stdout
            .write_all(&buffer[..read])
            .and_then(|()| stdout.flush());
        for byte in &buffer[..read] {
            if *byte == b'\n' {
                tally.line(&String::from_utf8_lossy(&line));
                line.clear();
            } else {
                line.push(*byte);
            }
        }
    }
    tally.line(&String::from_utf8_lossy(&line));
    tally.end();
    let status = child
        .wait()
        .with_context(|| format!("waiting for {words}"))?;
    Ok(status.success())
}

/// What makes a run fail although no test has.
fn complaints(tally: &Tally, fail_on_skip: &[String]) -> Vec<String> {
    let mut complaints = Vec::new();
    for Skip { name, reason } in &tally.skips {
        match reason {
            None => complaints.push(format!(
                "{name} is ignored without a reason: \
                 say #[ignore = \"needs: WHAT IS MISSING; COMMAND THAT BRINGS IT\"]"
            )),
            Some(reason) => {
                let forbidden = |wanted: &&String| has_words(&reason.needs, wanted);
                if let Some(words) = fail_on_skip.iter().find(forbidden) {
                    complaints.push(format!(
                        "{name} was skipped for want of {}, and --fail-on-skip {words:?} forbids that",
                        reason.needs
                    ));
                }
            }
        }
    }
    let seen = tally.skips.len() as u64;
    if seen < tally.ignored {
        complaints.push(format!(
            "{} ignored tests gave no line with a reason (run without -q or --format)",
            tally.ignored - seen
        ));
    }
    complaints
}

/// Whether `text` has all the words of `wanted`, one after the other.
fn has_words(text: &str, wanted: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !c.is_alphanumeric());
        let words = words.filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    let (text, wanted) = (words(text), words(wanted));
    !wanted.is_empty() && text.windows(wanted.len()).any(|window| window == wanted)
}

fn report(tally: &Tally, complaints: &[String], phases: &Phases) {
    let mut text = String::from("\n");
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&format!("{title}:\n"));
            for line in lines {
                text.push_str(&format!("  {line}\n"));
            }
            text.push('\n');
        }
    };
    let skipped = tally.skips.iter().filter_map(|skip| {
        let reason = skip.reason.as_ref()?;
        Some(format!(
            "{}: needs {}; `{}`",
            skip.name, reason.needs, reason.command
        ))
    });
    section("skipped", skipped.collect());
    section("failed", tally.failures.clone());
    section("not accepted", complaints.to_vec());
    let skipped = tally.ignored.max(tally.skips.len() as u64);
    text.push_str(&format!(
        "{phases}\n\n{} passed, {} failed, {skipped} skipped\n",
        tally.passed, tally.failed
    ));
    // Closed stdout: nobody reads it, and the exit code still tells.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(line: &str) -> Tally {
        let mut tally = Tally::default();
        tally.line("running 1 test");
        tally.line(line);
        tally.line("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured");
        tally.end();
        tally
    }

    #[test]
    fn a_reason_is_demanded() {
        let complaints = complaints(&tally("test a ... ignored"), &[]);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].starts_with("a is ignored without a reason"));
    }

    #[test]
    fn a_skip_can_be_forbidden() {
        let tally = tally("test [needs: pip; get it] a ... ignored");
        assert!(complaints(&tally, &[]).is_empty());
        assert!(complaints(&tally, &["pi".to_owned(), "GPU".to_owned()]).is_empty());
        let forbidden = ["GPU".to_owned(), "pip".to_owned()];
        assert_eq!(complaints(&tally, &forbidden).len(), 1);
    }

    #[test]
    fn several_words_are_one_thing() {
        let needs = "the PJRT CPU plugin";
        assert!(has_words(needs, "PJRT CPU plugin"));
        assert!(has_words(needs, "PJRT"));
        for other in [
            "PJRT CUDA plugin",
            "PJRT plugin",
            "CPU plugin of yours",
            "",
            ",",
        ] {
            assert!(!has_words(needs, other), "{other:?}");
        }
    }

    #[test]
    fn environments_are_made_for_the_tests_that_want_them() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: Args,
        }
        let brought = |words: &[&str]| -> Vec<&str> {
            let cli = <Cli as clap::Parser>::parse_from([&["test"], words].concat());
            let wanted = environments(&cli.args);
            wanted.into_iter().map(|one| one.name).collect()
        };
        assert_eq!(brought(&[]), ["beam", "emulators", "notebooks"]);
        assert_eq!(brought(&["--no-beam"]), ["emulators", "notebooks"]);
        assert_eq!(brought(&["--no-emulators", "--no-notebooks"]), ["beam"]);
        assert_eq!(
            brought(&["-p", "x", "-p", "tpu-training"]),
            ["emulators", "notebooks"]
        );
        assert_eq!(brought(&["-p", "datasets"]), [""; 0]);
        assert_eq!(
            brought(&["--exclude", "parallel-training"]),
            ["emulators", "notebooks"]
        );
    }

    #[test]
    fn skips_that_gave_no_line_are_noticed() {
        let complaints = complaints(&tally("i"), &[]);
        assert!(complaints[0].starts_with("1 ignored tests gave no line"));
    }
}
