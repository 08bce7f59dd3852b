//! ImageNet weights from the Hugging Face hub: pinned by revision, verified, fetched once.
//!
//! The crate `hf-hub` does the fetching, so that its cache is the one that Python's
//! `huggingface_hub` and every other program uses, and that `HF_ENDPOINT` (a mirror) and
//! `HF_HOME` (where the cache is) keep their meaning. What it leaves open is done here: a time
//! limit for a server that does not answer, the pinned revision, the content's hash, what to do
//! about a damaged cache, and errors that say how to go on without the network.
//!
//! No token is sent: these weights are public, and a mirror should not get a reader's secret.

mod cache;
mod error;
mod probe;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use accel::progress::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

pub use error::HubError;

use crate::sha256::is_sha256;

/// A file on the hub, at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// Repository, such as `timm/resnet50.tv_in1k`.
    pub repo: String,
    /// Commit of the repository: 40 hexadecimal digits. A branch's name would be no pin.
    pub revision: String,
    /// File in the repository.
    pub file: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256, where it is known.
    pub sha256: Option<String>,
}

/// The ImageNet weights of an architecture: `resnet18`, `resnet34` or `resnet50`.
///
/// torchvision's first weights (`IMAGENET1K_V1`, BSD 3-Clause) as timm republishes them in
/// safetensors, with torchvision's names. `None` for any other architecture.
///
/// Source of revision, size and hash: the pins of rktorch (`vision/weights.rkt`), a project that
/// fetches the same files. For ResNet-18 and ResNet-50 other projects state the same hash; for
/// ResNet-34 we found no second source. The hub sends the hash, too, and [`fetch`] compares
/// before it fetches: a wrong pin is an error that names both.
pub fn imagenet(arch: &str) -> Option<Weights> {
    let (repo, revision, bytes, sha256) = match arch {
        "resnet18" => (
            "timm/resnet18.tv_in1k",
            "bbd144b3e5565108aad885f145491d11bc6ce807",
            46_807_446,
            "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
        ),
        "resnet34" => (
            "timm/resnet34.tv_in1k",
            "1b7b21cca82ff974d341713f777bf740c2db38c4",
            87_278_522,
            "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
        ),
        "resnet50" => (
            "timm/resnet50.tv_in1k",
            "78f3ecfdb38e06d9b8397f662e7ab8fee96026fa",
            102_469_840,
            "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
        ),
        _ => return None,
    };
    Some(Weights {
        repo: repo.to_owned(),
        revision: revision.to_owned(),
        file: String::from("model.safetensors"),
        bytes,
        sha256: Some(sha256.to_owned()),
    })
}

/// Where the hub and its cache are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Address of the hub or of a mirror, without a slash at its end.
    pub endpoint: String,
    /// The cache: the folder `hub` in `HF_HOME`.
    pub cache: PathBuf,
}

impl Location {
    /// From `HF_ENDPOINT` and `HF_HOME`, else `https://huggingface.co` and
    /// `~/.cache/huggingface`, as `huggingface_hub` does. Empty variables count as not set.
    ///
    /// # Errors
    /// [`HubError::NoHome`] if neither `HF_HOME` nor a home folder is known.
    pub fn from_env() -> Result<Self, HubError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = match variable("HF_HOME") {
            Some(path) => PathBuf::from(path),
            None => std::env::home_dir()
                .filter(|home| !home.as_os_str().is_empty())
                .ok_or(HubError::NoHome)?
                .join(".cache/huggingface"),
        };
        let endpoint = match variable("HF_ENDPOINT") {
            Some(address) => address.to_string_lossy().trim_end_matches('/').to_owned(),
            None => String::from("https://huggingface.co"),
        };
        Ok(Self {
            endpoint,
            cache: home.join("hub"),
        })
    }
}

/// The path of the weights on this machine: from the cache, else fetched into it.
///
/// * `quiet`: show no progress
///
/// What is in the cache needs no network. The content is verified each time, fetched or not (a
/// hash of 100 MB takes a fraction of a second): against the known SHA-256, else against the
/// one that the hub sent. A damaged file in the cache is removed and fetched again, once.
///
/// # Errors
/// [`HubError`]; every message says how to give a file instead (`--weights FILE`).
pub fn fetch(weights: &Weights, quiet: bool) -> Result<PathBuf, HubError> {
    fetch_from(weights, &Location::from_env()?, quiet)
}

/// [`fetch`] from a given place, whatever the environment says.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_from(
    weights: &Weights,
    location: &Location,
    quiet: bool,
) -> Result<PathBuf, HubError> {
    let progress = Progress::new(Some(weights.bytes), "bytes", quiet);
    let cache = Cache::new(location.cache.clone());
    let repo = Repo::with_revision(
        weights.repo.clone(),
        RepoType::Model,
        weights.revision.clone(),
    );
    let cached = cache.repo(repo.clone());
    // Not `CacheRepo::get`: it looks for a name in `refs/`, which Python does not write for a
    // revision that is a commit.
    let pointer = cached.pointer_path(&weights.revision).join(&weights.file);
    if pointer.is_file() {
        match cache::verify(weights, &pointer) {
            Ok(()) => return Ok(pointer),
            Err(error @ HubError::Disk { .. }) => return Err(error),
            Err(error) => progress.println(&format!("{error}; fetching it again")),
        }
    } else {
        // A link whose target is gone: hf-hub would trip over it.
        cache::remove(&pointer)?;
    }

    // Without a cache folder to write to there is no use in asking the network.
    fs::create_dir_all(&location.cache).map_err(HubError::disk(&location.cache))?;
    let api = ApiBuilder::from_cache(cache)
        .with_endpoint(location.endpoint.clone())
        .with_token(None)
        // The crate's own default; said here because a retry of a dead server helps nobody.
        .with_retries(0)
        .build()
        .map_err(|error| HubError::from_api(error, weights, location))?;
    let etag = announced(&api, weights, location, &progress)?;
    let part = cached.blob_path(&etag).with_extension("part");
    download(&api, repo, weights, location, &pointer, &part, &progress)?;
    progress.finish();

    cache::verify(weights, &pointer)?;
    if weights.sha256.is_none() && !is_sha256(&etag) {
        progress.println(&format!(
            "{}: fetched, but not verified: no SHA-256 is known, and {} sent none",
            pointer.display(),
            location.endpoint
        ));
    }
    Ok(pointer)
}

/// Asks the server about the file and compares the answer with the pins, before any fetching.
///
/// Returns the etag: the name of the file in the cache, and for large files its SHA-256.
fn announced(
    api: &Api,
    weights: &Weights,
    location: &Location,
    progress: &Progress,
) -> Result<String, HubError> {
    let url = weights.url(location);
    probe::reachable(&url)?;
    let metadata = api
        .metadata(&url)
        .map_err(|error| HubError::from_api(error, weights, location))?;
    if metadata.commit_hash() != weights.revision {
        let got = metadata.commit_hash().to_owned();
        return Err(HubError::Revision {
            url,
            expected: weights.revision.clone(),
            got,
        });
    }
    let etag = metadata.etag();
    // It becomes a file's name in the cache.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if etag.is_empty() || etag.len() > 128 || !etag.bytes().all(is_name) {
        let reason = format!("expected an etag of letters and digits, got {etag:?}");
        return Err(HubError::Answer { url, reason });
    }
    let size = metadata.size() as u64;
    if size != weights.bytes {
        return Err(HubError::Size {
            from: url,
            expected: weights.bytes,
            got: size,
        });
    }
    if let Some(expected) = &weights.sha256
        && is_sha256(etag)
        && !etag.eq_ignore_ascii_case(expected)
    {
        let (expected, got) = (expected.clone(), etag.to_owned());
        return Err(HubError::Hash {
            from: url,
            expected,
            got,
        });
    }
    progress.println(&format!(
        "fetching {}: {:.1} MB from {} into {}",
        weights.repo,
        weights.bytes as f64 / 1e6,
        location.endpoint,
        location.cache.display()
    ));
    Ok(etag.to_owned())
}

/// Fetches into the cache; waits if another program is at it.
fn download(
    api: &Api,
    repo: Repo,
    weights: &Weights,
    location: &Location,
    pointer: &Path,
    part: &Path,
    progress: &Progress,
) -> Result<(), HubError> {
    /// hf-hub waits 5 s for the lock: 10 minutes in all.
    const MOST_WAITS: usize = 120;
    let api = api.repo(repo);
    let mut started_again = false;
    for wait in 0..MOST_WAITS {
        match api.download_with_progress(&weights.file, Bar(progress.clone())) {
            Ok(_) => return Ok(()),
            Err(ApiError::LockAcquisition(_)) => {
                if wait == 0 {
                    progress.println("another program is fetching these weights; waiting for it");
                }
                if pointer.is_file() {
                    return Ok(());
                }
            }
            // The part of an earlier run is as long as the file, or longer: there is nothing
            // left to ask for, and hf-hub would fail on it for ever.
            Err(error) if !started_again && is_past_the_end(&error) => {
                cache::remove(part)?;
                started_again = true;
            }
            Err(error) => return Err(HubError::from_api(error, weights, location)),
        }
    }
    Err(HubError::Busy {
        part: part.to_owned(),
        waited: Duration::from_secs(600),
    })
}

/// Whether the server or hf-hub says that the part on the disk is too long to go on from.
fn is_past_the_end(error: &ApiError) -> bool {
    match error {
        ApiError::InvalidResume => true,
        ApiError::RequestError(error) => matches!(**error, ureq::Error::StatusCode(416)),
        _ => false,
    }
}

impl Weights {
    /// The file's address, which a browser can open, too.
    fn url(&self, location: &Location) -> String {
        let Self {
            repo,
            revision,
            file,
            ..
        } = self;
        format!("{}/{repo}/resolve/{revision}/{file}", location.endpoint)
    }
}

/// hf-hub's progress, shown as everywhere in the project.
struct Bar(Progress);

impl hf_hub::api::Progress for Bar {
    fn init(&mut self, _bytes: usize, _file: &str) {}

    /// Called first with what an earlier run left, then with each piece that comes.
    fn update(&mut self, bytes: usize) {
        self.0.inc(bytes as u64);
    }

    fn finish(&mut self) {}
}
