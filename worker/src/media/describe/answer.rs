//! What does ffprobe's answer hold, as far as it is looked at? Pure.

use std::time::Duration;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    pub(super) streams: Vec<Stream>,
    #[serde(default)]
    pub(super) chapters: Vec<Chapter>,
    #[serde(default)]
    pub(super) format: Format,
}

/// That there is one is all that is looked at.
#[derive(Debug, Deserialize)]
pub(super) struct Chapter {}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Format {
    pub(super) start_time: Option<String>,
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
    pub(super) nb_frames: String,
    pub(super) time_base: String,
    pub(super) sample_rate: String,
    pub(super) channels: u32,
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
    /// Matroska's word for a picture with transparency that the codec itself does not have.
    pub(super) alpha_mode: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SideData {
    pub(super) rotation: Option<f64>,
    /// The profile of Dolby Vision.
    pub(super) dv_profile: Option<u32>,
    /// What a player without Dolby Vision sees: 2 is standard dynamic range.
    pub(super) dv_bl_signal_compatibility_id: Option<u32>,
}

impl Stream {
    /// Cover art and the like are pictures that belong to no time.
    pub(super) fn is_cover(&self) -> bool {
        self.disposition.attached_pic != 0 || self.disposition.timed_thumbnails != 0
    }
}

/// The video stream that is worked on: of those that the file calls default, or else of all, the largest; of equal ones the first. Never
/// cover art.
pub(super) fn main_video(streams: &[Stream]) -> Option<&Stream> {
    let fitting = || {
        let videos = streams.iter();
        videos.filter(|stream| stream.codec_type == "video" && !stream.is_cover())
    };
    let pixels = |stream: &Stream| u64::from(stream.width) * u64::from(stream.height);
    let is_default = |stream: &&Stream| stream.disposition.default == 1;
    // Of equal ones `max_by_key` would take the last.
    let default = fitting()
        .filter(is_default)
        .rev()
        .max_by_key(|stream| pixels(stream));
    default.or_else(|| fitting().rev().max_by_key(|stream| pixels(stream)))
}

pub(super) fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.trim().parse().ok()?)
        .ok()
        .filter(|time| !time.is_zero())
}
