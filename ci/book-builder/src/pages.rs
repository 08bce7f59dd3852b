//! The bridge to mdBook: its book is read for the pages, and handed back with
//! their expanded text by a preprocessor that runs in this process.

use std::{collections::BTreeMap, path::Path};

use mdbook_driver::{
    book::{Book, BookItem},
    errors::Result,
};
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};

use crate::page::Page;

/// The pages of a book, in the order of its summary; drafts have none.
pub fn of(book: &Book) -> Vec<Page> {
    book.iter()
        .filter_map(|item| match item {
            BookItem::Chapter(chapter) => {
                let path = slashed(chapter.source_path.as_deref()?);
                Some(Page {
                    name: format!("book/src/{path}"),
                    path,
                    source: chapter.content.clone(),
                })
            }
            _ => None,
        })
        .collect()
}

/// A relative path with `/`, whatever the system's separator is.
pub fn slashed(path: &Path) -> String {
    path.components()
        .map(|component| component.as_os_str().to_string_lossy())
        .collect::<Vec<_>>()
        .join("/")
}

/// Puts the expanded text in the place of the written one.
///
/// mdBook's own preprocessors do not run: they would expand includes a second
/// time, and pass over what they do not find.
#[derive(Debug)]
pub struct ExpandedPages(pub BTreeMap<String, String>);

impl Preprocessor for ExpandedPages {
    fn name(&self) -> &str {
        "figures"
    }

    fn run(&self, _: &PreprocessorContext, mut book: Book) -> Result<Book> {
        book.for_each_mut(|item| {
            if let BookItem::Chapter(chapter) = item
                && let Some(path) = chapter.source_path.as_deref()
                && let Some(text) = self.0.get(&slashed(path))
            {
                chapter.content.clone_from(text);
            }
        });
        Ok(book)
    }
}
