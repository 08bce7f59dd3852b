//! A serving folder: whole versions only, and a pointer that never leads elsewhere.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use datasets::serving::{CARD, MODEL, POINTER, ServingError, ServingFolder, check_name};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child;

/// A serving folder, and a place for models beside it.
struct Place {
    dir: TempDir,
    folder: ServingFolder,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = ServingFolder::new(dir.path().join("serving"));
        Place { dir, folder }
    }

    /// The same, with a model that is published as `v1`.
    fn with_v1() -> Self {
        let place = Place::new();
        place.publish("v1", b"one").unwrap();
        place
    }

    fn model(&self, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join("model");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn publish(&self, version: &str, bytes: &[u8]) -> Result<PathBuf, ServingError> {
        let card = json!({"name": version});
        self.folder.publish(version, &self.model(bytes), &card)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The version that is pointed to, and its weights.
    fn served(&self) -> (String, Vec<u8>) {
        let current = self.folder.current().unwrap().expect("a current version");
        (current.version, fs::read(current.model).unwrap())
    }

    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn point(&self, bytes: &[u8]) -> ServingError {
        fs::write(self.path(POINTER), bytes).unwrap();
        self.folder.current().unwrap_err()
    }
}

fn served(version: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    (version.to_owned(), bytes.to_vec())
}

#[test]
fn the_last_published_model_is_the_current_one() {
    let place = Place::new();
    let folder = place.publish("v1", b"one").unwrap();
    assert_eq!(folder, place.path("v1"));
    assert_eq!(place.served(), served("v1", b"one"));
    place.publish("v2", b"two").unwrap();
    assert_eq!(place.served(), served("v2", b"two"));

    assert_eq!(fs::read(place.path(POINTER)).unwrap(), b"v2\n");
    assert_eq!(place.entries(), ["current", "v1", "v2"]);
    let current = place.folder.current().unwrap().unwrap();
    assert_eq!(current.model, place.path("v2").join(MODEL));
    let card: Value = serde_json::from_slice(&fs::read(current.card).unwrap()).unwrap();
    assert_eq!(card, json!({"name": "v2"}));
}

#[test]
fn an_older_version_can_be_pointed_to_and_one_that_is_not_there_cannot() {
    let place = Place::with_v1();
    place.publish("v2", b"two").unwrap();
    place.folder.point_to("v1").unwrap();
    assert_eq!(place.served(), served("v1", b"one"));
    let error = place.folder.point_to("v3").unwrap_err();
    assert!(matches!(error, ServingError::Missing { .. }), "{error}");
    let error = place.folder.point_to("../v2").unwrap_err();
    assert!(matches!(error, ServingError::Version { .. }), "{error}");
    assert_eq!(place.served(), served("v1", b"one"));
}

#[test]
fn a_version_never_changes() {
    let place = Place::with_v1();
    place.publish("v2", b"two").unwrap();
    // The same weights: pointed to again, with the card that it has.
    let model = place.model(b"one");
    let other = json!({"name": "another card"});
    place.folder.publish("v1", &model, &other).unwrap();
    assert_eq!(place.served(), served("v1", b"one"));
    let card = fs::read_to_string(place.path("v1").join(CARD)).unwrap();
    assert!(card.contains("\"v1\""), "{card}");

    place.folder.point_to("v2").unwrap();
    let error = place.publish("v1", b"other").unwrap_err();
    assert!(matches!(error, ServingError::Taken { .. }), "{error}");
    assert!(error.to_string().contains("choose another name"), "{error}");
    assert_eq!(place.served(), served("v2", b"two"));
    assert_eq!(fs::read(place.path("v1").join(MODEL)).unwrap(), b"one");
}

#[test]
fn nothing_published_is_no_error_and_no_folder_is_one() {
    let place = Place::new();
    let error = place.folder.current().unwrap_err();
    assert!(matches!(error, ServingError::NotFound { .. }), "{error}");
    fs::create_dir(place.folder.path()).unwrap();
    assert_eq!(place.folder.current().unwrap(), None);
    let file = ServingFolder::new(place.model(b"one"));
    let error = file.current().unwrap_err().to_string();
    assert!(
        error.contains("expected a folder of published models, got a file"),
        "{error}"
    );
}

#[test]
fn names_that_could_lead_elsewhere_are_refused() {
    let long = "x".repeat(128);
    for good in ["v1", "2026-11-21T10-00", "a.b_c-D", "-", long.as_str()] {
        check_name(good).unwrap();
    }
    let longer = "x".repeat(129);
    let bad = [
        "", ".", "..", ".v1", "../v1", "/v1", "a/b", "a\\b", "v 1", "v1\n", "v\0", "ä", "current",
        "CURRENT", &longer,
    ];
    let place = Place::new();
    for name in bad {
        let error = place.publish(name, b"one").unwrap_err();
        assert!(matches!(error, ServingError::Version { .. }), "{name:?}");
    }
    assert!(!place.folder.path().exists(), "something was written");
}

#[test]
fn a_bad_pointer_is_told_with_what_it_holds() {
    let place = Place::with_v1();
    let cases: [(&[u8], &str); 11] = [
        (b"", "got an empty file"),
        (b"\n", "got \"\\n\""),
        (b"v1", "got \"v1\""),
        (b"v1\n\n", "got \"v1\\n\\n\""),
        (b"v1\r\n", "got \"v1\\r\\n\""),
        (b"../x\n", "got \"../x\\n\""),
        (b"/etc\n", "got \"/etc\\n\""),
        (b".\n", "got \".\\n\""),
        (b"current\n", "got \"current\\n\""),
        (b"\xff\xfe\n", "got bytes that are not UTF-8"),
        (&[b'v'; 1000], "got more than 129 bytes"),
    ];
    for (bytes, said) in cases {
        let error = place.point(bytes);
        assert!(matches!(error, ServingError::Pointer { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
        assert!(error.to_string().contains("publish a model"), "{error}");
    }
    let error = place.point(b"v9\n");
    assert!(matches!(error, ServingError::Missing { .. }), "{error}");
    // The longest name there may be.
    let name = "x".repeat(128);
    place.publish(&name, b"long").unwrap();
    assert_eq!(place.served(), served(&name, b"long"));
}

#[test]
fn a_version_that_is_not_whole_is_refused() {
    let place = Place::with_v1();
    for (name, file) in [("no-model", CARD), ("no-card", MODEL)] {
        fs::create_dir(place.path(name)).unwrap();
        fs::write(place.path(name).join(file), "{}").unwrap();
        let error = place.folder.point_to(name).unwrap_err();
        assert!(matches!(error, ServingError::Missing { .. }), "{error}");
        let error = place.publish(name, b"{}").unwrap_err();
        assert!(matches!(error, ServingError::Missing { .. }), "{error}");
    }
    fs::write(place.path("a-file"), "").unwrap();
    let error = place.point(b"a-file\n");
    assert!(matches!(error, ServingError::Kind { .. }), "{error}");
    let folder = place.path("folders");
    fs::create_dir_all(folder.join(MODEL)).unwrap();
    let error = place.point(b"folders\n");
    assert!(error.to_string().contains("got a folder"), "{error}");
    fs::remove_file(place.path(POINTER)).unwrap();
    fs::create_dir(place.path(POINTER)).unwrap();
    let error = place.folder.current().unwrap_err();
    assert!(error.to_string().contains("got a folder"), "{error}");
    place.folder.point_to("v1").unwrap_err();
}

#[cfg(unix)]
#[test]
fn links_are_followed_inside_the_folder_only() {
    use std::os::unix::fs::symlink;
    let place = Place::with_v1();
    let elsewhere = Place::with_v1();

    symlink("v1", place.path("inside")).unwrap();
    place.folder.point_to("inside").unwrap();
    assert_eq!(place.served(), served("inside", b"one"));

    symlink(elsewhere.path("v1"), place.path("outside")).unwrap();
    fs::create_dir(place.path("file-outside")).unwrap();
    for file in [MODEL, CARD] {
        let link = place.path("file-outside").join(file);
        symlink(elsewhere.path("v1").join(file), link).unwrap();
    }
    for name in ["outside", "file-outside"] {
        let error = place.point(format!("{name}\n").as_bytes());
        assert!(matches!(error, ServingError::Outside { .. }), "{error}");
    }
    symlink("turning", place.path("turning")).unwrap();
    let error = place.point(b"turning\n");
    assert!(matches!(error, ServingError::Read { .. }), "{error}");

    fs::remove_file(place.path(POINTER)).unwrap();
    symlink(elsewhere.path(POINTER), place.path(POINTER)).unwrap();
    let error = place.folder.current().unwrap_err();
    assert!(error.to_string().contains("got a link"), "{error}");
}

#[test]
fn what_is_no_model_and_no_card_is_refused_before_anything_is_written() {
    let place = Place::new();
    let model = place.model(b"one");
    for (card, got) in [
        (json!(null), "null"),
        (json!([1]), "an array"),
        (json!("x"), "a text"),
        (json!(1), "a number"),
        (json!(true), "true or false"),
    ] {
        let error = place.folder.publish("v1", &model, &card).unwrap_err();
        assert!(error.to_string().contains(got), "{error}");
    }
    let card = json!({});
    let error = place.folder.publish("v1", Path::new("no/such"), &card);
    assert!(
        matches!(error, Err(ServingError::NotFound { .. })),
        "{error:?}"
    );
    let error = place.folder.publish("v1", place.dir.path(), &card);
    assert!(matches!(error, Err(ServingError::Kind { .. })), "{error:?}");
    assert!(!place.folder.path().exists());
}

#[test]
fn what_a_dead_publisher_left_is_passed_over_and_swept_after_a_day() {
    let place = Place::with_v1();
    for name in [".publishing-old", ".publishing-new", ".swept-before"] {
        fs::create_dir(place.path(name)).unwrap();
        fs::write(place.path(name).join(MODEL), "half").unwrap();
    }
    let yesterday = SystemTime::now() - Duration::from_secs(25 * 60 * 60);
    let old = File::open(place.path(".publishing-old")).unwrap();
    old.set_modified(yesterday).unwrap();
    assert_eq!(place.served(), served("v1", b"one"));
    let error = place.point(b".publishing-old\n");
    assert!(matches!(error, ServingError::Pointer { .. }), "{error}");
    place.publish("v2", b"two").unwrap();
    // Of the younger one, its publisher may live.
    assert_eq!(place.entries(), [".publishing-new", "current", "v1", "v2"]);
}

#[test]
fn a_place_that_cannot_be_written_is_told() {
    let place = Place::new();
    // A file where a folder should be: refused for root, too.
    fs::write(place.folder.path(), "").unwrap();
    let error = place.publish("v1", b"one").unwrap_err();
    assert!(matches!(error, ServingError::Write { .. }), "{error}");
    assert_eq!(fs::read(place.folder.path()).unwrap(), b"");
}

#[cfg(unix)]
#[test]
fn a_folder_without_permission_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with_v1();
    let set = |mode| {
        fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(mode)).unwrap();
    };
    set(0o555);
    let root = File::create(place.path("probe")).is_ok();
    let error = place.publish("v2", b"two");
    set(0o755);
    if root {
        // Permissions do not hold back root.
        return;
    }
    let error = error.unwrap_err();
    assert!(matches!(error, ServingError::Write { .. }), "{error}");
    assert!(
        error.to_string().contains("that you may write to"),
        "{error}"
    );
    assert_eq!(place.served(), served("v1", b"one"));
}

/// A limit on the size of files stands for a full disk: the copy fails half-way.
#[cfg(unix)]
#[test]
fn a_full_disk_is_told_and_leaves_the_old_version() {
    if child::is_child() {
        let dir = PathBuf::from(std::env::var_os("PLACE").unwrap());
        let folder = ServingFolder::new(dir.join("serving"));
        let error = folder.publish("v2", &dir.join("model"), &json!({}));
        println!("error: {}", error.unwrap_err());
        return;
    }
    let place = Place::with_v1();
    place.model(&vec![0; 1 << 20]);
    let test = "serving::a_full_disk_is_told_and_leaves_the_old_version";
    let environment: [(&str, &OsStr); 1] = [("PLACE", place.dir.path().as_os_str())];
    let output = child::run(test, &environment, Some(64));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("cannot publish"), "{text}");
    assert!(text.contains("File too large"), "{text}");
    assert_eq!(place.served(), served("v1", b"one"));
    assert_eq!(place.entries(), ["current", "v1"]);
}

#[test]
fn publishers_at_once_leave_whole_versions_and_readers_see_no_half() {
    let place = Place::with_v1();
    let bytes = |version: &str| version.repeat(100_000).into_bytes();
    place.publish("v0", &bytes("v0")).unwrap();
    let names = ["v2", "v3", "v4"];
    let models: Vec<PathBuf> = names
        .map(|name| {
            let path = place.dir.path().join(name);
            fs::write(&path, bytes(name)).unwrap();
            path
        })
        .into();
    thread::scope(|scope| {
        let mut publishers = vec![];
        // Two of each: both find nothing there, and one comes too late.
        for (name, model) in names.iter().zip(&models).chain(names.iter().zip(&models)) {
            publishers.push(scope.spawn(|| {
                for _ in 0..20 {
                    place.folder.publish(name, model, &json!({})).unwrap();
                }
            }));
        }
        while publishers.iter().any(|publisher| !publisher.is_finished()) {
            let (version, model) = place.served();
            assert_eq!(model, bytes(&version), "{version} is not whole");
        }
    });
    assert_eq!(place.entries(), ["current", "v0", "v1", "v2", "v3", "v4"]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256, failure_persistence: None, ..ProptestConfig::default()
    })]
    #[test]
    fn whatever_the_pointer_holds_nothing_outside_is_named(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        name in "[./A-Za-z0-9_\\-\\\\]{0,12}",
    ) {
        let place = Place::with_v1();
        for pointer in [bytes, format!("{name}\n").into_bytes()] {
            fs::write(place.path(POINTER), pointer).unwrap();
            if let Ok(Some(current)) = place.folder.current() {
                prop_assert_eq!(current.version, "v1");
            }
        }
    }
}
