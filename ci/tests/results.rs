//! `cargo x results` in a small repository: what is stale, what may be published, tables,
//! trends and comparisons.

mod project;

use std::{fs, path::Path, process::Command};

use accel::{
    environment::{Accelerator, Environment},
    results::{ResultFile, Row},
    timing::Samples,
};
use assert_cmd::assert::OutputAssertExt;
use predicates::{prelude::PredicateBooleanExt, str::contains};
use project::Project;

const LOCK: &str = r#"
version = 4
[[package]]
name = "chapter-program"
version = "0.1.0"
dependencies = ["used"]
[[package]]
name = "used"
version = "1.0.0"
source = "registry"
checksum = "a"
[[package]]
name = "unused"
version = "1.0.0"
source = "registry"
checksum = "b"
"#;

/// A repository with a chapter, at its first commit.
struct Repository(Project);

impl Repository {
    fn new() -> Self {
        let project = Project::new();
        project.write("Cargo.lock", LOCK);
        project.write(
            "chapters/01-a/Cargo.toml",
            "[package]\nname = \"chapter-program\"\n",
        );
        project.write("chapters/01-a/src/lib.rs", "fn f() {}\n");
        project.write("chapters/01-a/src/README.md", "Text.\n");
        project.write("shared/timing.rs", "fn t() {}\n");
        project.write(
            "book/figures.toml",
            "[reference-machine]\n01-a = \"m\"\n[depends]\n01-a = [\"shared/timing.rs\"]\n\
             [measurement.\"01-a/speed\"]\ntitle = \"Speed\"\ncommand = \"cargo x learn\"\n",
        );
        project.write(
            ".gitignore",
            "/results-local\n/book/generated\n/index\n/bin\n",
        );
        let repository = Self(project);
        repository.git(&["init", "--quiet"]);
        repository.commit("one");
        repository
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.0.root())
            .args(["-c", "user.name=A", "-c", "user.email=a@example.org"])
            .args(arguments)
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .output()
            .expect("git");
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Commits all there is; the commit's name.
    fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// A result of the commit that the repository stands at.
    fn result(&self) -> ResultFile {
        result("2026-01-01T00:00:00Z", Some(self.head()), 1.0)
    }

    fn publish(&self, file: &ResultFile) {
        let slug = file.environment.machine_slug();
        let folder = self.0.path(&format!("chapters/01-a/results/{slug}/speed"));
        file.write(folder.join(file.published_name()))
            .expect("a file");
    }

    fn local(&self, file: &ResultFile) {
        let slug = file.environment.machine_slug();
        file.write(
            self.0
                .path(&format!("results-local/01-a/{slug}/speed.json")),
        )
        .expect("a file");
    }

    fn x(&self, arguments: &[&str]) -> assert_cmd::assert::Assert {
        let mut words = vec!["results"];
        words.extend(arguments);
        self.0.x(&words).assert()
    }

    fn stale(&self) -> serde_json::Value {
        let text = fs::read(self.0.path("book/generated/stale.json")).expect("stale.json");
        serde_json::from_slice(&text).expect("JSON")
    }
}

fn result(date: &str, commit: Option<String>, factor: f64) -> ResultFile {
    let environment = Environment {
        cpu_model: "AMD EPYC".into(),
        cpu_features: vec!["avx2".into()],
        cores: 2,
        memory_bytes: 24 << 30,
        load_at_start: Some([0.0; 3]),
        os: "Debian 12".into(),
        kernel: "Linux 6.1".into(),
        arch: "x86_64".into(),
        accelerator: None::<Accelerator>,
        libraries: Default::default(),
        rustc: None,
    };
    let mut file = ResultFile::new("01-a", "speed", environment);
    file.created_utc = date.to_owned();
    file.command = vec!["chapter-program".into(), "measure".into()];
    file.dirty = commit.as_ref().map(|_| false);
    file.commit = commit;
    file.depends_on = vec![
        "chapters/01-a/src".into(),
        "chapters/01-a/Cargo.toml".into(),
        "Cargo.lock".into(),
    ];
    file.notes.clear();
    let seconds = (0..20).map(|step| factor * (1.0 + f64::from(step) / 1000.0));
    file.rows.push(
        Row::ok("fast", "the fast, quick one")
            .with("batch", 8)
            .with_metric("accuracy", 0.5)
            .with_samples(Samples {
                items_per_sample: 8,
                warmup_seconds: vec![2.0],
                seconds: seconds.collect(),
            }),
    );
    file.rows
        .push(Row::skipped("none", "no such device", "no device"));
    file
}

#[test]
fn a_result_is_stale_once_what_it_depends_on_has_changed() {
    let repository = Repository::new();
    repository.publish(&repository.result());
    let first = repository.head();
    repository.commit("the result");
    repository
        .x(&[])
        .success()
        .stdout(contains("1 fresh, 0 stale"));
    assert_eq!(repository.stale()["stale"], serde_json::json!({}));

    // Files that no program is built from, and a package that the chapter's is not.
    repository.0.write("chapters/01-a/src/README.md", "More.\n");
    repository
        .0
        .write("chapters/01-a/src/LICENSE-MIT", "Terms.\n");
    repository
        .0
        .write("chapters/01-a/src/tests/more.rs", "fn t() {}\n");
    repository.0.write(
        "chapters/01-a/Cargo.toml",
        "[package]\nname = \"chapter-program\"\ndescription = \"A\"\n",
    );
    repository
        .0
        .write("Cargo.lock", &LOCK.replace("\"b\"", "\"c\""));
    repository
        .x(&["--check"])
        .success()
        .stdout(contains("1 fresh"));

    // Uncommitted changes count: the figures are not of what is there.
    for (file, text, told) in [
        (
            "chapters/01-a/src/lib.rs",
            "fn f() { g() }\n",
            "code has changed",
        ),
        ("shared/timing.rs", "fn u() {}\n", "shared/timing.rs"),
        (
            "chapters/01-a/Cargo.toml",
            "[package]\nname = \"chapter-program\"\n[features]\nf = []\n",
            "chapters/01-a/Cargo.toml",
        ),
        (
            "Cargo.lock",
            &LOCK.replace("version = \"1.0.0\"", "version = \"1.0.1\""),
            "versions have changed since commit",
        ),
    ] {
        let before = fs::read_to_string(repository.0.path(file)).unwrap();
        repository.0.write(file, text);
        repository
            .x(&["--check"])
            .code(1)
            .stdout(contains("stale    01-a/speed").and(contains(told)))
            .stdout(contains("renew it: cargo x learn"));
        let stale = repository.stale();
        let entries = stale["stale"].as_object().unwrap();
        assert_eq!(entries.len(), 1);
        let (path, entry) = entries.iter().next().unwrap();
        assert!(path.starts_with("chapters/01-a/results/"), "{path}");
        assert!(entry["what"].as_str().unwrap().contains(&first[..10]));
        repository.0.write(file, &before);
    }
    repository.x(&["--check"]).success();
}

#[test]
fn only_the_newest_result_counts_and_an_unknown_commit_is_told() {
    let repository = Repository::new();
    repository.publish(&repository.result());
    repository
        .0
        .write("chapters/01-a/src/lib.rs", "fn g() {}\n");
    let second = repository.commit("two");
    repository.x(&["--check"]).code(1);
    repository.publish(&result("2026-01-02T00:00:00Z", Some(second), 1.0));
    repository
        .x(&["--check"])
        .success()
        .stdout(contains("1 fresh, 0 stale"));
    let nowhere = "0123456789".repeat(4);
    repository.publish(&result("2026-01-03T00:00:00Z", Some(nowhere), 1.0));
    repository
        .x(&["--check"])
        .success()
        .stdout(contains("does not have its commit 0123456789"));
    assert_eq!(repository.stale()["stale"], serde_json::json!({}));
}

#[test]
fn a_deleted_result_is_told_and_comes_back() {
    let repository = Repository::new();
    let old = repository.result();
    let folder = format!(
        "chapters/01-a/results/{}/speed",
        old.environment.machine_slug()
    );
    let path = format!("{folder}/{}", old.published_name());
    let odd = format!("{folder}/2020-01-01-000000000000.json");
    repository.publish(&old);
    repository.0.write(&odd, "{\"schema_version\": 0}");
    let text = fs::read(repository.0.path(&path)).unwrap();
    repository.commit("published");
    // A newer one, on a branch that is merged, where both old ones are gone.
    repository.git(&["switch", "--quiet", "--create", "newer"]);
    repository.publish(&result(
        "2026-02-01T00:00:00Z",
        Some(repository.head()),
        2.0,
    ));
    for path in [&path, &odd] {
        fs::remove_file(repository.0.path(path)).unwrap();
    }
    repository.commit("newer");
    repository.git(&["switch", "--quiet", "-"]);
    repository.0.write("README.md", "Text.\n");
    repository.commit("text");
    repository.git(&["merge", "--quiet", "--no-edit", "newer"]);
    assert!(!repository.0.path(&path).exists());

    repository
        .x(&["--check"])
        .code(1)
        .stdout(contains(format!("deleted  {path}")))
        .stdout(contains("cargo x results restore"))
        .stdout(contains(&odd).not());
    assert_eq!(repository.stale()["deleted"], serde_json::json!([path]));
    repository
        .x(&["restore"])
        .success()
        .stdout(contains("1 restored, 1 left in git"))
        .stderr(contains(&odd).and(contains("schema_version")));
    assert_eq!(fs::read(repository.0.path(&path)).unwrap(), text);
    repository
        .x(&["restore"])
        .success()
        .stdout(contains("0 restored"));
    repository
        .x(&["--check"])
        .success()
        .stdout(contains("deleted").not());

    // It was wrong, and is to stay away.
    fs::remove_file(repository.0.path(&path)).unwrap();
    repository.x(&["--check"]).code(1);
    let settings = fs::read_to_string(repository.0.path("book/figures.toml")).unwrap();
    repository.0.write(
        "book/figures.toml",
        &format!("{settings}[withdrawn]\n\"{path}\" = \"a wrong clock\"\n"),
    );
    repository.x(&["--check"]).success();
    repository
        .x(&["restore"])
        .success()
        .stdout(contains("0 restored"));
}

#[test]
fn without_git_nothing_can_be_restored() {
    let repository = Repository::new();
    fs::remove_dir_all(repository.0.path(".git")).unwrap();
    repository
        .x(&["restore"])
        .code(3)
        .stderr(contains("git's history only"));
}

#[test]
fn what_programs_write_beside_results_is_none() {
    let repository = Repository::new();
    let file = repository.result();
    repository.local(&file);
    let folder = format!("results-local/01-a/{}", file.environment.machine_slug());
    for (name, text) in [
        ("summary.json", "{\"runs\": 18}"),
        ("manifest.json", "[1, 2]"),
    ] {
        repository.0.write(&format!("{folder}/{name}"), text);
    }
    repository
        .x(&[])
        .success()
        .stdout(contains("left out").not());
    repository.x(&["submit", "--dry-run"]).success();
    // One that means to be a result, and one that was cut short.
    repository
        .0
        .write(&format!("{folder}/odd.json"), "{\"measurement\": \"odd\"}");
    repository.0.write(&format!("{folder}/cut.json"), "{\"sche");
    repository
        .x(&[])
        .success()
        .stdout(contains("odd.json is not a usable").and(contains("cut.json is not a usable")));
    repository
        .x(&["submit", "--dry-run"])
        .code(2)
        .stderr(contains("refused"));
}

#[test]
fn without_git_nobody_can_tell() {
    let repository = Repository::new();
    repository.publish(&repository.result());
    repository.0.write("book/generated/stale.json", "{}");
    fs::remove_dir_all(repository.0.path(".git")).unwrap();
    repository
        .x(&["--check"])
        .success()
        .stdout(contains("nobody can tell which results are stale"));
    // An older answer would be a wrong one.
    assert!(!repository.0.path("book/generated/stale.json").exists());
}

#[test]
fn good_results_are_copied_with_the_commands_of_a_pull_request() {
    let repository = Repository::new();
    let file = repository.result();
    repository.local(&file);
    let slug = file.environment.machine_slug();
    let target = format!(
        "chapters/01-a/results/{slug}/speed/2026-01-01-{}.json",
        &repository.head()[..12]
    );
    repository
        .x(&["submit", "--dry-run"])
        .success()
        .stdout(contains(format!("to {target}")));
    assert!(!repository.0.path(&target).exists());
    repository
        .x(&["submit"])
        .success()
        .stdout(contains("git add --"))
        .stdout(contains("git commit --message 'Results on AMD EPYC'"));
    assert_eq!(ResultFile::read(repository.0.path(&target)).unwrap(), file);
    repository
        .x(&["submit"])
        .code(2)
        .stderr(contains("already published as"));
}

#[test]
fn what_must_not_be_published_is_refused_with_the_reason() {
    let repository = Repository::new();
    let good = repository.result();
    let named = |name: &str, file: &ResultFile| {
        let path = repository.0.path(name);
        file.write(&path).unwrap();
        path
    };
    let change = |change: &dyn Fn(&mut ResultFile)| {
        let mut file = good.clone();
        change(&mut file);
        file
    };
    let good_path = named("good.json", &good);
    for (file, reason) in [
        (
            change(&|file| file.dirty = Some(true)),
            "uncommitted changes",
        ),
        (
            change(&|file| (file.commit, file.dirty) = (None, None)),
            "names no commit",
        ),
        (
            change(&|file| file.commit = Some("0123456789".repeat(4))),
            "does not have its commit",
        ),
        (change(&|file| file.chapter = "09-z".into()), "no chapter"),
        (change(&|file| file.rows.clear()), "no rows"),
        (
            change(&|file| file.command.push("--quick".into())),
            "--quick",
        ),
    ] {
        let bad = named("bad.json", &file);
        repository
            .x(&["submit", good_path.to_str().unwrap(), bad.to_str().unwrap()])
            .code(2)
            .stderr(contains("refused  bad.json").and(contains(reason)));
    }
    // A file that somebody edited: a path and a user's name.
    let text = String::from_utf8(good.to_text().unwrap()).unwrap();
    let text = text.replace(
        "the fast, quick one",
        &format!("read from {}anne/x", "/home/"),
    );
    repository.0.write("bad.json", &text);
    repository
        .x(&["submit", "bad.json"])
        .code(2)
        .stderr(contains("absolute path"));
    repository.0.write("bad.json", "{}");
    repository.x(&["submit", "bad.json"]).code(2);
    repository.x(&["submit", "none.json"]).code(2);
    repository
        .x(&["submit"])
        .code(2)
        .stderr(contains("results-local"));
    let published = repository.0.path("chapters/01-a/results");
    assert!(
        !published.exists(),
        "a good one was copied beside a bad one"
    );
}

#[test]
fn tables_have_a_line_for_each_sample_and_metric() {
    let repository = Repository::new();
    repository.publish(&repository.result());
    let mut mine = repository.result();
    mine.environment.cpu_model = "Mine".into();
    repository.local(&mine);
    let read = |path: &Path| fs::read_to_string(path).unwrap();

    let path = repository.0.path("all.jsonl");
    repository
        .x(&["export", "--to", path.to_str().unwrap()])
        .success();
    let text = read(&path);
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // 20 samples, a metric, and the row that was skipped.
    assert_eq!(lines.len(), 22);
    assert_eq!(lines[3]["name"], "seconds");
    assert_eq!(lines[3]["sample"], 3);
    assert_eq!(lines[3]["items_per_sample"], 8);
    assert!((lines[3]["value"].as_f64().unwrap() - 1.003).abs() < 1e-12);
    let workload: serde_json::Value =
        serde_json::from_str(lines[3]["workload"].as_str().unwrap()).unwrap();
    assert_eq!(workload["batch"], 8);
    assert_eq!(lines[20]["name"], "accuracy");
    assert_eq!(lines[21]["status"], "skipped");
    assert_eq!(lines[21]["reason"], "no device");
    assert_eq!(lines[21]["value"], serde_json::Value::Null);

    let path = repository.0.path("all.csv");
    repository
        .x(&["export", "--local", "--to", path.to_str().unwrap()])
        .success()
        .stderr(contains("44 lines of 2 results"));
    let text = read(&path);
    assert_eq!(text.lines().count(), 45, "a heading");
    assert!(text.starts_with("chapter,measurement,machine,"), "{text}");
    assert!(text.contains("\"the fast, quick one\""), "{text}");

    repository.x(&["export", "--to", "all.xlsx"]).code(2);
}

#[test]
fn trends_go_by_machine_and_row() {
    let repository = Repository::new();
    repository.publish(&repository.result());
    repository.publish(&result(
        "2026-02-01T00:00:00Z",
        Some(repository.head()),
        2.0,
    ));
    repository
        .x(&["trend", "01-a/speed"])
        .success()
        .stdout(contains("fast on amd-epyc-2c-24g"))
        .stdout(contains("2026-01-01").and(contains("n = 20")))
        .stdout(contains("2026-02-01"));
    repository
        .x(&["trend", "01-a/sped"])
        .code(2)
        .stderr(contains("there are results of 01-a/speed"));
}

#[test]
fn a_regression_is_told_by_the_exit_code() {
    let repository = Repository::new();
    let old = repository.result();
    let write = |name: &str, file: &ResultFile| file.write(repository.0.path(name)).unwrap();
    write("old.json", &old);
    write(
        "slow.json",
        &result("2026-01-02T00:00:00Z", old.commit.clone(), 1.2),
    );
    repository
        .x(&["compare", "old.json", "slow.json"])
        .code(1)
        .stdout(contains("slower  fast: 1.2"));
    repository
        .x(&["compare", "old.json", "slow.json", "--threshold", "1.3"])
        .success()
        .stdout(contains("same"));
    repository
        .x(&["compare", "slow.json", "old.json"])
        .success()
        .stdout(contains("faster"));
    let mut other = old.clone();
    other.environment.cpu_model = "Other".into();
    write("other.json", &other);
    repository
        .x(&["compare", "old.json", "other.json"])
        .code(2)
        .stderr(contains("times of two machines"));
    repository
        .x(&["compare", "old.json", "old.json", "--threshold", "0.5"])
        .code(2);
}
