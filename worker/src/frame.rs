//! Upscaling one frame of 8-bit RGB of any size, tile by tile.

use candle_core::{Device, Tensor};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use crate::models::{Architecture, ModelError, Upscaler};
use crate::tiles::{Rectangle, Tile, TileError, Tiling, plan};

/// Larger tiles than this gain nothing.
const LONGEST_EDGE: usize = 2048;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {width}x{height} RGB pixels has {needed} bytes, not {found}")]
    Size {
        width: usize,
        height: usize,
        needed: usize,
        found: usize,
    },
    #[error("a frame of {width}x{height} pixels, {scale} times larger, cannot be held")]
    TooLarge {
        width: usize,
        height: usize,
        scale: usize,
    },
    #[error("stopped before the frame was done")]
    Stopped,
    #[error("the network made values that are no numbers: its weights are broken")]
    NotANumber,
    #[error(transparent)]
    Tile(#[from] TileError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("cannot move a tile's pixels")]
    Pixels { source: candle_core::Error },
}

/// The largest tiles that a network may be given within a memory limit (weights and the frame
/// itself apart), with the overlap that it needs.
///
/// With less memory than the smallest tile takes, the tiles are too small and [`upscale_rgb8`] says
/// so.
pub fn tiling(architecture: &Architecture, memory_bytes: u64) -> Tiling {
    let pixels = memory_bytes / architecture.bytes_per_pixel() as u64;
    let edge = usize::try_from(pixels.isqrt()).map_or(LONGEST_EDGE, |edge| edge.min(LONGEST_EDGE));
    Tiling {
        edge,
        overlap: architecture.overlap(),
        multiple: architecture.multiple(),
    }
}

/// Upscales one frame: `height` rows of `width` RGB pixels, row after row, to rows of
/// `width * scale` pixels. Values are clamped, and rounded with halves away from zero.
///
/// `should_stop` is asked some times for each tile; when it says so, the frame ends as
/// [`FrameError::Stopped`].
pub fn upscale_rgb8(
    upscaler: &Upscaler,
    pixels: &[u8],
    width: usize,
    height: usize,
    tiling: Tiling,
    should_stop: &dyn Fn() -> bool,
) -> Result<Vec<u8>, FrameError> {
    let scale = upscaler.scale();
    let too_large = || FrameError::TooLarge {
        width,
        height,
        scale,
    };
    let needed = bytes(width, height).ok_or_else(too_large)?;
    if pixels.len() != needed || needed == 0 {
        return Err(FrameError::Size {
            width,
            height,
            needed,
            found: pixels.len(),
        });
    }
    let larger = bytes(width.saturating_mul(scale), height.saturating_mul(scale));
    let mut upscaled = vec![0; larger.ok_or_else(too_large)?];
    for tile in plan(width, height, tiling)? {
        let source =
            taken(pixels, width, &tile.source).map_err(|source| FrameError::Pixels { source })?;
        let computed = match upscaler.forward_unless(&source, should_stop) {
            Err(ModelError::Stopped) => return Err(FrameError::Stopped),
            computed => computed?,
        };
        let kept = kept(&computed, &tile, scale).map_err(|source| FrameError::Pixels { source })?;
        if kept.iter().any(|value| value.is_nan()) {
            return Err(FrameError::NotANumber);
        }
        place(
            &kept,
            &mut upscaled,
            width * scale,
            &scaled(&tile.keep, scale),
        );
    }
    Ok(upscaled)
}

fn bytes(width: usize, height: usize) -> Option<usize> {
    width.checked_mul(height)?.checked_mul(3)
}

/// A part of a frame as `[1, 3, height, width]` with values in 0..=1.
fn taken(pixels: &[u8], width: usize, part: &Rectangle) -> candle_core::Result<Tensor> {
    let plane = part.width() * part.height();
    let mut values = vec![0.0; 3 * plane];
    for (index, row) in part.rows.clone().enumerate() {
        let row =
            &pixels[3 * (row * width + part.columns.start)..3 * (row * width + part.columns.end)];
        for (column, pixel) in row.chunks_exact(3).enumerate() {
            for (channel, value) in pixel.iter().enumerate() {
                values[channel * plane + index * part.width() + column] = f32::from(*value) / 255.0;
            }
        }
    }
    Tensor::from_vec(values, (1, 3, part.height(), part.width()), &Device::Cpu)
}

/// What is kept of an upscaled tile, as planes.
fn kept(upscaled: &Tensor, tile: &Tile, scale: usize) -> candle_core::Result<Vec<f32>> {
    let top = (tile.keep.rows.start - tile.source.rows.start) * scale;
    let left = (tile.keep.columns.start - tile.source.columns.start) * scale;
    upscaled
        .narrow(2, top, tile.keep.height() * scale)?
        .narrow(3, left, tile.keep.width() * scale)?
        .to_device(&Device::Cpu)?
        .flatten_all()?
        .to_vec1()
}

fn scaled(part: &Rectangle, scale: usize) -> Rectangle {
    let times = |range: &std::ops::Range<usize>| range.start * scale..range.end * scale;
    Rectangle {
        columns: times(&part.columns),
        rows: times(&part.rows),
    }
}

/// Writes planes of values into their part of a frame.
fn place(planes: &[f32], frame: &mut [u8], width: usize, part: &Rectangle) {
    let plane = part.width() * part.height();
    let rows = &mut frame[3 * part.rows.start * width..3 * part.rows.end * width];
    rows.par_chunks_exact_mut(3 * width)
        .zip((0..part.height()).into_par_iter())
        .for_each(|(row, index)| {
            let row = &mut row[3 * part.columns.start..3 * part.columns.end];
            for (column, pixel) in row.chunks_exact_mut(3).enumerate() {
                for (channel, value) in pixel.iter_mut().enumerate() {
                    *value = eight_bits(planes[channel * plane + index * part.width() + column]);
                }
            }
        });
}

/// Halves are rounded away from zero.
fn eight_bits(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_clamped_and_rounded_with_halves_away_from_zero() {
        let values = [
            -1.0,
            0.0,
            0.5 / 255.0,
            0.499 / 255.0,
            127.5 / 255.0,
            1.0,
            7.0,
            f32::INFINITY,
        ];
        assert_eq!(values.map(eight_bits), [0, 0, 1, 0, 128, 255, 255, 255]);
    }

    #[test]
    fn eight_bits_come_back_as_they_went() {
        let pixels: Vec<u8> = (0..=255).collect();
        let part = Rectangle {
            columns: 2..17,
            rows: 1..4,
        };
        let values = taken(&pixels[..255], 17, &part)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let mut frame = vec![0; 255];
        place(&values, &mut frame, 17, &part);
        let copied = frame
            .iter()
            .zip(&pixels)
            .filter(|(copy, _)| **copy != 0)
            .inspect(|(copy, pixel)| assert_eq!(copy, pixel));
        assert_eq!(copied.count(), 3 * part.width() * part.height());
    }
}
