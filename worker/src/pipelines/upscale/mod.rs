//! Upscale: an image or a video in, the same out, larger: PNG or H.264 MP4.
//!
//! *Layout*: `frame_upscaler` takes one frame through the network, `hidden_colors` is what it sees where an image is transparent,
//! `memory_estimate` is whether there is memory for it.

mod frame_upscaler;
mod hidden_colors;
mod memory_estimate;

use std::sync::atomic::Ordering;

use framewright_crds::aijob::OutputRole;
use framewright_crds::pipelines::interpolate::FrameStep;
use framewright_crds::pipelines::upscale::Upscale;
use framewright_crds::pipelines::{MediaFacts, MediaKind, Pipeline};
use image::GrayImage;
use image::imageops::{self, FilterType};

use super::map_video::{FrameMap, Results, VideoMap, map_video};
use super::position::Position;
use super::video::{video_facts, waiting_frames};
use super::{Input, Output, Outputs, PipelineError, ProgressSink, TaskContext, Work};
use crate::media::image::{self as stills, Header};
use crate::media::sniff::sniff;
use crate::media::{Frame, Kind, MediaError, Programs, Still, StillFormat, Video};
use crate::networks::Upscaler;
use frame_upscaler::FrameUpscaler;
use hidden_colors::spread_under_transparent;
use memory_estimate::Source;

/// The most pixels that an upscaled image may have: 768 MiB of RGB.
const MAX_OUTPUT_PIXELS: u64 = 1 << 28;
/// An upscale whose input was read as far as its headers: what is left is to compute.
#[derive(Clone, Debug)]
pub struct Prepared {
    input: Input,
    source: Media,
    scale: u32,
    /// Only the first so many frames of a video.
    frames: Option<u64>,
    work: Work,
}

#[derive(Clone, Debug)]
enum Media {
    Still(Header),
    Video(Video),
}

impl Prepared {
    /// How much work it is.
    #[must_use]
    pub fn work(&self) -> &Work {
        &self.work
    }
}

/// Reads the headers of the one input, for a model that makes each side `factor` times larger.
///
/// # Errors
/// An input or parameters that nobody can work on.
pub fn prepare(
    parameters: &Upscale,
    inputs: &[Input],
    factor: usize,
    programs: &Programs,
) -> Result<Prepared, PipelineError> {
    let [input] = inputs else {
        return Err(PipelineError::NoInput {
            pipeline: "upscale",
            names: "video or image",
        });
    };
    let scale = scale(parameters.scale, factor)?;
    let frames = parameters
        .frames
        .and_then(|frames| u64::try_from(frames).ok());
    let read = |source| PipelineError::Input {
        name: input.name.clone(),
        source,
    };
    let (source, facts) = match (sniff(&input.path).map_err(read)?, input.name.as_str()) {
        (Kind::Still(_), "video") => {
            return Err(PipelineError::OtherKind {
                name: input.name.clone(),
                found: "an image",
                other: "image",
                wanted: "a video",
            });
        }
        (Kind::Video(_), "image") => {
            return Err(PipelineError::OtherKind {
                name: input.name.clone(),
                found: "a video",
                other: "video",
                wanted: "an image",
            });
        }
        (Kind::Still(_), _) => {
            let header = stills::header(&input.path, max_pixels(factor)).map_err(read)?;
            let facts = MediaFacts {
                kind: MediaKind::Image,
                width: header.width,
                height: header.height,
                frames: 1,
                rate: None,
            };
            (Media::Still(header), facts)
        }
        (Kind::Video(_), _) => {
            let (video, facts) = video_facts(&input.path, frames, programs).map_err(read)?;
            (Media::Video(video), facts)
        }
    };
    Ok(Prepared {
        input: input.clone(),
        source,
        scale,
        frames,
        work: Work {
            pipeline: Pipeline::Upscale(Upscale {
                scale: i32::try_from(scale).ok(),
                frames: parameters.frames,
            }),
            input: facts,
        },
    })
}

fn scale(wanted: Option<i32>, factor: usize) -> Result<u32, PipelineError> {
    let Some(scale) = wanted else {
        return Ok(u32::try_from(factor).unwrap_or(1));
    };
    match u32::try_from(scale) {
        Ok(wanted) if (1..=factor).contains(&(wanted as usize)) => Ok(wanted),
        Ok(_) | Err(_) => Err(PipelineError::ScaleTooLarge { scale, factor }),
    }
}

/// Computes what was prepared, with this network.
///
/// # Errors
/// [`PipelineError::cause`] says whose it is: input that nobody can work on, a full disk, or the device.
pub fn upscale(
    prepared: &Prepared,
    network: &Upscaler,
    context: &TaskContext,
    sink: &mut ProgressSink<'_>,
) -> Result<Outputs, PipelineError> {
    let upscaler = FrameUpscaler::new(network, prepared.scale, context.tile_bytes)?;
    let output = match &prepared.source {
        Media::Still(header) => image(&upscaler, prepared, header, context, sink)?,
        Media::Video(source) => video(&upscaler, prepared, source, context, sink)?,
    };
    Ok(Outputs {
        units: prepared.work.units_of(output.media.frames),
        files: vec![output],
    })
}

/// How the result's name ends, for an input of this kind.
#[must_use]
pub fn extension(kind: Kind) -> &'static str {
    match kind {
        Kind::Still(_) => "png",
        Kind::Video(_) => "mp4",
    }
}

/// The most pixels that an image may have.
fn max_pixels(factor: usize) -> u64 {
    let factor = factor.max(1) as u64;
    stills::MAX_PIXELS.min(MAX_OUTPUT_PIXELS / (factor * factor))
}

fn image(
    upscaler: &FrameUpscaler<'_>,
    prepared: &Prepared,
    header: &Header,
    context: &TaskContext,
    sink: &mut ProgressSink<'_>,
) -> Result<Output, PipelineError> {
    let input = &prepared.input;
    let read = |source| PipelineError::Input {
        name: input.name.clone(),
        source,
    };
    let source = Source {
        width: header.width,
        height: header.height,
        kind: memory_estimate::Kind::Image {
            has_alpha: header.has_alpha,
            beside: header.beside,
        },
    };
    memory_estimate::check(source, upscaler.plan(context.tile_bytes), context.memory)?;
    let mut still =
        stills::read(&input.path, max_pixels(upscaler.network.scale())).map_err(read)?;
    if let Some(alpha) = &still.alpha {
        spread_under_transparent(&mut still.frame, alpha);
    }
    let (width, height) = upscaler.size(still.frame.width, still.frame.height);
    let alpha = still
        .alpha
        .and_then(|alpha| GrayImage::from_raw(still.frame.width, still.frame.height, alpha))
        .map(|alpha| imageops::resize(&alpha, width, height, FilterType::CatmullRom).into_raw());
    let only = Position {
        done: 0,
        all: Some(1),
    };
    let larger = Still {
        frame: upscaler.frame(still.frame, only, sink)?,
        alpha,
        icc_profile: still.icc_profile,
    };
    sink.units
        .store(prepared.work.units_of(1), Ordering::Relaxed);
    let path = context.folder.join("output.png");
    let write = |source| PipelineError::Output { source };
    let bytes = stills::write(&path, &larger, StillFormat::Png).map_err(write)?;
    if bytes > context.max_bytes {
        let limit = context.max_bytes;
        return Err(write(MediaError::ScratchBudget { path, limit }));
    }
    (sink.progress)(Position { done: 1, ..only }.progress(0, 1));
    let media = MediaFacts {
        kind: MediaKind::Image,
        width,
        height,
        frames: 1,
        rate: None,
    };
    Ok(Output {
        name: input.name.clone(),
        role: OutputRole::Result,
        path,
        media_type: StillFormat::Png.media_type(),
        media,
        left_out: Vec::new(),
    })
}

fn video(
    upscaler: &FrameUpscaler<'_>,
    prepared: &Prepared,
    video: &Video,
    context: &TaskContext,
    sink: &mut ProgressSink<'_>,
) -> Result<Output, PipelineError> {
    let (width, height) = upscaler.size(video.width, video.height);
    let waiting = waiting_frames(video.width, video.height);
    let waiting_results = waiting_frames(width, height);
    let source = Source {
        width: video.width,
        height: video.height,
        kind: memory_estimate::Kind::Video {
            waiting,
            waiting_larger: waiting_results,
        },
    };
    let plan = upscaler.plan(context.tile_bytes);
    memory_estimate::check(source, plan, context.memory)?;
    let input = &prepared.input;
    let map = VideoMap {
        input,
        video,
        wanted: prepared.frames,
        // Pictures may become larger midway, as those of calls do; the memory that this takes was not counted.
        decodable: memory_estimate::decodable(source, plan, context.memory),
        waiting,
        width,
        height,
        waiting_results,
        rate: video.rate,
        audio: video.audio_track(&input.path, prepared.frames),
        step: FrameStep {
            numerator: 1,
            denominator: 1,
        },
        work: &prepared.work,
        computing: upscaler.computing(),
    };
    map_video(
        &input.name,
        &map,
        &mut Upscaling { upscaler },
        context,
        sink,
    )
}

/// Each frame becomes one larger frame.
struct Upscaling<'a> {
    upscaler: &'a FrameUpscaler<'a>,
}

impl FrameMap for Upscaling<'_> {
    fn next(&mut self, frame: Frame, results: &mut Results<'_, '_>) -> Result<(), PipelineError> {
        results.frame(|position, sink| self.upscaler.frame(frame, position, sink))
    }

    fn finish(&mut self, _: u64, _: &mut Results<'_, '_>) -> Result<(), PipelineError> {
        Ok(())
    }
}
