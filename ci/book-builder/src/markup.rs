//! Text made safe for HTML, and for HTML that stands inside Markdown.

/// Escapes text for an HTML element or a double-quoted attribute.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A blank line would end the HTML block in CommonMark.
            '\n' | '\r' | '\t' => out.push(' '),
            _ => out.push(character),
        }
    }
    out
}

/// Escapes text for inline HTML within a Markdown paragraph, where what stands
/// between the tags is still read as Markdown.
pub fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '*' | '_' | '`' | '[' | ']' | '|' | '~' | '\\' | '\'' => {
                out.push_str(&format!("&#{};", u32::from(character)));
            }
            _ => out.push_str(&html(character.encode_utf8(&mut [0; 4]))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{html, inline};

    #[test]
    fn markup_of_either_kind_is_inert() {
        assert_eq!(html(r#"a<b> & "c""#), "a&lt;b&gt; &amp; &quot;c&quot;");
        assert_eq!(html("a\n\nb"), "a  b");
        assert_eq!(inline("a_b|c"), "a&#95;b&#124;c");
    }
}
