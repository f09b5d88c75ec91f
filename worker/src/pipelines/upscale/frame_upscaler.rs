//! One frame through the network, and reduced where a smaller scale is asked for than the network's factor.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;

use image::RgbImage;
use image::imageops::{self, FilterType};
use serde_json::{Value, json};

use super::memory_estimate::UpscalePlan;
use crate::frame::{FrameError, host_bytes_per_pixel, tiling_on_device, upscale_rgb8};
use crate::media::Frame;
use crate::networks::Upscaler;
use crate::pipelines::position::Position;
use crate::pipelines::{PipelineError, ProgressSink};
use crate::tiles::{Tiling, plan};

/// A network and by how much its result is reduced.
pub(super) struct FrameUpscaler<'a> {
    pub(super) network: &'a Upscaler,
    tiling: Tiling,
    /// How often it can be stopped within a tile.
    parts_of_a_tile: u64,
    scale: u32,
}

impl FrameUpscaler<'_> {
    pub(super) fn new(
        network: &Upscaler,
        scale: u32,
        tile_bytes: u64,
    ) -> Result<FrameUpscaler<'_>, PipelineError> {
        let tiling = tiling_on_device(network, tile_bytes);
        Ok(FrameUpscaler {
            network,
            tiling,
            parts_of_a_tile: parts_of_a_tile(network, tiling)?,
            scale,
        })
    }

    /// `tile_bytes` is what it was made with.
    pub(super) fn plan(&self, tile_bytes: u64) -> UpscalePlan {
        UpscalePlan {
            factor: self.network.scale() as u64,
            scale: self.scale.into(),
            tile_bytes_per_pixel: host_bytes_per_pixel(self.network),
            tile_bytes,
        }
    }

    /// What the bytes of its results depend on beside the network: a worker with other memory has other tiles.
    pub(super) fn computing(&self) -> Value {
        let Tiling {
            edge,
            overlap,
            multiple,
        } = self.tiling;
        json!({"tileEdge": edge, "tileOverlap": overlap, "tileMultiple": multiple})
    }

    pub(super) fn size(&self, width: u32, height: u32) -> (u32, u32) {
        (
            width.saturating_mul(self.scale),
            height.saturating_mul(self.scale),
        )
    }

    /// Reports how far it is before each part of a tile, since a single frame can take minutes.
    pub(super) fn frame(
        &self,
        frame: Frame,
        position: Position,
        sink: &mut ProgressSink<'_>,
    ) -> Result<Frame, PipelineError> {
        let (columns, rows) = (frame.width as usize, frame.height as usize);
        let tiles = plan(columns, rows, self.tiling).map_or(1, |tiles| tiles.len() as u64);
        let parts = tiles * self.parts_of_a_tile;
        let (should_stop, progress) = (sink.should_stop, RefCell::new(&mut sink.progress));
        let part = Cell::new(0);
        let before_a_part = || {
            (progress.borrow_mut())(position.progress(part.get(), parts));
            part.set(part.get() + 1);
            should_stop.load(Ordering::Relaxed)
        };
        let rgb = upscale_rgb8(
            self.network,
            &frame.rgb,
            columns,
            rows,
            self.tiling,
            &before_a_part,
        )
        .map_err(failure)?;
        let factor = u32::try_from(self.network.scale()).unwrap_or(1);
        let larger = Frame {
            width: frame.width.saturating_mul(factor),
            height: frame.height.saturating_mul(factor),
            rgb,
        };
        let (width, height) = self.size(frame.width, frame.height);
        if (larger.width, larger.height) == (width, height) {
            return Ok(larger);
        }
        Ok(reduced(larger, width, height))
    }
}

/// Counted on the smallest frame.
fn parts_of_a_tile(network: &Upscaler, tiling: Tiling) -> Result<u64, PipelineError> {
    let parts = Cell::new(0);
    let count = || {
        parts.set(parts.get() + 1);
        false
    };
    upscale_rgb8(network, &[0; 3], 1, 1, tiling, &count).map_err(failure)?;
    Ok(parts.get().max(1))
}

fn failure(error: FrameError) -> PipelineError {
    match error {
        FrameError::Stopped => PipelineError::Stopped,
        FrameError::Size { .. }
        | FrameError::TooLarge { .. }
        | FrameError::NotANumber
        | FrameError::Tile(_)
        | FrameError::Model(_)
        | FrameError::Pixels { .. } => PipelineError::Network {
            source: Box::new(error),
        },
    }
}

/// Bicubic, with a kernel as wide as the reduction, so that nothing aliases.
fn reduced(frame: Frame, width: u32, height: u32) -> Frame {
    match RgbImage::from_raw(frame.width, frame.height, frame.rgb) {
        Some(large) => {
            let small = imageops::resize(&large, width, height, FilterType::CatmullRom);
            Frame {
                width,
                height,
                rgb: small.into_raw(),
            }
        }
        None => Frame {
            width: 0,
            height: 0,
            rgb: Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reduced_frame_keeps_flat_colours() {
        let flat = Frame {
            width: 8,
            height: 4,
            rgb: [10, 200, 30].repeat(32),
        };
        let small = reduced(flat, 4, 2);
        assert_eq!((small.width, small.height), (4, 2));
        assert_eq!(small.rgb, [10, 200, 30].repeat(8));
    }
}
