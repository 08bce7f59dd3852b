//! Code in the book comes from files that are compiled and tested, and from
//! nowhere else.
//!
//! mdBook renders a missing anchor as an empty block and a missing file as the
//! directive itself, and succeeds either way. So the files are read here, before
//! mdBook runs, and a page never meets mdBook's own include.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use crate::{page::Page, problem::Problem};

/// Folders that git ignores: what lies there is not in a clone.
const NOT_IN_A_CLONE: &[&str] = &["target", ".native", ".git", "results-local"];

/// Languages that may be typed by hand: what one types, and what one sees.
const BY_HAND: &[&str] = &["console", "text", "json", "toml"];

/// The lines that an include stands for, dedented.
///
/// * `root`: the repository, canonical
/// * `page`: the page that includes
/// * `path`: relative to the page's folder
/// * `anchor`: the name after `ANCHOR:`; `None` for the whole file
///
/// # Errors
/// What is wrong and what would be right: no file, a file that leaves the
/// repository or is not in a clone, an anchor that is missing, open, doubled or empty.
pub fn read(root: &Path, page: &Page, path: &str, anchor: Option<&str>) -> Result<String, String> {
    let file = locate(root, page, path)?;
    let text = fs::read_to_string(&file).map_err(|error| format!("cannot read {path}: {error}"))?;
    let lines = match anchor {
        None => text
            .lines()
            .filter(|line| marker(line).is_none())
            .collect::<Vec<_>>(),
        Some(anchor) => between(&text, anchor).map_err(|reason| format!("{path}: {reason}"))?,
    };
    let code = dedent(&lines);
    if code.is_empty() {
        return Err(match anchor {
            Some(anchor) => format!("{path}: the anchor {anchor:?} holds no line of code"),
            None => format!("{path} is empty"),
        });
    }
    if code
        .lines()
        .any(|line| line.trim_start().starts_with("```"))
    {
        return Err(format!(
            "{path}: a line of the included code begins with ``` and would end the page's code block"
        ));
    }
    Ok(code)
}

/// A whole file, for comparing: its path in the repository, and its lines without
/// anchors' marks.
///
/// # Errors
/// As [`read`].
pub fn whole(root: &Path, page: &Page, path: &str) -> Result<(String, String), String> {
    let file = locate(root, page, path)?;
    let inside = file.strip_prefix(root).unwrap_or(&file);
    let name: Vec<_> = inside
        .components()
        .map(|component| component.as_os_str().to_string_lossy())
        .collect();
    Ok((name.join("/"), read(root, page, path, None)?))
}

fn locate(root: &Path, page: &Page, path: &str) -> Result<PathBuf, String> {
    if Path::new(path).is_absolute() {
        return Err(format!("{path}: expected a path relative to the page"));
    }
    let folder = root.join(&page.name);
    let folder = folder.parent().unwrap_or(root);
    // By its letters first: a path that leaves the checkout is refused whether
    // or not something lies there.
    let mut depth = folder
        .strip_prefix(root)
        .map_or(0, |inside| inside.components().count());
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir if depth == 0 => {
                return Err(format!("{path} leaves the repository"));
            }
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => depth += 1,
            _ => {}
        }
    }
    let file = folder
        .join(path)
        .canonicalize()
        .map_err(|_| format!("no file {path} (looked for from {})", page.name))?;
    let Ok(inside) = file.strip_prefix(root) else {
        return Err(format!("{path} leaves the repository by a link"));
    };
    if let Some(first) = inside.components().next()
        && NOT_IN_A_CLONE
            .iter()
            .any(|ignored| first.as_os_str() == *ignored)
    {
        return Err(format!(
            "{path} lies in {}, which git ignores: a clone would not have it",
            first.as_os_str().display()
        ));
    }
    if !file.is_file() {
        return Err(format!("{path} is not a file"));
    }
    Ok(file)
}

/// A line with an anchor's mark: whether it ends one, and the anchor's name.
fn marker(line: &str) -> Option<(bool, &str)> {
    let (end, rest) = if let Some((_, rest)) = line.split_once("ANCHOR_END:") {
        (true, rest)
    } else {
        let (_, rest) = line.split_once("ANCHOR:")?;
        (false, rest)
    };
    let rest = rest.trim_start();
    let name = rest
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
        .map_or(rest, |end| &rest[..end]);
    (!name.is_empty()).then_some((end, name))
}

/// The lines between an anchor's marks, other anchors' marks left out.
fn between<'a>(text: &'a str, anchor: &str) -> Result<Vec<&'a str>, String> {
    let mut lines = Vec::new();
    let mut open = None;
    let mut closed = false;
    let mut known = Vec::new();
    for (number, line) in text.lines().enumerate() {
        match marker(line) {
            Some((end, name)) if name == anchor => match (end, open, closed) {
                (false, None, false) => open = Some(number + 1),
                (true, Some(_), false) => closed = true,
                (false, ..) => {
                    return Err(format!(
                        "the anchor {anchor:?} begins a second time on line {}",
                        number + 1
                    ));
                }
                (true, ..) => {
                    return Err(format!(
                        "the anchor {anchor:?} ends on line {} without a beginning",
                        number + 1
                    ));
                }
            },
            Some((false, name)) => known.push(name),
            Some((true, _)) => {}
            None if open.is_some() && !closed => lines.push(line),
            None => {}
        }
    }
    match (open, closed) {
        (Some(_), true) => Ok(lines),
        (Some(line), false) => Err(format!(
            "the anchor {anchor:?} begins on line {line} and never ends: add ANCHOR_END: {anchor}"
        )),
        (None, _) if known.is_empty() => Err(format!(
            "no anchor {anchor:?}: the file has no anchors; mark the lines with ANCHOR: {anchor} and ANCHOR_END: {anchor}"
        )),
        (None, _) => Err(format!(
            "no anchor {anchor:?}: the file has {}",
            known.join(", ")
        )),
    }
}

/// Removes the indentation that all lines share, and blank lines at both ends:
/// an anchor inside a function should not waste half of a phone's width.
fn dedent(lines: &[&str]) -> String {
    let indent = lines
        .iter()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start_matches(' ').len())
        .min()
        .unwrap_or(0);
    let lines: Vec<&str> = lines
        .iter()
        .map(|line| line.get(indent..).unwrap_or_default().trim_end())
        .collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// The gate on code blocks: code is included, never typed.
///
/// A fence names its language. Only what one types in a terminal and what one
/// sees there (`console`, `text`), and `json` and `toml`, may stand in the page
/// by hand. A block of any other language holds includes and nothing else.
pub fn check_blocks(page: &Page) -> Vec<Problem> {
    let code = page.code();
    let mut problems = Vec::new();
    for block in &code.blocks {
        let mut report = |text: String| {
            problems.push(Problem::at(&page.name, page.line(block.span.start), text))
        };
        if !block.fenced {
            report("an indented code block: use a fence that names its language".into());
            continue;
        }
        let Some(language) = block.language.as_deref() else {
            report(format!(
                "a code block without a language: expected rust with an include, or one of {}",
                BY_HAND.join(", ")
            ));
            continue;
        };
        if BY_HAND.contains(&language) {
            continue;
        }
        let text = &page.source[block.span.clone()];
        let body = text.lines().skip(1);
        // The last line is the closing fence, which an unclosed block lacks.
        let typed = body
            .map(|line| line.trim_start_matches(['>', ' ']).trim())
            .find(|line| {
                !(line.is_empty()
                    || line.starts_with("```")
                    || line.starts_with("~~~")
                    || (line.starts_with("{{#include ") && line.ends_with("}}")))
            });
        if let Some(typed) = typed {
            report(format!(
                "{language} typed by hand ({typed:?}): include it from a file that is compiled and tested, by {{{{#include PATH:ANCHOR}}}}; by hand only {}",
                BY_HAND.join(", ")
            ));
        } else if !text.contains("{{#include ") {
            report(format!("an empty {language} block"));
        }
    }
    for span in &code.html {
        let html = page.source[span.clone()].to_ascii_lowercase();
        if html.contains("<pre") || html.contains("language-rust") {
            problems.push(Problem::at(
                &page.name,
                page.line(span.start),
                "a code block typed as HTML: use a fence with an include",
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{between, check_blocks, dedent, read};
    use crate::page::Page;

    fn page(source: &str) -> Page {
        Page {
            name: "book/src/ch/p.md".into(),
            path: "ch/p.md".into(),
            source: source.into(),
        }
    }

    #[test]
    fn anchors_are_taken_whole_or_refused() {
        let text = "// ANCHOR: a\nfn a() {\n    // ANCHOR: b\n    b();\n    // ANCHOR_END: b\n}\n// ANCHOR_END: a\n";
        assert_eq!(
            dedent(&between(text, "a").unwrap()),
            "fn a() {\n    b();\n}"
        );
        assert_eq!(dedent(&between(text, "b").unwrap()), "b();");
        assert!(
            between(text, "c")
                .unwrap_err()
                .contains("the file has a, b")
        );
        let open = "// ANCHOR: a\nx\n";
        assert!(between(open, "a").unwrap_err().contains("never ends"));
        let twice = "// ANCHOR: a\n// ANCHOR_END: a\n// ANCHOR: a\n";
        assert!(between(twice, "a").unwrap_err().contains("second time"));
        let end = "// ANCHOR_END: a\n";
        assert!(
            between(end, "a")
                .unwrap_err()
                .contains("without a beginning")
        );
    }

    #[test]
    fn a_file_must_be_in_the_checkout() {
        let outer = tempfile::tempdir().unwrap();
        let outer = outer.path().canonicalize().unwrap();
        let root = outer.join("repo");
        fs::create_dir_all(root.join("book/src/ch")).unwrap();
        fs::create_dir_all(root.join("target")).unwrap();
        fs::write(root.join("x.rs"), "fn x() {}\n").unwrap();
        fs::write(root.join("empty.rs"), "\n").unwrap();
        fs::write(root.join("fence.rs"), "```\n").unwrap();
        fs::write(root.join("target/y.rs"), "fn y() {}\n").unwrap();
        fs::write(outer.join("outside.rs"), "fn z() {}\n").unwrap();
        let read = |path: &str| read(&root, &page(""), path, None);
        assert_eq!(read("../../../x.rs").unwrap(), "fn x() {}");
        for (path, part) in [
            ("../../../none.rs", "no file"),
            ("../../../../outside.rs", "leaves the repository"),
            ("../../../../../../../etc/passwd", "leaves the repository"),
            ("/etc/passwd", "relative to the page"),
            ("../../../target/y.rs", "git ignores"),
            ("../../../empty.rs", "is empty"),
            ("../../../fence.rs", "would end"),
            ("../../../book", "not a file"),
        ] {
            let error = read(path).unwrap_err();
            assert!(error.contains(part), "{path}: {error}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(outer.join("outside.rs"), root.join("link.rs")).unwrap();
            assert!(read("../../../link.rs").unwrap_err().contains("by a link"));
        }
    }

    #[test]
    fn code_is_never_typed_by_hand() {
        let include = "```rust\n{{#include x.rs:a}}\n```\n";
        let console = "```console\n$ cargo x learn\n```\n";
        assert_eq!(check_blocks(&page(&format!("{include}\n{console}"))), []);
        for (source, part) in [
            ("```rust\nfn f() {}\n```", "rust typed by hand"),
            (
                "```rust,ignore\n{{#include x.rs:a}}\nfn f() {}\n```",
                "rust typed by hand",
            ),
            ("> ```rs\n> fn f() {}\n> ```", "rs typed by hand"),
            (
                "- item\n\n  ```python\n  x = 1\n  ```",
                "python typed by hand",
            ),
            ("```\nfn f() {}\n```", "without a language"),
            ("text\n\n    fn f() {}\n", "indented"),
            ("```rust\n```", "empty"),
            ("<pre><code>fn f() {}</code></pre>", "as HTML"),
        ] {
            let problems = check_blocks(&page(source));
            assert_eq!(problems.len(), 1, "{source}: {problems:?}");
            assert!(problems[0].text.contains(part), "{source}: {problems:?}");
        }
    }
}
