//! The gate on the rendered book: what mdBook wrote is read back, parsed, and
//! every link followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use regex::Regex;
use scraper::{Html, Selector};

use crate::{error::BuildError, problem::Problem};

/// The most that a page may weigh, its images in files apart: a reader on the road waits for
/// it. The print page holds the whole book, and what is fit for a blog its own styles.
const HEAVIEST_BYTES: usize = 300_000;

/// Whether a file may weigh more than a page.
fn may_be_heavy(name: &str) -> bool {
    name == "print.html" || name == "toc.html" || name.ends_with(crate::site::STANDALONE)
}

/// One HTML file, as far as the gate looks at it.
#[derive(Debug, Default)]
struct Document {
    /// Targets of `#fragment`.
    ids: BTreeSet<String>,
    /// Links that a reader may follow.
    links: Vec<String>,
    /// What the browser fetches to show the page.
    resources: Vec<String>,
    /// What is wrong with the page by itself.
    faults: Vec<String>,
}

/// Reads every HTML and CSS file under `book` and follows its links.
///
/// * `book`: the folder of the rendered book
///
/// Finds directives that were left unrendered, links to files and fragments that
/// are not there, and whatever would be fetched from another host.
///
/// # Errors
/// `BuildError::Io` if a file cannot be read.
pub fn check(book: &Path) -> Result<Vec<Problem>, BuildError> {
    let mut files = Vec::new();
    walk(book, &mut files)?;
    let mut documents = BTreeMap::new();
    let mut problems = Vec::new();
    for file in &files {
        let name = relative(book, file);
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("html") => {
                let text = fs::read_to_string(file).map_err(BuildError::io("read", file))?;
                if text.len() > HEAVIEST_BYTES && !may_be_heavy(&name) {
                    problems.push(Problem::in_file(
                        &name,
                        format!(
                            "{} bytes; a page has at most {HEAVIEST_BYTES}: divide it, or show fewer rows",
                            text.len()
                        ),
                    ));
                }
                documents.insert(name, read(&text));
            }
            Some("css") => {
                let text = fs::read_to_string(file).map_err(BuildError::io("read", file))?;
                problems.extend(
                    foreign_in_css(&text)
                        .into_iter()
                        .map(|fault| Problem::in_file(&name, fault)),
                );
            }
            _ => {}
        }
    }
    let present: BTreeSet<String> = files.iter().map(|file| relative(book, file)).collect();
    for (name, document) in &documents {
        let mut report = |text: String| problems.push(Problem::in_file(name, text));
        for fault in &document.faults {
            report(fault.clone());
        }
        for resource in &document.resources {
            if is_foreign(resource) {
                report(format!(
                    "the page fetches {resource} from another host: a reader may be offline, so bring the file into the book"
                ));
            }
        }
        for link in document.links.iter().chain(&document.resources) {
            if let Some(fault) = follow(name, link, &present, &documents) {
                report(fault);
            }
        }
    }
    problems.sort();
    problems.dedup();
    Ok(problems)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), BuildError> {
    for entry in fs::read_dir(folder).map_err(BuildError::io("read", folder))? {
        let path = entry.map_err(BuildError::io("read", folder))?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// A path below the book with `/`, whatever the system's separator is.
fn relative(book: &Path, file: &Path) -> String {
    file.strip_prefix(book)
        .unwrap_or(file)
        .components()
        .map(|component| component.as_os_str().to_string_lossy())
        .collect::<Vec<_>>()
        .join("/")
}

fn selector(text: &str) -> Selector {
    Selector::parse(text).expect("a literal selector")
}

fn read(text: &str) -> Document {
    static ANY: LazyLock<Selector> = LazyLock::new(|| selector("*"));
    let html = Html::parse_document(text);
    let mut document = Document::default();
    for element in html.select(&ANY) {
        let value = element.value();
        let name = value.name();
        if let Some(id) = value.attr("id")
            && !document.ids.insert(id.to_owned())
        {
            document.faults.push(format!("the id {id:?} stands twice"));
        }
        if name == "a"
            && let Some(target) = value.attr("name")
        {
            document.ids.insert(target.to_owned());
        }
        if let Some(href) = value.attr("href") {
            // Besides anchors only <link> and SVG's <use> and <image> take href, and those fetch.
            if name == "a" {
                document.links.push(href.to_owned());
            } else if name != "base" {
                document.resources.push(href.to_owned());
            }
        }
        for attribute in ["src", "poster", "data"] {
            if let Some(target) = value.attr(attribute) {
                document.resources.push(target.to_owned());
            }
        }
        if let Some(set) = value.attr("srcset") {
            document.resources.extend(
                set.split(',')
                    .filter_map(|one| one.split_whitespace().next())
                    .map(str::to_owned),
            );
        }
        if name == "img" && value.attr("alt").is_none() {
            document.faults.push("an image without alt text".to_owned());
        }
        if name == "style" {
            let css: String = element.text().collect();
            document.faults.extend(foreign_in_css(&css));
        }
        if let Some(css) = value.attr("style") {
            document.faults.extend(foreign_in_css(css));
        }
    }
    // Scripts and styles are not shown; mdBook's own hold no braces of this kind.
    if let Some(at) = text.find("{{#").or_else(|| text.find("{{/")) {
        let shown: String = text[at..].chars().take(60).collect();
        document
            .faults
            .push(format!("a directive was left unrendered: {shown:?}"));
    }
    document
}

fn foreign_in_css(css: &str) -> Vec<String> {
    static FETCH: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?i)(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')\s]+)"#)
            .expect("a literal pattern")
    });
    FETCH
        .captures_iter(css)
        .map(|hit| format!("style that fetches {} from another host", &hit[1]))
        .collect()
}

/// Whether an address leads to another host.
fn is_foreign(address: &str) -> bool {
    let lower = address.trim().to_ascii_lowercase();
    lower.starts_with("//") || lower.starts_with("http:") || lower.starts_with("https:")
}

/// What is wrong with a link, if anything.
fn follow(
    page: &str,
    link: &str,
    present: &BTreeSet<String>,
    documents: &BTreeMap<String, Document>,
) -> Option<String> {
    static SCHEME: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(?:[A-Za-z][A-Za-z0-9+.-]*:|//)").expect("a literal pattern")
    });
    if SCHEME.is_match(link) {
        return None;
    }
    let (path, fragment) = match link.split_once('#') {
        Some((path, fragment)) => (path, Some(fragment)),
        None => (link, None),
    };
    let path = path.split('?').next().unwrap_or_default();
    let target = if path.is_empty() {
        page.to_owned()
    } else {
        match resolve(page, &percent_decoded(path)) {
            Some(target) => target,
            None => return Some(format!("the link {link:?} leaves the book")),
        }
    };
    if !present.contains(&target) {
        return Some(format!("a broken link: {link:?} leads to no file"));
    }
    let fragment = percent_decoded(fragment.unwrap_or_default());
    if fragment.is_empty() {
        return None;
    }
    let document = documents.get(&target)?;
    if document.ids.contains(&fragment) {
        None
    } else {
        Some(format!(
            "a broken link: {link:?}: {target} has no id {fragment:?}"
        ))
    }
}

/// The file that a relative path leads to; `None` if it leaves the book.
pub(crate) fn resolve(page: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    if path.starts_with('/') {
        // From the host's root: a book that is opened as a file has none.
        return None;
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    let mut target = parts.join("/");
    if path.ends_with('/') || target.is_empty() {
        if !target.is_empty() {
            target.push('/');
        }
        target.push_str("index.html");
    }
    Some(target)
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{check, resolve};

    /// The faults of a book of one page.
    fn faults(body: &str) -> Vec<String> {
        let book = tempfile::tempdir().unwrap();
        fs::create_dir(book.path().join("ch")).unwrap();
        fs::write(book.path().join("index.html"), "<h1 id=\"top\">x</h1>").unwrap();
        fs::write(
            book.path().join("ch/p.html"),
            format!("<main><h1 id=\"a-b\">x</h1>{body}</main>"),
        )
        .unwrap();
        check(book.path())
            .unwrap()
            .into_iter()
            .map(|problem| problem.to_string())
            .collect()
    }

    #[test]
    fn good_links_pass() {
        for body in [
            "<a href=\"../index.html#top\">x</a>",
            "<a href=\"#a-b\">x</a>",
            "<a href=\"../\">x</a>",
            "<a href=\"p.html#a%2Db\">x</a>",
            "<a href=\"https://example.org/#x\">x</a>",
            "<a href=\"mailto:a@example.org\">x</a>",
            "<img alt=\"\" src=\"data:image/png;base64,AA==\">",
        ] {
            assert_eq!(faults(body), Vec::<String>::new(), "{body}");
        }
    }

    #[test]
    fn each_fault_is_told() {
        for (body, part) in [
            ("<a href=\"none.html\">x</a>", "leads to no file"),
            ("<a href=\"#none\">x</a>", "no id \"none\""),
            ("<a href=\"../index.html#none\">x</a>", "no id \"none\""),
            ("<a href=\"../../x.html\">x</a>", "leaves the book"),
            ("<a href=\"/index.html\">x</a>", "leaves the book"),
            ("<img alt=\"\" src=\"none.png\">", "leads to no file"),
            ("<img src=\"data:,\">", "without alt"),
            (
                "<script src=\"https://cdn.example.org/x.js\"></script>",
                "another host",
            ),
            (
                "<img alt=\"\" src=\"//cdn.example.org/x.png\">",
                "another host",
            ),
            (
                "<style>@import 'https://x.example/y.css';</style>",
                "another host",
            ),
            (
                "<p style=\"background:url(http://x.example/y)\">x</p>",
                "another host",
            ),
            ("<p id=\"a-b\">x</p>", "stands twice"),
            ("<p>{{#table x}}</p>", "left unrendered"),
        ] {
            let faults = faults(body);
            assert_eq!(faults.len(), 1, "{body}: {faults:?}");
            assert!(faults[0].contains(part), "{body}: {faults:?}");
            assert!(faults[0].starts_with("ch/p.html: "), "{faults:?}");
        }
    }

    #[test]
    fn a_heavy_page_is_told_and_the_print_page_is_not() {
        let book = tempfile::tempdir().unwrap();
        let text = "<p>x</p>".repeat(40_000);
        for name in ["p.html", "print.html", "e-standalone.html"] {
            fs::write(book.path().join(name), &text).unwrap();
        }
        let problems = check(book.path()).unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].page, "p.html");
        assert!(problems[0].text.starts_with("320000 bytes"), "{problems:?}");
    }

    #[test]
    fn paths_resolve_inside_the_book() {
        assert_eq!(resolve("a/b.html", "../c.html").as_deref(), Some("c.html"));
        assert_eq!(resolve("a/b.html", "./").as_deref(), Some("a/index.html"));
        assert_eq!(resolve("a.html", "../c.html"), None);
    }
}
