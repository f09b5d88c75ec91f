//! How are frames encoded?

use std::time::Duration;

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
    /// Audio that goes with them.
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
    pub patience: Duration,
}

impl EncodeOptions {
    /// crf 17, preset medium, one thread, four frames ahead, no limit in bytes, two minutes a frame.
    pub fn new(width: u32, height: u32, rate: FrameRate) -> EncodeOptions {
        EncodeOptions {
            width,
            height,
            rate,
            audio: None,
            crf: 17,
            preset: Preset::Medium,
            threads: 1,
            queue: 4,
            max_bytes: u64::MAX,
            patience: Duration::from_secs(120),
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
