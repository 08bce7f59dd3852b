//! `shared/result.schema.json` says what the Rust reader says.

mod sample;

use accel::environment::Environment;
use accel::results::{ResultFile, Row};
use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};

/// The compiled schema.
struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

/// Compiling also validates the schema itself.
fn schema() -> Schema {
    let name = "result.schema.json";
    let json = serde_json::from_str(include_str!("../result.schema.json")).unwrap();
    let mut compiler = Compiler::new();
    compiler.enable_format_assertions();
    compiler.add_resource(name, json).unwrap();
    let mut schemas = Schemas::new();
    let index = compiler.compile(name, &mut schemas).unwrap();
    Schema { schemas, index }
}

/// Writes the file as a program would, and gives back the JSON on disk.
fn written(file: &ResultFile) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    file.write(&path).unwrap();
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()
}

/// What is wrong with it; nothing if it is valid.
fn complaint(schema: &Schema, json: &Value) -> Option<String> {
    let checked = schema.schemas.validate(json, schema.index);
    checked.err().map(|error| error.to_string())
}

#[test]
fn written_files_validate() {
    let schema = schema();
    let mut bare = ResultFile::new("01-cpu", "bare", Environment::collect());
    bare.environment.accelerator = None;
    bare.environment.load_at_start = None;
    bare.environment.rustc = None;
    (bare.commit, bare.dirty) = (None, None);
    let mut with_paths = sample::full();
    with_paths.command.push("/home/anne/x".to_owned());
    with_paths.notes.push("/home/anne/x".to_owned());
    with_paths.rows.push(
        Row::ok("more", "more")
            .with("weights", "/home/anne/x")
            .with("input", "")
            .with_metric("accuracy", 1.0),
    );
    for file in [bare, sample::full(), with_paths] {
        let json = written(&file);
        assert_eq!(complaint(&schema, &json), None, "{json:#}");
    }
}

#[test]
fn broken_files_do_not_validate_and_are_not_read() {
    let schema = schema();
    let valid = written(&sample::full());
    let refused_by_both = |pointer: &str, value: Option<Value>| {
        let mut json = valid.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = json.pointer_mut(parent).unwrap();
        match (parent, value) {
            (Value::Object(object), Some(value)) => {
                object.insert(key.to_owned(), value);
            }
            (Value::Object(object), None) => {
                object.remove(key).unwrap_or_else(|| panic!("no {pointer}"));
            }
            (Value::Array(array), Some(value)) => {
                array[key.parse::<usize>().unwrap()] = value;
            }
            _ => panic!("{pointer}"),
        }
        assert_ne!(json, valid, "{pointer}");
        assert!(
            complaint(&schema, &json).is_some(),
            "the schema accepts {pointer}: {json:#}"
        );
        let text = serde_json::to_vec(&json).unwrap();
        assert!(
            ResultFile::parse(&text).is_err(),
            "the reader accepts {pointer}: {json:#}"
        );
    };
    for required in [
        "schema_version",
        "chapter",
        "measurement",
        "created_utc",
        "command",
        "depends_on",
        "environment",
        "notes",
        "rows",
        "environment/cpu_model",
        "environment/cpu_features",
        "environment/cores",
        "environment/memory_bytes",
        "environment/os",
        "environment/kernel",
        "environment/arch",
        "environment/libraries",
        "environment/accelerator/name",
        "rows/0/id",
        "rows/0/label",
        "rows/0/workload",
        "rows/0/status",
        "rows/0/metrics",
        "rows/2/reason",
        "rows/0/samples/items_per_sample",
        "rows/0/samples/seconds",
        "rows/0/samples/warmup_seconds",
        "dirty",
    ] {
        refused_by_both(&format!("/{required}"), None);
    }
    for unknown in [
        "/hostname",
        "/environment/user",
        "/environment/accelerator/uuid",
        "/rows/0/mean",
        "/rows/0/samples/mean",
    ] {
        refused_by_both(unknown, Some(json!("x")));
    }
    for (pointer, value) in [
        ("/schema_version", json!(2)),
        ("/schema_version", json!("1")),
        ("/chapter", json!("../x")),
        ("/measurement", json!("A")),
        ("/title", json!("")),
        ("/created_utc", json!("2026-11-21 10:58")),
        ("/created_utc", json!("2026-11-21T10:58:00+01:00")),
        ("/command", json!([])),
        ("/command/0", json!("/usr/bin/x")),
        ("/commit", json!("main")),
        ("/commit", Value::Null),
        ("/dirty", Value::Null),
        ("/dirty", json!("no")),
        ("/depends_on/0", json!("/etc")),
        ("/depends_on/0", json!("../x")),
        ("/depends_on/0", json!("a/..")),
        ("/depends_on/0", json!("")),
        ("/depends_on/0", json!("a\\b")),
        ("/notes/0", json!("  ")),
        ("/environment/cores", json!(0)),
        ("/environment/cores", json!(1.5)),
        ("/environment/memory_bytes", json!(-1)),
        ("/environment/load_at_start", json!([1.0])),
        ("/environment/load_at_start", json!([-1.0, 1.0, 1.0])),
        ("/environment/libraries/libtorch", json!("")),
        ("/environment/rustc", json!("")),
        ("/rows/0/id", json!("")),
        ("/rows/0/status", json!("fine")),
        ("/rows/1/metrics", json!({})),
        ("/rows/1/metrics", json!({"accuracy": "high"})),
        ("/rows/2/reason", Value::Null),
        ("/rows/3/reason", json!("")),
        ("/rows/0/workload/engine", json!(["tch"])),
        ("/rows/0/workload/engine", json!("/home/anne/x")),
        ("/rows/0/samples/items_per_sample", json!(0)),
        ("/rows/0/samples/seconds/0", json!(-1.0)),
        ("/rows/0/samples/seconds/0", Value::Null),
        ("/rows/0/samples/warmup_seconds/0", json!("1")),
    ] {
        refused_by_both(pointer, Some(value));
    }
}

#[test]
fn paths_that_are_fine_are_fine_for_both() {
    let schema = schema();
    for path in [
        "a",
        "a/b.rs",
        ".cargo/config.toml",
        "..a/b",
        "a/...",
        "ci/native.toml",
    ] {
        let mut file = sample::full();
        file.depends_on = vec![path.to_owned()];
        let json = written(&file);
        assert_eq!(complaint(&schema, &json), None, "{path}");
    }
}
