//! Upscale: an image or a video in, the same out, larger: PNG or H.264 MP4.
//!
//! *Layout*: `enlarge` is one frame's way through the network, `position` how far it is, `room` whether there is memory for it.

mod enlarge;
mod position;
mod room;

use std::sync::atomic::Ordering;
use std::time::Duration;

use framewright_crds::aijob::Upscale;
use image::GrayImage;
use image::imageops::{self, FilterType};

use super::{Input, Made, PipelineError, Watch, Workplace, size};
use crate::media::decode::{DecodeOptions, Decoder};
use crate::media::encode::{EncodeOptions, Encoder};
use crate::media::probe::probe;
use crate::media::sniff::sniff;
use crate::media::{Frame, Kind, MediaError, Still, StillFormat, VideoLimits, image as stills};
use crate::models::Upscaler;
use enlarge::Enlarge;
use position::Position;
use room::Source;

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

/// How the result's name ends, for an input of this kind.
#[must_use]
pub fn extension(kind: Kind) -> &'static str {
    match kind {
        Kind::Still(_) => "png",
        Kind::Video(_) => "mp4",
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
    let read = |source| PipelineError::Input {
        name: input.name.clone(),
        source,
    };
    let header = stills::header(&input.path, max_pixels).map_err(read)?;
    let source = Source {
        width: header.width,
        height: header.height,
        kind: room::Kind::Image {
            has_alpha: header.has_alpha,
            beside: header.beside,
        },
    };
    room::check(
        source,
        enlarge.means(workplace.tile_bytes),
        workplace.memory,
    )?;
    let still = stills::read(&input.path, max_pixels).map_err(read)?;
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
    let waiting = waiting_frames(video.width, video.height);
    let waiting_larger = waiting_frames(width, height);
    let source = Source {
        width: video.width,
        height: video.height,
        kind: room::Kind::Video {
            waiting,
            waiting_larger,
        },
    };
    let means = enlarge.means(workplace.tile_bytes);
    room::check(source, means, workplace.memory)?;
    // Pictures may become larger midway, as those of calls do; the memory that this takes was not counted.
    let decodable = room::decodable(source, means, workplace.memory);
    let path = workplace.folder.join("output.mp4");
    let mut decoder = Decoder::open(
        programs,
        &input.path,
        &video,
        &DecodeOptions {
            frames: wanted,
            queue: waiting,
            limits: VideoLimits {
                pixels: limits.pixels.min(decodable),
                ..limits
            },
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
            queue: waiting_larger,
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
    // Frames wait in the encoder, and then the index moves to the front: minutes in which no frame comes.
    let is_wanted = || !watch.should_stop.load(Ordering::Relaxed);
    let finished = encoder.finish_while(&mut || {
        (watch.progress)(position.progress(0, 1));
        is_wanted()
    });
    let encoded = match finished {
        Err(MediaError::Stopped { .. }) if !is_wanted() => return Err(PipelineError::Stopped),
        finished => finished.map_err(write)?,
    };
    Ok(Made {
        path,
        media_type: "video/mp4",
        width,
        height,
        frames: encoded.frames,
        units: units(width, height, encoded.frames),
    })
}

fn waiting_frames(width: u32, height: u32) -> usize {
    (WAITING_FRAMES_BYTES / Frame::byte_count(width, height).max(1)).clamp(1, 4)
}

fn units(width: u32, height: u32, frames: u64) -> i64 {
    i64::try_from(u128::from(width) * u128::from(height) * u128::from(frames)).unwrap_or(i64::MAX)
}
