//! How are stills read and written? With the limit on pixels checked before memory is taken.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::codecs::png::{PngDecoder, PngEncoder};
use image::codecs::webp::{WebPDecoder, WebPEncoder};
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, Limits};

use super::error::MediaError;
use super::frame::{Frame, Still};
use super::sniff::{self, Kind, StillFormat};

/// The limit that [`read`] is usually given: 100 million pixels.
pub const MAX_PIXELS: u64 = 100_000_000;

/// No pixel of any accepted format takes more in a decoder (RGBA with 16 bits).
const BYTES_PER_PIXEL: u64 = 8;

/// What a file may have beside its pixels: profiles, EXIF, thumbnails.
const EXTRAS: u64 = 64 << 20;

/// On JPEG's scale to 100; above it files grow faster than quality.
const JPEG_QUALITY: u8 = 95;

/// Reads the still at `path`: 8 bits a channel, upright, with alpha and ICC profile where there are.
/// 16-bit channels are rounded to 8, grey becomes RGB.
///
/// # Errors
/// Invalid input: not an accepted image, more than `max_pixels` pixels (known from the header,
/// before memory is taken), animated, or broken. [`MediaError::Read`] when the disk fails.
pub fn read(path: &Path, max_pixels: u64) -> Result<Still, MediaError> {
    let format = match sniff::sniff(path)? {
        Kind::Still(format) => format,
        Kind::Video(_) => return Err(MediaError::NotAStill),
    };
    let file = open(path, max_pixels)?;
    let broken = |source| match source {
        ImageError::IoError(source) if is_the_disks_fault(&source) => MediaError::Read {
            path: path.into(),
            source,
        },
        source => MediaError::BrokenImage {
            format: format.name(),
            source: Box::new(source),
        },
    };
    let mut decoder = decoder(format, file, max_pixels).map_err(broken)?;
    let (width, height) = decoder.pixels.dimensions();
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(MediaError::ImageTooLarge {
            width,
            height,
            limit: max_pixels,
        });
    }
    if decoder.is_animated {
        return Err(MediaError::Animated {
            format: format.name(),
        });
    }
    let icc_profile = decoder
        .pixels
        .icc_profile()
        .map_err(broken)?
        .filter(|profile| is_rgb_profile(profile));
    let orientation = decoder.pixels.orientation().map_err(broken)?;
    let mut image = DynamicImage::from_decoder(decoder.pixels).map_err(broken)?;
    image.apply_orientation(orientation);
    Ok(still(image, icc_profile))
}

/// Writes `still` to `path` and says how many bytes it took. JPEG has no alpha: there the picture
/// is laid on white. A file that could not be finished is removed.
///
/// # Errors
/// [`MediaError::FormatTooSmall`] when the format cannot hold the size, scratch full when the disk
/// is, [`MediaError::Write`] or [`MediaError::EncodeStill`] otherwise.
pub fn write(path: &Path, still: &Still, format: StillFormat) -> Result<u64, MediaError> {
    let (width, height) = (still.frame.width, still.frame.height);
    let limit = longest_side(format);
    if width > limit || height > limit {
        return Err(MediaError::FormatTooSmall {
            format: format.name(),
            width,
            height,
            limit,
        });
    }
    let written = encode(path, still, format).and_then(|()| {
        let bytes = fs::metadata(path).map_err(ImageError::IoError)?.len();
        Ok(bytes)
    });
    written.map_err(|error| {
        super::process::discard(path);
        match error {
            ImageError::IoError(source) => MediaError::writing(path.into(), source),
            source => MediaError::EncodeStill {
                path: path.into(),
                source: Box::new(source),
            },
        }
    })
}

struct Opened {
    pixels: Box<dyn ImageDecoder>,
    is_animated: bool,
}

fn open(path: &Path, max_pixels: u64) -> Result<BufReader<File>, MediaError> {
    let failed = |source| MediaError::Read {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let limit = memory_limit(max_pixels);
    if bytes > limit {
        return Err(MediaError::ImageFileTooLarge { bytes, limit });
    }
    Ok(BufReader::new(file))
}

/// Reads the header only.
fn decoder(
    format: StillFormat,
    file: BufReader<File>,
    max_pixels: u64,
) -> Result<Opened, ImageError> {
    Ok(match format {
        StillFormat::Png => {
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(memory_limit(max_pixels));
            let png = PngDecoder::with_limits(file, limits)?;
            Opened {
                is_animated: png.is_apng()?,
                pixels: Box::new(png),
            }
        }
        StillFormat::Jpeg => Opened {
            pixels: Box::new(JpegDecoder::new(file)?),
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

fn memory_limit(max_pixels: u64) -> u64 {
    max_pixels
        .saturating_mul(BYTES_PER_PIXEL)
        .saturating_add(EXTRAS)
}

fn is_the_disks_fault(error: &std::io::Error) -> bool {
    !matches!(
        error.kind(),
        std::io::ErrorKind::UnexpectedEof
            | std::io::ErrorKind::InvalidData
            | std::io::ErrorKind::InvalidInput
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

fn longest_side(format: StillFormat) -> u32 {
    match format {
        StillFormat::Png => i32::MAX as u32,
        StillFormat::Jpeg => u16::MAX.into(),
        StillFormat::Webp => 1 << 14,
    }
}

fn encode(path: &Path, still: &Still, format: StillFormat) -> Result<(), ImageError> {
    let mut file = BufWriter::new(File::create(path).map_err(ImageError::IoError)?);
    match format {
        StillFormat::Png => write_pixels(PngEncoder::new(&mut file), still),
        StillFormat::Webp => write_pixels(WebPEncoder::new_lossless(&mut file), still),
        StillFormat::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY);
            write_rgb(encoder, still, &on_white(still))
        }
    }?;
    file.flush().map_err(ImageError::IoError)
}

fn write_pixels(mut encoder: impl ImageEncoder, still: &Still) -> Result<(), ImageError> {
    let Some(alpha) = &still.alpha else {
        return write_rgb(encoder, still, &still.frame.rgb);
    };
    set_profile(&mut encoder, still);
    let colors = still.frame.rgb.as_chunks::<3>().0;
    let rgba: Vec<u8> = colors
        .iter()
        .zip(alpha)
        .flat_map(|([r, g, b], a)| [*r, *g, *b, *a])
        .collect();
    encoder.write_image(
        &rgba,
        still.frame.width,
        still.frame.height,
        ExtendedColorType::Rgba8,
    )
}

fn write_rgb(mut encoder: impl ImageEncoder, still: &Still, rgb: &[u8]) -> Result<(), ImageError> {
    set_profile(&mut encoder, still);
    encoder.write_image(
        rgb,
        still.frame.width,
        still.frame.height,
        ExtendedColorType::Rgb8,
    )
}

fn set_profile(encoder: &mut impl ImageEncoder, still: &Still) {
    if let Some(profile) = &still.icc_profile
        && encoder.set_icc_profile(profile.clone()).is_err()
    {
        tracing::debug!("this format holds no colour profile");
    }
}

fn on_white(still: &Still) -> Vec<u8> {
    let Some(alpha) = &still.alpha else {
        return still.frame.rgb.clone();
    };
    let over = |color: u8, opacity: u8| {
        let (color, opacity) = (u32::from(color), u32::from(opacity));
        ((color * opacity + 255 * (255 - opacity) + 127) / 255) as u8
    };
    let colors = still.frame.rgb.as_chunks::<3>().0;
    colors
        .iter()
        .zip(alpha)
        .flat_map(|(color, a)| color.map(|channel| over(channel, *a)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_with_holes_is_laid_on_white() {
        let frame = Frame {
            width: 3,
            height: 1,
            rgb: vec![10, 20, 30, 10, 20, 30, 0, 0, 0],
        };
        let still = Still {
            frame,
            alpha: Some(vec![255, 0, 128]),
            icc_profile: None,
        };

        assert_eq!(on_white(&still), [10, 20, 30, 255, 255, 255, 127, 127, 127]);
    }

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
