//! How a browser treats an artifact: shown or saved, and under which name. Pure.
//!
//! Only what cannot run scripts is shown; everything else is saved, so that an uploaded page never runs at the store's address.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The attr-char of RFC 8187.
const OUTSIDE_ATTRIBUTE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');
const LONGEST_NAME: usize = 150;

/// The value of Content-Disposition, in ASCII (RFC 6266).
pub(crate) fn content_disposition(file_name: &str, media_type: &str) -> String {
    let name = safe_name(file_name);
    let manner = if is_shown(media_type) {
        "inline"
    } else {
        "attachment"
    };
    let plain: String = name
        .chars()
        .map(|character| match character {
            '"' | '%' => '_',
            character if character.is_ascii() => character,
            _ => '_',
        })
        .collect();
    if plain == name {
        format!("{manner}; filename=\"{plain}\"")
    } else {
        let full = utf8_percent_encode(&name, OUTSIDE_ATTRIBUTE);
        format!("{manner}; filename=\"{plain}\"; filename*=UTF-8''{full}")
    }
}

/// The value of Content-Type: `media_type`, or a type that promises nothing where it is none.
pub(crate) fn content_type(media_type: &str) -> &str {
    let is_printable = media_type
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if is_printable && media_type.contains('/') {
        media_type
    } else {
        "application/octet-stream"
    }
}

fn is_shown(media_type: &str) -> bool {
    let essence = media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match essence.split_once('/') {
        Some(("video" | "audio", _)) => true,
        Some(("image", subtype)) => !subtype.contains("xml"),
        Some(("text", "plain")) => true,
        Some(_) | None => false,
    }
}

/// A name without folders, without control characters and without a leading dot.
fn safe_name(file_name: &str) -> String {
    let cleaned: String = file_name
        .chars()
        .map(|character| match character {
            '/' | '\\' | ':' | '*' | '?' | '<' | '>' | '|' => '_',
            character if character.is_control() || is_invisible(character) => '_',
            character => character,
        })
        .collect();
    let cleaned = cleaned.trim().trim_start_matches('.');
    if cleaned.is_empty() {
        return "artifact".to_owned();
    }
    if cleaned.chars().count() <= LONGEST_NAME {
        return cleaned.to_owned();
    }
    let ending: String = match cleaned.rsplit_once('.') {
        Some((_, ending)) if ending.chars().count() <= 10 => format!(".{ending}"),
        Some(_) | None => String::new(),
    };
    let kept = LONGEST_NAME - ending.chars().count();
    cleaned.chars().take(kept).chain(ending.chars()).collect()
}

/// Marks that turn the direction of writing can make `exe.mp4` out of `4pm.exe`.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn films_and_pictures_are_shown_and_all_else_is_saved() {
        for shown in [
            "video/mp4",
            "Audio/FLAC",
            "image/png",
            "text/plain; charset=utf-8",
        ] {
            let value = content_disposition("x", shown);
            assert!(value.starts_with("inline;"), "{shown}: {value}");
        }
        for saved in ["text/html", "image/svg+xml", "application/pdf", "", "video"] {
            let value = content_disposition("x", saved);
            assert!(value.starts_with("attachment;"), "{saved}: {value}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_header_or_the_folder() {
        for (name, expected) in [
            ("large.mp4", "inline; filename=\"large.mp4\""),
            ("../../etc/passwd", "inline; filename=\"_.._etc_passwd\""),
            ("", "inline; filename=\"artifact\""),
            (
                "a\"b\r\nSet-Cookie: x",
                "inline; filename=\"a_b__Set-Cookie_ x\"; filename*=UTF-8''a%22b__Set-Cookie_%20x",
            ),
            (
                "größe.mp4",
                "inline; filename=\"gr__e.mp4\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.mp4",
            ),
            ("\u{202e}4pm.exe", "inline; filename=\"_4pm.exe\""),
        ] {
            assert_eq!(content_disposition(name, "video/mp4"), expected);
        }
    }

    #[test]
    fn a_long_name_keeps_its_ending() {
        let value = content_disposition(&format!("{}.mp4", "a".repeat(400)), "video/mp4");
        assert!(value.len() < 200 && value.ends_with("a.mp4\""), "{value}");
    }

    #[test]
    fn a_type_that_is_none_promises_nothing() {
        assert_eq!(content_type("video/mp4"), "video/mp4");
        for broken in ["", "video", "a/b\r\nX: y", "a/ä"] {
            assert_eq!(content_type(broken), "application/octet-stream", "{broken}");
        }
    }
}
