//! An error with all that caused it, on one line.

use std::error::Error;
use std::fmt;

/// The error's own words, then those of each source, joined by colons. What a source only repeats is left out.
pub fn error_chain<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + 'a {
    fmt::from_fn(move |out| {
        let mut said = plain(error);
        write!(out, "{said}")?;
        let mut source = error.source();
        while let Some(cause) = source {
            let text = plain(cause);
            // Some libraries repeat their source in their own text.
            if !said.ends_with(&text) {
                write!(out, ": {text}")?;
            }
            said = text;
            source = cause.source();
        }
        Ok(())
    })
}

/// An error's own words. kube repeats the API server's answer as Rust would print it.
fn plain(error: &dyn Error) -> String {
    let text = error.to_string();
    match text.split_once(" (Status {") {
        Some((words, _)) => words.trim_start_matches("ApiError: ").to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("outer")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn sources_follow_and_repetition_is_left_out() {
        let told = |inner: &str| error_chain(&Outer(std::io::Error::other(inner))).to_string();
        assert_eq!(told("inner"), "outer: inner");
        assert_eq!(told("outer"), "outer");
    }
}
