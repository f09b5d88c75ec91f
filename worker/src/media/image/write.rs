//! How are stills written?

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError};

use crate::media::error::MediaError;
use crate::media::frame::Still;
use crate::media::process;
use crate::media::sniff::StillFormat;

/// On JPEG's scale to 100; above it files grow faster than quality.
const JPEG_QUALITY: u8 = 95;

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
        process::discard(path);
        if let ImageError::IoError(source) = error {
            return MediaError::writing(path.into(), source);
        }
        MediaError::EncodeStill {
            path: path.into(),
            source: Box::new(error),
        }
    })
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
    use crate::media::frame::Frame;

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
}
