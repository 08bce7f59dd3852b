//! Which environment variables reach an object store, and which of them are secret.

use std::fmt;

use super::place::Scheme;

/// The variables of the environment that are meant for one kind of object store.
///
/// They are taken by their prefix, `AWS_` or `GOOGLE_`. The crate below would also take `TOKEN`,
/// `REGION` or `TIMEOUT` by those names, which other programs set for their own purposes.
#[derive(Clone, Default)]
pub struct Environment {
    /// Names in lower case, as the crate below wants them, and values.
    settings: Vec<(String, String)>,
}

/// Words in the names of variables whose values are secret. Paths to secrets are not.
const SECRET: [&str; 4] = ["secret", "token", "key", "password"];

/// Shorter values are no secrets (a test's `x`), and to look for them would spoil any text.
const SHORTEST_SECRET: usize = 8;

impl Environment {
    /// This process's variables for a kind of store. Values that are not UTF-8 are left out.
    pub fn of_this_process(scheme: Scheme) -> Self {
        Self::new(
            scheme,
            std::env::vars_os().filter_map(|(name, value)| {
                Some((name.into_string().ok()?, value.into_string().ok()?))
            }),
        )
    }

    /// The variables among `variables` that are meant for a kind of store.
    pub fn new(scheme: Scheme, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let prefix = match scheme {
            Scheme::Gs => "GOOGLE_",
            Scheme::S3 => "AWS_",
        };
        let settings = variables
            .into_iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
        Self { settings }
    }

    /// The settings: names in lower case, and values.
    pub(super) fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `text` without the values of secret variables.
    pub(super) fn without_secrets(&self, text: &str) -> String {
        let is_secret = |name: &str, value: &str| {
            value.len() >= SHORTEST_SECRET
                && !name.ends_with("_file")
                && SECRET.iter().any(|word| name.contains(word))
        };
        self.settings()
            .filter(|(name, value)| is_secret(name, value))
            .fold(text.to_owned(), |text, (_, value)| {
                text.replace(value, "[secret]")
            })
    }
}

impl fmt::Debug for Environment {
    /// Names only.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.settings().map(|(name, _)| name))
            .finish()
    }
}
