//! How two source files differ, line by line, made when the book is built.
//!
//! A page that claims that one program is another with a few lines changed shows
//! those lines, and the build fails when they become more than the page allows.

use std::path::Path;

use similar::{ChangeTag, TextDiff};

use crate::{directive::Difference, listing, markup::html, page::Page};

/// Lines shown around each change, as `diff -U` would.
const CONTEXT: usize = 2;

/// How many lines one file has and the other has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    /// Lines of the old file that the new one lacks.
    removed: usize,
    /// Lines of the new file that the old one lacks.
    added: usize,
}

/// Renders the difference as a code block, with a line beneath that counts it.
///
/// * `root`: the repository, canonical
/// * `page`: the page that shows it; paths are relative to its folder
///
/// # Errors
/// A file that cannot be shown (as an include's would be), files that do not
/// differ, or more lines that differ than the directive allows.
pub fn render(difference: &Difference, root: &Path, page: &Page) -> Result<String, String> {
    let (old_name, old) = listing::whole(root, page, &difference.old)?;
    let (new_name, new) = listing::whole(root, page, &difference.new)?;
    // The last lines should not differ for want of a newline.
    let (old, new) = (old + "\n", new + "\n");
    let diff = TextDiff::from_lines(old.as_str(), new.as_str());
    let count = count(&diff);
    let both = count.removed + count.added;
    if both == 0 {
        return Err(format!(
            "{old_name} and {new_name} are the same: there is no difference to show"
        ));
    }
    let limit = difference.limit;
    if both > limit {
        return Err(format!(
            "{old_name} and {new_name} differ by {both} lines ({} removed, {} added); \
             the page allows {limit}: bring the two programs together again, or change what \
             the page claims and its limit=",
            count.removed, count.added
        ));
    }
    let mut unified = diff.unified_diff();
    unified.context_radius(CONTEXT).header(&old_name, &new_name);
    Ok(format!(
        "```diff\n{}\n```\n\n<p class=\"provenance\">{} of {} lines differ: {} removed, {} added; \
         made from <code>{}</code> and <code>{}</code> when the book was built, which fails \
         above {limit}.</p>\n",
        unified.to_string().trim_end(),
        both,
        new.lines().count(),
        count.removed,
        count.added,
        html(&old_name),
        html(&new_name),
    ))
}

fn count(diff: &TextDiff<'_, '_, str>) -> Count {
    let mut count = Count {
        removed: 0,
        added: 0,
    };
    for change in diff.iter_all_changes() {
        match change.tag() {
            ChangeTag::Delete => count.removed += 1,
            ChangeTag::Insert => count.added += 1,
            ChangeTag::Equal => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::render;
    use crate::{directive::Difference, page::Page};

    const OLD: &str = "use one::Device;\n\n// ANCHOR: f\nfn f() -> u8 {\n    let d = Device::Cpu;\n    d.go()\n}\n// ANCHOR_END: f\n";

    fn rendered(new: &str, limit: usize) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("book/src")).unwrap();
        fs::write(root.join("one.rs"), OLD).unwrap();
        fs::write(root.join("two.rs"), new).unwrap();
        let page = Page {
            name: "book/src/p.md".into(),
            path: "p.md".into(),
            source: String::new(),
        };
        let difference = Difference {
            old: "../../one.rs".into(),
            new: "../../two.rs".into(),
            limit,
        };
        render(&difference, &root, &page)
    }

    #[test]
    fn the_lines_that_differ_are_shown_and_counted() {
        let new = OLD.replace("Device::Cpu", "Device::Cuda(0)");
        let shown = rendered(&new, 2).unwrap();
        assert!(shown.starts_with("```diff\n--- one.rs\n+++ two.rs\n@@ "));
        assert!(shown.contains("\n-    let d = Device::Cpu;\n+    let d = Device::Cuda(0);\n"));
        assert!(!shown.contains("ANCHOR"), "{shown}");
        assert!(
            shown.contains("2 of 6 lines differ: 1 removed, 1 added"),
            "{shown}"
        );
    }

    #[test]
    fn more_lines_than_allowed_are_refused() {
        let new = OLD.replace("d.go()", "d.go()\n    + 1");
        let error = rendered(&new, 0).unwrap_err();
        assert!(
            error.contains("differ by 1 lines (0 removed, 1 added); the page allows 0"),
            "{error}"
        );
        assert!(rendered(&new, 1).is_ok());
    }

    #[test]
    fn equal_files_have_nothing_to_show() {
        // Marks are no lines of the program.
        let error = rendered(&OLD.replace("// ANCHOR: f\n", ""), 5).unwrap_err();
        assert!(error.contains("are the same"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_told() {
        assert!(rendered("\n", 5).unwrap_err().contains("two.rs is empty"));
    }
}
