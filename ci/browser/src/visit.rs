//! One page in one view.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::{devtools::Tab, view::View};

/// What is wrong with a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The page.
    pub page: PathBuf,
    /// In which view.
    pub view: View,
    /// What is wrong.
    pub fault: Fault,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// It asks for something that is not a file of this machine.
    Request(String),
    /// It is wider than the window, by this many CSS pixels; which element.
    Overflow(u32, String),
    /// axe-core's finding of level serious or critical.
    Accessibility(Violation),
    /// The theme that was asked for is not shown.
    Theme(String),
}

/// A rule that axe-core finds broken.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Violation {
    /// The rule.
    pub id: String,
    /// "serious" or "critical".
    pub impact: String,
    /// The rule in words.
    pub help: String,
    /// Where, as CSS selectors; the first few.
    pub nodes: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: ", self.page.display(), self.view)?;
        match &self.fault {
            Fault::Request(url) => write!(f, "asks for {url}, which is not on this machine"),
            Fault::Overflow(pixels, element) => {
                write!(f, "{pixels} pixels wider than the window: {element}")
            }
            Fault::Theme(classes) => write!(f, "another theme than asked for: {classes:?}"),
            Fault::Accessibility(violation) => write!(
                f,
                "{} ({}): {}: {}",
                violation.id,
                violation.impact,
                violation.help,
                violation.nodes.join(", ")
            ),
        }
    }
}

/// How wide the page is, and what makes it so; and its theme.
const LOOK: &str = r"(() => {
    const root = document.documentElement;
    const excess = Math.max(0, root.scrollWidth - root.clientWidth);
    let element = '';
    if (excess > 0) {
        for (const one of document.body.querySelectorAll('*')) {
            if (one.getBoundingClientRect().right > root.clientWidth + 1) {
                element = one.tagName.toLowerCase() + (one.id ? '#' + one.id : '') + (one.className && one.className.baseVal === undefined ? '.' + one.className : '');
            }
        }
    }
    return JSON.stringify({ excess, element, classes: root.className });
})()";

/// Runs axe, which has been loaded, and keeps what a reader would stumble over.
const RUN_AXE: &str = r"axe.run(document, { resultTypes: ['violations'] }).then(result => JSON.stringify(
    result.violations
        .filter(one => one.impact === 'serious' || one.impact === 'critical')
        .map(one => ({ id: one.id, impact: one.impact, help: one.help, nodes: one.nodes.slice(0, 4).map(node => node.target.join(' ')) }))
))";

/// A tab that shows pages in one view.
pub struct Visitor<'a> {
    tab: Tab<'a>,
    view: View,
    axe: Option<&'a str>,
}

impl<'a> Visitor<'a> {
    /// Prepares a tab.
    ///
    /// # Errors
    /// If the browser fails.
    pub fn new(mut tab: Tab<'a>, view: &View, axe: Option<&'a str>) -> anyhow::Result<Self> {
        tab.resize(view).context("set the size")?;
        let theme = format!(
            "try {{ localStorage.setItem('mdbook-theme', '{}'); }} catch (error) {{}} window.print = () => {{}};",
            view.theme
        );
        tab.run_first(&theme).context("set the theme")?;
        Ok(Self {
            tab,
            view: *view,
            axe,
        })
    }

    /// Closes the tab.
    ///
    /// # Errors
    /// If the browser fails.
    pub fn end(self) -> anyhow::Result<()> {
        self.tab.close()
    }

    /// Opens a page.
    ///
    /// # Errors
    /// If the browser fails, or the page is no file.
    pub fn visit(&mut self, page: &Path) -> anyhow::Result<Vec<Finding>> {
        let page = fs::canonicalize(page)?;
        self.tab.open(&address(&page)).context("open")?;

        #[derive(Deserialize)]
        struct Look {
            excess: u32,
            element: String,
            classes: String,
        }
        let look: Look = serde_json::from_str(&self.ask(LOOK)?)?;
        let mut faults = Vec::new();
        if look.excess > 0 {
            faults.push(Fault::Overflow(look.excess, look.element));
        }
        // A page of another make, such as one for a blog, has no themes to choose from.
        let themed = !look.classes.trim().is_empty();
        if themed
            && !look
                .classes
                .split(' ')
                .any(|class| class == self.view.theme)
        {
            faults.push(Fault::Theme(look.classes));
        }
        if let Some(axe) = self.axe {
            // The script's own value would be the whole of axe.
            self.tab.evaluate(&format!("{axe};0")).context("load axe")?;
            let violations: Vec<Violation> = serde_json::from_str(&self.ask(RUN_AXE)?)?;
            faults.extend(violations.into_iter().map(Fault::Accessibility));
        }
        faults.extend(
            self.tab
                .requests()
                .into_iter()
                .filter(|url| leaves_the_machine(url))
                .map(Fault::Request),
        );
        Ok(faults
            .into_iter()
            .map(|fault| Finding {
                page: page.clone(),
                view: self.view,
                fault,
            })
            .collect())
    }

    /// The text that a script gives.
    fn ask(&mut self, script: &str) -> anyhow::Result<String> {
        match self.tab.evaluate(script).context("run a script")? {
            Value::String(text) => Ok(text),
            other => bail!("a script answered {other}"),
        }
    }
}

/// Whether an address is neither a file nor the page's own data.
fn leaves_the_machine(url: &str) -> bool {
    !["file:", "data:", "blob:", "about:"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
}

/// A file as an address.
fn address(page: &Path) -> String {
    let mut address = String::from("file://");
    for byte in page.to_string_lossy().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                address.push(char::from(byte));
            }
            _ => address.push_str(&format!("%{byte:02X}")),
        }
    }
    address
}
