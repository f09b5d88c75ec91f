//! What is this video, by ffprobe's answer, and is it within the limits? Pure.

use std::time::Duration;

use serde::Deserialize;

use super::color::{Color, Tags};
use super::error::MediaError;
use super::rate::FrameRate;
use super::sniff::Container;
use super::video::{Audio, Video, VideoLimits};

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
    chroma_location: String,
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
        chroma_location: &stream.chroma_location,
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

#[cfg(test)]
mod tests {
    use super::super::error::Class;
    use super::*;

    fn described(streams: &str) -> Result<Video, MediaError> {
        let json = format!(r#"{{"streams": [{streams}], "format": {{"duration": "2.0"}}}}"#);
        describe(json.as_bytes(), Container::Mov, &VideoLimits::default())
    }

    fn video(index: u32, more: &str) -> String {
        format!(
            r#"{{"index": {index}, "codec_type": "video", "codec_name": "h264", "width": 720, "height": 480,
                "pix_fmt": "yuv420p", "r_frame_rate": "30/1", "avg_frame_rate": "30/1" {more}}}"#
        )
    }

    fn rate(grid: &str, average: &str) -> String {
        let stream = Stream {
            r_frame_rate: grid.into(),
            avg_frame_rate: average.into(),
            ..Stream::default()
        };
        match constant_rate(&stream, &VideoLimits::default()) {
            Ok(rate) => rate.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn frames_that_stand_evenly_keep_their_grid_and_others_get_their_average() {
        assert_eq!(rate("30000/1001", "30000/1001"), "30000/1001");
        assert_eq!(rate("30/1", "2997/100"), "30/1");
        assert_eq!(rate("90000/1", "24/1"), "24/1");
        assert_eq!(rate("50/1", "25/1"), "25/1");
        assert_eq!(rate("25/1", "0/0"), "25/1");
        assert_eq!(
            rate("1000/1", "0/0"),
            "the video has 1000/1 frames a second, the limit is 240"
        );
        assert!(rate("0/0", "0/0").contains("does not say"));
    }

    #[test]
    fn the_default_stream_is_chosen_and_cover_art_never() {
        let cover = video(0, r#", "disposition": {"default": 1, "attached_pic": 1}"#);
        let other = video(1, "");
        let main = video(2, r#", "disposition": {"default": 1}"#);
        let sound = r#"{"index": 3, "codec_type": "audio", "codec_name": "aac"}"#;

        let chosen = described(&[&cover, &other, &main, sound].join(",")).expect("a video");
        assert_eq!(
            (chosen.stream, chosen.audio.map(|audio| audio.stream)),
            (2, Some(3))
        );

        let only_cover = described(&[&cover, sound].join(",")).expect_err("a song with a picture");
        assert_eq!(
            only_cover.to_string(),
            "the file holds no video stream, only audio"
        );
    }

    #[test]
    fn a_picture_is_stretched_and_turned_but_never_shrunk() {
        let size = |more: &str| {
            described(&video(0, more))
                .map(|video| (video.width, video.height))
                .ok()
        };
        assert_eq!(size(r#", "sample_aspect_ratio": "1:1""#), Some((720, 480)));
        assert_eq!(size(r#", "sample_aspect_ratio": "0:1""#), Some((720, 480)));
        assert_eq!(size(r#", "sample_aspect_ratio": "8:9""#), Some((720, 540)));
        assert_eq!(
            size(r#", "sample_aspect_ratio": "32:27""#),
            Some((853, 480))
        );
        assert_eq!(
            size(r#", "side_data_list": [{}, {"rotation": -90}]"#),
            Some((480, 720))
        );
        assert_eq!(
            size(r#", "side_data_list": [{"rotation": 180}]"#),
            Some((720, 480))
        );
    }

    #[test]
    fn a_header_that_lies_is_refused_and_never_overflows() {
        let refused = |more: &str| described(&video(0, more)).expect_err("refused");
        let wide = refused(r#", "sample_aspect_ratio": "4294967295:1""#);
        assert!(matches!(wide, MediaError::VideoTooLarge { .. }), "{wide}");

        let endless = described(&video(0, r#", "duration": "1e30""#)).expect("a video");
        assert_eq!(
            endless.frames,
            Some(60),
            "the container's duration counts then"
        );
        let long = described(&video(0, r#", "duration": "99999999""#)).expect("a video");
        let error = long
            .check_length(&VideoLimits::default())
            .expect_err("too long");
        assert_eq!(error.class(), Class::InvalidInput);
    }
}
