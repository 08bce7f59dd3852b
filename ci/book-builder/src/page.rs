//! A page as it was written: its text, its lines, its code blocks.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A Markdown page of the book, before anything is expanded.
#[derive(Debug, Clone)]
pub struct Page {
    /// Path relative to the repository root, as problems name it.
    pub name: String,
    /// Path relative to `book/src`, with `/`; the book's own name of the page.
    pub path: String,
    /// The Markdown.
    pub source: String,
}

/// A code block of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeBlock {
    /// First word of the info string (`rust`, `console`); `None` where there is none.
    pub language: Option<String>,
    /// Whether fences delimit it (else it is an indented block).
    pub fenced: bool,
    /// The whole block in the page, fences included.
    pub span: Range<usize>,
}

/// The places of a page where Markdown is code.
#[derive(Debug, Default)]
pub struct Code {
    /// Fenced and indented blocks, in order.
    pub blocks: Vec<CodeBlock>,
    /// Code within a line, in order.
    pub spans: Vec<Range<usize>>,
    /// Raw HTML, in order: it can hold code by hand, too.
    pub html: Vec<Range<usize>>,
}

impl Page {
    /// Line of a byte offset, counted from 1.
    pub fn line(&self, offset: usize) -> usize {
        1 + self.source.as_bytes()[..offset.min(self.source.len())]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
    }

    /// The way from this page up to the book's root: `""`, `"../"`, ...
    pub fn up(&self) -> String {
        "../".repeat(self.path.matches('/').count())
    }

    /// Finds the code of the page.
    pub fn code(&self) -> Code {
        let options = Options::ENABLE_TABLES
            | Options::ENABLE_FOOTNOTES
            | Options::ENABLE_STRIKETHROUGH
            | Options::ENABLE_TASKLISTS;
        let mut code = Code::default();
        let mut depth = 0_usize;
        for (event, span) in Parser::new_ext(&self.source, options).into_offset_iter() {
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    depth += 1;
                    let (fenced, language) = match kind {
                        CodeBlockKind::Fenced(info) => (true, first_word(&info)),
                        CodeBlockKind::Indented => (false, None),
                    };
                    code.blocks.push(CodeBlock {
                        language,
                        fenced,
                        span,
                    });
                }
                Event::End(TagEnd::CodeBlock) => depth = depth.saturating_sub(1),
                Event::Code(_) if depth == 0 => code.spans.push(span),
                Event::Html(_) | Event::InlineHtml(_) => code.html.push(span),
                _ => {}
            }
        }
        code
    }
}

/// The language of an info string such as `rust,ignore`.
fn first_word(info: &str) -> Option<String> {
    info.split([',', ' ', '\t'])
        .next()
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::Page;

    fn page(source: &str) -> Page {
        Page {
            name: "book/src/a/b.md".into(),
            path: "a/b.md".into(),
            source: source.into(),
        }
    }

    #[test]
    fn code_is_found_with_its_language_and_line() {
        let page = page("x `y`\n\n```rust,ignore\nfn f() {}\n```\n\n    indented\n");
        let code = page.code();
        assert_eq!(code.spans, vec![2..5]);
        assert_eq!(code.blocks.len(), 2);
        assert_eq!(code.blocks[0].language.as_deref(), Some("rust"));
        assert_eq!(page.line(code.blocks[0].span.start), 3);
        assert!(!code.blocks[1].fenced);
        assert_eq!(page.up(), "../");
    }
}
