//! Fetching from a server on 127.0.0.1: a small archive in the real one's form.

use std::fs;
use std::io::Write;
use std::path::Path;

use datasets::cifar10::{self, Archive, FetchError, fetch_archive};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::child::without_proxy;
use crate::cifar10::files;
use crate::server::{Response, Server, nobody};

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A tar.gz of regular files; names are written as they are, also those that tar refuses.
fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    tar_gz(
        files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice(), b'0')),
    )
}

fn tar_gz<'a>(entries: impl Iterator<Item = (&'a str, &'a [u8], u8)>) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, bytes, kind) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(if kind == b'0' { bytes.len() as u64 } else { 0 });
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::new(kind));
        if kind == b'2' {
            header.set_link_name("/etc").unwrap();
        }
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        if kind == b'0' {
            tar.extend_from_slice(bytes);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
    }
    tar.resize(tar.len() + 1024, 0);
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(&tar).unwrap();
    gz.finish().unwrap()
}

/// The small data set, noise added so that it does not shrink to nothing.
fn good() -> Vec<u8> {
    let mut files = files();
    for (name, _) in &mut files {
        *name = format!("cifar-10-batches-bin/{name}");
    }
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let readme = noise.take(50_000).collect();
    files.insert(
        0,
        (String::from("cifar-10-batches-bin/readme.html"), readme),
    );
    archive(&files)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn fetch(url: &str, content: &[u8], dest: &Path) -> Result<std::path::PathBuf, FetchError> {
    let hash = hash(content);
    fetch_archive(
        &Archive {
            url,
            bytes: content.len() as u64,
            sha256: &hash,
        },
        dest,
        true,
    )
}

#[test]
fn the_pins_are_whole() {
    let official = cifar10::OFFICIAL;
    assert_eq!(official.sha256.len(), 64);
    assert!(official.url.starts_with("https://"));
}

#[test]
fn a_good_archive_is_fetched_once() {
    without_proxy("cifar10_fetch::a_good_archive_is_fetched_once", || {
        let content = good();
        let body = content.clone();
        let server = Server::start(move |request| Response::file(request, &body));
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("new/data");
        let folder = fetch(&server.url(), &content, &dest).unwrap();
        assert_eq!(folder, dest.join("cifar-10-batches-bin"));
        let (train, test) = cifar10::read_folder(&folder).unwrap();
        assert_eq!((train.len(), test.len()), (10, 3));
        assert_eq!(names(&dest), [".cifar-10.lock", "cifar-10-batches-bin"]);
        assert_eq!(server.requests().len(), 1);

        // The second call asks nobody.
        fetch(&nobody(), &content, &dest).unwrap();
        // A file that was lost is brought again.
        fs::remove_file(folder.join("test_batch.bin")).unwrap();
        fetch(&server.url(), &content, &dest).unwrap();
        assert!(folder.join("test_batch.bin").is_file());
    });
}

#[test]
fn an_interrupted_fetch_goes_on_where_it_stopped() {
    without_proxy(
        "cifar10_fetch::an_interrupted_fetch_goes_on_where_it_stopped",
        || {
            let content = good();
            let body = content.clone();
            let server = Server::start(move |request| {
                let mut response = Response::file(request, &body);
                if !request.headers.contains_key("range") {
                    response.break_after = Some(20_000);
                }
                response
            });
            let dir = tempfile::tempdir().unwrap();
            let error = fetch(&server.url(), &content, dir.path()).unwrap_err();
            assert!(matches!(error, FetchError::Network { .. }), "{error}");
            assert!(error.to_string().contains("goes on from there"), "{error}");
            let part = dir.path().join("cifar-10-binary.tar.gz.part");
            let kept = fs::metadata(&part).unwrap().len();
            assert!(kept > 0 && kept <= 20_000);

            fetch(&server.url(), &content, dir.path()).unwrap();
            let requests = server.requests();
            assert_eq!(requests.len(), 2);
            assert_eq!(requests[1].headers["range"], format!("bytes={kept}-"));
        },
    );
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    without_proxy(
        "cifar10_fetch::a_server_without_ranges_sends_all_again",
        || {
            let content = good();
            let body = content.clone();
            let server = Server::start(move |_| Response {
                body: body.clone(),
                ..Response::status(200)
            });
            let dir = tempfile::tempdir().unwrap();
            fs::write(
                dir.path().join("cifar-10-binary.tar.gz.part"),
                b"from elsewhere",
            )
            .unwrap();
            fetch(&server.url(), &content, dir.path()).unwrap();
        },
    );
}

#[test]
fn a_tampered_file_is_refused_and_removed() {
    without_proxy(
        "cifar10_fetch::a_tampered_file_is_refused_and_removed",
        || {
            let content = good();
            let mut body = content.clone();
            body[1000] ^= 1;
            let server = Server::start(move |request| Response::file(request, &body));
            let dir = tempfile::tempdir().unwrap();
            let error = fetch(&server.url(), &content, dir.path()).unwrap_err();
            assert!(matches!(error, FetchError::Hash { .. }), "{error}");
            assert!(error.to_string().contains(&hash(&content)), "{error}");
            assert_eq!(names(dir.path()), [".cifar-10.lock"]);

            // So is one that lies there already, put by hand.
            fs::write(dir.path().join("cifar-10-binary.tar.gz"), b"something else").unwrap();
            let error = fetch(&nobody(), &content, dir.path()).unwrap_err();
            assert!(matches!(error, FetchError::Size { got: 14, .. }), "{error}");
            assert_eq!(names(dir.path()), [".cifar-10.lock"]);
        },
    );
}

#[test]
fn a_good_archive_put_by_hand_needs_no_network() {
    let content = good();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cifar-10-binary.tar.gz"), &content).unwrap();
    let folder = fetch(&nobody(), &content, dir.path()).unwrap();
    cifar10::read_folder(&folder).unwrap();
    // A part that was complete when the program was stopped is as good.
    fs::remove_dir_all(&folder).unwrap();
    fs::write(dir.path().join("cifar-10-binary.tar.gz.part"), &content).unwrap();
    fetch(&nobody(), &content, dir.path()).unwrap();
}

#[test]
fn an_endless_body_does_not_fill_the_disk() {
    without_proxy(
        "cifar10_fetch::an_endless_body_does_not_fill_the_disk",
        || {
            let content = good();
            let server = Server::start(|_| Response {
                body: vec![0; 5_000_000],
                ..Response::status(200)
            });
            let dir = tempfile::tempdir().unwrap();
            let error = fetch(&server.url(), &content, dir.path()).unwrap_err();
            assert!(matches!(error, FetchError::Size { .. }), "{error}");
            assert_eq!(names(dir.path()), [".cifar-10.lock"]);
        },
    );
}

#[test]
fn a_server_that_has_it_not_or_is_not_there_is_told() {
    without_proxy(
        "cifar10_fetch::a_server_that_has_it_not_or_is_not_there_is_told",
        || {
            let content = good();
            let server = Server::start(|_| Response::status(404));
            let dir = tempfile::tempdir().unwrap();
            let error = fetch(&server.url(), &content, dir.path()).unwrap_err();
            assert!(
                matches!(error, FetchError::Status { status: 404, .. }),
                "{error}"
            );
            assert_eq!(server.requests().len(), 1);
            let error = fetch(&nobody(), &content, dir.path()).unwrap_err();
            assert!(matches!(error, FetchError::Network { .. }), "{error}");
            let error = fetch("no address", &content, dir.path()).unwrap_err();
            assert!(matches!(error, FetchError::Network { .. }), "{error}");
        },
    );
}

#[test]
fn entries_outside_the_folder_are_refused() {
    let cases: [(&str, u8); 6] = [
        ("../evil.bin", b'0'),
        ("/tmp/evil.bin", b'0'),
        ("cifar-10-batches-bin/../../evil.bin", b'0'),
        ("elsewhere/data_batch_1.bin", b'0'),
        ("cifar-10-batches-bin/link", b'2'),
        ("cifar-10-batches-bin/device", b'3'),
    ];
    for (name, kind) in cases {
        let content = tar_gz([(name, &b"x"[..], kind)].into_iter());
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("data");
        fs::create_dir(&dest).unwrap();
        fs::write(dest.join("cifar-10-binary.tar.gz"), &content).unwrap();
        let error = fetch(&nobody(), &content, &dest).unwrap_err();
        assert!(matches!(error, FetchError::Entry { .. }), "{name}: {error}");
        assert_eq!(names(dir.path()), ["data"]);
        assert_eq!(names(&dest), [".cifar-10.lock", "cifar-10-binary.tar.gz"]);
    }
}

#[test]
fn an_incomplete_or_broken_archive_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cifar-10-binary.tar.gz");
    let some = archive(&[(String::from("cifar-10-batches-bin/test_batch.bin"), vec![1])]);
    fs::write(&path, &some).unwrap();
    let error = fetch(&nobody(), &some, dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("expected data_batch_1.bin, data_batch_2.bin"),
        "{error}"
    );

    let cut = &good()[..30_000];
    fs::write(&path, cut).unwrap();
    let error = fetch(&nobody(), cut, dir.path()).unwrap_err();
    assert!(matches!(error, FetchError::Disk { .. }), "{error}");
}

#[test]
fn a_destination_that_cannot_be_a_folder_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = fetch(&nobody(), b"x", &file).unwrap_err().to_string();
    assert!(error.contains("cannot make the folder"), "{error}");
}
