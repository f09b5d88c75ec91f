//! Does the file reach as far as its outermost structure says? A video that is cut short is found
//! here before any work goes into it, since ffmpeg only notices at the very end.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::error::MediaError;
use super::sniff::Container;

/// More top-level boxes than any honest file has in front of its data; fragmented files with more
/// are left to the decoder.
const MAX_BOXES: usize = 4096;

/// Checks the sizes that stand in the outermost headers of the file at `path`.
///
/// # Errors
/// [`MediaError::CutShort`] (invalid input), [`MediaError::Read`] when the disk fails.
pub(super) fn check(path: &Path, container: Container) -> Result<(), MediaError> {
    let failed = |source| MediaError::Read {
        path: path.into(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let beyond = beyond_the_end(&mut file, bytes, container).map_err(failed)?;
    match beyond {
        Some(Part { part, promised }) => Err(MediaError::CutShort {
            part,
            promised,
            bytes,
        }),
        None => Ok(()),
    }
}

struct Part {
    part: &'static str,
    promised: u64,
}

fn beyond_the_end(
    file: &mut (impl Read + Seek),
    bytes: u64,
    container: Container,
) -> io::Result<Option<Part>> {
    let (part, promised) = match container {
        Container::Mov => ("MP4 box", last_box_end(file, bytes)?),
        Container::Matroska => ("Matroska segment", segment_end(file)?),
        Container::Avi => ("AVI data", riff_end(file)?),
    };
    Ok((promised > bytes).then_some(Part { part, promised }))
}

/// Where the last top-level box ends (ISO/IEC 14496-12, 4.2): a 32-bit size and a name; size 1 is
/// followed by a 64-bit size, size 0 reaches to the end of the file. Cameras write bytes behind the last box that are no box at all,
/// so only a box without which nothing can be played counts as cut short.
fn last_box_end(file: &mut (impl Read + Seek), bytes: u64) -> io::Result<u64> {
    let mut at = 0_u64;
    for _ in 0..MAX_BOXES {
        file.seek(SeekFrom::Start(at))?;
        let Some(header) = read_exactly::<8>(file)? else {
            return Ok(at);
        };
        let size = match u64::from(u32::from_be_bytes([
            header[0], header[1], header[2], header[3],
        ])) {
            0 => return Ok(bytes),
            1 => match read_exactly::<8>(file)? {
                Some(long) => u64::from_be_bytes(long),
                None => return Ok(bytes.saturating_add(1)),
            },
            size => size,
        };
        if size < 8 {
            return Ok(at);
        }
        let is_needed = [b"ftyp", b"mdat", b"moov", b"moof"]
            .iter()
            .any(|name| header.ends_with(*name));
        if !is_needed && at.saturating_add(size) > bytes {
            return Ok(at);
        }
        at = at.saturating_add(size);
        if at >= bytes {
            return Ok(at);
        }
    }
    Ok(at)
}

/// Where the segment ends (RFC 8794, section 4 on sizes of variable length); 0 when it does not say,
/// as in a live recording.
fn segment_end(file: &mut (impl Read + Seek)) -> io::Result<u64> {
    const SEGMENT: [u8; 4] = [0x18, 0x53, 0x80, 0x67];
    file.seek(SeekFrom::Start(4))?;
    let Some(header_size) = variable_size(file)? else {
        return Ok(0);
    };
    let Ok(forward) = i64::try_from(header_size) else {
        return Ok(0);
    };
    file.seek(SeekFrom::Current(forward))?;
    if read_exactly::<4>(file)? != Some(SEGMENT) {
        return Ok(0);
    }
    let size = variable_size(file)?;
    let start = file.stream_position()?;
    Ok(size.map_or(0, |size| start.saturating_add(size)))
}

/// `None` for "unknown", which is all ones.
fn variable_size(file: &mut impl Read) -> io::Result<Option<u64>> {
    let Some([first]) = read_exactly::<1>(file)? else {
        return Ok(None);
    };
    let more = first.leading_zeros();
    if more > 7 {
        return Ok(None);
    }
    let mut size = u64::from(first) & ((1 << (7 - more)) - 1);
    for _ in 0..more {
        let Some([next]) = read_exactly::<1>(file)? else {
            return Ok(None);
        };
        size = size << 8 | u64::from(next);
    }
    let unknown = (1 << (7 * (more + 1))) - 1;
    Ok((size != unknown).then_some(size))
}

/// Where the first RIFF chunk ends; 0 when a recorder never came to write it.
fn riff_end(file: &mut (impl Read + Seek)) -> io::Result<u64> {
    file.seek(SeekFrom::Start(4))?;
    let size = read_exactly::<4>(file)?.map_or(0, u32::from_le_bytes);
    Ok(if size == 0 { 0 } else { u64::from(size) + 8 })
}

/// `None` at the end of the file.
fn read_exactly<const COUNT: usize>(file: &mut impl Read) -> io::Result<Option<[u8; COUNT]>> {
    let mut bytes = [0; COUNT];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn promised(bytes: &[u8], container: Container) -> Option<u64> {
        let found = beyond_the_end(&mut Cursor::new(bytes), bytes.len() as u64, container);
        found
            .expect("a cursor does not fail")
            .map(|part| part.promised)
    }

    #[test]
    fn a_box_that_reaches_beyond_the_end_is_found() {
        let whole = [
            &[0, 0, 0, 16][..],
            b"ftypisom\0\0\0\0",
            &[0, 0, 0, 10],
            b"mdat\x01\x02",
        ]
        .concat();
        assert_eq!(promised(&whole, Container::Mov), None);
        assert_eq!(promised(&whole[..25], Container::Mov), Some(26));
    }

    #[test]
    fn a_long_box_and_an_open_one_are_understood() {
        let long = [&[0, 0, 0, 1][..], b"mdat", &1000_u64.to_be_bytes(), b"...."].concat();
        assert_eq!(promised(&long, Container::Mov), Some(1000));
        let open = [&[0, 0, 0, 0][..], b"mdat...."].concat();
        assert_eq!(promised(&open, Container::Mov), None);
    }

    #[test]
    fn bytes_behind_the_last_box_that_are_no_box_are_no_cut() {
        let whole = [
            &[0, 0, 0, 16][..],
            b"ftypisom\0\0\0\0",
            &[0, 0, 0, 10],
            b"mdat\x01\x02",
        ]
        .concat();
        for trailer in [&b"GPS 48.137,11.575\n"[..], b"@ABCDEFGHIJK", &[0; 64]] {
            let with_trailer = [&whole, trailer].concat();
            assert_eq!(promised(&with_trailer, Container::Mov), None);
        }
        let index = [&whole, &[0, 0, 9, 9][..], b"moov...."].concat();
        assert_eq!(promised(&index, Container::Mov), Some(26 + 0x909));
    }

    #[test]
    fn a_segment_that_reaches_beyond_the_end_is_found() {
        let head = b"\x1a\x45\xdf\xa3\x82ab\x18\x53\x80\x67";
        let known = [&head[..], b"\x40\x04abcd"].concat();
        assert_eq!(promised(&known, Container::Matroska), None);
        assert_eq!(
            promised(&known[..known.len() - 1], Container::Matroska),
            Some(known.len() as u64)
        );
        let unknown = [&head[..], b"\x01\xff\xff\xff\xff\xff\xff\xffab"].concat();
        assert_eq!(promised(&unknown, Container::Matroska), None);
    }

    #[test]
    fn an_avi_that_is_cut_short_is_found() {
        assert_eq!(promised(b"RIFF\x06\0\0\0AVI ..", Container::Avi), None);
        assert_eq!(promised(b"RIFF\x07\0\0\0AVI ..", Container::Avi), Some(15));
        assert_eq!(promised(b"RIFF\0\0\0\0AVI ..", Container::Avi), None);
    }

    #[test]
    fn sizes_that_lie_end_the_walk() {
        assert_eq!(
            promised(
                b"\0\0\0\x01mdat\xff\xff\xff\xff\xff\xff\xff\xff",
                Container::Mov
            ),
            Some(u64::MAX)
        );
        assert_eq!(promised(b"\0\0\0\x02mdat....", Container::Mov), None);
        assert_eq!(
            promised(
                b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe",
                Container::Matroska
            ),
            None
        );
    }
}
