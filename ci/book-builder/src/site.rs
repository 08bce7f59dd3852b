//! What a published book has besides its pages: a page as one file that a blog can take, and
//! the addresses that search engines and social networks want whole.

use std::{fmt::Write, fs, path::Path};

use mdbook_driver::config::Config;
use scraper::{ElementRef, Html, Selector};

use crate::{error::BuildError, markup::html, page::Page};

/// How the name of such a file ends.
pub const STANDALONE: &str = "-standalone.html";

/// The styles that go into it, from the book's folder, in order.
const STYLES: [&str; 2] = ["theme/figures.css", "theme/standalone.css"];

/// Writes each of these pages, where the book has it, as one file beside its own: its text
/// with the styles inside, without scripts, sidebar and search.
///
/// * `output`: the folder of the rendered book
///
/// # Errors
/// `BuildError::Io` if a file cannot be read or written.
pub fn standalone(
    wanted: &[String],
    pages: &[Page],
    book: &Path,
    output: &Path,
) -> Result<(), BuildError> {
    for page in pages.iter().filter(|page| wanted.contains(&page.path)) {
        let mut styles = String::new();
        for style in STYLES {
            let path = book.join(style);
            styles.push_str(&fs::read_to_string(&path).map_err(BuildError::io("read", &path))?);
        }
        let name = rendered_name(page);
        let path = output.join(&name);
        let text = fs::read_to_string(&path).map_err(BuildError::io("read", &path))?;
        let to = output.join(name.trim_end_matches(".html").to_owned() + STANDALONE);
        fs::write(&to, one_file(&text, &styles)).map_err(BuildError::io("write", &to))?;
    }
    Ok(())
}

/// The name of a page in the rendered book.
pub fn rendered_name(page: &Page) -> String {
    let stem = page.path.trim_end_matches(".md");
    format!("{stem}.html")
}

fn selector(text: &str) -> Selector {
    Selector::parse(text).expect("a literal selector")
}

/// A rendered page's own text as a file of its own.
fn one_file(page: &str, styles: &str) -> String {
    let document = Html::parse_document(page);
    let attribute = |wanted: &str, name: &str| {
        (document.select(&selector(wanted)).next())
            .and_then(|element| element.value().attr(name))
            .unwrap_or_default()
            .to_owned()
    };
    let title: String = (document.select(&selector("h1")).next())
        .map(|heading| heading.text().collect())
        .unwrap_or_default();
    let mut main = (document.select(&selector("main")).next())
        .map(|main| main.inner_html())
        .unwrap_or_default();
    // Scripts enhance what reads without them.
    for script in document
        .select(&selector("main script"))
        .map(|one: ElementRef<'_>| one.html())
    {
        main = main.replace(&script, "");
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<meta name=\"description\" content=\"{}\">\n<style>\n{styles}</style>\n</head>\n<body>\n<main>\n{}\n</main>\n</body>\n</html>\n",
        html(&attribute("html", "lang")),
        html(title.trim()),
        html(&attribute("meta[name=description]", "content")),
        main.trim()
    )
}

/// The picture of the book's social cards, from `book/src` and from the rendered book; its
/// drawing is `book/theme/social-card.svg`.
pub const CARD: &str = "social-card.png";

/// Width and height of the picture, as social networks want it.
const CARD_SIZE: (u32, u32) = (1200, 630);

/// mdBook's form of the address that edits a page.
///
/// * `edit`: where a file of the repository is edited, up to its path
pub fn edit_template(edit: &str) -> String {
    format!("{edit}book/{{path}}")
}

/// Writes `sitemap.xml`, and each page's address into its head, with that of the picture
/// where the book has one.
///
/// * `base`: where the book is published, with a slash at its end
///
/// # Errors
/// `BuildError::Io` if a file cannot be read or written.
pub fn addresses(
    base: &str,
    config: &Config,
    pages: &[Page],
    output: &Path,
) -> Result<(), BuildError> {
    let card = match output.join(CARD).is_file() {
        true => card(base, config.book.title.as_deref().unwrap_or_default()),
        false => String::new(),
    };
    let mut map = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n",
    );
    for page in pages {
        let name = rendered_name(page);
        // As links in the book have it: folder/ is folder/index.html to a server, and nothing
        // to a file system, so the whole name stays.
        let address = html(&format!("{base}{name}"));
        let _ = writeln!(map, "  <url><loc>{address}</loc></url>");
        let path = output.join(&name);
        let text = fs::read_to_string(&path).map_err(BuildError::io("read", &path))?;
        let head = format!("<meta property=\"og:url\" content=\"{address}\">\n{card}</head>");
        let mut text = text.replacen("</head>", &head, 1);
        if !card.is_empty() {
            text = text.replacen(SMALL_CARD, LARGE_CARD, 1);
        }
        fs::write(&path, text).map_err(BuildError::io("write", &path))?;
    }
    map.push_str("</urlset>\n");
    let path = output.join("sitemap.xml");
    fs::write(&path, map).map_err(BuildError::io("write", &path))
}

/// What `book/theme/head.hbs` says of the card's form, and what it is with a picture.
const SMALL_CARD: &str = "name=\"twitter:card\" content=\"summary\"";
const LARGE_CARD: &str = "name=\"twitter:card\" content=\"summary_large_image\"";

/// The picture in a page's head.
fn card(base: &str, title: &str) -> String {
    let (width, height) = CARD_SIZE;
    format!(
        "<meta property=\"og:image\" content=\"{}\">\n<meta property=\"og:image:width\" content=\"{width}\">\n<meta property=\"og:image:height\" content=\"{height}\">\n<meta property=\"og:image:alt\" content=\"{}\">\n",
        html(&format!("{base}{CARD}")),
        html(title)
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use mdbook_driver::config::Config;

    use super::{CARD, CARD_SIZE, LARGE_CARD, SMALL_CARD, addresses, standalone};
    use crate::page::Page;

    fn page(path: &str) -> Page {
        Page {
            name: format!("book/src/{path}"),
            path: path.to_owned(),
            source: String::new(),
        }
    }

    #[test]
    fn one_file_holds_text_and_styles_and_nothing_that_runs() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("theme")).unwrap();
        fs::write(root.join("theme/figures.css"), "p { color: red; }\n").unwrap();
        fs::write(root.join("theme/standalone.css"), "").unwrap();
        fs::write(
            root.join("essay.html"),
            "<html lang=\"en\"><head><meta name=\"description\" content=\"A &amp; B\"><script>no()</script></head><body><nav>no</nav><main><h1>Why &lt;x&gt;?</h1><p>Text.</p><script>no()</script></main></body></html>",
        )
        .unwrap();
        let pages = [page("essay.md"), page("other.md")];
        let wanted = ["essay.md".to_owned(), "none.md".to_owned()];
        standalone(&wanted, &pages, root, root).unwrap();
        let text = fs::read_to_string(root.join("essay-standalone.html")).unwrap();
        assert!(text.contains("<title>Why &lt;x&gt;?</title>"), "{text}");
        assert!(text.contains("p { color: red; }"), "{text}");
        assert!(text.contains("content=\"A &amp; B\""), "{text}");
        assert!(text.contains("<p>Text.</p>"), "{text}");
        assert!(!text.contains("no()") && !text.contains("<nav>"), "{text}");
    }

    #[test]
    fn every_page_has_its_address() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        for name in ["i.html", "a/b.html"] {
            fs::write(folder.path().join(name), "<head></head><p></head></p>").unwrap();
        }
        let pages = [page("i.md"), page("a/b.md")];
        let mut config = Config::default();
        config.book.title = Some("A & B".to_owned());
        let write = || addresses("https://example.org/x/", &config, &pages, folder.path());
        write().unwrap();
        let map = fs::read_to_string(folder.path().join("sitemap.xml")).unwrap();
        assert!(
            map.contains("<loc>https://example.org/x/a/b.html</loc>"),
            "{map}"
        );
        assert_eq!(map.matches("<url>").count(), 2);
        let text = fs::read_to_string(folder.path().join("a/b.html")).unwrap();
        assert_eq!(text.matches("og:url").count(), 1);
        assert!(
            text.contains("content=\"https://example.org/x/a/b.html\""),
            "{text}"
        );
        assert!(!text.contains("og:image"), "{text}");

        // With a picture.
        let head = format!("<head><meta {SMALL_CARD}></head>");
        fs::write(folder.path().join("a/b.html"), head).unwrap();
        fs::write(folder.path().join(CARD), "").unwrap();
        write().unwrap();
        let text = fs::read_to_string(folder.path().join("a/b.html")).unwrap();
        for part in [
            "property=\"og:image\" content=\"https://example.org/x/social-card.png\"",
            "property=\"og:image:alt\" content=\"A &amp; B\"",
            LARGE_CARD,
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn the_books_own_picture_is_as_it_is_announced() {
        let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../book");
        let head = fs::read_to_string(book.join("theme/head.hbs")).unwrap();
        assert!(head.contains(SMALL_CARD), "{head}");
        let picture = fs::read(book.join("src").join(CARD)).unwrap();
        assert!(picture.len() < 100_000, "{} bytes", picture.len());
        // PNG: eight bytes of signature, eight of the first chunk's head, then the size.
        assert_eq!(&picture[1..4], b"PNG");
        let number = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().unwrap());
        assert_eq!((number(16), number(20)), CARD_SIZE);
    }
}
