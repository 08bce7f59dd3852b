//! Pictures on request: one JSON object a line in, one a line out.

mod program;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use program::{classify, finish, fixture, photograph, predictions, process, program};
use serde_json::{Value, json};

/// The running program with the digits model.
struct Shards {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Shards {
    fn start(root: &Path) -> Self {
        let mut child = process()
            .args(["shards", "--weights", "digits", "--batch", "3", "--root"])
            .arg(root)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut shards = Shards {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        let ready = shards.next();
        assert_eq!(ready["ready"]["device"], "cpu", "{ready}");
        shards
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
    }

    fn ask(&mut self, line: &str) -> Value {
        writeln!(self.stdin, "{line}").unwrap();
        self.next()
    }

    /// Ends its input; its exit code and what it said on stderr.
    fn end(self) -> (Option<i32>, String) {
        drop(self.stdin);
        let output = self.child.wait_with_output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), errors)
    }
}

#[test]
fn shards_are_classified_as_the_whole_folder_is() {
    let scratch = tempfile::tempdir().unwrap();
    let pictures = scratch.path().join("pictures");
    fs::create_dir_all(&pictures).unwrap();
    let names = ["a.jpg", "b.jpg", "c.png", "d.jpg", "e.png"];
    for (name, bytes) in names.iter().zip([
        photograph("china.jpg"),
        photograph("flower.jpg"),
        fs::read(fixture("grey.png")).unwrap(),
        b"\xff\xd8 and nothing".to_vec(),
        vec![],
    ]) {
        fs::write(pictures.join(name), bytes).unwrap();
    }
    let out = scratch.path().join("out");
    classify(&pictures, &out);
    let whole = predictions(&out);

    let mut shards = Shards::start(&pictures);
    let mut seen = 0;
    for (id, paths) in [("one", &names[..2]), ("two", &names[2..])] {
        let answer = shards.ask(&json!({"id": id, "paths": paths}).to_string());
        let done = &answer["done"];
        assert_eq!(done["id"], id, "{answer}");
        assert!(done["seconds"].as_f64().unwrap() > 0.0);
        let good = done["predictions"].as_array().unwrap();
        let bad = done["bad"].as_array().unwrap();
        assert_eq!(good.len() + bad.len(), paths.len());
        for image in good.iter().chain(bad) {
            let of = |line: &&Value| line["input"] == image["path"];
            let line = whole.iter().find(of).unwrap();
            let class = |value: &Value| value["top"][0]["class"].clone();
            assert_eq!(class(image), class(line));
            assert_eq!(image.get("error"), line.get("error"));
            seen += 1;
        }
    }
    assert_eq!(seen, names.len());
    let (code, errors) = shards.end();
    assert_eq!(code, Some(0));
    assert_eq!(errors.matches("model:").count(), 1, "read once: {errors}");
}

#[test]
fn no_path_leads_out_of_the_folder() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(root.join("sub/in.jpg"), photograph("china.jpg")).unwrap();
    let outside = scratch.path().join("outside.jpg");
    fs::write(&outside, photograph("china.jpg")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&outside, root.join("link.jpg")).unwrap();
    let mut shards = Shards::start(&root);
    let absolute = outside.to_str().unwrap();
    let paths = [
        "sub/in.jpg",
        "../outside.jpg",
        "sub/../../outside.jpg",
        absolute,
        "link.jpg",
        "",
        "none.jpg",
        "sub",
        "a\u{0}b.jpg",
    ];
    let answer = shards.ask(&json!({"id": "s", "paths": paths}).to_string());
    let done = &answer["done"];
    let good = done["predictions"].as_array().unwrap();
    assert_eq!(good.len(), 1, "{answer}");
    assert_eq!(good[0]["path"], "sub/in.jpg");
    let bad = done["bad"].as_array().unwrap();
    assert_eq!(bad.len(), paths.len() - 1);
    for image in bad {
        let (path, error) = (&image["path"], image["error"].as_str().unwrap());
        let expected = match path.as_str().unwrap() {
            "none.jpg" => "cannot be read",
            "sub" => "not a regular file",
            _ => "leads out of the folder",
        };
        assert!(error.contains(expected), "{path}: {error}");
        assert!(!error.contains(scratch.path().to_str().unwrap()), "{error}");
    }
    assert_eq!(shards.end().0, Some(0));
}

#[test]
fn a_bad_request_is_answered_and_the_next_one_served() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("a.jpg"), photograph("china.jpg")).unwrap();
    let mut shards = Shards::start(scratch.path());
    for (line, id) in [
        ("garbage", ""),
        ("[]", ""),
        (r#"{"id": "x"}"#, "x"),
        (r#"{"id": "x", "paths": [1]}"#, "x"),
    ] {
        let answer = shards.ask(line);
        assert_eq!(answer["failed"]["id"], id, "{answer}");
        assert_eq!(answer["failed"]["kind"], "refused", "{answer}");
    }
    let answer = shards.ask(r#"{"id": "none", "paths": []}"#);
    assert_eq!(answer["done"]["predictions"], json!([]), "{answer}");
    let answer = shards.ask(r#"{"id": "some", "paths": ["a.jpg"]}"#);
    assert_eq!(answer["done"]["predictions"][0]["path"], "a.jpg");
    assert_eq!(shards.end().0, Some(0));
}

#[test]
fn what_cannot_begin_is_refused() {
    let shards = |words: &[&str]| finish(program().arg("shards").args(words));
    shards(&["--weights", "digits", "--root", "/nowhere/at/all"])
        .refused(&["--root /nowhere/at/all", "give the folder"]);
    let file = fixture("grey.png");
    shards(&["--weights", "digits", "--root", file.to_str().unwrap()]).refused(&["not a folder"]);
    shards(&["--weights", "/nowhere/x.safetensors", "--root", "."]).refused(&["x.safetensors"]);
}
