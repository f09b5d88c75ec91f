//! Frames of 8-bit RGB as networks see them, and upscaling one of any size, tile by tile.
//!
//! *Layout*: `pixels` turns bytes into what a network sees, and back; `on_device` does so on a GPU.

mod on_device;
mod pixels;

use candle_core::{Device, Tensor};

use crate::networks::{Architecture, NetworkError, Upscaler};
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
    #[error(
        "the network made values that are no numbers: its weights are broken, or beyond the half precision that GPUs compute in"
    )]
    NotANumber,
    #[error(transparent)]
    Tile(#[from] TileError),
    #[error(transparent)]
    Model(#[from] NetworkError),
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
    tiling_of(architecture, pixels)
}

/// The same on the device that the network lies on, where computing may take more memory than on a CPU.
pub fn tiling_on_device(upscaler: &Upscaler, memory_bytes: u64) -> Tiling {
    tiling_of(
        upscaler.architecture(),
        upscaler.pixels_within(memory_bytes),
    )
}

/// What computing takes of the process's own memory for each pixel of a tile, in bytes. On a GPU that is the tile's pixels before and
/// after, since all else lies on the device.
pub fn host_bytes_per_pixel(upscaler: &Upscaler) -> u64 {
    if upscaler.device().is_cpu() {
        upscaler.architecture().bytes_per_pixel() as u64
    } else {
        let scale = upscaler.scale() as u64;
        3 * (1 + scale * scale)
    }
}

/// Tiles of so many pixels, or fewer.
fn tiling_of(architecture: &Architecture, pixels: u64) -> Tiling {
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
        let source = if upscaler.device().is_cpu() {
            pixels::taken(pixels, width, &tile.source)
        } else {
            on_device::taken(pixels, width, &tile.source, upscaler.device())
        };
        let source = source.map_err(|source| FrameError::Pixels { source })?;
        let computed = match upscaler.forward_unless(&source, should_stop) {
            Err(NetworkError::Stopped) => return Err(FrameError::Stopped),
            computed => computed?,
        };
        let kept = kept(&computed, &tile, scale).map_err(|source| FrameError::Pixels { source })?;
        let part = scaled(&tile.keep, scale);
        let placed = if upscaler.device().is_cpu() {
            pixels::place(&kept, &mut upscaled, width * scale, &part)
        } else {
            on_device::place(&kept, &mut upscaled, width * scale, &part)
        };
        if !placed.map_err(|source| FrameError::Pixels { source })? {
            return Err(FrameError::NotANumber);
        }
    }
    Ok(upscaled)
}

/// A whole frame as `[1, 3, height, width]` with values in 0..=1, on the device.
///
/// # Errors
/// The bytes are not those of such a frame, or the device fails.
pub fn to_planes(
    pixels: &[u8],
    width: usize,
    height: usize,
    device: &Device,
) -> Result<Tensor, FrameError> {
    let needed = bytes(width, height).unwrap_or(0);
    if pixels.len() != needed || needed == 0 {
        return Err(FrameError::Size {
            width,
            height,
            needed,
            found: pixels.len(),
        });
    }
    let whole = whole(width, height);
    let planes = if device.is_cpu() {
        pixels::taken(pixels, width, &whole)
    } else {
        on_device::taken(pixels, width, &whole, device)
    };
    planes.map_err(|source| FrameError::Pixels { source })
}

/// The pixels of `[1, 3, height, width]` with values in 0..=1, clamped and rounded as [`upscale_rgb8`] does it.
///
/// # Errors
/// A value is no number, or the device fails.
pub fn to_rgb8(planes: &Tensor) -> Result<Vec<u8>, FrameError> {
    let failed = |source| FrameError::Pixels { source };
    let (_, _, height, width) = planes.dims4().map_err(failed)?;
    let planes = planes.squeeze(0).map_err(failed)?;
    let whole = whole(width, height);
    let mut pixels = vec![0; 3 * width * height];
    let placed = if planes.device().is_cpu() {
        pixels::place(&planes, &mut pixels, width, &whole)
    } else {
        on_device::place(&planes, &mut pixels, width, &whole)
    };
    if placed.map_err(failed)? {
        Ok(pixels)
    } else {
        Err(FrameError::NotANumber)
    }
}

fn whole(width: usize, height: usize) -> Rectangle {
    Rectangle {
        columns: 0..width,
        rows: 0..height,
    }
}

fn bytes(width: usize, height: usize) -> Option<usize> {
    width.checked_mul(height)?.checked_mul(3)
}

/// What is kept of an upscaled tile, `[3, height, width]`.
fn kept(upscaled: &Tensor, tile: &Tile, scale: usize) -> candle_core::Result<Tensor> {
    let top = (tile.keep.rows.start - tile.source.rows.start) * scale;
    let left = (tile.keep.columns.start - tile.source.columns.start) * scale;
    upscaled
        .squeeze(0)?
        .narrow(1, top, tile.keep.height() * scale)?
        .narrow(2, left, tile.keep.width() * scale)
}

fn scaled(part: &Rectangle, scale: usize) -> Rectangle {
    let times = |range: &std::ops::Range<usize>| range.start * scale..range.end * scale;
    Rectangle {
        columns: times(&part.columns),
        rows: times(&part.rows),
    }
}
