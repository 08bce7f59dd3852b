//! Rules for any file: size, pickles, paths of one machine, work left over.

use std::path::Path;

use super::{Problem, rules};

/// Names of a user's folder: the rest of the path is of one machine. In two halves each, so that
/// this file does not break its own rule.
const USER_FOLDERS: [&str; 3] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
];

/// Marks of unfinished work.
const MARKS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// Loading one of these runs code: models are safetensors here.
const PICKLE_EXTENSIONS: [&str; 5] = ["pkl", "pickle", "pt", "pth", "joblib"];

/// Checks every file.
pub fn check(root: &Path, files: &[String], problems: &mut Vec<Problem>) {
    for file in files {
        let path = root.join(file);
        let metadata = match path.metadata() {
            Ok(metadata) => metadata,
            Err(error) => {
                problems.push(Problem::in_file(file, format!("cannot be read: {error}")));
                continue;
            }
        };
        if metadata.len() > rules::LARGEST_FILE_BYTES {
            problems.push(Problem::in_file(
                file,
                format!(
                    "{} bytes: the most is {}; fetch it on demand, verified by hash",
                    metadata.len(),
                    rules::LARGEST_FILE_BYTES
                ),
            ));
            continue;
        }
        match std::fs::read(&path) {
            Ok(bytes) => check_bytes(file, &bytes, problems),
            Err(error) => {
                problems.push(Problem::in_file(file, format!("cannot be read: {error}")));
            }
        }
    }
}

fn check_bytes(file: &str, bytes: &[u8], problems: &mut Vec<Problem>) {
    if is_pickle(file, bytes) {
        let message = "a pickle, which runs code when it is loaded: use safetensors";
        problems.push(Problem::in_file(file, message));
        return;
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for (number, line) in (1..).zip(text.lines()) {
        for folder in USER_FOLDERS {
            let allowed = rules::lists(rules::USER_FOLDERS_ALLOWED, file);
            if !allowed && names_folder(line, folder) {
                let message = format!("{folder}... is a path of one machine: make it relative");
                problems.push(Problem::on_line(file, number, message));
            }
        }
        for mark in MARKS {
            if has_word(line, mark) {
                let message = format!("{mark}: do it, or open an issue and say why it waits");
                problems.push(Problem::on_line(file, number, message));
            }
        }
    }
}

fn is_pickle(file: &str, bytes: &[u8]) -> bool {
    let extension = Path::new(file).extension().unwrap_or_default();
    let named = PICKLE_EXTENSIONS.iter().any(|name| extension == *name);
    // Protocols 2 to 5 begin with PROTO and their number, and every pickle ends with STOP.
    let protocol = matches!(bytes, [0x80, 2..=5, .., b'.']);
    // What torch.save writes: a zip whose first entry is <name>/data.pkl.
    let head = &bytes[..bytes.len().min(256)];
    let zipped =
        head.starts_with(b"PK\x03\x04") && head.windows(8).any(|window| window == b"data.pkl");
    named || protocol || zipped
}

/// Whether the line has `folder` as the beginning of a path, not in the middle of one.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + folder.len()..].chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/}".contains(c))
            && after.is_some_and(|c| c.is_alphanumeric() || "._-".contains(c))
    })
}

/// Whether the line has `word`, not as a part of a longer one.
pub fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(part)
            && !line[at + word.len()..].chars().next().is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Tree;
    use super::*;

    #[test]
    fn paths_of_one_machine() {
        let text = format!("see {}jane/x", USER_FOLDERS[0]);
        let tree = Tree::new(&[("a.md", &text)]);
        let problems = tree.check(check);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("a.md:1: "), "{}", problems[0]);
        assert!(names_folder(
            &format!("\"{}x\"", USER_FOLDERS[1]),
            USER_FOLDERS[1]
        ));
        for fine in ["$HOME/x", "https://a.org/home/x", "the /home folder"] {
            assert!(!names_folder(fine, USER_FOLDERS[0]), "{fine}");
        }
    }

    #[test]
    fn a_container_may_have_its_root() {
        let text = format!("COPY a {}.cargo", USER_FOLDERS[1]);
        let tree = Tree::new(&[("docker/Dockerfile.cpu", &text)]);
        assert_eq!(tree.check(check), Vec::<String>::new());
    }

    #[test]
    fn work_left_over() {
        let text = format!("fine\n// {}: later\n", MARKS[0]);
        let problems = Tree::new(&[("a.rs", &text)]).check(check);
        assert!(problems[0].starts_with("a.rs:2: "), "{problems:?}");
        assert!(!has_word(&format!("{}S", MARKS[0]), MARKS[0]));
    }

    #[test]
    fn large_files() {
        let tree = Tree::new(&[]);
        tree.write("big.bin", &vec![0; rules::LARGEST_FILE_BYTES as usize]);
        assert!(tree.check(check).is_empty());
        tree.write("big.bin", &vec![0; rules::LARGEST_FILE_BYTES as usize + 1]);
        assert!(tree.check(check)[0].starts_with("big.bin: 4000001 bytes"));
    }

    #[test]
    fn pickles_by_name_and_by_content() {
        assert!(is_pickle("model.pth", b""));
        assert!(is_pickle("weights.bin", b"\x80\x04\x95abc."));
        assert!(is_pickle(
            "weights.bin",
            b"PK\x03\x04...archive/data.pkl..."
        ));
        assert!(!is_pickle("weights.bin", b"\x80\x04"));
        assert!(!is_pickle("weights.safetensors", b"\x10\0\0\0\0\0\0\0{}"));
        assert!(!is_pickle("a.zip", b"PK\x03\x04...readme..."));
    }
}
