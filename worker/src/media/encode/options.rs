//! How are frames encoded?

use std::time::Duration;

use crate::media::color::ColorTags;
use crate::media::rate::FrameRate;
use crate::media::video::AudioTrack;

/// How frames are encoded. The same frames with the same options give the same bytes, on the same
/// version of ffmpeg.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodeOptions {
    /// Pixels in a row of the frames that will come.
    pub width: u32,
    /// Rows of the frames that will come.
    pub height: u32,
    /// Frames a second, kept exactly.
    pub rate: FrameRate,
    /// What their values mean.
    pub color: ColorTags,
    /// Audio and chapters that go with them.
    pub audio: Option<AudioTrack>,
    /// x264's constant rate factor, 0 (lossless) to 51; 17 is visually lossless.
    pub crf: u8,
    /// Effort against size.
    pub preset: Preset,
    /// Threads that x264 may use, at least 1. More change the bytes, not the quality.
    pub threads: u32,
    /// Frames that wait to be encoded, at least 1.
    pub queue: usize,
    /// The most that the file may take; beyond it encoding stops with scratch full.
    pub max_bytes: u64,
    /// How long the encoder may take for a single frame.
    pub timeout: Duration,
}

impl EncodeOptions {
    /// crf 17, preset medium, one thread, four frames ahead, no limit in bytes, two minutes a frame.
    pub fn new(width: u32, height: u32, rate: FrameRate) -> EncodeOptions {
        EncodeOptions {
            width,
            height,
            rate,
            color: ColorTags::default(),
            audio: None,
            crf: 17,
            preset: Preset::Medium,
            threads: 1,
            queue: 4,
            max_bytes: u64::MAX,
            timeout: Duration::from_secs(120),
        }
    }
}

/// x264's presets, as far as they are of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    Ultrafast,
    Veryfast,
    Fast,
    Medium,
    Slow,
    Slower,
}

impl Preset {
    /// Frames that x264 looks ahead.
    fn lookahead(self) -> u32 {
        match self {
            Preset::Ultrafast => 0,
            Preset::Veryfast => 10,
            Preset::Fast => 30,
            Preset::Medium => 40,
            Preset::Slow => 50,
            Preset::Slower => 60,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Preset::Ultrafast => "ultrafast",
            Preset::Veryfast => "veryfast",
            Preset::Fast => "fast",
            Preset::Medium => "medium",
            Preset::Slow => "slow",
            Preset::Slower => "slower",
        }
    }
}

/// Memory for the frames that x264 looks ahead, as long as they are at least [`LEAST_LOOKAHEAD`].
const LOOKAHEAD_BYTES: u64 = 512 << 20;
/// 4:2:0, and half of its size once more in each direction.
const LOOKAHEAD_BYTES_PER_PIXEL: u64 = 3;
/// Fewer save little and cost quality.
const LEAST_LOOKAHEAD: u32 = 10;

/// How many frames x264 looks ahead in a video with frames of so many pixels. It follows from the video alone, and not from the
/// machine, since the bytes depend on it.
#[must_use]
pub fn lookahead(preset: Preset, pixels: u64) -> u32 {
    let affordable = LOOKAHEAD_BYTES / (LOOKAHEAD_BYTES_PER_PIXEL * pixels.max(1));
    let affordable = u32::try_from(affordable).unwrap_or(u32::MAX);
    preset.lookahead().min(affordable.max(LEAST_LOOKAHEAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_frames_are_looked_at_less_far_ahead() {
        let ahead = |preset, width: u64, height: u64| lookahead(preset, width * height);
        assert_eq!(ahead(Preset::Medium, 1920, 1080), 40);
        assert_eq!(ahead(Preset::Medium, 3840, 2160), 21);
        assert_eq!(ahead(Preset::Medium, 7680, 4320), 10);
        assert_eq!(ahead(Preset::Ultrafast, 7680, 4320), 0);
    }
}
