//! Fetching from a server on 127.0.0.1 that answers as the hub does.
//!
//! The hub's way, as hf-hub relies on it: `GET /<repo>/resolve/<revision>/<file>` with
//! `Range: bytes=0-0` tells the commit, the etag and the size; for a large file it is a redirect
//! to a store, and `x-linked-etag` is the SHA-256 of the content.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use datasets::hub::{self, HubError, Location, Weights};
use sha2::{Digest, Sha256};

use crate::child::{self, without_proxy};
use crate::server::{Request, Response, Server, nobody};

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

fn content() -> Vec<u8> {
    (0..100_000_u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn weights(known_hash: bool) -> Weights {
    let content = content();
    Weights {
        repo: String::from("timm/resnet18.tv_in1k"),
        revision: REVISION.to_owned(),
        file: String::from("model.safetensors"),
        bytes: content.len() as u64,
        sha256: known_hash.then(|| hash(&content)),
    }
}

/// The hub's answers: a redirect to the store, and the store's ranges.
fn answer(request: &Request, sent: &[u8], etag: &str, commit: &str) -> Response {
    if request.path.starts_with("/store/") {
        return Response::file(request, sent);
    }
    if request.path != format!("/timm/resnet18.tv_in1k/resolve/{REVISION}/model.safetensors") {
        return Response::status(404);
    }
    let host = &request.headers["host"];
    Response::status(302)
        .header("Location", format!("http://{host}/store/{etag}"))
        .header("X-Repo-Commit", commit)
        .header("X-Linked-Etag", format!("\"{etag}\""))
        .header("X-Linked-Size", sent.len())
        .header("ETag", "\"of-the-pointer\"")
}

fn good_hub() -> Server {
    let (content, etag) = (content(), hash(&content()));
    Server::start(move |request| answer(request, &content, &etag, REVISION))
}

fn location(server: &str, home: &Path) -> Location {
    Location {
        endpoint: server.to_owned(),
        cache: home.join("hub"),
    }
}

fn snapshot(home: &Path) -> PathBuf {
    home.join("hub/models--timm--resnet18.tv_in1k/snapshots")
        .join(REVISION)
        .join("model.safetensors")
}

fn blob(home: &Path) -> PathBuf {
    home.join("hub/models--timm--resnet18.tv_in1k/blobs")
        .join(hash(&content()))
}

#[test]
fn the_pins_are_whole() {
    for arch in ["resnet18", "resnet34", "resnet50"] {
        let weights = hub::imagenet(arch).unwrap();
        assert!(weights.repo.starts_with(&format!("timm/{arch}.")));
        assert_eq!(weights.revision.len(), 40);
        assert_eq!(weights.sha256.unwrap().len(), 64);
    }
    // f32 parameters and running statistics of torchvision's ResNet-18, an i64 counter for each
    // of 20 batch normalisations; the rest is the header.
    let header = hub::imagenet("resnet18").unwrap().bytes - (11_689_512 + 9_600) * 4 - 20 * 8;
    assert!((5_000..20_000).contains(&header));
    assert!(hub::imagenet("resnet101").is_none());
}

#[test]
fn a_good_file_is_fetched_once() {
    without_proxy("hub::a_good_file_is_fetched_once", || {
        let server = good_hub();
        let home = tempfile::tempdir().unwrap();
        let path =
            hub::fetch_from(&weights(true), &location(&server.url(), home.path()), true).unwrap();
        assert_eq!(path, snapshot(home.path()));
        assert_eq!(fs::read(&path).unwrap(), content());
        // Where Python's huggingface_hub would look for it.
        assert_eq!(
            fs::canonicalize(&path).unwrap(),
            fs::canonicalize(blob(home.path())).unwrap()
        );
        assert!(
            server
                .requests()
                .iter()
                .all(|request| !request.headers.contains_key("authorization"))
        );

        // The second call asks nobody.
        let again = hub::fetch_from(&weights(true), &location(&nobody(), home.path()), true);
        assert_eq!(again.unwrap(), path);
        let unknown = hub::fetch_from(&weights(false), &location(&nobody(), home.path()), true);
        assert_eq!(unknown.unwrap(), path);
    });
}

#[test]
fn a_token_of_the_reader_is_not_sent() {
    without_proxy("hub::a_token_of_the_reader_is_not_sent", || {
        let server = good_hub();
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("token"), "hf_secret").unwrap();
        hub::fetch_from(&weights(true), &location(&server.url(), home.path()), true).unwrap();
        for request in server.requests() {
            assert!(
                !request
                    .headers
                    .values()
                    .any(|value| value.contains("hf_secret"))
            );
        }
    });
}

#[test]
fn a_wrong_content_is_refused_and_removed() {
    without_proxy("hub::a_wrong_content_is_refused_and_removed", || {
        for known_hash in [true, false] {
            let mut sent = content();
            sent[777] ^= 1;
            let etag = hash(&content());
            let server = Server::start(move |request| answer(request, &sent, &etag, REVISION));
            let home = tempfile::tempdir().unwrap();
            let place = location(&server.url(), home.path());
            let error = hub::fetch_from(&weights(known_hash), &place, true).unwrap_err();
            assert!(matches!(error, HubError::Hash { .. }), "{error}");
            assert!(error.to_string().contains("--weights FILE"), "{error}");
            assert!(!snapshot(home.path()).exists() && !blob(home.path()).exists());
        }
    });
}

#[test]
fn another_hash_or_size_or_revision_is_refused_before_fetching() {
    without_proxy(
        "hub::another_hash_or_size_or_revision_is_refused_before_fetching",
        || {
            let home = tempfile::tempdir().unwrap();
            let refusal = |sent: Vec<u8>, etag: String, commit: &'static str| {
                let server = Server::start(move |request| answer(request, &sent, &etag, commit));
                let error =
                    hub::fetch_from(&weights(true), &location(&server.url(), home.path()), true)
                        .unwrap_err();
                let whole = server.requests().iter().any(|request| {
                    request.path.starts_with("/store/") && request.headers["range"] != "bytes=0-0"
                });
                assert!(!whole, "fetched before it was refused");
                error
            };
            let error = refusal(content(), hash(b"other"), REVISION);
            assert!(matches!(error, HubError::Hash { .. }), "{error}");
            let error = refusal(vec![1; 10], hash(&content()), REVISION);
            assert!(
                matches!(
                    error,
                    HubError::Size {
                        expected: 400_000,
                        got: 10,
                        ..
                    }
                ),
                "{error}"
            );
            let error = refusal(content(), hash(&content()), "main");
            assert!(matches!(error, HubError::Revision { .. }), "{error}");
            let error = refusal(content(), String::from("../../../evil"), REVISION);
            assert!(matches!(error, HubError::Answer { .. }), "{error}");
        },
    );
}

#[test]
fn a_damaged_cache_is_mended() {
    without_proxy("hub::a_damaged_cache_is_mended", || {
        let server = good_hub();
        let home = tempfile::tempdir().unwrap();
        let place = location(&server.url(), home.path());
        let path = hub::fetch_from(&weights(true), &place, true).unwrap();
        for damage in [b"short".to_vec(), vec![0; content().len()]] {
            fs::write(blob(home.path()), damage).unwrap();
            hub::fetch_from(&weights(true), &place, true).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content());
        }
        // A link whose target somebody deleted to make room.
        fs::remove_file(blob(home.path())).unwrap();
        hub::fetch_from(&weights(true), &place, true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), content());
    });
}

#[test]
fn a_broken_connection_is_told_and_goes_on_later() {
    without_proxy("hub::a_broken_connection_is_told_and_goes_on_later", || {
        let (sent, etag) = (content(), hash(&content()));
        let server = Server::start(move |request| {
            let mut response = answer(request, &sent, &etag, REVISION);
            if request.headers["range"] == "bytes=0-" {
                response.break_after = Some(100_000);
            }
            response
        });
        let home = tempfile::tempdir().unwrap();
        let place = location(&server.url(), home.path());
        let error = hub::fetch_from(&weights(true), &place, true).unwrap_err();
        assert!(matches!(error, HubError::Broken { .. }), "{error}");
        let part = blob(home.path()).with_extension("part");
        let kept = fs::metadata(&part).unwrap().len();
        assert!(kept > 0 && kept <= 100_000);
        hub::fetch_from(&weights(true), &place, true).unwrap();
        let last = server.requests().pop().unwrap();
        assert_eq!(last.headers["range"], format!("bytes={kept}-"));
    });
}

#[test]
fn a_part_that_is_already_whole_does_not_stop_the_fetch() {
    without_proxy(
        "hub::a_part_that_is_already_whole_does_not_stop_the_fetch",
        || {
            let server = good_hub();
            for length in [0, 1] {
                let home = tempfile::tempdir().unwrap();
                let part = blob(home.path()).with_extension("part");
                fs::create_dir_all(part.parent().unwrap()).unwrap();
                fs::write(&part, [content(), vec![9; length]].concat()).unwrap();
                let place = location(&server.url(), home.path());
                hub::fetch_from(&weights(true), &place, true).unwrap();
            }
        },
    );
}

#[test]
fn a_server_without_the_file_is_asked_once() {
    without_proxy("hub::a_server_without_the_file_is_asked_once", || {
        for (status, expected) in [
            (404, "no such file on this server (404)"),
            (503, "got 503"),
            (401, "got 401"),
        ] {
            let server = Server::start(move |_| Response::status(status));
            let home = tempfile::tempdir().unwrap();
            let place = location(&server.url(), home.path());
            let error = hub::fetch_from(&weights(true), &place, true)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(expected) && error.contains("--weights FILE"),
                "{error}"
            );
            assert_eq!(server.requests().len(), 1);
        }
    });
}

#[test]
fn what_is_no_hub_is_told() {
    without_proxy("hub::what_is_no_hub_is_told", || {
        let home = tempfile::tempdir().unwrap();
        let error = |response: Response| {
            let server = Server::start(move |_| response.clone());
            let place = location(&server.url(), home.path());
            let error = hub::fetch_from(&weights(true), &place, true).unwrap_err();
            assert!(
                matches!(error, HubError::Answer { .. } | HubError::Status { .. }),
                "{error}"
            );
            (error.to_string(), server.requests().len())
        };
        let page = Response {
            body: b"<html>".to_vec(),
            ..Response::status(200)
        };
        assert!(
            error(page)
                .0
                .contains("not the answer of a Hugging Face hub")
        );
        assert!(
            error(Response::status(302))
                .0
                .contains("a redirect without a sound address")
        );
        assert!(error(Response::status(304)).0.contains("got 304"));
        let (text, requests) = error(Response::status(307).header("Location", "/again"));
        assert!(text.contains("redirects without an end"), "{text}");
        assert_eq!(requests, 6);
    });
}

#[test]
fn a_renamed_repository_is_followed() {
    without_proxy("hub::a_renamed_repository_is_followed", || {
        let (content, etag) = (content(), hash(&content()));
        let server = Server::start(move |request| {
            let mut moved = request.clone();
            match request.path.strip_prefix("/new") {
                Some(path) => moved.path = path.to_owned(),
                None if request.path.starts_with("/timm/") => {
                    let to = format!("/new{}", request.path);
                    return Response::status(307).header("Location", to);
                }
                None => {}
            }
            answer(&moved, &content, &etag, REVISION)
        });
        let home = tempfile::tempdir().unwrap();
        hub::fetch_from(&weights(true), &location(&server.url(), home.path()), true).unwrap();
    });
}

#[test]
fn an_unreachable_hub_is_told_at_once() {
    without_proxy("hub::an_unreachable_hub_is_told_at_once", || {
        let home = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let place = location(&nobody(), home.path());
        let error = hub::fetch_from(&weights(true), &place, true).unwrap_err();
        assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
        for part in [
            "HF_ENDPOINT",
            "--weights FILE",
            "127.0.0.1",
            "model.safetensors",
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(start.elapsed() < Duration::from_secs(5));
        for endpoint in ["not an address", "ftp://x", "", "http://"] {
            let place = location(endpoint, home.path());
            let error = hub::fetch_from(&weights(true), &place, true).unwrap_err();
            assert!(
                matches!(error, HubError::Endpoint { .. }),
                "{endpoint:?}: {error}"
            );
        }
    });
}

#[test]
fn a_cache_that_cannot_be_written_is_told_before_the_network_is_asked() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("hub"), "a file where a folder should be").unwrap();
    let place = location(&nobody(), home.path());
    let error = hub::fetch_from(&weights(true), &place, true).unwrap_err();
    assert!(matches!(error, HubError::Disk { .. }), "{error}");
    assert!(error.to_string().contains("set HF_HOME"), "{error}");
}

#[test]
fn two_programs_at_once_both_get_the_file() {
    without_proxy("hub::two_programs_at_once_both_get_the_file", || {
        let fetched = Arc::new(AtomicUsize::new(0));
        let (sent, etag, count) = (content(), hash(&content()), Arc::clone(&fetched));
        let server = Server::start(move |request| {
            if request.headers["range"] == "bytes=0-" {
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(300));
            }
            answer(request, &sent, &etag, REVISION)
        });
        let home = tempfile::tempdir().unwrap();
        let place = location(&server.url(), home.path());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| hub::fetch_from(&weights(true), &place, true).unwrap());
            }
        });
        assert_eq!(fs::read(snapshot(home.path())).unwrap(), content());
        assert!(fetched.load(Ordering::SeqCst) >= 1);
    });
}

#[test]
fn hf_home_and_hf_endpoint_are_honoured() {
    if child::is_child() {
        let path = hub::fetch(&weights(true), true).unwrap();
        println!("path: {}", path.display());
        return;
    }
    let server = good_hub();
    let home = tempfile::tempdir().unwrap();
    // With a slash at its end, as people write it.
    let endpoint = format!("{}/", server.url());
    let environment: [(&str, &OsStr); 2] = [
        ("HF_HOME", home.path().as_os_str()),
        ("HF_ENDPOINT", endpoint.as_ref()),
    ];
    let output = child::run(
        "hub::hf_home_and_hf_endpoint_are_honoured",
        &environment,
        None,
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains(&format!("path: {}", snapshot(home.path()).display())),
        "{text}"
    );
    assert!(
        server
            .requests()
            .iter()
            .all(|request| !request.path.starts_with("//"))
    );
}
