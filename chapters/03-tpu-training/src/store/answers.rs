//! What an object store answers, as an error that says what to do and tells no secrets.

use super::credentials::Environment;
use super::error::{Action, RemoteKind, StoreError};
use super::place::Scheme;

/// Our error for one of the crate's.
///
/// The crate has a variant for some refusals, of some operations; the text always has the status
/// of the answer, and the server's own code.
pub(super) fn remote(
    action: Action,
    url: &str,
    scheme: Scheme,
    environment: &Environment,
    error: &object_store::Error,
) -> StoreError {
    let text = error.to_string();
    let any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let status = |code: &str| text.contains(&format!("status code: {code}"));
    let kind = if action == Action::Open {
        RemoteKind::Setting
    } else if any(&WRONG_CREDENTIALS) || status("401") || any(&CREDENTIAL_SERVERS) {
        RemoteKind::Credentials
    } else if any(&["NoSuchBucket", "without LOCATION"]) || status("301") {
        RemoteKind::Bucket
    } else if status("403") {
        RemoteKind::Permission
    } else {
        RemoteKind::Connection
    };
    StoreError::Remote {
        action,
        url: url.to_owned(),
        scheme,
        kind,
        problem: environment.without_secrets(&shortened(&text)),
    }
}

/// Codes of answers to credentials that do not exist, do not fit, or are too old.
const WRONG_CREDENTIALS: [&str; 4] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
];

/// Where a machine of a cloud asks for its credentials. On any other machine nobody answers
/// there, and that means: none are set.
const CREDENTIAL_SERVERS: [&str; 5] = [
    "169.254.169.254",
    "metadata.google.internal",
    "metadata/computeMetadata",
    "oauth2",
    "https://sts.",
];

/// What a person needs of an error's text.
///
/// A server's answer follows the status line. It may repeat what was signed, a session's token
/// included, so only its code and message are taken. Addresses lose what follows a `?`.
fn shortened(text: &str) -> String {
    let body_start = text.find(['<', '{']).unwrap_or(text.len());
    let (head, body) = text.split_at(body_start);
    // Before that stands by which of the crate's functions the request was made.
    let head = head.rsplit("Error performing ").next().unwrap_or(head);
    // The rules for repeating are ours, and no news: only how often stays.
    let head = match (head.find(", max_retries:"), head.find(" - ")) {
        (Some(start), Some(end)) if start < end => [&head[..start], &head[end..]].concat(),
        _ => head.to_owned(),
    };
    let mut short: Vec<&str> = head
        .split_whitespace()
        .map(|word| match word.split_once('?') {
            Some((address, _)) if address.contains("://") => address,
            _ => word,
        })
        .collect();
    let between = |start: &str, end: &str| {
        let rest = &body[body.find(start)? + start.len()..];
        Some(&rest[..rest.find(end)?])
    };
    short.extend(between("<Code>", "</Code>"));
    short.extend(between("<Message>", "</Message>"));
    short.extend(between("\"error_description\": \"", "\""));
    let mut short = short.join(" ");
    if let Some((end, _)) = short.char_indices().nth(400) {
        short.truncate(end);
    }
    short.trim_end_matches([':', ' ']).to_owned()
}
