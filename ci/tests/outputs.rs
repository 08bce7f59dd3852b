//! `cargo x outputs` with a stand-in for cargo.

mod project;

use std::fs;

use assert_cmd::assert::{Assert, OutputAssertExt};
use predicates::{prelude::PredicateBooleanExt, str::contains};
use project::Project;

const FILE: &str = "book/outputs/help.txt";

fn x(project: &Project, words: &[&str]) -> Assert {
    let mut command = project.x(&[&["outputs"], words].concat());
    command.env("CARGO", project.path("bin/cargo")).assert()
}

#[test]
fn an_output_is_what_its_command_prints() {
    let project = Project::new();
    x(&project, &["--check"]).success();
    project.fake("cargo", "echo \"got $*  \"; echo news >&2");
    project.write(FILE, "$ cargo run -p a -- --help\nan old text\n");
    x(&project, &["--check"])
        .code(1)
        .stdout(contains("differs  help.txt: line 2"));
    x(&project, &[])
        .success()
        .stdout(contains("written  help.txt"));
    assert_eq!(
        fs::read_to_string(project.path(FILE)).unwrap(),
        "$ cargo run -p a -- --help\ngot run -p a -- --help\n"
    );
    x(&project, &["--check"])
        .success()
        .stdout(contains("current  help.txt"));
}

#[test]
fn a_command_that_fails_or_needs_a_shell_leaves_the_file() {
    let project = Project::new();
    for (script, first, told) in [
        ("echo broken >&2; exit 1", "$ cargo run", "broken"),
        ("true", "$ cargo run", "prints nothing"),
        ("echo x", "$ cargo run | head", "needs a shell"),
        ("echo x", "$ rm -r book", "expected a first line"),
    ] {
        project.fake("cargo", script);
        let old = format!("{first}\nold\n");
        project.write(FILE, &old);
        x(&project, &[])
            .code(1)
            .stderr(contains("help.txt").and(contains(told)));
        assert_eq!(fs::read_to_string(project.path(FILE)).unwrap(), old);
    }
}
