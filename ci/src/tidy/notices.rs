//! Rule for the third-party notices: every file that they name exists.

use std::path::Path;

use super::Problem;

/// Checks each notices file in the root (`THIRD-PARTY-NOTICES.md` or the like).
pub fn check(root: &Path, files: &[String], problems: &mut Vec<Problem>) {
    let is_notices = |file: &&String| {
        let name = file.to_ascii_uppercase().replace('_', "-");
        !file.contains('/') && (name.starts_with("THIRD-PARTY") || name.starts_with("NOTICE"))
    };
    for file in files.iter().filter(is_notices) {
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        for (number, line) in (1..).zip(text.lines()) {
            for path in named_paths(line) {
                if !root.join(path).exists() {
                    let message = format!("names {path}, which is not there");
                    problems.push(Problem::on_line(file, number, message));
                }
            }
        }
    }
}

/// What stands in backquotes or as a link's target, if it looks like a path in the project.
fn named_paths(line: &str) -> Vec<&str> {
    let quoted = line.split('`').skip(1).step_by(2);
    let linked = line.split("](").skip(1).filter_map(|rest| {
        let (target, _) = rest.split_once(')')?;
        target.split('#').next()
    });
    let path = |text: &&str| {
        text.contains('/')
            && !text.starts_with('/')
            && !text.contains("://")
            && !text.contains([' ', '*', '<', '$', '@'])
    };
    quoted.chain(linked).filter(path).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Tree;
    use super::*;

    #[test]
    fn a_named_file_exists() {
        let text = "Digits: `data/digits.csv`, [photo](data/photo.jpg), `data/gone.csv`\n\
                    from <https://example.org/x>, `https://example.org/y`, `CC BY 4.0`, `a/*.csv`\n";
        let tree = Tree::new(&[
            ("THIRD-PARTY-NOTICES.md", text),
            ("data/digits.csv", ""),
            ("data/photo.jpg", ""),
        ]);
        assert_eq!(
            tree.check(check),
            ["THIRD-PARTY-NOTICES.md:1: names data/gone.csv, which is not there"]
        );
    }
}
