//! Does the server answer, and does it have the file? Asked with time limits.
//!
//! hf-hub's own requests have none: an address that swallows packets would hang for minutes.
//! It also follows relative redirects without counting them.

use std::time::Duration;

use ureq::http::Uri;
use ureq::http::header::{LOCATION, RANGE};

use super::HubError;

/// How long a connection may take to open, names looked up included.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Relative redirects that are followed; the hub has one for a renamed repository.
const REDIRECTS: usize = 5;

/// Asks for one byte of the file.
///
/// # Errors
/// No answer, or an answer that is not the file and not a redirect to it.
pub(super) fn reachable(url: &str) -> Result<(), HubError> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(ANSWER))
        .build()
        .into();
    let answer = |reason: &str| HubError::Answer {
        url: url.to_owned(),
        reason: reason.to_owned(),
    };
    let mut asked: Uri = url.parse().map_err(|_| HubError::Endpoint {
        url: url.to_owned(),
    })?;
    if !matches!(asked.scheme_str(), Some("http" | "https")) || asked.host().is_none() {
        return Err(HubError::Endpoint {
            url: url.to_owned(),
        });
    }
    for _ in 0..=REDIRECTS {
        let response = agent
            .get(asked.clone())
            .header(RANGE, "bytes=0-0")
            .call()
            .map_err(|error| HubError::Unreachable {
                url: url.to_owned(),
                reason: error.to_string(),
            })?;
        match response.status().as_u16() {
            200 | 206 => return Ok(()),
            404 => {
                return Err(HubError::NotFound {
                    url: url.to_owned(),
                });
            }
            301 | 302 | 303 | 307 | 308 => {
                let location = response.headers().get(LOCATION);
                let location: Uri = location
                    .and_then(|value| value.to_str().ok()?.parse().ok())
                    .ok_or_else(|| answer("a redirect without a sound address"))?;
                if location.host().is_some() {
                    // To the store that holds the bytes; hf-hub follows it.
                    return Ok(());
                }
                let mut parts = asked.into_parts();
                parts.path_and_query = location.into_parts().path_and_query;
                asked = Uri::from_parts(parts)
                    .map_err(|_| answer("a redirect without a sound address"))?;
            }
            status => {
                return Err(HubError::Status {
                    url: url.to_owned(),
                    status,
                });
            }
        }
    }
    Err(answer("redirects without an end"))
}
