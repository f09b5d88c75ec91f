//! What does ffprobe's answer hold, as far as it is looked at? Pure.

use std::time::Duration;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    pub(super) streams: Vec<Stream>,
    #[serde(default)]
    pub(super) format: Format,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Format {
    pub(super) duration: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stream {
    pub(super) index: u32,
    pub(super) codec_type: String,
    pub(super) codec_name: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pix_fmt: String,
    pub(super) sample_aspect_ratio: String,
    pub(super) color_range: String,
    pub(super) color_space: String,
    pub(super) color_transfer: String,
    pub(super) color_primaries: String,
    pub(super) chroma_location: String,
    pub(super) r_frame_rate: String,
    pub(super) avg_frame_rate: String,
    pub(super) duration: Option<String>,
    pub(super) disposition: Disposition,
    pub(super) tags: StreamTags,
    pub(super) side_data_list: Vec<SideData>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Disposition {
    pub(super) default: u8,
    pub(super) attached_pic: u8,
    pub(super) timed_thumbnails: u8,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamTags {
    #[serde(rename = "DURATION")]
    pub(super) duration: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SideData {
    pub(super) rotation: Option<f64>,
}

/// The stream that the file calls the default one, else the first; never cover art.
pub(super) fn chosen<'a>(streams: &'a [Stream], kind: &str) -> Option<&'a Stream> {
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

pub(super) fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse().ok()?)
        .ok()
        .filter(|time| !time.is_zero())
}

/// Reads Matroska's `00:01:02.500000000`.
pub(super) fn clock(text: &str) -> Option<Duration> {
    let mut parts = text.trim().splitn(3, ':');
    let hours: f64 = parts.next()?.parse().ok()?;
    let minutes: f64 = parts.next()?.parse().ok()?;
    let rest: f64 = parts.next()?.parse().ok()?;
    Duration::try_from_secs_f64(hours * 3600.0 + minutes * 60.0 + rest)
        .ok()
        .filter(|time| !time.is_zero())
}
