//! Addresses, environments, and errors that keep secrets.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use object_store::RetryConfig;
use tpu_training::store::{
    AddressProblem, Environment, ObjectFolder, ObjectUrl, Place, RemoteKind, Scheme, Store,
    StoreError,
};

use crate::server;

fn url(text: &str) -> ObjectUrl {
    match Place::parse(text).unwrap() {
        Place::Objects(url) => url,
        Place::Local(path) => panic!("{}", path.display()),
    }
}

/// Of each request one attempt, so that a test does not wait.
fn once() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        retry_timeout: Duration::from_secs(5),
        ..RetryConfig::default()
    }
}

fn connect(url: &ObjectUrl, variables: &[(&str, &str)]) -> Result<ObjectFolder, StoreError> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    ObjectFolder::connect_with(url, &Environment::new(url.scheme, variables), once())
}

/// The kind of a remote error, after looking that it names its URL.
#[track_caller]
fn remote(error: &StoreError, url: &str) -> RemoteKind {
    match error {
        StoreError::Remote { kind, .. } => {
            assert!(
                error.to_string().starts_with(&format!("{url}: cannot ")),
                "{error}"
            );
            *kind
        }
        _ => panic!("{error}"),
    }
}

#[test]
fn places_are_told_apart() {
    for path in [
        "run",
        "./s3",
        "/tmp/a b",
        "results-local/03/gs",
        "a:b",
        "C:\\run",
    ] {
        assert_eq!(
            Place::parse(path).unwrap(),
            Place::Local(PathBuf::from(path))
        );
    }
    for (text, scheme, bucket, prefix) in [
        ("gs://bucket/run", Scheme::Gs, "bucket", "run"),
        (
            "s3://my.bucket-1/runs/a/",
            Scheme::S3,
            "my.bucket-1",
            "runs/a",
        ),
        ("s3://bucket", Scheme::S3, "bucket", ""),
        ("s3://bucket/", Scheme::S3, "bucket", ""),
    ] {
        let expected = ObjectUrl {
            scheme,
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        assert_eq!(url(text), expected);
        assert_eq!(
            Place::parse(text).unwrap().to_string(),
            text.trim_end_matches('/')
        );
    }
    let joined = |text: &str| Place::parse(text).unwrap().join("a/b").to_string();
    assert_eq!(joined("gs://bucket/run"), "gs://bucket/run/a/b");
    assert_eq!(joined("gs://bucket"), "gs://bucket/a/b");
    assert_eq!(joined("run"), "run/a/b");
}

#[test]
fn other_addresses_are_refused() {
    for (text, expected) in [
        ("", AddressProblem::Empty),
        ("s3:/bucket/run", AddressProblem::Slashes),
        ("gs:bucket", AddressProblem::Slashes),
        ("http://bucket/run", AddressProblem::Scheme),
        ("S3://bucket/run", AddressProblem::Scheme),
        ("s3:///run", AddressProblem::Bucket),
        ("gs://", AddressProblem::Bucket),
        ("gs://buck et/run", AddressProblem::Bucket),
        ("gs://bucket:443/run", AddressProblem::Bucket),
        ("gs://bucket/a//b", AddressProblem::Prefix),
        ("gs://bucket/a/../b", AddressProblem::Prefix),
        ("gs://bucket/./b", AddressProblem::Prefix),
        ("s3://bucket/run?versionId=3", AddressProblem::Query),
    ] {
        let error = text.parse::<Place>().unwrap_err();
        let StoreError::Address { problem, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*problem, expected, "{text}");
        assert!(error.to_string().contains("gs://BUCKET/PREFIX"), "{error}");
    }
}

#[test]
fn an_address_with_credentials_is_not_repeated() {
    for text in [
        "s3://AKIAIOSFODNN7:hush-hush@bucket/run",
        "s3://hush-hush@bucket",
        "https://user:hush-hush@host/run",
        "s3://bucket/run?X-Amz-Security-Token=hush-hush",
        "gs://bucket/run#hush-hush",
    ] {
        let error = Place::parse(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
    }
}

#[test]
fn only_the_variables_of_the_store_reach_it() {
    let environment = |scheme| {
        let variables = ["AWS_REGION", "REGION", "TOKEN", "GOOGLE_BASE_URL", "XAWS_A"]
            .map(|name| (name.to_owned(), String::from("a secret value")));
        format!("{:?}", Environment::new(scheme, variables))
    };
    // Names in `Debug`, never values.
    assert_eq!(environment(Scheme::S3), "[\"aws_region\"]");
    assert_eq!(environment(Scheme::Gs), "[\"google_base_url\"]");
}

#[test]
fn nobody_answers() {
    // Port 1 of this machine: refused at once.
    let closed = "http://127.0.0.1:1";
    let s3 = connect(
        &url("s3://bucket/run"),
        &[
            ("AWS_ENDPOINT", closed),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "name-of-key"),
            ("AWS_SECRET_ACCESS_KEY", "hush-hush"),
        ],
    )
    .unwrap();
    let gs = connect(
        &url("gs://bucket/run"),
        &[
            ("GOOGLE_BASE_URL", closed),
            ("GOOGLE_BEARER_TOKEN", "hush-hush"),
        ],
    )
    .unwrap();
    for (store, address) in [(s3, "s3://bucket/run"), (gs, "gs://bucket/run")] {
        let error = store.prepare().unwrap_err();
        assert_eq!(remote(&error, address), RemoteKind::Connection, "{error}");
        assert!(
            error.to_string().contains("look at the connection"),
            "{error}"
        );
        let error = store.read("step-00000001/state.json").unwrap_err();
        remote(&error, &format!("{address}/step-00000001/state.json"));
        assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
    }
}

/// What Amazon's servers say to a wrong signature: they repeat what was signed.
fn refusal(headers: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SignatureDoesNotMatch</Code>\
         <Message>The signature does not match (hush-hush-secret).</Message>\
         <CanonicalRequest>{headers}</CanonicalRequest></Error>"
    )
}

#[test]
fn a_refusal_says_which_variables_to_set_and_keeps_their_values() {
    let address = server::start(|headers| (String::from("403 Forbidden"), refusal(headers)));
    let store = connect(
        &url("s3://bucket/run"),
        &[
            ("AWS_ENDPOINT", &address),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "name-of-key"),
            ("AWS_SECRET_ACCESS_KEY", "hush-hush-secret"),
            ("AWS_SESSION_TOKEN", "hush-hush-session"),
        ],
    )
    .unwrap();
    for error in [
        store.folders().unwrap_err(),
        store.read("file").unwrap_err(),
        store.write("file", b"content").unwrap_err(),
    ] {
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hush"), "{text}");
        assert!(
            text.contains("SignatureDoesNotMatch The signature does not match ([secret])"),
            "{text}"
        );
        let StoreError::Remote { kind, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*kind, RemoteKind::Credentials, "{error}");
        assert!(text.contains("set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION"));
    }
}

#[test]
fn other_refusals_are_told_apart() {
    let body = |code: &str| format!("<Error><Code>{code}</Code><Message>No.</Message></Error>");
    for (status, code, expected) in [
        ("403 Forbidden", "AccessDenied", RemoteKind::Permission),
        (
            "403 Forbidden",
            "InvalidAccessKeyId",
            RemoteKind::Credentials,
        ),
        ("404 Not Found", "NoSuchBucket", RemoteKind::Bucket),
        (
            "301 Moved Permanently",
            "PermanentRedirect",
            RemoteKind::Bucket,
        ),
        ("401 Unauthorized", "Unauthorized", RemoteKind::Credentials),
        ("503 Slow Down", "SlowDown", RemoteKind::Connection),
    ] {
        let answer = body(code);
        let address = server::start(move |_| (status.to_owned(), answer.clone()));
        let store = connect(
            &url("s3://bucket/run"),
            &[
                ("AWS_ENDPOINT", &address),
                ("AWS_ALLOW_HTTP", "true"),
                ("AWS_ACCESS_KEY_ID", "x"),
                ("AWS_SECRET_ACCESS_KEY", "x"),
            ],
        )
        .unwrap();
        let error = store.folders().unwrap_err();
        assert_eq!(
            remote(&error, "s3://bucket/run"),
            expected,
            "{status}: {error}"
        );
    }
}

#[test]
fn a_run_that_may_not_write_is_told_before_it_begins() {
    let writes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&writes);
    let address = server::start(move |headers| {
        if headers.starts_with("GET") {
            let listing = "<ListBucketResult><Name>bucket</Name></ListBucketResult>";
            return (String::from("200 OK"), listing.to_owned());
        }
        counted.fetch_add(1, Ordering::Relaxed);
        (String::from("503 Slow Down"), String::new())
    });
    let variables = [
        ("AWS_ENDPOINT", address.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let url = url("s3://bucket/run");
    let environment = Environment::new(url.scheme, variables);
    let patient = RetryConfig::default();
    assert_eq!(patient.max_retries, 10);
    let store = ObjectFolder::connect_with(&url, &environment, patient).unwrap();
    let error = store.prepare().unwrap_err();
    assert_eq!(
        remote(&error, "s3://bucket/run/.write-check"),
        RemoteKind::Connection
    );
    // One attempt and three more, not ten.
    assert_eq!(writes.load(Ordering::Relaxed), 4);
}

#[test]
fn settings_that_make_no_sense_are_told_at_once() {
    let place = url("gs://bucket/run");
    let error = connect(&place, &[("GOOGLE_SERVICE_ACCOUNT", "/no/such/key.json")])
        .err()
        .unwrap();
    assert_eq!(remote(&error, "gs://bucket/run"), RemoteKind::Setting);
    assert!(error.to_string().contains("GOOGLE_*"), "{error}");
    let error = connect(
        &url("s3://bucket/run"),
        &[
            ("AWS_ALLOW_HTTP", "perhaps"),
            ("AWS_PROFILE", "is not ours"),
        ],
    )
    .err()
    .unwrap();
    assert_eq!(remote(&error, "s3://bucket/run"), RemoteKind::Setting);
}
