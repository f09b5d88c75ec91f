//! Reads and writes what people send: stills through the `image` crate, video through an ffmpeg
//! process, both with limits, so that a broken or hostile file ends in one clear sentence.
//!
//! *Layout*, in reading order: `sniff` says what a file is; `image` reads and writes stills;
//! `extent`, `describe` and `probe` say what a video is; `decode` turns it into frames and `encode`
//! turns frames into an MP4; `process` runs one child program; `ffmpeg_errors` puts its last words
//! into ours.

pub mod decode;
pub mod encode;
pub mod image;
pub mod probe;
pub mod programs;
pub mod sniff;

mod color;
mod describe;
mod error;
mod extent;
mod ffmpeg_errors;
mod frame;
mod process;
mod rate;
mod video;

pub use color::{ChromaPosition, Color, ColorTags, Matrix};
pub use describe::VIDEO_CODECS;
pub use error::{Class, MediaError};
pub use frame::{Frame, Still};
pub use programs::Programs;
pub use rate::FrameRate;
pub use sniff::{Container, Kind, StillFormat};
pub use video::{AudioTrack, LeftOut, Sound, Video, VideoLimits, left_out_words};
