//! What is a video, as far as it is worked on, and how large may it be? Pure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use framewright_crds::fraction::Fraction;
use framewright_crds::pipelines::upscale::MAX_FRAMES;

use super::color::Color;
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
    /// Frames in all, or that are asked for.
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
            frames: MAX_FRAMES.unsigned_abs().into(),
            duration: Duration::from_secs(3600),
        }
    }
}

/// Codecs pad their pictures to blocks of up to so many pixels a side.
const BLOCK: u32 = 128;

impl VideoLimits {
    /// The most pixels that a picture within the limits may have as it is coded.
    pub(super) fn coded_pixels(&self) -> u64 {
        let padding = u64::from(self.side) * 2 * u64::from(BLOCK);
        self.pixels.saturating_add(padding)
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
    /// How many times as long it becomes, at the same pitch.
    pub(super) slowdown: Fraction,
}

impl AudioTrack {
    /// The same, so many times as long.
    #[must_use]
    pub fn slowed_down(self, slowdown: Fraction) -> AudioTrack {
        AudioTrack { slowdown, ..self }
    }
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
            slowdown: Fraction {
                numerator: 1,
                denominator: 1,
            },
        })
    }

    /// The most pixels that a picture of the size that the header tells may have as it is coded.
    pub(super) fn coded_pixels(&self) -> u64 {
        let padded = |side: u32| u64::from(side.next_multiple_of(BLOCK));
        padded(self.width) * padded(self.height)
    }

    /// Checks the length that the header tells, or that of the first `wanted` frames.
    ///
    /// # Errors
    /// [`MediaError::TooLong`] or [`MediaError::TooManyFrames`].
    pub fn check_length(
        &self,
        limits: &VideoLimits,
        wanted: Option<u64>,
    ) -> Result<(), MediaError> {
        let is_too_long = |found: &Duration| *found > limits.duration && wanted.is_none();
        if let Some(found) = self.duration.filter(is_too_long) {
            return Err(MediaError::TooLong {
                found,
                limit: limits.duration,
            });
        }
        let frames = self.frames.into_iter().chain(wanted).min();
        if frames.is_some_and(|frames| frames > limits.frames) {
            return Err(MediaError::TooManyFrames {
                limit: limits.frames,
            });
        }
        Ok(())
    }
}

/// The audio codecs that players expect in an MP4.
const AUDIO_IN_MP4: &[&str] = &["aac", "mp3", "ac3", "eac3", "alac", "opus"];
