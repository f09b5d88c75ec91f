//! Which bytes of an artifact a GET asks for: RFC 9110, sections 13 and 14, as far as one range and one strong ETag go. Pure.
//!
//! The crate `headers` (0.4) would not replace this: it drops a suffix longer than the file and numbers beyond u64, knows the unit in
//! lower case only, and does not tell a range behind the end from one that it cannot read.

use std::ops::Range;

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// 200: all of it. Also for units and lists of ranges that we do not know, as the RFC allows.
    Whole,
    /// 206: first byte to one past the last; never empty.
    Part(Range<u64>),
    /// 416: there is no such byte.
    Unsatisfiable,
}

/// The headers that choose. `etag` is ours, with its quotes; `range` and `if_range` as they came.
pub(crate) fn select(
    range: Option<&str>,
    if_range: Option<&str>,
    etag: &str,
    size: u64,
) -> Selection {
    if if_range.is_some_and(|validator| validator.trim() != etag) {
        return Selection::Whole;
    }
    let Some((unit, spec)) = range.and_then(|range| range.split_once('=')) else {
        return Selection::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Selection::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else {
        return Selection::Whole;
    };
    match (position(first), position(last)) {
        (Position::Absent, Position::At(suffix)) => tail(suffix, size),
        (Position::At(first), Position::Absent) => part(first, size, size),
        (Position::At(first), Position::At(last)) if first <= last => {
            part(first, last.saturating_add(1), size)
        }
        (Position::At(_), Position::At(_))
        | (Position::Absent, Position::Absent)
        | (Position::Bad, _)
        | (_, Position::Bad) => Selection::Whole,
    }
}

/// Whether the client has this artifact already.
pub(crate) fn is_held(if_none_match: Option<&str>, etag: &str) -> bool {
    if_none_match.is_some_and(|tags| {
        tags.split(',')
            .map(|tag| tag.trim())
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

enum Position {
    Absent,
    At(u64),
    Bad,
}

/// A number too large for u64 lies behind every artifact's end, which is all that matters of it.
fn position(text: &str) -> Position {
    if text.is_empty() {
        return Position::Absent;
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Position::Bad;
    }
    Position::At(text.parse().unwrap_or(u64::MAX))
}

fn part(first: u64, end: u64, size: u64) -> Selection {
    if first >= size {
        return Selection::Unsatisfiable;
    }
    Selection::Part(first..end.min(size))
}

fn tail(suffix: u64, size: u64) -> Selection {
    match (suffix, size) {
        (0, _) => Selection::Unsatisfiable,
        (_, 0) => Selection::Whole,
        (suffix, size) => Selection::Part(size.saturating_sub(suffix)..size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &str = "\"abc\"";

    #[test]
    fn a_range_is_cut_to_the_artifact() {
        for (range, expected) in [
            ("bytes=0-0", Selection::Part(0..1)),
            ("bytes=2-5", Selection::Part(2..6)),
            ("bytes=2-", Selection::Part(2..10)),
            ("bytes=2-99", Selection::Part(2..10)),
            ("bytes=-3", Selection::Part(7..10)),
            ("bytes=-99", Selection::Part(0..10)),
            ("BYTES=9-", Selection::Part(9..10)),
            ("bytes=3-18446744073709551615", Selection::Part(3..10)),
            ("bytes=3-99999999999999999999999", Selection::Part(3..10)),
            ("bytes=10-", Selection::Unsatisfiable),
            ("bytes=10-20", Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
        ] {
            assert_eq!(select(Some(range), None, ETAG, 10), expected, "{range}");
        }
    }

    #[test]
    fn what_is_no_single_range_gets_everything() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=1-2,4-5",
            "bytes=+1-2",
            "bytes= 1-2x",
            "lines=1-2",
        ] {
            assert_eq!(
                select(Some(range), None, ETAG, 10),
                Selection::Whole,
                "{range}"
            );
        }
        assert_eq!(select(None, None, ETAG, 10), Selection::Whole);
    }

    #[test]
    fn an_empty_artifact_has_no_first_byte() {
        assert_eq!(
            select(Some("bytes=0-"), None, ETAG, 0),
            Selection::Unsatisfiable
        );
        assert_eq!(select(Some("bytes=-5"), None, ETAG, 0), Selection::Whole);
    }

    #[test]
    fn a_range_of_another_artifact_gets_everything() {
        let range = Some("bytes=0-1");
        assert_eq!(select(range, Some(ETAG), ETAG, 10), Selection::Part(0..2));
        for validator in ["\"other\"", "W/\"abc\"", "Sat, 01 Jan 2022 00:00:00 GMT"] {
            assert_eq!(
                select(range, Some(validator), ETAG, 10),
                Selection::Whole,
                "{validator}"
            );
        }
    }

    #[test]
    fn a_client_that_has_it_is_recognised() {
        for tags in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            assert!(is_held(Some(tags), ETAG), "{tags}");
        }
        for tags in ["\"x\"", "abc", ""] {
            assert!(!is_held(Some(tags), ETAG), "{tags}");
        }
        assert!(!is_held(None, ETAG));
    }
}
