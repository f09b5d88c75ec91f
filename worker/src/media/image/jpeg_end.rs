//! Is a JPEG all there? Its decoder fills what is missing with grey, and says nothing.

use std::io::{self, BufRead, Read};

const SECTION: u8 = 0xff;
const END: u8 = 0xd9;

/// Whether the picture's end stands where it must: after its scans, and not somewhere else in the file (ITU-T T.81, annex B). What
/// comes after it is of no interest.
pub(super) fn is_there(file: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let Some(marker) = next_marker(file)? else {
            return Ok(false);
        };
        match marker {
            END => return Ok(true),
            // The start, restarts, and a byte that only looks like a marker have nothing behind them.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            // Behind the header of a scan come its values, in which the next marker is looked for as anywhere.
            _ => {
                if !skip_section(file)? {
                    return Ok(false);
                }
            }
        }
    }
}

fn next_marker(file: &mut impl BufRead) -> io::Result<Option<u8>> {
    file.skip_until(SECTION)?;
    loop {
        match byte(file)? {
            // Any number of them may stand before a marker.
            Some(SECTION) => {}
            marker => return Ok(marker),
        }
    }
}

/// Whether all of it is there.
fn skip_section(file: &mut impl BufRead) -> io::Result<bool> {
    let (Some(high), Some(low)) = (byte(file)?, byte(file)?) else {
        return Ok(false);
    };
    let length = u64::from(u16::from_be_bytes([high, low])).saturating_sub(2);
    let skipped = io::copy(&mut file.take(length), &mut io::sink())?;
    Ok(skipped == length)
}

fn byte(file: &mut impl BufRead) -> io::Result<Option<u8>> {
    let mut byte = [0];
    Ok((file.read(&mut byte)? == 1).then_some(byte[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_behind_the_scans_and_nowhere_else() {
        let start = [0xff, 0xd8];
        // A thumbnail, with an end of its own.
        let thumbnail = [0xff, 0xe1, 0x00, 0x06, 0xff, 0xd8, 0xff, 0xd9];
        let scan = [
            0xff, 0xda, 0x00, 0x03, 0x01, 0x55, 0xff, 0x00, 0xff, 0xd3, 0x55,
        ];
        let end = [0xff, 0xff, 0xd9];
        let behind = [0xff, 0xda, 0x12];
        let whole = [&start[..], &thumbnail, &scan, &scan, &end, &behind].concat();
        assert!(is_there(&mut &whole[..]).expect("no disk fails"));
        let until_end = whole.len() - behind.len();
        for length in 0..until_end {
            let cut = is_there(&mut &whole[..length]).expect("no disk fails");
            assert!(!cut, "{length} of {until_end} bytes");
        }
    }
}
