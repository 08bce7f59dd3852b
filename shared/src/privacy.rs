//! Keeps absolute paths and user names out of what is published.
//!
//! A result file is committed and shown in a book; a command line or an error
//! message may name `/home/anne/pictures`. Paths inside the checkout become
//! relative to it, any other absolute path is reduced to its last component, and
//! the home folder itself becomes `~`.

use std::path::{Component, Path};

/// What a path is compared with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// The checkout's root, in each spelling that a path may come in.
    roots: Vec<String>,
    home: Option<String>,
}

impl Places {
    /// The places of this process.
    pub(crate) fn here(root: Option<&Path>) -> Self {
        // A shell may spell the folder by a symbolic link (macOS: /tmp).
        let spellings = root.into_iter().flat_map(|root| {
            let real = root.canonicalize().ok();
            [Some(root.to_path_buf()), real].into_iter().flatten()
        });
        Self::new(
            spellings.filter_map(|root| root.to_str().map(str::to_owned)),
            std::env::home_dir().and_then(|home| home.to_str().map(str::to_owned)),
        )
    }

    fn new(roots: impl IntoIterator<Item = String>, home: Option<String>) -> Self {
        let tidy = |path: String| {
            let path = path.trim_end_matches('/').to_owned();
            path.starts_with('/').then_some(path)
        };
        let mut roots: Vec<String> = roots.into_iter().filter_map(tidy).collect();
        roots.dedup();
        Self {
            roots,
            home: home.and_then(tidy),
        }
    }

    /// One argument of a command line, without absolute paths.
    pub(crate) fn argument(&self, argument: &str) -> String {
        // A path may hold spaces, and an argument is one path more often than a
        // sentence, so that a whole value is taken as a path where it begins as one.
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) if !name.contains('/') => (&argument[..=name.len()], value),
            _ => ("", argument),
        };
        if value.starts_with('/') {
            format!("{name}{}", self.path(value))
        } else {
            format!("{name}{}", self.text(value))
        }
    }

    /// A sentence, such as an error message, without absolute paths and without
    /// the user and password of a URL.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        let mut rest = text;
        let mut at_boundary = true;
        while let Some(next) = rest.chars().next() {
            if at_boundary && next == '/' {
                let (replacement, length) = self.leading_path(rest);
                clean.push_str(&replacement);
                rest = &rest[length..];
                at_boundary = false;
                continue;
            }
            if let Some(length) = url_length(rest).filter(|_| at_boundary) {
                clean.push_str(&self.url(&rest[..length]));
                rest = &rest[length..];
                at_boundary = false;
                continue;
            }
            clean.push(next);
            at_boundary = is_boundary(next);
            rest = &rest[next.len_utf8()..];
        }
        clean
    }

    /// What to write for the path that `rest` begins with, and its length in bytes.
    fn leading_path(&self, rest: &str) -> (String, usize) {
        // The known places are compared whole: they may hold spaces.
        for known in self.roots.iter().chain(&self.home) {
            let Some(after) = rest.strip_prefix(known.as_str()) else {
                continue;
            };
            if after.is_empty() || after.starts_with('/') || after.starts_with(is_boundary) {
                let length = known.len() + after.find(is_boundary).unwrap_or(after.len());
                return (self.path(&rest[..length]), length);
            }
        }
        let length = rest.find(is_boundary).unwrap_or(rest.len());
        (self.path(&rest[..length]), length)
    }

    /// What to write for an absolute path.
    fn path(&self, path: &str) -> String {
        let path = Path::new(path);
        for root in &self.roots {
            if let Ok(inside) = path.strip_prefix(root) {
                // `root/../secret` is not inside.
                if inside
                    .components()
                    .all(|c| matches!(c, Component::Normal(_)))
                {
                    return match inside.to_str() {
                        Some("") | None => ".".to_owned(),
                        Some(inside) => inside.trim_end_matches('/').to_owned(),
                    };
                }
            }
        }
        if self
            .home
            .as_deref()
            .is_some_and(|home| path == Path::new(home))
            || is_a_home(path)
        {
            return "~".to_owned();
        }
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) => name.to_owned(),
            // `/` and `/..` name nothing.
            None => "/".to_owned(),
        }
    }

    fn url(&self, url: &str) -> String {
        let Some((scheme, rest)) = url.split_once("://") else {
            return url.to_owned();
        };
        if scheme.eq_ignore_ascii_case("file") {
            return match rest.starts_with('/') {
                true => self.path(rest),
                false => self.path(&format!("/{rest}")),
            };
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit('@').next().unwrap_or(authority);
        format!("{scheme}://{host}{path}")
    }
}

/// `/home/anne` and `/Users/anne` end with a user's name.
fn is_a_home(path: &Path) -> bool {
    let components: Vec<&str> = path
        .components()
        .filter_map(|component| component.as_os_str().to_str())
        .collect();
    matches!(components.as_slice(), ["/", "home" | "Users", _])
}

/// Characters that end a path in a sentence, or after which one begins.
fn is_boundary(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '"' | '\'' | '`' | '(' | ')' | '[' | ']')
        || matches!(c, '{' | '}' | '<' | '>' | ',' | ';' | '|' | '=' | ':' | '@')
}

/// Length in bytes of the URL that `rest` begins with, if it does.
fn url_length(rest: &str) -> Option<usize> {
    // Reads no further than the scheme: a text of a megabyte is still one pass.
    rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
        .filter(|&end| rest[end..].starts_with("://"))?;
    if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | ')' | ',');
    Some(rest.find(ends).unwrap_or(rest.len()))
}

/// Whether a text still names an absolute path or a URL's user, and so must not be
/// published.
pub(crate) fn is_telling(text: &str) -> bool {
    Places::default().text(text) != text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places() -> Places {
        Places::new(
            [
                "/src/my project".to_owned(),
                "/private/src/my project/".to_owned(),
            ],
            Some("/home/Anne Smith".to_owned()),
        )
    }

    #[test]
    fn arguments() {
        for (argument, expected) in [
            ("--quick", "--quick"),
            ("--device=cuda:0", "--device=cuda:0"),
            ("/src/my project/samples", "samples"),
            ("/private/src/my project/samples/a b.jpg", "samples/a b.jpg"),
            ("/src/my project", "."),
            ("/src/my project/../other/x", "x"),
            ("/src/my projects/x", "x"),
            ("--images=/home/Anne Smith/my pics", "--images=my pics"),
            ("/home/Anne Smith", "~"),
            ("/home/Anne Smith/", "~"),
            ("--out=/Users/bob", "--out=~"),
            ("/data/imagenet/val/", "val"),
            ("/", "/"),
            ("--batch=8/16", "--batch=8/16"),
            ("../pics", "../pics"),
            ("gs://bucket/model", "gs://bucket/model"),
            (
                "--url=https://anne:secret@host/x/y",
                "--url=https://host/x/y",
            ),
            ("file:///home/bob/x.safetensors", "x.safetensors"),
            ("A=B=/etc/x", "A=B=x"),
        ] {
            assert_eq!(places().argument(argument), expected, "{argument}");
        }
    }

    #[test]
    fn sentences() {
        for (text, expected) in [
            ("25.6 images/s and/or 1 / 2", "25.6 images/s and/or 1 / 2"),
            (
                "cannot read \"/home/Anne Smith/pics/a.jpg\": denied",
                "cannot read \"a.jpg\": denied",
            ),
            (
                "cannot open /mnt/x/y.bin: no such file",
                "cannot open y.bin: no such file",
            ),
            (
                "in /src/my project/chapters/01-cpu: broken",
                "in chapters/01-cpu: broken",
            ),
            ("PATH=/a/b:/c/d", "PATH=b:d"),
            (
                "see https://docs.rs/x, then go",
                "see https://docs.rs/x, then go",
            ),
            ("(/tmp/x)", "(x)"),
        ] {
            assert_eq!(places().text(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_telling_is_left(text in "[ -~é\n]{0,60}|(/[a-z .=:@\"]{0,6}){0,8}") {
            let clean = places().text(&text);
            prop_assert!(!is_telling(&clean), "{text:?} gave {clean:?}");
            let clean = places().argument(&text);
            prop_assert!(!is_telling(&clean), "{text:?} gave {clean:?}");
        }
    }
}
