//! Why a book was not built.

use std::path::PathBuf;

use crate::problem::Problem;

/// Why a book was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The gates found something. The last good book, if any, is untouched.
    #[error("{}", list(.0))]
    Gates(Vec<Problem>),
    /// The folder is not a checkout of this project.
    #[error("no {} here: pass the repository's root with --root", .0.display())]
    NotARepository(PathBuf),
    /// `book/book.toml` or `book/figures.toml` cannot be used.
    #[error("{}: {reason}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What was expected and what came.
        reason: String,
    },
    /// mdBook itself failed.
    #[error("mdBook failed: {0}")]
    MdBook(String),
    /// The pages could not be put into an EPUB.
    #[error("no EPUB: {0}")]
    Epub(String),
    /// Reading or writing failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// "read", "write", "create" or "rename".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl BuildError {
    /// Attaches the action and the path to an I/O error.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

fn list(problems: &[Problem]) -> String {
    let mut text = format!(
        "the book has {} problem{}:",
        problems.len(),
        if problems.len() == 1 { "" } else { "s" }
    );
    for problem in problems {
        text.push_str("\n  ");
        text.push_str(&problem.to_string());
    }
    text
}
