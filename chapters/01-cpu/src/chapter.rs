//! Whose results they are: one library serves the programs of two chapters.

use accel::results::ResultFile;

use crate::setting;

/// A chapter that measures with this library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chapter {
    /// Its folder below `chapters/`.
    pub name: &'static str,
    /// What its figures depend on: if one has changed, they are stale.
    pub depends_on: &'static [&'static str],
}

impl Chapter {
    /// A result file of this chapter, dated now, with this machine and no rows.
    pub fn result_file(&self, measurement: &str) -> ResultFile {
        let mut file = ResultFile::new(self.name, measurement, setting::environment());
        file.depends_on = self
            .depends_on
            .iter()
            .map(|&path| path.to_owned())
            .collect();
        file
    }
}
