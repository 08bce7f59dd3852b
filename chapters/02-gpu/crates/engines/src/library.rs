//! Where an engine's shared library lies: where the user says, else where set-up puts it.

use std::{
    env,
    path::{Path, PathBuf},
};

use accel::checkout::checkout_root;
use cpu_inference::engine::SetupError;

/// What brings the libraries of the engines.
pub const SETUP: &str = "cargo x setup --engines";

/// A library that is opened at run time.
#[derive(Clone, Copy, Debug)]
pub struct Library {
    /// Name for people.
    pub name: &'static str,
    /// Folder below `.native/engines/`.
    pub folder: &'static str,
    /// Name of the file there, without the system's prefix and suffix.
    pub stem: &'static str,
    /// Variable by which a user names a library of their own.
    pub variable: &'static str,
}

impl Library {
    /// The file that set-up brings, if it is there.
    ///
    /// # Errors
    /// [`SetupError::Unavailable`] with the place that was looked at.
    pub fn from_setup(&self) -> Result<PathBuf, SetupError> {
        let root = checkout_root();
        self.below(root.as_deref())
    }

    fn below(&self, root: Option<&Path>) -> Result<PathBuf, SetupError> {
        let file = format!(
            "{}{}{}",
            env::consts::DLL_PREFIX,
            self.stem,
            env::consts::DLL_SUFFIX
        );
        let place = Path::new(".native/engines").join(self.folder).join(file);
        let why = match root {
            Some(root) if root.join(&place).is_file() => return Ok(root.join(&place)),
            Some(_) => format!("its library is not there ({})", place.display()),
            None => {
                "the program was carried out of the project's folder, where its library lies".into()
            }
        };
        Err(self.unavailable(why))
    }

    /// An error that says how to get the library.
    pub fn unavailable(&self, why: String) -> SetupError {
        SetupError::Unavailable {
            engine: self.name,
            why,
            remedy: format!(
                "run \"{SETUP}\", or set {} to a library of your own",
                self.variable
            ),
        }
    }
}

/// The first line of a library's message, at most 300 characters of it.
pub fn first_line(message: &str) -> String {
    let line = message.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("no message").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: Library = Library {
        name: "An Engine",
        folder: "an-engine",
        stem: "an_engine",
        variable: "AN_ENGINE",
    };

    #[test]
    fn a_missing_library_says_where_and_what_to_type() {
        let text = LIBRARY
            .below(Some(Path::new("/nowhere")))
            .unwrap_err()
            .to_string();
        for part in [
            ".native/engines/an-engine/",
            "cargo x setup --engines",
            "AN_ENGINE",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("/nowhere"), "{text}");
        let text = LIBRARY.below(None).unwrap_err().to_string();
        assert!(text.contains("carried out of the project"), "{text}");
    }

    #[test]
    fn a_message_is_cut_to_its_first_line() {
        assert_eq!(first_line("\n  one \ntwo"), "one");
        assert_eq!(first_line(""), "no message");
        assert_eq!(first_line(&"x".repeat(1000)).len(), 300);
    }
}
