//! The book as EPUB 3, from the rendered pages: the same text and figures, written as XHTML,
//! without what needs a script or a browser.

use std::{collections::BTreeSet, fs, io::Write as _, path::Path};

use epub_builder::{EpubBuilder, EpubContent, EpubVersion, ReferenceType, ZipLibrary};
use mdbook_driver::config::Config;
use scraper::{ElementRef, Html, Node, Selector};

use crate::{error::BuildError, markup::html, page::Page, rendered, site::rendered_name};

/// The styles that go along, from the book's folder.
const STYLES: [&str; 2] = ["theme/figures.css", "theme/epub.css"];

/// Elements that mean nothing without a script.
const DROPPED: [&str; 4] = ["script", "button", "input", "noscript"];

/// Elements that XHTML writes without content, as HTML does without an end.
const VOID: [&str; 14] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source",
    "track", "wbr",
];

/// Writes the book.
///
/// * `book`: the book's folder
/// * `output`: the folder of the rendered book
/// * `to`: the file
///
/// # Errors
/// `BuildError::Io` if a file cannot be read or written, `BuildError::Epub` if the pages
/// cannot be put together.
pub fn write(
    config: &Config,
    pages: &[Page],
    book: &Path,
    output: &Path,
    to: &Path,
) -> Result<(), BuildError> {
    let mut styles = String::new();
    for style in STYLES {
        let path = book.join(style);
        styles.push_str(&fs::read_to_string(&path).map_err(BuildError::io("read", &path))?);
    }
    let names: BTreeSet<String> = pages.iter().map(rendered_name).collect();
    let mut contents = Vec::new();
    for page in pages {
        let name = rendered_name(page);
        let path = output.join(&name);
        let text = fs::read_to_string(&path).map_err(BuildError::io("read", &path))?;
        let language = config.book.language.as_deref().unwrap_or("en");
        contents.push((name.clone(), xhtml(&name, &text, language, &names)));
    }
    let mut bytes = Vec::new();
    put_together(config, &contents, &styles, &mut bytes)
        .map_err(|error| BuildError::Epub(format!("{error:#}")))?;
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(BuildError::io("create", folder))?;
    }
    fs::File::create(to)
        .and_then(|mut file| file.write_all(&bytes))
        .map_err(BuildError::io("write", to))
}

/// A page's title and its text as an XHTML document.
struct Content {
    title: String,
    document: String,
}

fn put_together(
    config: &Config,
    contents: &[(String, Content)],
    styles: &str,
    to: &mut Vec<u8>,
) -> epub_builder::Result<()> {
    let mut epub = EpubBuilder::new(ZipLibrary::new()?)?;
    epub.epub_version(EpubVersion::V30);
    for (key, value) in [
        ("title", config.book.title.as_deref()),
        ("description", config.book.description.as_deref()),
    ] {
        epub.metadata(key, value.unwrap_or_default())?;
    }
    let language = config.book.language.as_deref().unwrap_or("en");
    epub.set_languages(vec![language.to_owned()]);
    for author in &config.book.authors {
        epub.metadata("author", author)?;
    }
    epub.stylesheet(styles.as_bytes())?;
    for (name, content) in contents {
        // Chapters' pages lie in folders; their first pages are the chapters.
        let level = match name.contains('/') && !name.ends_with("/index.html") {
            true => 2,
            false => 1,
        };
        epub.add_content(
            EpubContent::new(xhtml_name(name), content.document.as_bytes())
                .title(&content.title)
                .level(level)
                .reftype(ReferenceType::Text),
        )?;
    }
    epub.generate(to)
}

fn xhtml_name(name: &str) -> String {
    name.trim_end_matches(".html").to_owned() + ".xhtml"
}

fn selector(text: &str) -> Selector {
    Selector::parse(text).expect("a literal selector")
}

/// A rendered page's own text as XHTML.
///
/// * `name`: the page, among `names`, which has all pages
fn xhtml(name: &str, page: &str, language: &str, names: &BTreeSet<String>) -> Content {
    let document = Html::parse_document(page);
    let title: String = (document.select(&selector("main h1")).next())
        .map(|heading| heading.text().collect())
        .unwrap_or_else(|| name.to_owned());
    let title = title.trim().to_owned();
    let mut body = String::new();
    if let Some(main) = document.select(&selector("main")).next() {
        children(main, name, names, &mut body);
    }
    let up = "../".repeat(name.matches('/').count());
    let language = html(language);
    Content {
        document: format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" xmlns:epub=\"http://www.idpf.org/2007/ops\" lang=\"{language}\" xml:lang=\"{language}\">\n<head>\n<title>{}</title>\n<link rel=\"stylesheet\" type=\"text/css\" href=\"{up}stylesheet.css\"/>\n</head>\n<body>\n{}\n</body>\n</html>\n",
            text(&title),
            body.trim()
        ),
        title,
    }
}

fn children(parent: ElementRef<'_>, page: &str, names: &BTreeSet<String>, out: &mut String) {
    for child in parent.children() {
        match child.value() {
            Node::Text(content) => out.push_str(&text(content)),
            Node::Element(_) => {
                if let Some(child) = ElementRef::wrap(child) {
                    element(child, page, names, out);
                }
            }
            _ => {}
        }
    }
}

fn element(one: ElementRef<'_>, page: &str, names: &BTreeSet<String>, out: &mut String) {
    let mut name = one.value().name();
    if DROPPED.contains(&name) {
        return;
    }
    let mut attributes = String::new();
    if name == "svg" {
        attributes.push_str(" xmlns=\"http://www.w3.org/2000/svg\"");
    }
    for (key, value) in one.value().attrs() {
        // Handlers and script data go, and what would make boxes focusable that scroll only
        // in a browser.
        let unwanted = key.starts_with("on") || key.starts_with("data-");
        if unwanted || key == "tabindex" || key.starts_with("xmlns") {
            continue;
        }
        let value = match (name, key) {
            ("a", "href") => match link(value, page, names) {
                Some(link) => link,
                // What the EPUB does not hold is named, and not linked.
                None => {
                    name = "span";
                    continue;
                }
            },
            _ => value.to_owned(),
        };
        attributes.push_str(&format!(" {key}=\"{}\"", text(&value)));
    }
    out.push_str(&format!("<{name}{attributes}"));
    if VOID.contains(&name) {
        out.push_str("/>");
        return;
    }
    out.push('>');
    children(one, page, names, out);
    out.push_str(&format!("</{name}>"));
}

/// Where a link leads in the EPUB; `None` if there is nothing.
fn link(link: &str, page: &str, names: &BTreeSet<String>) -> Option<String> {
    if link.starts_with('#') || link.starts_with("https://") || link.starts_with("mailto:") {
        return Some(link.to_owned());
    }
    let (path, fragment) = match link.split_once('#') {
        Some((path, fragment)) => (path, format!("#{fragment}")),
        None => (link, String::new()),
    };
    let target = rendered::resolve(page, path)?;
    names.contains(&target).then(|| {
        let up = "../".repeat(page.matches('/').count());
        format!("{up}{}{fragment}", xhtml_name(&target))
    })
}

/// Text for XML: only characters that XML has, and none that mean something to it.
fn text(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for character in raw.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(character),
            character if character.is_control() => {}
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, io::Read as _};

    use mdbook_driver::config::Config;

    use super::{write, xhtml};
    use crate::page::Page;

    fn names() -> BTreeSet<String> {
        ["a.html", "ch/b.html"].map(str::to_owned).into()
    }

    #[test]
    fn a_page_becomes_well_formed_and_loses_what_needs_a_script() {
        let page = "<html><body><nav>no</nav><main><h1 id=\"x\">A &amp; B</h1><p onclick=\"no\">one<br>two &lt; 3</p>\
            <div tabindex=\"0\" data-no=\"no\"><img alt=\"\" src=\"x.png\"></div><script>no</script>\
            <svg viewBox=\"0 0 1 1\"><path d=\"M0 0\"></path></svg>\
            <a href=\"../a.html#y\">in</a><a href=\"#x\">here</a><a href=\"../results/x.json\">out</a>\
            <a href=\"https://example.org/?a=1&amp;b\">far</a></main></body></html>";
        let content = xhtml("ch/b.html", page, "en", &names());
        assert_eq!(content.title, "A & B");
        let text = &content.document;
        for part in [
            "<h1 id=\"x\">A &amp; B</h1>",
            "<p>one<br/>two &lt; 3</p>",
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1 1\">",
            "<a href=\"../a.xhtml#y\">in</a>",
            "<a href=\"#x\">here</a>",
            "<span>out</span>",
            "https://example.org/?a=1&amp;b",
            "href=\"../stylesheet.css\"",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("no<") && !text.contains("\"no\""), "{text}");
    }

    #[test]
    fn the_file_holds_the_pages_and_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("theme")).unwrap();
        fs::create_dir_all(root.join("ch")).unwrap();
        for style in super::STYLES {
            fs::write(root.join(style), "p { margin: 0; }").unwrap();
        }
        let page = |path: &str| Page {
            name: String::new(),
            path: path.to_owned(),
            source: String::new(),
        };
        for name in names() {
            fs::write(root.join(&name), format!("<main><h1>{name}</h1></main>")).unwrap();
        }
        let to = root.join("out/book.epub");
        let pages = [page("a.md"), page("ch/b.md")];
        let mut config = Config::default();
        config.book.title = Some("T & U".to_owned());
        write(&config, &pages, root, root, &to).unwrap();
        let mut bytes = Vec::new();
        fs::File::open(&to)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        // A zip whose first entry is the type, uncompressed: how readers know an EPUB.
        assert_eq!(&bytes[..4], b"PK\x03\x04");
        assert_eq!(&bytes[30..58], b"mimetypeapplication/epub+zip");
    }
}
