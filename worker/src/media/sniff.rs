//! What is this file? By its first bytes, never by its name.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::MediaError;

/// What is accepted, in the words of an error message.
pub(super) const ACCEPTED: &str =
    "PNG, JPEG and WebP images, MP4, MOV, Matroska, WebM and AVI video";

/// The first bytes that are looked at; `file(1)` needs no more for what is told apart here.
const HEAD: usize = 512;

/// What a file that is accepted holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One picture.
    Still(StillFormat),
    /// A container that may hold a video; only a probe knows.
    Video(Container),
}

/// The formats of stills that are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StillFormat {
    /// PNG: lossless, with alpha.
    Png,
    /// JPEG: lossy, without alpha.
    Jpeg,
    /// WebP: either is read, lossless is written; with alpha.
    Webp,
}

/// The containers that ffmpeg is told to open. It is never left to guess one, so no playlist or
/// script is ever followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// MP4, MOV and their kin (ISO base media).
    Mov,
    /// Matroska and WebM.
    Matroska,
    /// AVI.
    Avi,
}

impl Container {
    /// ffmpeg's name of the demuxer.
    pub(super) fn demuxer(self) -> &'static str {
        match self {
            Container::Mov => "mov",
            Container::Matroska => "matroska",
            Container::Avi => "avi",
        }
    }
}

impl StillFormat {
    /// The media type, as it stands in an artifact's description.
    pub fn media_type(self) -> &'static str {
        match self {
            StillFormat::Png => "image/png",
            StillFormat::Jpeg => "image/jpeg",
            StillFormat::Webp => "image/webp",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            StillFormat::Png => "PNG",
            StillFormat::Jpeg => "JPEG",
            StillFormat::Webp => "WebP",
        }
    }
}

/// Says what the file at `path` is.
///
/// # Errors
/// [`MediaError::Empty`] and [`MediaError::NotMedia`] (invalid input) for what is not accepted,
/// [`MediaError::Read`] when the file cannot be opened.
pub fn sniff(path: &Path) -> Result<Kind, MediaError> {
    let failed = |source| MediaError::Read {
        path: path.into(),
        source,
    };
    let mut head = Vec::with_capacity(HEAD);
    File::open(path)
        .map_err(failed)?
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .map_err(failed)?;
    recognise(&head)
}

/// Says what a file is that begins with these bytes (512 are enough).
///
/// # Errors
/// [`MediaError::Empty`] and [`MediaError::NotMedia`], which names what was found instead.
pub fn recognise(head: &[u8]) -> Result<Kind, MediaError> {
    if head.is_empty() {
        return Err(MediaError::Empty);
    }
    match accepted(head) {
        Some(kind) => Ok(kind),
        None => Err(MediaError::NotMedia {
            found: describe(head),
        }),
    }
}

fn accepted(head: &[u8]) -> Option<Kind> {
    let tag = |at: usize| head.get(at..at + 4).unwrap_or_default();
    if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Some(Kind::Still(StillFormat::Png));
    }
    if head.starts_with(b"\xff\xd8\xff") {
        return Some(Kind::Still(StillFormat::Jpeg));
    }
    if head.starts_with(b"\x1a\x45\xdf\xa3") {
        return Some(Kind::Video(Container::Matroska));
    }
    match (tag(0), tag(4), tag(8)) {
        (b"RIFF", _, b"WEBP") => Some(Kind::Still(StillFormat::Webp)),
        (b"RIFF", _, b"AVI ") => Some(Kind::Video(Container::Avi)),
        (_, b"ftyp", brand) => {
            (still_brand(brand).is_none()).then_some(Kind::Video(Container::Mov))
        }
        // QuickTime files from before 2001 have no `ftyp`.
        (_, b"moov" | b"mdat" | b"wide" | b"free" | b"skip", _) => {
            Some(Kind::Video(Container::Mov))
        }
        _ => None,
    }
}

fn still_brand(brand: &[u8]) -> Option<&'static str> {
    match brand {
        b"heic" | b"heix" | b"heim" | b"heis" | b"mif1" | b"msf1" => Some("a HEIC image"),
        b"avif" | b"avis" => Some("an AVIF image"),
        _ => None,
    }
}

/// Files that people send by mistake, by name; the first match wins.
const KNOWN: &[(usize, &[u8], &str)] = &[
    (0, b"GIF8", "a GIF"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BM", "a BMP image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"FLV\x01", "a Flash video"),
    (0, b"OggS", "an Ogg file"),
    (0, b"fLaC", "a FLAC audio file"),
    (0, b"ID3", "an MP3 audio file"),
    (8, b"WAVE", "a WAV audio file"),
    (0, b"\x30\x26\xb2\x75", "a Windows Media file"),
    (0, b"\x00\x00\x01\xba", "an MPEG program stream"),
    (0, b"#EXTM3U", "a playlist"),
    (0, b"ffconcat", "a playlist"),
    (0, b"<?xml", "an XML document"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
];

fn describe(head: &[u8]) -> String {
    if let (Some(b"ftyp"), Some(found)) = (head.get(4..8), head.get(8..12).and_then(still_brand)) {
        return found.into();
    }
    let known = KNOWN
        .iter()
        .find(|(at, magic, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    if let Some((_, _, found)) = known {
        return (*found).into();
    }
    if head.first() == Some(&0x47) && head.get(188).is_none_or(|byte| *byte == 0x47) {
        return "an MPEG transport stream".into();
    }
    if head
        .iter()
        .all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..))
    {
        return "text".into();
    }
    format!(
        "of an unknown kind (its first bytes are {})",
        hex::encode(&head[..head.len().min(8)])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(head: &[u8]) -> String {
        recognise(head).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_file_is_what_its_first_bytes_say() {
        assert_eq!(
            recognise(b"\x89PNG\r\n\x1a\n....").ok(),
            Some(Kind::Still(StillFormat::Png))
        );
        assert_eq!(
            recognise(b"\xff\xd8\xff\xe0").ok(),
            Some(Kind::Still(StillFormat::Jpeg))
        );
        assert_eq!(
            recognise(b"RIFF\0\0\0\0WEBPVP8L").ok(),
            Some(Kind::Still(StillFormat::Webp))
        );
        assert_eq!(
            recognise(b"\0\0\0\x20ftypisom").ok(),
            Some(Kind::Video(Container::Mov))
        );
        assert_eq!(
            recognise(b"\0\0\0\x08wide\0\0\0\0mdat").ok(),
            Some(Kind::Video(Container::Mov))
        );
        assert_eq!(
            recognise(b"\x1a\x45\xdf\xa3").ok(),
            Some(Kind::Video(Container::Matroska))
        );
        assert_eq!(
            recognise(b"RIFF\0\0\0\0AVI LIST").ok(),
            Some(Kind::Video(Container::Avi))
        );
    }

    #[test]
    fn what_is_refused_is_named_with_what_is_accepted() {
        assert_eq!(
            refused(b"hello, I am a video\n"),
            "the file is text; accepted are PNG, JPEG and WebP images, MP4, MOV, Matroska, WebM and AVI video"
        );
        assert!(refused(b"#EXTM3U\n#EXT-X-VERSION:3\n").contains("is a playlist"));
        assert!(refused(b"ffconcat version 1.0\nfile /etc/passwd\n").contains("is a playlist"));
        assert!(refused(b"\0\0\0\x18ftypheic").contains("is a HEIC image"));
        assert!(refused(b"\x00\x01\x02\x03").contains("first bytes are 00010203"));
        assert!(refused(b"").contains("empty"));
    }

    #[test]
    fn no_prefix_of_an_accepted_file_panics() {
        let head = b"\0\0\0\x20ftypisom";
        for length in 1..head.len() {
            let _ = recognise(&head[..length]);
        }
    }
}
