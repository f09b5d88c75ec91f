//! What is this video, by ffprobe's answer, and is it within the limits? Pure.

mod answer;
#[cfg(test)]
mod tests;

use super::color::{Color, Tags};
use super::error::MediaError;
use super::rate::FrameRate;
use super::sniff::Container;
use super::video::{Audio, Video, VideoLimits};
use answer::{Answer, Stream, chosen, clock, seconds};

/// The video codecs that are accepted; an ffmpeg for the worker needs these decoders.
pub const VIDEO_CODECS: &[&str] = &[
    "h264",
    "hevc",
    "av1",
    "vp9",
    "vp8",
    "mpeg4",
    "mpeg2video",
    "mjpeg",
    "prores",
    "dnxhd",
    "ffv1",
    "png",
    "rawvideo",
];

/// Reads ffprobe's answer (`-show_streams -show_format -of json`).
pub(super) fn describe(
    json: &[u8],
    container: Container,
    limits: &VideoLimits,
) -> Result<Video, MediaError> {
    let answer: Answer =
        serde_json::from_slice(json).map_err(|source| MediaError::ProbeAnswer { source })?;
    let has_audio = answer
        .streams
        .iter()
        .any(|stream| stream.codec_type == "audio");
    let stream = chosen(&answer.streams, "video").ok_or(MediaError::NoVideoStream { has_audio })?;
    if !VIDEO_CODECS.contains(&stream.codec_name.as_str()) {
        let codec = match stream.codec_name.as_str() {
            "" => "something unknown".into(),
            name => name.chars().take(40).collect(),
        };
        return Err(MediaError::VideoCodec {
            codec,
            accepted: VIDEO_CODECS.join(", "),
        });
    }
    let turn = turn(stream);
    let (width, height) = upright_size(stream, turn, limits)?;
    let rate = constant_rate(stream, limits)?;
    let own = stream
        .duration
        .as_deref()
        .and_then(seconds)
        .or_else(|| stream.tags.duration.as_deref().and_then(clock));
    let duration = own.or_else(|| answer.format.duration.as_deref().and_then(seconds));
    let color = Color::from_tags(tags(stream), stream.height.into())
        .map_err(|found| MediaError::Colors { found })?;
    Ok(Video {
        container,
        stream: stream.index,
        codec: stream.codec_name.clone(),
        width,
        height,
        rate,
        frames: duration.map(|duration| rate.frames_in(duration)),
        duration,
        color,
        audio: chosen(&answer.streams, "audio").map(|audio| Audio {
            stream: audio.index,
            codec: audio.codec_name.clone(),
        }),
        is_turned: turn != Turn::Askew,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Upright,
    Sideways,
    /// Not by a quarter: left as it is.
    Askew,
}

fn turn(stream: &Stream) -> Turn {
    let degrees = stream
        .side_data_list
        .iter()
        .find_map(|data| data.rotation)
        .unwrap_or(0.0);
    let from_quarter = (degrees / 90.0 - (degrees / 90.0).round()).abs();
    if from_quarter > 0.02 {
        return Turn::Askew;
    }
    if (degrees / 90.0).round() % 2.0 == 0.0 {
        Turn::Upright
    } else {
        Turn::Sideways
    }
}

fn upright_size(
    stream: &Stream,
    turn: Turn,
    limits: &VideoLimits,
) -> Result<(u32, u32), MediaError> {
    let (width, height) = square_pixels(stream);
    let (width, height) = if turn == Turn::Sideways {
        (height, width)
    } else {
        (width, height)
    };
    let too_large = MediaError::VideoTooLarge {
        width,
        height,
        side: limits.side,
        pixels: limits.pixels,
    };
    if width == 0 || height == 0 {
        return Err(MediaError::NoFrames);
    }
    if width.saturating_mul(height) > limits.pixels {
        return Err(too_large);
    }
    match (u32::try_from(width), u32::try_from(height)) {
        (Ok(width), Ok(height)) if width <= limits.side && height <= limits.side => {
            Ok((width, height))
        }
        _ => Err(too_large),
    }
}

/// Pixels that are not square are stretched along one side, so that none is lost.
fn square_pixels(stream: &Stream) -> (u64, u64) {
    let (width, height) = (u64::from(stream.width), u64::from(stream.height));
    let aspect = stream
        .sample_aspect_ratio
        .split_once(':')
        .and_then(|(across, down)| {
            Some((
                across.parse::<u32>().ok().filter(|side| *side > 0)?,
                down.parse::<u32>().ok().filter(|side| *side > 0)?,
            ))
        });
    let Some((across, down)) = aspect.map(|(across, down)| (u64::from(across), u64::from(down)))
    else {
        return (width, height);
    };
    let stretched =
        |side: u64, by: u64, of: u64| (side.saturating_mul(by).saturating_add(of / 2)) / of;
    if across >= down {
        (stretched(width, across, down), height)
    } else {
        (width, stretched(height, down, across))
    }
}

/// The rate at which frames stand in the file, if they stand evenly; else their average rate.
fn constant_rate(stream: &Stream, limits: &VideoLimits) -> Result<FrameRate, MediaError> {
    /// Phones drop a frame now and then; an even grid with gaps is better than a crooked one.
    const EVEN: f64 = 1.05;
    let grid = FrameRate::parse(&stream.r_frame_rate);
    let average = FrameRate::parse(&stream.avg_frame_rate);
    let rate = match (grid, average) {
        (Some(grid), Some(average)) if grid.as_f64() > average.as_f64() * EVEN => average,
        (Some(grid), Some(average)) if average.as_f64() > grid.as_f64() * EVEN => average,
        (Some(grid), _) => grid,
        (None, Some(average)) => average,
        (None, None) => {
            return Err(MediaError::NoFrameRate {
                found: stream.avg_frame_rate.chars().take(40).collect(),
            });
        }
    };
    if rate.as_f64() > f64::from(limits.rate) {
        return Err(MediaError::FrameRateTooHigh {
            found: rate.to_string(),
            limit: limits.rate,
        });
    }
    Ok(rate)
}

fn tags(stream: &Stream) -> Tags<'_> {
    Tags {
        pixel_format: &stream.pix_fmt,
        range: &stream.color_range,
        matrix: &stream.color_space,
        transfer: &stream.color_transfer,
        primaries: &stream.color_primaries,
        chroma_location: &stream.chroma_location,
    }
}
