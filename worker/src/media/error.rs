//! What can go wrong with media, and who can do something about it?

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::sniff::ACCEPTED;

/// Who can do something about a [`MediaError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The sender: the file is broken, hostile, too large or of a kind that is not accepted.
    InvalidInput,
    /// Whoever sizes the worker's scratch space.
    ScratchFull,
    /// Whoever sizes the worker's memory.
    OutOfMemory,
    /// Whoever built or configured the worker.
    Misconfigured,
    /// Nobody yet: another attempt, perhaps elsewhere, is worth it.
    Internal,
}

/// Why media could not be read or written. The text is one sentence that its reader can act on.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    #[error("the file is empty; accepted are {ACCEPTED}")]
    Empty,
    #[error("the file is {found}; accepted are {ACCEPTED}")]
    NotMedia { found: String },
    #[error("an image is needed, but the file is a video; accepted are PNG, JPEG and WebP")]
    NotAStill,
    #[error(
        "a video is needed, but the file is a {found} image; accepted are MP4, MOV, Matroska, WebM and AVI"
    )]
    NotAVideo { found: &'static str },
    #[error(
        "the file is cut short: its {part} reaches to byte {promised}, but the file ends at byte {bytes}; upload it again, in full"
    )]
    CutShort {
        part: &'static str,
        promised: u64,
        bytes: u64,
    },
    #[error("the JPEG is cut short: its picture has no end; upload it again, in full")]
    JpegCutShort,
    #[error("the image has {width} x {height} pixels ({} million), the limit is {limit} pixels; make it smaller", millions(*width, *height))]
    ImageTooLarge { width: u32, height: u32, limit: u64 },
    #[error(
        "the image file has {bytes} bytes, which is more than an image within the limit of pixels needs ({limit})"
    )]
    ImageFileTooLarge { bytes: u64, limit: u64 },
    #[error(
        "the image's colour profile has {bytes} bytes, the limit is {limit}; convert the image to sRGB and leave the profile out"
    )]
    ColorProfileTooLarge { bytes: u64, limit: u64 },
    #[error("the {format} image is animated; send it as a video (MP4, WebM)")]
    Animated { format: &'static str },
    #[error("the {format} image is broken or uses something that is not supported")]
    BrokenImage {
        format: &'static str,
        #[source]
        source: Box<image::ImageError>,
    },
    #[error(
        "{format} cannot hold {width} x {height} pixels, its limit is {limit} a side; choose PNG"
    )]
    FormatTooSmall {
        format: &'static str,
        width: u32,
        height: u32,
        limit: u32,
    },
    #[error("the video cannot be read: {meaning} (ffmpeg says: {said})")]
    BrokenVideo { meaning: &'static str, said: String },
    #[error("the video has more than {limit} bytes of description; remove its metadata")]
    TooMuchMetadata { limit: u64 },
    #[error("the file holds no video stream{}", if *has_audio { ", only audio" } else { "" })]
    NoVideoStream { has_audio: bool },
    #[error("the video is coded as {codec}, which is not accepted; accepted are {accepted}")]
    VideoCodec { codec: String, accepted: String },
    #[error(
        "the video has {width} x {height} pixels, the limit is {side} a side and {pixels} in all; make it smaller"
    )]
    VideoTooLarge {
        width: u64,
        height: u64,
        side: u32,
        pixels: u64,
    },
    #[error(
        "the video says that it has {width} x {height} pixels, and its pictures become larger than the {limit} pixels that this worker can take; write it anew in one size (with more memory a worker can take more, up to 8192 x 4320)"
    )]
    LargerThanTold { width: u32, height: u32, limit: u64 },
    #[error("the video has {found} frames a second, the limit is {limit}")]
    FrameRateTooHigh { found: String, limit: u32 },
    #[error(
        "the video does not say how many frames a second it has ({found}); write it anew with a constant frame rate"
    )]
    NoFrameRate { found: String },
    #[error("the video lasts {} s, the limit is {} s; cut it", found.as_secs(), limit.as_secs())]
    TooLong { found: Duration, limit: Duration },
    #[error("the video has more than {limit} frames; cut it, or ask for its first frames only")]
    TooManyFrames { limit: u64 },
    #[error(
        "the video's colours are {found}, and only standard dynamic range without BT.2020, linear light and logarithms is accepted; convert it to BT.709 first"
    )]
    Colors { found: String },
    #[error("the video holds not a single frame that can be decoded")]
    NoFrames,
    #[error("the decoder died on this video ({signal}); write it anew with another program")]
    DecoderDied { signal: String },
    #[error(
        "the video's audio cannot be carried into an MP4 (ffmpeg says: {said}); send the video without it"
    )]
    BadAudio { said: String },
    #[error(
        "the video's sound has {channels} channels, and at most {limit} are mixed down; send it with 5.1 or stereo sound"
    )]
    TooManyChannels { channels: u32, limit: u32 },
    #[error(
        "H.264 in an MP4 holds at most {limit} pixels a side, the result would have {width} x {height}; choose a smaller scale"
    )]
    OutputTooLarge { width: u32, height: u32, limit: u32 },

    #[error("no space is left for {}", path.display())]
    ScratchFull { path: PathBuf },
    #[error("{} has grown beyond the {limit} bytes of scratch space that this task may use", path.display())]
    ScratchBudget { path: PathBuf, limit: u64 },

    #[error(
        "{program} was killed from outside, as happens when memory runs out; raise the pool's memory limit, or send a smaller video"
    )]
    Killed { program: &'static str },

    #[error("{} cannot be started; install it, or say where it is", program.display())]
    NoProgram {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} lacks {lacks}; install a build that has it", program.display())]
    ProgramLacks {
        program: PathBuf,
        lacks: &'static str,
    },

    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot encode {}", path.display())]
    EncodeStill {
        path: PathBuf,
        #[source]
        source: Box<image::ImageError>,
    },
    #[error("cannot start {}", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{program} gave no sign of life for {} s and was stopped", waited.as_secs())]
    Stalled {
        program: &'static str,
        waited: Duration,
    },
    #[error("cannot wait for {program}")]
    Wait {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{program} failed: {said}")]
    Program { program: &'static str, said: String },
    #[error("{program} was stopped from outside ({signal})")]
    Stopped {
        program: &'static str,
        signal: String,
    },
    #[error("the answer of ffprobe is not what it should be")]
    ProbeAnswer {
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "a frame of {width} x {height} pixels with {bytes} bytes does not fit a video of {expected_width} x {expected_height}"
    )]
    FrameSize {
        width: u32,
        height: u32,
        bytes: usize,
        expected_width: u32,
        expected_height: u32,
    },
    #[error("{} is incomplete although the encoder says that it is done", path.display())]
    Unfinished {
        path: PathBuf,
        #[source]
        source: Box<MediaError>,
    },
    #[error("{pushed} frames went into the encoder, {encoded} came out")]
    FramesLost { pushed: u64, encoded: u64 },
}

impl MediaError {
    /// Who can do something about it.
    pub fn class(&self) -> Class {
        match self {
            MediaError::Empty
            | MediaError::NotMedia { .. }
            | MediaError::NotAStill
            | MediaError::NotAVideo { .. }
            | MediaError::CutShort { .. }
            | MediaError::JpegCutShort
            | MediaError::ImageTooLarge { .. }
            | MediaError::ImageFileTooLarge { .. }
            | MediaError::ColorProfileTooLarge { .. }
            | MediaError::Animated { .. }
            | MediaError::BrokenImage { .. }
            | MediaError::FormatTooSmall { .. }
            | MediaError::BrokenVideo { .. }
            | MediaError::TooMuchMetadata { .. }
            | MediaError::NoVideoStream { .. }
            | MediaError::VideoCodec { .. }
            | MediaError::VideoTooLarge { .. }
            | MediaError::LargerThanTold { .. }
            | MediaError::FrameRateTooHigh { .. }
            | MediaError::NoFrameRate { .. }
            | MediaError::TooLong { .. }
            | MediaError::TooManyFrames { .. }
            | MediaError::Colors { .. }
            | MediaError::NoFrames
            | MediaError::DecoderDied { .. }
            | MediaError::BadAudio { .. }
            | MediaError::TooManyChannels { .. }
            | MediaError::OutputTooLarge { .. } => Class::InvalidInput,
            MediaError::ScratchFull { .. } | MediaError::ScratchBudget { .. } => Class::ScratchFull,
            MediaError::Killed { .. } => Class::OutOfMemory,
            MediaError::NoProgram { .. } | MediaError::ProgramLacks { .. } => Class::Misconfigured,
            MediaError::Read { .. }
            | MediaError::Write { .. }
            | MediaError::EncodeStill { .. }
            | MediaError::Spawn { .. }
            | MediaError::Stalled { .. }
            | MediaError::Wait { .. }
            | MediaError::Program { .. }
            | MediaError::Stopped { .. }
            | MediaError::ProbeAnswer { .. }
            | MediaError::FrameSize { .. }
            | MediaError::Unfinished { .. }
            | MediaError::FramesLost { .. } => Class::Internal,
        }
    }

    /// A failed write: a full disk is told apart from every other trouble.
    pub(crate) fn writing(path: PathBuf, source: io::Error) -> MediaError {
        if is_full(&source) {
            MediaError::ScratchFull { path }
        } else {
            MediaError::Write { path, source }
        }
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn millions(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height) / 1_000_000
}
