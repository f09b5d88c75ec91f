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
    /// About how many frames a decoder gives: by the header where its numbers agree, else by the packets. Good for progress, not for
    /// proof, since frames may be damaged.
    pub frames: u64,
    /// How long it lasts, known in the same way.
    pub duration: Duration,
    /// What its values mean.
    pub color: Color,
    /// The sounds that go with it.
    pub sounds: Vec<Sound>,
    pub(super) has_chapters: bool,
    /// What no result has.
    pub(super) left_out: Vec<LeftOut>,
    /// Whether the picture is to be turned by what the file says.
    pub(super) is_turned: bool,
}

/// A sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sound {
    /// The stream's index in the file.
    pub stream: u32,
    /// The codec, in ffmpeg's words, such as `aac`.
    pub codec: String,
    /// Samples a second; 0 if the header does not tell.
    pub sample_rate: u32,
    /// 0 if the header does not tell.
    pub channels: u32,
    /// Whether it is the one that players choose.
    pub is_default: bool,
}

/// What a file has and a result has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// Transparency: colours are those that stand in the file.
    Alpha,
    /// Video streams beside the one that is worked on.
    Videos,
    /// Subtitles.
    Subtitles,
    /// Chapters.
    Chapters,
    /// Cover art.
    Cover,
}

impl LeftOut {
    /// The word for it in a status.
    fn word(self) -> &'static str {
        match self {
            LeftOut::Alpha => "alpha",
            LeftOut::Videos => "videos",
            LeftOut::Subtitles => "subtitles",
            LeftOut::Chapters => "chapters",
            LeftOut::Cover => "cover",
        }
    }
}

/// Such as `alpha, subtitles`; none if nothing is left out.
pub fn left_out_words(left_out: &[LeftOut]) -> Option<String> {
    let words: Vec<&str> = left_out.iter().map(|what| what.word()).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Sounds and chapters of a file, to be carried into an encoded video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioTrack {
    pub(super) path: PathBuf,
    pub(super) container: Container,
    pub(super) sounds: Vec<Sound>,
    /// Where sound is cut.
    pub(super) length: Option<Duration>,
    /// How many times as long sound becomes, at the same pitch.
    pub(super) slowdown: Fraction,
    pub(super) has_chapters: bool,
}

impl AudioTrack {
    /// The same, so many times as long. Chapters are left out then, since they would come too early.
    #[must_use]
    pub fn slowed_down(self, slowdown: Fraction) -> AudioTrack {
        if slowdown.numerator == slowdown.denominator {
            return self;
        }
        AudioTrack {
            slowdown,
            has_chapters: false,
            ..self
        }
    }
}

impl Sound {
    /// Whether it may stand in an MP4 as it is; otherwise it becomes AAC.
    pub(super) fn is_copied(&self) -> bool {
        match self.codec.as_str() {
            // MPEG-4 has no MP3 below MPEG-2's rates.
            "mp3" => self.sample_rate >= 16_000,
            codec => AUDIO_IN_MP4.contains(&codec),
        }
    }
}

impl Video {
    /// What goes with the picture of the video at `path`, cut to its first `frames` frames if a number is given.
    pub fn audio_track(&self, path: &Path, frames: Option<u64>) -> Option<AudioTrack> {
        let has_any = !self.sounds.is_empty() || self.has_chapters;
        let cut = frames.map(|frames| self.rate.time_of(frames));
        has_any.then(|| AudioTrack {
            path: path.into(),
            container: self.container,
            sounds: self.sounds.clone(),
            length: cut,
            slowdown: Fraction {
                numerator: 1,
                denominator: 1,
            },
            has_chapters: self.has_chapters && cut.is_none(),
        })
    }

    /// What a result has not, with these tracks beside the picture.
    pub fn left_out(&self, tracks: Option<&AudioTrack>) -> Vec<LeftOut> {
        let has_chapters = tracks.is_some_and(|tracks| tracks.has_chapters);
        let chapters = (self.has_chapters && !has_chapters).then_some(LeftOut::Chapters);
        self.left_out.iter().copied().chain(chapters).collect()
    }

    /// The most pixels that a picture of the size that the header tells may have as it is coded.
    pub(super) fn coded_pixels(&self) -> u64 {
        let padded = |side: u32| u64::from(side.next_multiple_of(BLOCK));
        padded(self.width) * padded(self.height)
    }

    /// Checks its length, or that of the first `wanted` frames.
    ///
    /// # Errors
    /// [`MediaError::TooLong`] or [`MediaError::TooManyFrames`].
    pub fn check_length(
        &self,
        limits: &VideoLimits,
        wanted: Option<u64>,
    ) -> Result<(), MediaError> {
        if self.duration > limits.duration && wanted.is_none() {
            return Err(MediaError::TooLong {
                found: self.duration,
                limit: limits.duration,
            });
        }
        if wanted.map_or(self.frames, |wanted| wanted.min(self.frames)) > limits.frames {
            return Err(MediaError::TooManyFrames {
                limit: limits.frames,
            });
        }
        Ok(())
    }
}

/// The audio codecs that players expect in an MP4, beside MP3.
const AUDIO_IN_MP4: &[&str] = &["aac", "ac3", "eac3", "alac", "opus"];
