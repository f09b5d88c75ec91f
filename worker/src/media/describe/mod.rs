//! What is this video, by ffprobe's answer, and is it within the limits? Pure.

mod answer;
#[cfg(test)]
mod tests;
mod timing;

use super::color::{Color, Tags};
use super::error::MediaError;
use super::sniff::Container;
use super::video::{LeftOut, Sound, Video, VideoLimits};
use answer::{Answer, Stream, main_video};
pub(super) use timing::PacketTimes;
use timing::Timing;

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

/// What ffprobe's answer says.
#[derive(Debug)]
pub(super) enum Described {
    /// All there is to know.
    Video(Box<Video>),
    /// The header does not prove the frame rate or the length. Only the times of this stream's packets do.
    NeedsPackets {
        /// The stream's index in the file.
        stream: u32,
    },
}

/// Reads ffprobe's answer (`-show_streams -show_chapters -show_format -of json`), with the times of the video's packets if they were
/// asked for.
pub(super) fn describe(
    json: &[u8],
    container: Container,
    limits: &VideoLimits,
    packets: Option<&PacketTimes>,
) -> Result<Described, MediaError> {
    let answer: Answer =
        serde_json::from_slice(json).map_err(|source| MediaError::ProbeAnswer { source })?;
    let has_audio = answer
        .streams
        .iter()
        .any(|stream| stream.codec_type == "audio");
    let stream = main_video(&answer.streams).ok_or(MediaError::NoVideoStream { has_audio })?;
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
    let color = color(stream).map_err(|found| MediaError::Colors { found })?;
    let timing = match packets {
        None => Timing::of_header(stream),
        Some(packets) => Some(Timing::of_packets(stream, packets, &answer.format)?),
    };
    let Some(Timing {
        rate,
        frames,
        duration,
    }) = timing
    else {
        return Ok(Described::NeedsPackets {
            stream: stream.index,
        });
    };
    if rate.as_f64() > f64::from(limits.rate) {
        return Err(MediaError::FrameRateTooHigh {
            found: rate.to_string(),
            limit: limits.rate,
        });
    }
    Ok(Described::Video(Box::new(Video {
        container,
        stream: stream.index,
        codec: stream.codec_name.clone(),
        width,
        height,
        rate,
        frames,
        duration,
        color,
        sounds: sounds(&answer.streams)?,
        has_chapters: !answer.chapters.is_empty(),
        left_out: left_out(&answer.streams, stream),
        is_turned: turn != Turn::Askew,
    })))
}

/// The most channels that are mixed down: 7.1.
const MAX_CHANNELS: u32 = 8;

/// More languages than any film has.
const MAX_SOUNDS: usize = 16;

/// All sounds, the one that players choose marked.
fn sounds(streams: &[Stream]) -> Result<Vec<Sound>, MediaError> {
    let audio = || streams.iter().filter(|stream| stream.codec_type == "audio");
    let default = audio().find(|stream| stream.disposition.default == 1);
    let default = default
        .or_else(|| audio().next())
        .map(|stream| stream.index);
    let sounds = audio().take(MAX_SOUNDS).map(|stream| {
        let sound = Sound {
            stream: stream.index,
            codec: stream.codec_name.clone(),
            sample_rate: stream.sample_rate.parse().unwrap_or(0),
            channels: stream.channels,
            is_default: default == Some(stream.index),
        };
        if sound.channels > MAX_CHANNELS && !sound.is_copied() {
            return Err(MediaError::TooManyChannels {
                channels: sound.channels,
                limit: MAX_CHANNELS,
            });
        }
        Ok(sound)
    });
    sounds.collect()
}

/// What no result has.
fn left_out(streams: &[Stream], main: &Stream) -> Vec<LeftOut> {
    let has = |is_meant: &dyn Fn(&Stream) -> bool| streams.iter().any(is_meant);
    let is_other_video =
        |stream: &Stream| stream.codec_type == "video" && stream.index != main.index;
    [
        (has_alpha(main), LeftOut::Alpha),
        (
            has(&|stream| is_other_video(stream) && !stream.is_cover()),
            LeftOut::Videos,
        ),
        (
            has(&|stream| stream.codec_type == "subtitle"),
            LeftOut::Subtitles,
        ),
        (
            has(&|stream| is_other_video(stream) && stream.is_cover()),
            LeftOut::Cover,
        ),
    ]
    .into_iter()
    .filter_map(|(is_there, what)| is_there.then_some(what))
    .collect()
}

fn has_alpha(stream: &Stream) -> bool {
    let formats = [
        "yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16", "pal8",
    ];
    stream.tags.alpha_mode == "1"
        || formats
            .iter()
            .any(|format| stream.pix_fmt.starts_with(format))
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

fn color(stream: &Stream) -> Result<Color, String> {
    let dolby = stream.side_data_list.iter().find_map(|data| {
        let profile = data.dv_profile?;
        Some((profile, data.dv_bl_signal_compatibility_id.unwrap_or(0)))
    });
    match dolby {
        // The base layer is what any player shows.
        None | Some((_, 2)) => {}
        Some((profile, _)) => return Err(format!("HDR (Dolby Vision, profile {profile})")),
    }
    Color::from_tags(tags(stream), stream.width.into(), stream.height.into())
}

fn tags(stream: &Stream) -> Tags<'_> {
    Tags {
        codec: &stream.codec_name,
        pixel_format: &stream.pix_fmt,
        range: &stream.color_range,
        matrix: &stream.color_space,
        transfer: &stream.color_transfer,
        primaries: &stream.color_primaries,
        chroma_location: &stream.chroma_location,
    }
}
