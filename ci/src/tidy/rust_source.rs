//! Rules for Rust source: where `unsafe` may stand, and macros that panic instead of working.

use std::path::Path;

use super::{Problem, contents::has_word, rules};

/// Macros that stand for code that is not written.
const PLACEHOLDERS: [&str; 2] = ["todo", "unimplemented"];

/// The file that holds the table of exceptions.
const TABLE: &str = "ci/src/tidy/rules.rs";

/// Checks every `.rs` file.
///
/// * `unsafe_allowed`: files or folders that may hold `unsafe`, each with the reason
pub fn check(
    root: &Path,
    files: &[String],
    unsafe_allowed: &[(&str, &str)],
    problems: &mut Vec<Problem>,
) {
    // Exceptions go stale only in the project that the table belongs to.
    if files.iter().any(|path| path == TABLE) {
        for place in unsafe_allowed {
            if !files.iter().any(|path| rules::lists(&[*place], path)) {
                let (place, _) = place;
                let message =
                    format!("{place} may hold `unsafe`, but is not there: delete its line");
                problems.push(Problem::in_file(TABLE, message));
            }
        }
    }
    for file in files.iter().filter(|file| file.ends_with(".rs")) {
        // A file that cannot be read is reported by the rules for all files.
        let Ok(text) = std::fs::read_to_string(root.join(file)) else {
            continue;
        };
        let allowed = rules::lists(unsafe_allowed, file);
        for (number, line) in (1..).zip(code(&text).lines()) {
            if !allowed && has_word(line, "unsafe") {
                let message = format!("`unsafe` here: files that may are listed in {TABLE}");
                problems.push(Problem::on_line(file, number, message));
            }
            for name in PLACEHOLDERS {
                let call = format!("{name}!");
                if line.match_indices(&call).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                }) {
                    let message = format!("`{call}`: write it, or return an error");
                    problems.push(Problem::on_line(file, number, message));
                }
            }
        }
    }
}

/// The source with comments and the insides of literals blanked; lines stay where they are.
fn code(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut out = String::with_capacity(source.len());
    let mut i = 0;
    while i < chars.len() {
        let end = match (at(i), at(i + 1)) {
            ('/', '/') => (i..chars.len())
                .find(|&j| at(j) == '\n')
                .unwrap_or(chars.len()),
            ('/', '*') => end_of_block_comment(&chars, i),
            ('"', _) => end_of_string(&chars, i),
            ('r', '"' | '#') if !is_word(i.checked_sub(1).map_or(' ', at)) => {
                end_of_raw_string(&chars, i).unwrap_or(i + 1)
            }
            // `br"..."` and `cr"..."`: the r is not at the beginning of the word.
            ('b' | 'c', 'r') if matches!(at(i + 2), '"' | '#') => {
                end_of_raw_string(&chars, i + 1).unwrap_or(i + 1)
            }
            ('\'', _) => end_of_char(&chars, i).unwrap_or(i + 1),
            _ => i + 1,
        };
        if end == i + 1 {
            out.push(at(i));
        } else {
            let blank = |c: &char| if *c == '\n' { '\n' } else { ' ' };
            out.extend(chars[i..end].iter().map(blank));
        }
        i = end;
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Block comments nest in Rust.
fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut i) = (0, start);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                i += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut i = start + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// `None` if what begins at the `r` is a raw identifier and no string.
fn end_of_raw_string(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |&j: &usize| {
        chars[j] == '"'
            && chars[j + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes
    };
    let close = (open + 1..chars.len()).find(closes);
    Some(close.map_or(chars.len(), |close| close + 1 + hashes))
}

/// `None` if the quote begins a lifetime.
fn end_of_char(chars: &[char], start: usize) -> Option<usize> {
    if chars.get(start + 1) == Some(&'\\') {
        // The character after the backslash may be a quote itself.
        let close = (start + 3..chars.len()).find(|&j| chars[j] == '\'')?;
        return Some(close + 1);
    }
    (chars.get(start + 2) == Some(&'\'')).then_some(start + 3)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Tree;
    use super::*;

    fn found(source: &str, allowed: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::new(&[("src/a.rs", source), (TABLE, "")]);
        tree.check(|root, files, problems| check(root, files, allowed, problems))
    }

    #[test]
    fn only_listed_files_may_be_unsafe() {
        let source = "fn f() {}\nfn g() { unsafe { h() } }\n";
        let problems = found(source, &[]);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("src/a.rs:2: "), "{problems:?}");
        assert!(found(source, &[("src/a.rs", "calls C")]).is_empty());
        assert!(found(source, &[("src/", "calls C")]).is_empty());
        assert_eq!(found(source, &[("sr/", "calls C")]).len(), 2);
        assert!(found("#![deny(unsafe_code)]\n", &[]).is_empty());
    }

    #[test]
    fn a_stale_exception_is_a_problem() {
        let problems = found("", &[("src/gone.rs", "calls C")]);
        assert!(problems[0].contains("src/gone.rs"), "{problems:?}");
    }

    #[test]
    fn placeholders_are_refused() {
        assert_eq!(found("fn f() { todo!() }", &[]).len(), 1);
        assert_eq!(found("fn f() { unimplemented!(\"x\") }", &[]).len(), 1);
        assert!(found("fn f() { my_todo!() }", &[]).is_empty());
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        for source in [
            "// unsafe todo!()\n",
            "/* a /* unsafe */ unsafe */\n",
            "const A: &str = \"unsafe \\\" unsafe\";\n",
            "const A: &str = r#\"unsafe \" todo!()\"#;\n",
            "const A: &[u8] = br\"unsafe\";\n",
        ] {
            assert_eq!(found(source, &[]), Vec::<String>::new(), "{source}");
        }
    }

    #[test]
    fn code_after_literals_is_still_seen() {
        for source in [
            "fn f<'a>(x: &'a str) { unsafe { g(x) } }",
            "const A: char = '\"'; fn f() { unsafe { g() } }",
            "const A: char = '\\''; fn f() { unsafe { g() } }",
            "const A: &str = r\"\\\"; fn f() { unsafe { g() } }",
            "fn f(r#type: u8) { unsafe { g() } }",
            "/* */ unsafe fn f() {}",
        ] {
            assert_eq!(found(source, &[]).len(), 1, "{source}");
        }
    }

    #[test]
    fn an_unfinished_source_does_not_stop_the_check() {
        for source in [
            "\"", "'", "r#\"", "/*", "'\\", "b", "r", "r#", "br#", "\"\\",
        ] {
            assert!(found(source, &[]).is_empty(), "{source}");
        }
    }
}
