//! Result files: written, read back, and refused when they are broken.

mod sample;

use std::path::Path;

use accel::environment::Environment;
use accel::results::{
    MAX_BYTES, ResultError, ResultFile, Row, SCHEMA_VERSION, Status, local_path, published_dir,
};
use accel::timing::Samples;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The sample as JSON, changed at one place (a JSON pointer), and parsed.
fn parse_with(pointer: &str, value: Value) -> Result<ResultFile, ResultError> {
    let mut json = serde_json::to_value(sample::full()).unwrap();
    *json
        .pointer_mut(pointer)
        .unwrap_or_else(|| panic!("no {pointer}")) = value;
    ResultFile::parse(&serde_json::to_vec(&json).unwrap())
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folders/ladder.json");
    let file = sample::full();
    file.write(&path).unwrap();
    assert_eq!(ResultFile::read(&path).unwrap(), file);
    // Over an older one, too, and nothing is left beside it.
    file.write(&path).unwrap();
    let names: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn a_new_file_knows_its_command_and_date() {
    let file = ResultFile::new("01-cpu", "ladder", Environment::collect());
    assert_eq!(file.schema_version, SCHEMA_VERSION);
    assert!(file.command[0].starts_with("results"), "{:?}", file.command);
    assert!(!file.command[0].contains('/'));
    assert_eq!(file.created_utc.len(), 20);
    assert!(file.created_utc.ends_with('Z'));
    assert_eq!(file.commit.is_some(), file.dirty.is_some());
    file.validate().unwrap();
}

#[test]
fn fields_stand_in_their_order_and_samples_on_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    sample::full().write(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let mut position = 0;
    for field in [
        "schema_version",
        "chapter",
        "measurement",
        "title",
        "created_utc",
        "command",
        "commit",
        "dirty",
        "depends_on",
        "environment",
        "cpu_model",
        "cpu_features",
        "cores",
        "memory_bytes",
        "load_at_start",
        "\"os\"",
        "kernel",
        "arch",
        "accelerator",
        "libraries",
        "rustc",
        "notes",
        "rows",
        "\"id\"",
        "label",
        "workload",
        "status",
        "reason",
        "samples",
        "metrics",
    ] {
        position += text[position..]
            .find(field)
            .unwrap_or_else(|| panic!("{field} in {text}"));
    }
    assert!(
        text.contains("\"seconds\": [0.1, 0.30000000000000004, 1e-9, 0.0]"),
        "{text}"
    );
    assert!(text.ends_with("}\n"));
}

#[cfg(unix)]
#[test]
fn a_written_file_can_be_read_by_others_as_the_umask_says() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "").unwrap();
    let path = folder.path().join("x.json");
    sample::full().write(&path).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&plain));
}

#[test]
fn rows_are_found_by_id() {
    let file = sample::full();
    assert_eq!(file.row("bf16").unwrap().status, Status::Failed);
    assert!(file.row("fp4").is_none());
}

#[test]
fn paths_are_those_of_the_design() {
    let root = Path::new("/r");
    assert_eq!(
        local_path(root, "01-cpu", "amd-epyc-2c-24g", "ladder"),
        Path::new("/r/results-local/01-cpu/amd-epyc-2c-24g/ladder.json")
    );
    assert_eq!(
        published_dir(root, "01-cpu", "amd-epyc-2c-24g", "ladder"),
        Path::new("/r/chapters/01-cpu/results/amd-epyc-2c-24g/ladder")
    );
    let mut file = sample::full();
    file.created_utc = "2026-11-21T10:58:00Z".to_owned();
    assert_eq!(file.published_name(), "2026-11-21-ae8ca2c0ae8c.json");
    file.dirty = Some(true);
    assert_eq!(file.published_name(), "2026-11-21-ae8ca2c0ae8c-dirty.json");
    (file.commit, file.dirty) = (None, None);
    assert_eq!(file.published_name(), "2026-11-21-uncommitted.json");
}

#[test]
fn absolute_paths_do_not_reach_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    let mut file = sample::full();
    file.command.push("--images=/home/anne/pictures".to_owned());
    file.command.push("/var/data/a b/digits".to_owned());
    file.notes
        .push("read /home/anne/pictures/cat.jpg".to_owned());
    file.rows[2].reason = Some("cannot open /mnt/secret/x.bin: no such file".to_owned());
    file.rows[0] = file.rows[0]
        .clone()
        .with("weights", "/home/anne/w.safetensors");
    file.write(&path).unwrap();
    let written = ResultFile::read(&path).unwrap();
    assert_eq!(written.command[2..], ["--images=pictures", "digits"]);
    assert_eq!(written.notes.last().unwrap(), "read cat.jpg");
    assert_eq!(
        written.rows[2].reason.as_deref(),
        Some("cannot open x.bin: no such file")
    );
    assert_eq!(written.rows[0].workload["weights"], "w.safetensors");
    let text = std::fs::read_to_string(&path).unwrap();
    for secret in ["anne", "secret", "/var", "/mnt"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn every_broken_value_is_refused_with_its_place() {
    let telling = json!("/home/anne/x");
    for (pointer, value, complaint) in [
        ("/chapter", json!("../etc"), "chapter: expected a name"),
        ("/chapter", json!(""), "chapter"),
        ("/measurement", json!("a/b"), "measurement"),
        ("/measurement", json!("Ladder"), "measurement"),
        ("/title", json!(" "), "title: expected some text"),
        (
            "/created_utc",
            json!("yesterday"),
            "created_utc: expected a UTC time",
        ),
        ("/created_utc", json!("2026-13-01T00:00:00Z"), "created_utc"),
        (
            "/created_utc",
            json!("2026-11-21T10:58:00+01:00"),
            "created_utc",
        ),
        ("/command", json!([]), "command"),
        (
            "/command/1",
            telling.clone(),
            "command[1]: expected no absolute path",
        ),
        (
            "/command/1",
            json!("--hub=https://anne:pw@host/x"),
            "command[1]",
        ),
        ("/commit", json!("main"), "commit: expected 40 or 64"),
        (
            "/commit",
            json!("AE8CA2C0AE8CA2C0AE8CA2C0AE8CA2C0AE8CA2C0"),
            "commit",
        ),
        (
            "/commit",
            Value::Null,
            "dirty: expected true or false with a commit",
        ),
        ("/dirty", Value::Null, "dirty"),
        ("/depends_on/0", json!("/etc"), "depends_on[0]"),
        ("/depends_on/0", json!("a/../../b"), "depends_on[0]"),
        ("/depends_on/1", json!(""), "depends_on[1]"),
        ("/depends_on/1", json!("a//b"), "depends_on[1]"),
        ("/depends_on/1", json!("./a"), "depends_on[1]"),
        ("/notes/0", json!(""), "notes[0]"),
        ("/notes/0", json!("see /home/anne/x"), "notes[0]"),
        (
            "/environment/cores",
            json!(0),
            "environment.cores: expected at least 1",
        ),
        ("/environment/cpu_model", json!(""), "environment.cpu_model"),
        ("/environment/os", telling.clone(), "environment.os"),
        (
            "/environment/load_at_start",
            json!([-1.0, 0, 0]),
            "environment.load_at_start",
        ),
        (
            "/environment/accelerator/name",
            json!(""),
            "environment.accelerator.name",
        ),
        (
            "/environment/accelerator/driver",
            json!(""),
            "environment.accelerator.driver",
        ),
        (
            "/environment/libraries/libtorch",
            json!(""),
            "environment.libraries.libtorch",
        ),
        ("/environment/rustc", telling.clone(), "environment.rustc"),
        (
            "/rows/1/id",
            json!("eager-b8"),
            "rows[1].id: expected an id that no other row has",
        ),
        ("/rows/1/id", json!(""), "rows[1].id"),
        ("/rows/1/id", json!("a\nb"), "rows[1].id: expected one line"),
        ("/rows/1/label", json!(""), "rows[1].label"),
        (
            "/rows/1/metrics",
            json!({}),
            "rows[1]: expected samples or metrics",
        ),
        (
            "/rows/2/reason",
            Value::Null,
            "rows[2].reason: expected a reason",
        ),
        ("/rows/3/reason", json!(" "), "rows[3].reason"),
        ("/rows/2/reason", json!("no /home/anne/x"), "rows[2].reason"),
        (
            "/rows/0/workload/engine",
            json!({"a": 1}),
            "rows[0].workload.engine",
        ),
        (
            "/rows/0/workload/engine",
            json!([1]),
            "rows[0].workload.engine",
        ),
        (
            "/rows/0/workload/engine",
            telling.clone(),
            "rows[0].workload.engine",
        ),
        (
            "/rows/0/samples/items_per_sample",
            json!(0),
            "rows[0].samples.items_per_sample",
        ),
        (
            "/rows/0/samples/seconds/1",
            json!(-0.1),
            "rows[0].samples.seconds[1]",
        ),
        (
            "/rows/0/samples/warmup_seconds/0",
            json!(-1),
            "rows[0].samples.warmup_seconds[0]",
        ),
    ] {
        match parse_with(pointer, value.clone()) {
            Err(error @ ResultError::Invalid { .. }) => {
                let message = error.to_string();
                assert!(message.contains(complaint), "{pointer} {value}: {message}");
            }
            other => panic!("{pointer} {value}: {other:?}"),
        }
    }
}

#[test]
fn one_error_tells_all_and_stays_short() {
    let mut file = sample::full();
    file.chapter = "A".to_owned();
    file.measurement = "B".to_owned();
    file.notes = vec![" ".repeat(1_000_000); 30];
    let message = file.validate().unwrap_err().to_string();
    assert!(message.contains("chapter") && message.contains("measurement"));
    assert!(message.contains("and 22 more"), "{message}");
    assert!(message.len() < 3_000, "{}", message.len());
}

#[test]
fn numbers_that_json_cannot_hold_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut in_samples = sample::full();
        in_samples.rows[0].samples.as_mut().unwrap().seconds[0] = bad;
        let mut in_metrics = sample::full();
        in_metrics.rows[0] = in_metrics.rows[0].clone().with_metric("accuracy", bad);
        let mut in_load = sample::full();
        in_load.environment.load_at_start = Some([bad, 0.0, 0.0]);
        for file in [in_samples, in_metrics, in_load] {
            let error = file.write(&path).unwrap_err();
            assert!(matches!(error, ResultError::Invalid { .. }), "{error}");
        }
    }
    assert!(!path.exists());
    assert!(ResultFile::parse(b"{\"schema_version\": 1, \"chapter\": 1e999}").is_err());
}

#[test]
fn another_shape_is_refused() {
    let full = serde_json::to_value(sample::full()).unwrap();
    let change = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut json = full.clone();
        change(json.as_object_mut().unwrap());
        ResultFile::parse(&serde_json::to_vec(&json).unwrap())
    };
    for required in [
        "chapter",
        "measurement",
        "created_utc",
        "command",
        "depends_on",
        "environment",
        "notes",
        "rows",
    ] {
        let error = change(&|json| {
            json.remove(required);
        })
        .unwrap_err();
        assert!(matches!(error, ResultError::Json(_)), "{required}: {error}");
        assert!(error.to_string().contains(required), "{error}");
    }
    let error = change(&|json| {
        json.insert("hostname".to_owned(), json!("box"));
    })
    .unwrap_err();
    assert!(
        error.to_string().contains("unknown field `hostname`"),
        "{error}"
    );
    for optional in ["title", "commit", "dirty"] {
        let result = change(&|json| {
            json.insert("commit".to_owned(), Value::Null);
            json.insert("dirty".to_owned(), Value::Null);
            json.remove(optional);
        });
        assert!(result.is_ok(), "{optional}: {result:?}");
    }
    for bytes in [
        "",
        "{",
        "[]",
        "null",
        "1",
        "\u{feff}{}",
        "{\"schema_version\":1}{}",
    ] {
        assert!(ResultFile::parse(bytes.as_bytes()).is_err(), "{bytes:?}");
    }
    assert!(ResultFile::parse(&[0xff; 100]).is_err());
    // A nest that would overflow the stack of a naive parser.
    let deep = format!("{{\"schema_version\":1,\"x\":{}", "[".repeat(1_000_000));
    assert!(ResultFile::parse(deep.as_bytes()).is_err());
}

#[test]
fn another_version_is_refused_before_its_fields_are_looked_at() {
    for (json, got, remedy) in [
        (
            r#"{"schema_version": 2, "new": 1}"#,
            "got 2",
            "update this checkout",
        ),
        (r#"{"schema_version": 0}"#, "got 0", "measure again"),
        (r#"{"schema_version": "1"}"#, "got \"1\"", "measure again"),
        (r#"{"schema_version": [[]]}"#, "no number", "measure again"),
        (r#"{}"#, "got none", "measure again"),
    ] {
        let error = ResultFile::parse(json.as_bytes()).unwrap_err();
        assert!(
            matches!(error, ResultError::Version { .. }),
            "{json}: {error}"
        );
        let message = error.to_string();
        assert!(message.contains("expected schema_version 1"), "{message}");
        assert!(
            message.contains(got) && message.contains(remedy),
            "{message}"
        );
    }
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let bytes = vec![b' '; MAX_BYTES as usize + 1];
    let error = ResultFile::parse(&bytes).unwrap_err();
    assert!(matches!(error, ResultError::TooLarge { .. }), "{error}");
    // Sparse: it costs no disk.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.json");
    std::fs::File::create(&path)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let message = ResultFile::read(&path).unwrap_err().to_string();
    assert!(message.contains("huge.json"), "{message}");
    assert!(message.contains(&MAX_BYTES.to_string()), "{message}");
}

#[test]
fn what_is_no_file_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let missing = ResultFile::read(folder.path().join("none.json")).unwrap_err();
    assert!(matches!(missing, ResultError::Io { .. }), "{missing}");
    assert!(
        missing.to_string().contains("run the measurement first"),
        "{missing}"
    );
    let not_a_file = ResultFile::read(folder.path()).unwrap_err();
    assert!(
        matches!(not_a_file, ResultError::NotAFile { .. }),
        "{not_a_file}"
    );
    #[cfg(unix)]
    {
        let device = ResultFile::read("/dev/zero").unwrap_err();
        assert!(matches!(device, ResultError::NotAFile { .. }), "{device}");
    }
    let broken = folder.path().join("broken.json");
    std::fs::write(&broken, "{").unwrap();
    let message = ResultFile::read(&broken).unwrap_err().to_string();
    assert!(
        message.contains("broken.json is not a usable result file"),
        "{message}"
    );
}

#[test]
fn a_file_where_a_folder_should_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results");
    std::fs::write(&file, "I am a file").unwrap();
    for path in [file.join("x.json"), file.join("deep/er/x.json")] {
        let error = sample::full().write(&path).unwrap_err();
        assert!(matches!(error, ResultError::FileInTheWay { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.contains(&format!("{} is a file", file.display())),
            "{message}"
        );
        assert!(message.contains("--out DIR"), "{message}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "I am a file");
}

#[test]
fn a_folder_or_device_where_the_file_should_be_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let error = sample::full().write(folder.path()).unwrap_err();
    assert!(matches!(error, ResultError::NotAFile { .. }), "{error}");
    #[cfg(target_os = "linux")]
    {
        let error = sample::full().write("/dev/full").unwrap_err();
        assert!(matches!(error, ResultError::NotAFile { .. }), "{error}");
    }
    #[cfg(unix)]
    {
        let link = folder.path().join("link.json");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        let error = sample::full().write(&link).unwrap_err();
        assert!(matches!(error, ResultError::NotAFile { .. }), "{error}");
    }
}

#[test]
fn a_failed_write_leaves_the_old_file_and_no_litter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    sample::full().write(&path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut broken = sample::full();
    broken.rows[0].id.clear();
    broken.write(&path).unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn writers_at_the_same_moment_leave_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/x.json");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    sample::full().write(&path).unwrap();
                    ResultFile::read(&path).unwrap();
                }
            });
        }
    });
    assert_eq!(
        std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
        1
    );
}

fn any_row(index: usize) -> impl Strategy<Value = Row> {
    let text = "[a-zA-Z0-9é ,.-]{0,12}[a-z]";
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e300f64..1e300).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    let seconds = || prop::collection::vec(0.0f64..1e9, 0..5);
    (
        text,
        prop::collection::btree_map("[a-z_]{1,6}", scalar, 0..4),
        prop::collection::btree_map("[a-z_]{1,6}", -1e300f64..1e300, 1..4),
        prop::option::of((1usize..100, seconds(), seconds())),
        prop::option::of(text),
        0usize..3,
    )
        .prop_map(
            move |(label, workload, metrics, samples, reason, status)| Row {
                id: format!("row {index}"),
                label,
                workload: workload.into_iter().collect(),
                status: [Status::Ok, Status::Failed, Status::Skipped][status],
                reason: match status {
                    0 => reason,
                    _ => reason.or_else(|| Some("because".to_owned())),
                },
                samples: samples.map(|(items_per_sample, warmup_seconds, seconds)| Samples {
                    items_per_sample,
                    warmup_seconds,
                    seconds,
                }),
                metrics,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_valid_file_survives_the_round_trip(
        rows in (0usize..5).prop_flat_map(|n| (0..n).map(any_row).collect::<Vec<_>>()),
        notes in prop::collection::vec("[a-z é,.;-]{0,20}[a-z]", 0..3),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let file = ResultFile { rows, notes, ..sample::full() };
        file.write(&path).unwrap();
        prop_assert_eq!(ResultFile::read(&path).unwrap(), file);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = ResultFile::parse(&bytes);
    }

    #[test]
    fn arbitrary_json_never_panics(text in "[\\{\\}\\[\\]:,\"0-9a-z_ \\\\.-]{0,200}") {
        let _ = ResultFile::parse(format!("{{\"schema_version\":1,{text}").as_bytes());
    }
}
