//! One thing that is wrong with a page, and where.

use std::fmt;

/// A finding of a gate: what is wrong, where, and what would be right.
///
/// Gates collect problems and never stop at the first one: a writer who mends
/// a page wants the whole list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, relative to the repository root (`book/src/setup.md`) or, for
    /// a rendered page, to the folder of the rendered book.
    pub page: String,
    /// Line in that file, counted from 1; `None` where a line has no meaning.
    pub line: Option<usize>,
    /// What is wrong, and what would be right.
    pub text: String,
}

impl Problem {
    /// A problem on a line of a page.
    pub fn at(page: &str, line: usize, text: impl Into<String>) -> Self {
        Self {
            page: page.to_owned(),
            line: Some(line),
            text: text.into(),
        }
    }

    /// A problem of a whole file.
    pub fn in_file(page: &str, text: impl Into<String>) -> Self {
        Self {
            page: page.to_owned(),
            line: None,
            text: text.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(out, "{}:{line}: {}", self.page, self.text),
            None => write!(out, "{}: {}", self.page, self.text),
        }
    }
}
