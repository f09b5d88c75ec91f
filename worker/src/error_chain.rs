//! An error and its sources as one line of text.

use std::error::Error;

/// The error and its sources, joined by colons; what a source merely repeats is left out.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn sources_follow_and_repetition_is_left_out() {
        assert_eq!(
            error_chain(&Outer(std::io::Error::other("inner"))),
            "outer: inner"
        );
        assert_eq!(error_chain(&Outer(std::io::Error::other("outer"))), "outer");
    }
}
