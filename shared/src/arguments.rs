//! Numbers as flags give them, with bounds.

/// A whole number from 1 to `most`.
///
/// * `what`: what it is, for the message: `"a batch size"`
///
/// # Errors
/// What was expected, and what came.
pub fn number(text: &str, what: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("expected {what} from 1 to {most}, got {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_included_and_everything_else_is_told() {
        assert_eq!(number("1", "a count", 8), Ok(1));
        assert_eq!(number("8", "a count", 8), Ok(8));
        for text in ["0", "9", "-1", "", "x", "1.5", "99999999999999999999"] {
            let message = number(text, "a count", 8).unwrap_err();
            assert_eq!(
                message,
                format!("expected a count from 1 to 8, got {text:?}")
            );
        }
    }
}
