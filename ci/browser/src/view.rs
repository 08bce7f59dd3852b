//! What a reader may hold: a phone or a desktop, in light or in dark.

use std::fmt;

/// A size of the window and a theme of the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// "phone" or "desktop".
    pub size: &'static str,
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// Name of mdBook's theme.
    pub theme: &'static str,
}

/// Each size in each theme.
pub const ALL: [View; 4] = [
    phone("light"),
    phone("navy"),
    desktop("light"),
    desktop("navy"),
];

const fn phone(theme: &'static str) -> View {
    View {
        size: "phone",
        width: 390,
        height: 844,
        theme,
    }
}

const fn desktop(theme: &'static str) -> View {
    View {
        size: "desktop",
        width: 1280,
        height: 900,
        theme,
    }
}

impl View {
    /// Whether it is touched and has no scroll bars.
    pub fn is_mobile(&self) -> bool {
        self.size == "phone"
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.size, self.theme)
    }
}
