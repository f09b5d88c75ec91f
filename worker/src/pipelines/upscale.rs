//! Upscale: an image or a video in, the same out, larger: PNG or H.264 MP4.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;
use std::time::Duration;

use framewright_crds::aijob::{Progress, Upscale};
use image::imageops::{self, FilterType};
use image::{GrayImage, RgbImage};

use super::{Input, Made, PipelineError, Watch, Workplace, size};
use crate::frame::{FrameError, tiling, upscale_rgb8};
use crate::media::decode::{DecodeOptions, Decoder};
use crate::media::encode::{EncodeOptions, Encoder};
use crate::media::probe::probe;
use crate::media::sniff::sniff;
use crate::media::{Frame, Kind, MediaError, Still, StillFormat, VideoLimits, image as stills};
use crate::models::Upscaler;
use crate::tiles::{Tiling, plan};

/// The most pixels that an upscaled image may have: 768 MiB of RGB.
const MAX_OUTPUT_PIXELS: u64 = 1 << 28;
const PROBE_DEADLINE: Duration = Duration::from_secs(60);
const FRAME_DEADLINE: Duration = Duration::from_secs(120);
/// A constant, since x264's bytes depend on it and the same work is to give the same bytes on every machine.
const ENCODER_THREADS: u32 = 4;
/// Memory for frames that wait to be worked on, and as much for those that wait to be encoded.
const WAITING_FRAMES_BYTES: usize = 256 << 20;

/// Upscales the one input, by the parameters, with this network.
///
/// # Errors
/// [`PipelineError::cause`] says whose it is: input that nobody can work on, a full disk, or the device.
pub fn upscale(
    parameters: &Upscale,
    inputs: &[Input],
    network: &Upscaler,
    workplace: &Workplace,
    watch: &mut Watch<'_>,
) -> Result<Made, PipelineError> {
    let [input] = inputs else {
        return Err(PipelineError::NoInput);
    };
    let enlarge = Enlarge::new(network, parameters.scale, workplace.tile_bytes)?;
    let read = |source| PipelineError::Input {
        name: input.name.clone(),
        source,
    };
    match (sniff(&input.path).map_err(read)?, input.name.as_str()) {
        (Kind::Still(_), "video") => Err(PipelineError::OtherKind {
            name: input.name.clone(),
            found: "an image",
            other: "image",
            wanted: "a video",
        }),
        (Kind::Video(_), "image") => Err(PipelineError::OtherKind {
            name: input.name.clone(),
            found: "a video",
            other: "video",
            wanted: "an image",
        }),
        (Kind::Still(_), _) => image(&enlarge, input, workplace, watch),
        (Kind::Video(_), _) => video(&enlarge, parameters, input, workplace, watch),
    }
}

fn image(
    enlarge: &Enlarge<'_>,
    input: &Input,
    workplace: &Workplace,
    watch: &mut Watch<'_>,
) -> Result<Made, PipelineError> {
    let factor = enlarge.network.scale().max(1) as u64;
    let max_pixels = stills::MAX_PIXELS.min(MAX_OUTPUT_PIXELS / (factor * factor));
    let still = stills::read(&input.path, max_pixels).map_err(|source| PipelineError::Input {
        name: input.name.clone(),
        source,
    })?;
    let (width, height) = enlarge.size(still.frame.width, still.frame.height);
    let alpha = still
        .alpha
        .and_then(|alpha| GrayImage::from_raw(still.frame.width, still.frame.height, alpha))
        .map(|alpha| imageops::resize(&alpha, width, height, FilterType::CatmullRom).into_raw());
    let only = Position {
        done: 0,
        all: Some(1),
    };
    let larger = Still {
        frame: enlarge.frame(still.frame, only, watch)?,
        alpha,
        icc_profile: still.icc_profile,
    };
    let path = workplace.folder.join("output.png");
    let write = |source| PipelineError::Output { source };
    let bytes = stills::write(&path, &larger, StillFormat::Png).map_err(write)?;
    if bytes > workplace.max_bytes {
        let limit = workplace.max_bytes;
        return Err(write(MediaError::ScratchBudget { path, limit }));
    }
    (watch.progress)(Position { done: 1, ..only }.progress(0, 1));
    Ok(Made {
        path,
        media_type: StillFormat::Png.media_type(),
        width,
        height,
        frames: 1,
        units: units(width, height, 1),
    })
}

fn video(
    enlarge: &Enlarge<'_>,
    parameters: &Upscale,
    input: &Input,
    workplace: &Workplace,
    watch: &mut Watch<'_>,
) -> Result<Made, PipelineError> {
    let read = |source| PipelineError::Input {
        name: input.name.clone(),
        source,
    };
    let write = |source| PipelineError::Output { source };
    let limits = VideoLimits::default();
    let programs = &workplace.programs;
    let video = probe(programs, &input.path, &limits, PROBE_DEADLINE).map_err(read)?;
    let wanted = parameters
        .frames
        .and_then(|frames| u64::try_from(frames).ok());
    let (width, height) = enlarge.size(video.width, video.height);
    let path = workplace.folder.join("output.mp4");
    let mut decoder = Decoder::open(
        programs,
        &input.path,
        &video,
        &DecodeOptions {
            frames: wanted,
            queue: waiting_frames(video.width, video.height),
            limits,
            patience: FRAME_DEADLINE,
            ..DecodeOptions::default()
        },
    )
    .map_err(read)?;
    let mut encoder = Encoder::create(
        programs,
        &path,
        EncodeOptions {
            audio: video.audio_track(&input.path, wanted),
            threads: ENCODER_THREADS,
            queue: waiting_frames(width, height),
            max_bytes: workplace.max_bytes.saturating_sub(size(&input.path)),
            patience: FRAME_DEADLINE,
            ..EncodeOptions::new(width, height, video.rate)
        },
    )
    .map_err(write)?;
    let all = match (video.frames, wanted) {
        (Some(found), Some(wanted)) => Some(found.min(wanted)),
        (found, wanted) => found.or(wanted),
    };
    let mut position = Position { done: 0, all };
    while let Some(frame) = decoder.next_frame().map_err(read)? {
        let larger = enlarge.frame(frame, position, watch)?;
        encoder.push(larger).map_err(write)?;
        position.done += 1;
    }
    (watch.progress)(position.progress(0, 1));
    let encoded = encoder.finish().map_err(write)?;
    Ok(Made {
        path,
        media_type: "video/mp4",
        width,
        height,
        frames: encoded.frames,
        units: units(width, height, encoded.frames),
    })
}

/// A network and by how much its result is reduced.
struct Enlarge<'a> {
    network: &'a Upscaler,
    tiling: Tiling,
    scale: u32,
}

impl Enlarge<'_> {
    fn new(
        network: &Upscaler,
        scale: Option<i32>,
        tile_bytes: u64,
    ) -> Result<Enlarge<'_>, PipelineError> {
        let factor = network.scale();
        let scale = match scale {
            None => factor,
            Some(scale) => match usize::try_from(scale) {
                Ok(wanted) if (1..=factor).contains(&wanted) => wanted,
                Ok(_) | Err(_) => return Err(PipelineError::ScaleTooLarge { scale, factor }),
            },
        };
        Ok(Enlarge {
            network,
            tiling: tiling(network.architecture(), tile_bytes),
            scale: u32::try_from(scale).unwrap_or(1),
        })
    }

    fn size(&self, width: u32, height: u32) -> (u32, u32) {
        (
            width.saturating_mul(self.scale),
            height.saturating_mul(self.scale),
        )
    }

    /// Tells how far it is before each tile, since a single frame can take minutes.
    fn frame(
        &self,
        frame: Frame,
        position: Position,
        watch: &mut Watch<'_>,
    ) -> Result<Frame, PipelineError> {
        let (columns, rows) = (frame.width as usize, frame.height as usize);
        let tiles = plan(columns, rows, self.tiling).map_or(1, |tiles| tiles.len() as u64);
        let (should_stop, progress) = (watch.should_stop, RefCell::new(&mut watch.progress));
        let tile = Cell::new(0);
        let before_a_tile = || {
            (progress.borrow_mut())(position.progress(tile.get(), tiles));
            tile.set(tile.get() + 1);
            should_stop.load(Ordering::Relaxed)
        };
        let rgb = upscale_rgb8(
            self.network,
            &frame.rgb,
            columns,
            rows,
            self.tiling,
            &before_a_tile,
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

/// Which frame, of how many where that is known.
#[derive(Clone, Copy, Debug)]
struct Position {
    done: u64,
    all: Option<u64>,
}

impl Position {
    fn progress(self, tile: u64, tiles: u64) -> Progress {
        let Position { done, all } = self;
        // A header may promise fewer frames than come.
        let all = all.map(|all| all.max(done));
        let percent = match all {
            Some(all) if all > 0 => {
                let parts = u128::from(done) * u128::from(tiles) + u128::from(tile);
                let of = u128::from(all) * u128::from(tiles.max(1));
                (parts * 100 / of).min(100) as i32
            }
            Some(_) | None => 0,
        };
        Progress {
            percent,
            frame: i64::try_from(done).ok(),
            frames: all.and_then(|all| i64::try_from(all).ok()),
        }
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

fn waiting_frames(width: u32, height: u32) -> usize {
    (WAITING_FRAMES_BYTES / Frame::byte_count(width, height).max(1)).clamp(1, 4)
}

fn units(width: u32, height: u32, frames: u64) -> i64 {
    i64::try_from(u128::from(width) * u128::from(height) * u128::from(frames)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_counts_tiles_within_a_frame() {
        let percent = |done, all, tile, tiles| Position { done, all }.progress(tile, tiles).percent;
        assert_eq!(percent(0, Some(1), 0, 4), 0);
        assert_eq!(percent(0, Some(1), 3, 4), 75);
        assert_eq!(percent(5, Some(10), 1, 2), 55);
        assert_eq!(percent(12, Some(10), 0, 1), 100);
        assert_eq!(percent(3, None, 0, 1), 0);
        assert_eq!(percent(0, Some(0), 0, 0), 0);
    }

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
