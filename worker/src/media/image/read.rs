//! How are stills read? With the limit on pixels checked before memory is taken, and what lies beside the pixels bounded.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, ImageDecoder, ImageError, Limits};

use super::jpeg_end;
use crate::media::error::MediaError;
use crate::media::frame::{Frame, Still};
use crate::media::sniff::{self, Kind, StillFormat};

/// The limit that [`read`] is usually given: 100 million pixels.
pub const MAX_PIXELS: u64 = 100_000_000;

/// No pixel of any accepted format takes more in a decoder (RGBA with 16 bits).
const BYTES_PER_PIXEL: u64 = 8;

/// What a file may have beside its pixels: profiles, EXIF, thumbnails.
const EXTRAS: u64 = 64 << 20;

/// The longest colour profile: a JPEG has no room for a longer one, and the largest real ones have some megabytes.
const MAX_PROFILE: u64 = 16 << 20;

/// How often a colour profile is held: by the decoder, by us, by the encoder, and as that writes it.
const PROFILE_COPIES: u64 = 4;

/// Reads the still at `path`: 8 bits a channel, upright, with alpha and ICC profile where there are.
/// 16-bit channels are rounded to 8, grey becomes RGB.
///
/// # Errors
/// Invalid input: not an accepted image, more than `max_pixels` pixels (known from the header,
/// before memory is taken), a colour profile of more than 16 MiB, animated, or broken.
/// [`MediaError::Read`] when the disk fails.
pub fn read(path: &Path, max_pixels: u64) -> Result<Still, MediaError> {
    let Begun {
        format,
        mut decoder,
        bytes: _,
    } = begin(path, max_pixels, Reach::Everything)?;
    if format == StillFormat::Jpeg {
        check_end(path)?;
    }
    let broken = |error| broken(path, format, error);
    let profile = decoder.icc_profile().map_err(broken)?;
    check_profile(profile.as_deref())?;
    let icc_profile = profile.filter(|profile| is_rgb_profile(profile));
    let orientation = decoder.orientation().map_err(broken)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    image.apply_orientation(orientation);
    Ok(still(image, icc_profile))
}

fn check_end(path: &Path) -> Result<(), MediaError> {
    let file = File::open(path).map(BufReader::new);
    let is_there = file.and_then(|mut file| jpeg_end::is_there(&mut file));
    match is_there {
        Ok(true) => Ok(()),
        Ok(false) => Err(MediaError::JpegCutShort),
        Err(source) => Err(MediaError::Read {
            path: path.into(),
            source,
        }),
    }
}

/// What a still's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Pixels in a row, before it is turned upright.
    pub width: u32,
    /// Rows, before it is turned upright.
    pub height: u32,
    /// Whether it may be transparent.
    pub has_alpha: bool,
    /// The most bytes that are held beside its pixels while it is read and written again.
    pub beside: u64,
}

/// The header of the still at `path`, before memory is taken for its pixels.
///
/// # Errors
/// As [`read`].
pub fn header(path: &Path, max_pixels: u64) -> Result<Header, MediaError> {
    let Begun {
        format,
        mut decoder,
        bytes,
    } = begin(path, max_pixels, Reach::Header)?;
    let profile = match format {
        StillFormat::Png | StillFormat::Jpeg => {
            let profile = decoder.icc_profile();
            check_profile(
                profile
                    .map_err(|error| broken(path, format, error))?
                    .as_deref(),
            )?
        }
        // To see it takes as much memory as the file says.
        StillFormat::Webp => bytes.min(MAX_PROFILE),
    };
    let (width, height) = decoder.dimensions();
    Ok(Header {
        width,
        height,
        has_alpha: decoder.color_type().has_alpha(),
        beside: beside(format, bytes) + PROFILE_COPIES * profile,
    })
}

/// The most bytes that a decoder holds of a file of so many bytes, apart from pixels and profile.
fn beside(format: StillFormat, bytes: u64) -> u64 {
    let extras = bytes.min(EXTRAS);
    match format {
        // The pixels pass by; texts are held as they came and once more as text.
        StillFormat::Png => 2 * extras,
        // All of it, and what is no pixels once more.
        StillFormat::Jpeg => bytes + extras,
        StillFormat::Webp => bytes,
    }
}

/// The profile's length.
fn check_profile(profile: Option<&[u8]>) -> Result<u64, MediaError> {
    let bytes = profile.map_or(0, <[u8]>::len) as u64;
    if bytes > MAX_PROFILE {
        return Err(MediaError::ColorProfileTooLarge {
            bytes,
            limit: MAX_PROFILE,
        });
    }
    Ok(bytes)
}

/// How much of a file may be held.
#[derive(Clone, Copy)]
enum Reach {
    /// No more than a header needs.
    Header,
    Everything,
}

/// A file that is read up to its pixels.
struct Begun {
    format: StillFormat,
    decoder: Box<dyn ImageDecoder>,
    /// The file's size.
    bytes: u64,
}

fn begin(path: &Path, max_pixels: u64, reach: Reach) -> Result<Begun, MediaError> {
    let format = match sniff::sniff(path)? {
        Kind::Still(format) => format,
        Kind::Video(_) => return Err(MediaError::NotAStill),
    };
    let (file, bytes) = open(path, max_pixels)?;
    let failed = |source| MediaError::Read {
        path: path.into(),
        source,
    };
    let broken = |error| broken(path, format, error);
    let file = match format {
        StillFormat::Png => within_limit_by_png_header(file, max_pixels).map_err(failed)??,
        StillFormat::Jpeg | StillFormat::Webp => file,
    };
    let decoder = decoder(format, file, reach).map_err(broken)?;
    let (width, height) = decoder.pixels.dimensions();
    check_size(width, height, max_pixels)?;
    if decoder.is_animated {
        return Err(MediaError::Animated {
            format: format.name(),
        });
    }
    Ok(Begun {
        format,
        decoder: decoder.pixels,
        bytes,
    })
}

fn broken(path: &Path, format: StillFormat, error: ImageError) -> MediaError {
    match error {
        ImageError::IoError(source) if is_the_disks_fault(&source) => MediaError::Read {
            path: path.into(),
            source,
        },
        ImageError::IoError(_)
        | ImageError::Decoding(_)
        | ImageError::Encoding(_)
        | ImageError::Parameter(_)
        | ImageError::Limits(_)
        | ImageError::Unsupported(_) => MediaError::BrokenImage {
            format: format.name(),
            source: Box::new(error),
        },
    }
}

struct Opened {
    pixels: Box<dyn ImageDecoder>,
    is_animated: bool,
}

/// With the file's size.
fn open(path: &Path, max_pixels: u64) -> Result<(BufReader<File>, u64), MediaError> {
    let failed = |source| MediaError::Read {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let limit = max_pixels
        .saturating_mul(BYTES_PER_PIXEL)
        .saturating_add(EXTRAS);
    if bytes > limit {
        return Err(MediaError::ImageFileTooLarge { bytes, limit });
    }
    Ok((BufReader::new(file), bytes))
}

/// A PNG's size stands at byte 16 (PNG, 11.2.2). The decoder would read on to the pixels before it
/// tells.
fn within_limit_by_png_header(
    mut file: BufReader<File>,
    max_pixels: u64,
) -> io::Result<Result<BufReader<File>, MediaError>> {
    let mut header = Vec::with_capacity(24);
    file.by_ref().take(24).read_to_end(&mut header)?;
    file.rewind()?;
    let side = |at: usize| {
        header
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .copied()
    };
    Ok(match (side(16), side(20)) {
        (Some(width), Some(height)) => {
            let (width, height) = (u32::from_be_bytes(width), u32::from_be_bytes(height));
            check_size(width, height, max_pixels).map(|()| file)
        }
        _ => Ok(file),
    })
}

fn check_size(width: u32, height: u32, limit: u64) -> Result<(), MediaError> {
    if u64::from(width) * u64::from(height) > limit {
        return Err(MediaError::ImageTooLarge {
            width,
            height,
            limit,
        });
    }
    Ok(())
}

/// Reads the header only.
fn decoder(format: StillFormat, file: BufReader<File>, reach: Reach) -> Result<Opened, ImageError> {
    Ok(match format {
        StillFormat::Png => {
            let mut limits = Limits::no_limits();
            // For all but the pixels. A profile that swells to more is left out, as a broken one is.
            limits.max_alloc = Some(EXTRAS);
            let png = PngDecoder::with_limits(file, limits)?;
            Opened {
                is_animated: png.is_apng()?,
                pixels: Box::new(png),
            }
        }
        StillFormat::Jpeg => Opened {
            // The decoder takes in all that it is given before it looks at any of it.
            pixels: match reach {
                Reach::Header => Box::new(JpegDecoder::new(file.take(EXTRAS))?),
                Reach::Everything => Box::new(JpegDecoder::new(file)?),
            },
            is_animated: false,
        },
        StillFormat::Webp => {
            let webp = WebPDecoder::new(file)?;
            Opened {
                is_animated: webp.has_animation(),
                pixels: Box::new(webp),
            }
        }
    })
}

fn is_the_disks_fault(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
    )
}

/// A profile for grey or CMYK values says nothing about the RGB values that a decoder makes of
/// them (ICC.1, 7.2.6: the colour space stands at byte 16).
fn is_rgb_profile(profile: &[u8]) -> bool {
    profile.get(16..20) == Some(b"RGB ")
}

fn still(image: DynamicImage, icc_profile: Option<Vec<u8>>) -> Still {
    let (width, height) = (image.width(), image.height());
    if !image.color().has_alpha() {
        let rgb = image.into_rgb8().into_raw();
        return Still {
            frame: Frame { width, height, rgb },
            alpha: None,
            icc_profile,
        };
    }
    let rgba = image.into_rgba8().into_raw();
    let mut rgb = Vec::with_capacity(Frame::byte_count(width, height));
    let mut alpha = Vec::with_capacity(rgba.len() / 4);
    for [red, green, blue, opacity] in rgba.as_chunks::<4>().0 {
        rgb.extend([red, green, blue]);
        alpha.push(*opacity);
    }
    let is_opaque = alpha.iter().all(|opacity| *opacity == u8::MAX);
    Still {
        frame: Frame { width, height, rgb },
        alpha: (!is_opaque).then_some(alpha),
        icc_profile,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_profile_for_rgb_is_kept() {
        let mut profile = vec![0; 128];
        profile[16..20].copy_from_slice(b"RGB ");
        assert!(is_rgb_profile(&profile));
        profile[16..20].copy_from_slice(b"CMYK");
        assert!(!is_rgb_profile(&profile));
        assert!(!is_rgb_profile(b""));
    }
}
