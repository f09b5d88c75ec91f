//! What is this video, by ffprobe's answer, and is it within the limits? Pure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::color::{Color, Tags};
use super::error::MediaError;
use super::rate::FrameRate;
use super::sniff::Container;

/// What a video may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoLimits {
    /// Pixels in a row or a column, upright and with square pixels.
    pub side: u32,
    /// Pixels in a frame.
    pub pixels: u64,
    /// Frames a second.
    pub rate: u32,
    /// Frames in all, unless only the first ones are asked for.
    pub frames: u64,
    /// Its length, unless only the first frames are asked for.
    pub duration: Duration,
}

impl Default for VideoLimits {
    /// 8K, 240 frames a second, an hour at 60.
    fn default() -> VideoLimits {
        VideoLimits {
            side: 8192,
            pixels: 8192 * 4320,
            rate: 240,
            frames: 216_000,
            duration: Duration::from_secs(3600),
        }
    }
}

/// A video that is within the limits: the one stream that is worked on, and how to read it.
#[derive(Debug, Clone, PartialEq)]
pub struct Video {
    /// How it is wrapped.
    pub container: Container,
    /// The stream's index in the file.
    pub stream: u32,
    /// The codec, in ffmpeg's words, such as `h264`.
    pub codec: String,
    /// Pixels in a row after rotation, with square pixels (a picture is stretched, never shrunk).
    pub width: u32,
    /// Rows after rotation, with square pixels.
    pub height: u32,
    /// Frames a second of what a decoder gives. A video with a variable rate is resampled to its
    /// average rate.
    pub rate: FrameRate,
    /// About how many frames a decoder gives, by the header; good for progress, not for proof.
    pub frames: Option<u64>,
    /// How long it lasts, by the header.
    pub duration: Option<Duration>,
    /// What its values mean.
    pub color: Color,
    /// The audio that goes with it.
    pub audio: Option<Audio>,
    /// Whether the picture is to be turned by what the file says.
    pub(super) is_turned: bool,
}

/// The one audio stream that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audio {
    /// The stream's index in the file.
    pub stream: u32,
    /// The codec, in ffmpeg's words, such as `aac`.
    pub codec: String,
}

/// Audio to be carried into an encoded video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioTrack {
    pub(super) path: PathBuf,
    pub(super) container: Container,
    pub(super) stream: u32,
    /// Its codec may stand in an MP4; otherwise it becomes AAC.
    pub(super) is_copied: bool,
    /// Where it is cut.
    pub(super) length: Option<Duration>,
}

impl Video {
    /// The audio of the video at `path`, cut to its first `frames` frames if a number is given.
    pub fn audio_track(&self, path: &Path, frames: Option<u64>) -> Option<AudioTrack> {
        let audio = self.audio.as_ref()?;
        Some(AudioTrack {
            path: path.into(),
            container: self.container,
            stream: audio.stream,
            is_copied: AUDIO_IN_MP4.contains(&audio.codec.as_str()),
            length: frames.map(|frames| self.rate.time_of(frames)),
        })
    }

    /// Checks the length that the header tells.
    ///
    /// # Errors
    /// [`MediaError::TooLong`] or [`MediaError::TooManyFrames`].
    pub fn check_length(&self, limits: &VideoLimits) -> Result<(), MediaError> {
        if let Some(found) = self.duration.filter(|found| *found > limits.duration) {
            return Err(MediaError::TooLong {
                found,
                limit: limits.duration,
            });
        }
        if self.frames.is_some_and(|frames| frames > limits.frames) {
            return Err(MediaError::TooManyFrames {
                limit: limits.frames,
            });
        }
        Ok(())
    }
}

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

/// The audio codecs that players expect in an MP4.
const AUDIO_IN_MP4: &[&str] = &["aac", "mp3", "ac3", "eac3", "alac", "opus"];

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

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
}

#[derive(Debug, Default, Deserialize)]
struct Format {
    duration: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stream {
    index: u32,
    codec_type: String,
    codec_name: String,
    width: u32,
    height: u32,
    pix_fmt: String,
    sample_aspect_ratio: String,
    color_range: String,
    color_space: String,
    color_transfer: String,
    color_primaries: String,
    r_frame_rate: String,
    avg_frame_rate: String,
    duration: Option<String>,
    disposition: Disposition,
    tags: StreamTags,
    side_data_list: Vec<SideData>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Disposition {
    default: u8,
    attached_pic: u8,
    timed_thumbnails: u8,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamTags {
    #[serde(rename = "DURATION")]
    duration: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SideData {
    rotation: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Upright,
    Sideways,
    /// Not by a quarter: left as it is.
    Askew,
}

/// The stream that the file calls the default one, else the first; never cover art.
fn chosen<'a>(streams: &'a [Stream], kind: &str) -> Option<&'a Stream> {
    let fitting = || {
        streams.iter().filter(|stream| {
            stream.codec_type == kind
                && stream.disposition.attached_pic == 0
                && stream.disposition.timed_thumbnails == 0
        })
    };
    fitting()
        .find(|stream| stream.disposition.default == 1)
        .or_else(|| fitting().next())
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
    }
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse().ok()?)
        .ok()
        .filter(|time| !time.is_zero())
}

/// Reads Matroska's `00:01:02.500000000`.
fn clock(text: &str) -> Option<Duration> {
    let mut parts = text.trim().splitn(3, ':');
    let hours: f64 = parts.next()?.parse().ok()?;
    let minutes: f64 = parts.next()?.parse().ok()?;
    let rest: f64 = parts.next()?.parse().ok()?;
    Duration::try_from_secs_f64(hours * 3600.0 + minutes * 60.0 + rest)
        .ok()
        .filter(|time| !time.is_zero())
}
