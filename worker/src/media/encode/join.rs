//! Segments of one video, each encoded for itself, become one MP4: packets are copied, audio is encoded once.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::writer::{Limits, Writer};
use super::{Encoded, arguments};
use crate::media::error::MediaError;
use crate::media::programs::Programs;
use crate::media::rate::FrameRate;
use crate::media::video::AudioTrack;

/// A part of a video: an MP4 that begins with a key frame and refers to no frame of another part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its name in the folder of segments: letters, digits, `-`, `_` and `.`.
    pub file: String,
    /// The frames in it, at least 1.
    pub frames: u64,
}

/// What is to be joined.
#[derive(Debug, Clone)]
pub struct Join {
    /// The folder of the segments.
    pub folder: PathBuf,
    /// The segments in their order; all have the same encoder options.
    pub segments: Vec<Segment>,
    /// Frames a second.
    pub rate: FrameRate,
    /// Audio that goes with them.
    pub audio: Option<AudioTrack>,
    /// The most that the file may take.
    pub max_bytes: u64,
    /// How long ffmpeg may give no sign of life.
    pub timeout: Duration,
}

impl Join {
    /// Writes the video to `path`; what is there is replaced. Asks each second whether it is still wanted. The same segments give the same
    /// bytes, on the same version of ffmpeg.
    ///
    /// # Errors
    /// Scratch full; audio that cannot be carried over; [`MediaError::NoFrames`] without a segment; [`MediaError::Stopped`] when the video
    /// is not wanted any more.
    pub fn write(
        self,
        programs: &Programs,
        path: &Path,
        is_wanted: &mut dyn FnMut() -> bool,
    ) -> Result<Encoded, MediaError> {
        if self.segments.is_empty() {
            return Err(MediaError::NoFrames);
        }
        let list = List::write(&self)?;
        let arguments = arguments::join(&list.path, path, self.rate, self.audio.as_ref());
        let limits = Limits {
            audio: self.audio.as_ref().map(|audio| audio.path.clone()),
            max_bytes: self.max_bytes,
            timeout: self.timeout,
        };
        let frames = self.segments.iter().map(|segment| segment.frames).sum();
        let writer = Writer::start(programs, path, &arguments, Stdio::null(), limits)?;
        writer.finish(frames, is_wanted)
    }

    /// What ffmpeg reads. Each duration is to the microsecond; the exact times follow from the frames' numbers.
    fn list(&self) -> String {
        let mut list = String::from("ffconcat version 1.0\n");
        for Segment { file, frames } in &self.segments {
            let seconds = *frames as f64 / self.rate.as_f64();
            list.push_str(&format!("file {file}\nduration {seconds:.6}\n"));
        }
        list
    }
}

/// The list of the segments, as a file beside them that is gone afterwards.
struct List {
    path: PathBuf,
}

impl List {
    fn write(join: &Join) -> Result<List, MediaError> {
        let path = join.folder.join(OsStr::new("segments.ffconcat"));
        fs::write(&path, join.list())
            .map_err(|source| MediaError::writing(path.clone(), source))?;
        Ok(List { path })
    }
}

impl Drop for List {
    fn drop(&mut self) {
        crate::media::process::discard(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_each_segment_and_how_long_it_lasts() {
        let segment = |file: &str, frames| Segment {
            file: file.to_owned(),
            frames,
        };
        let join = Join {
            folder: PathBuf::new(),
            segments: vec![segment("a.mp4", 240), segment("b.mp4", 1)],
            rate: FrameRate::new(24_000, 1001).expect("a rate"),
            audio: None,
            max_bytes: u64::MAX,
            timeout: Duration::from_secs(1),
        };
        assert_eq!(
            join.list(),
            "ffconcat version 1.0\nfile a.mp4\nduration 10.010000\nfile b.mp4\nduration 0.041708\n"
        );
    }
}
