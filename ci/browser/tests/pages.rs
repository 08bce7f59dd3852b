//! Pages with one fault each, in a real browser where there is one.

use std::{env, fs, path::PathBuf, process::ExitCode};

use browser_check::{
    check,
    devtools::Browser,
    pages,
    view::{ALL, View},
    visit::{Fault, Finding},
};
use libtest_mimic::{Arguments, Failed, Trial};

const NEEDS_BROWSER: &str = "needs: Chromium or Chrome; apt-get install chromium";
const NEEDS_AXE: &str = "needs: axe-core; cargo x setup --browser";

/// The browser that `cargo x browser` would take.
fn browser() -> Option<PathBuf> {
    let named = env::var_os("CHROME").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path)
        .flat_map(|folder| ["chromium", "google-chrome"].map(|name| folder.join(name)));
    named.into_iter().chain(in_path).find(|path| path.is_file())
}

fn axe() -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.native/browser/axe.min.js");
    fs::read_to_string(path).ok()
}

/// What is found in a page with this body.
fn findings(body: &str, views: &[View], axe: Option<&str>) -> Result<Vec<Finding>, Failed> {
    let folder = tempfile::tempdir()?;
    let page = folder.path().join("a page.html");
    fs::write(
        page,
        format!(
            "<!DOCTYPE html><html lang=\"en\"><head><title>x</title><meta name=\"viewport\" content=\"width=device-width\"></head><body><main><h1>x</h1>{body}</main></body></html>"
        ),
    )?;
    let browser = browser().ok_or(NEEDS_BROWSER)?;
    // A container's root may have no sandbox, and a test opens only its own page.
    let mut browser = Browser::start(&browser, false).map_err(|error| format!("{error:#}"))?;
    let pages = pages(folder.path()).map_err(|error| format!("{error:#}"))?;
    check(&mut browser, &pages, views, axe).map_err(|error| format!("{error:#}").into())
}

fn a_good_page_passes() -> Result<(), Failed> {
    let findings = findings("<p>Text.</p>", &ALL, axe().as_deref())?;
    match findings.is_empty() {
        true => Ok(()),
        false => Err(format!("{findings:?}").into()),
    }
}

fn a_request_is_seen() -> Result<(), Failed> {
    let body = "<img alt=\"\" src=\"https://pictures.example/x.png\">";
    let findings = findings(body, &ALL[3..], None)?;
    match findings.as_slice() {
        [
            Finding {
                fault: Fault::Request(url),
                ..
            },
        ] if url == "https://pictures.example/x.png" => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn a_wide_page_is_seen_on_a_phone_alone() -> Result<(), Failed> {
    let body = "<p id=\"wide\" style=\"width: 600px\">x</p>";
    let findings = findings(body, &[ALL[0], ALL[2]], None)?;
    match findings.as_slice() {
        [
            Finding {
                fault: Fault::Overflow(pixels, element),
                view,
                ..
            },
        ] if view.size == "phone" && *pixels > 100 && element == "p#wide" => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn what_cannot_be_read_is_seen() -> Result<(), Failed> {
    let axe = axe().ok_or(NEEDS_AXE)?;
    let body = "<p style=\"color: #ddd; background: #fff\">pale</p>";
    let findings = findings(body, &ALL[2..3], Some(&axe))?;
    match findings.as_slice() {
        [
            Finding {
                fault: Fault::Accessibility(violation),
                ..
            },
        ] if violation.id == "color-contrast" => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn main() -> ExitCode {
    let lacks = |needs_axe: bool| match (browser(), needs_axe && axe().is_none()) {
        (None, _) => Some(NEEDS_BROWSER),
        (_, true) => Some(NEEDS_AXE),
        _ => None,
    };
    let trial = |name: &str, needs_axe: bool, run: fn() -> Result<(), Failed>| {
        let trial = Trial::test(name, run);
        match lacks(needs_axe) {
            Some(reason) => trial.with_ignored_flag(true).with_kind(reason),
            None => trial,
        }
    };
    let trials = vec![
        trial("a_good_page_passes", false, a_good_page_passes),
        trial("a_request_is_seen", false, a_request_is_seen),
        trial(
            "a_wide_page_is_seen_on_a_phone_alone",
            false,
            a_wide_page_is_seen_on_a_phone_alone,
        ),
        trial(
            "what_cannot_be_read_is_seen",
            true,
            what_cannot_be_read_is_seen,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
