//! How do frames become an MP4 that plays everywhere? H.264, yuv420p, BT.709 with limited range,
//! index first, through one ffmpeg and one thread that feeds it, so that encoding goes on while the
//! next frames are worked on.
//!
//! A picture with an odd side gets its last column or row once more, since 4:2:0 needs even sides
//! and nothing of the picture is to be lost.

mod arguments;
mod options;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::error::MediaError;
use super::extent;
use super::ffmpeg_errors;
use super::frame::Frame;
use super::process::{self, Process};
use super::programs::Programs;
use super::sniff::Container;

pub use options::{EncodeOptions, Preset, lookahead};

/// The longest side that x264 takes.
const MAX_SIDE: u32 = 16_384;

/// What even a slow disk does in a second while the index is moved to the front.
const SLOW_DISK: u64 = 10 << 20;

/// How often whoever waits for the end is told that it is still waited for.
const BEAT: Duration = Duration::from_secs(1);

/// A finished MP4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The frames in it.
    pub frames: u64,
}

/// An MP4 that is being written. Dropping it unfinished ends ffmpeg at once and removes the file.
#[derive(Debug)]
pub struct Encoder {
    process: Process,
    ffmpeg: PathBuf,
    path: PathBuf,
    options: EncodeOptions,
    frames: Option<Sender<Frame>>,
    taken: Receiver<()>,
    in_queue: usize,
    encoded: Receiver<u64>,
    pushed: u64,
    is_finished: bool,
}

impl Encoder {
    /// Starts to write an MP4 to `path`; what is there is replaced.
    ///
    /// # Errors
    /// [`MediaError::OutputTooLarge`] beyond 16,384 pixels a side; misconfigured without ffmpeg.
    pub fn create(
        programs: &Programs,
        path: &Path,
        options: EncodeOptions,
    ) -> Result<Encoder, MediaError> {
        let (width, height) = (options.width, options.height);
        if even(width) > MAX_SIDE || even(height) > MAX_SIDE {
            return Err(MediaError::OutputTooLarge {
                width,
                height,
                limit: MAX_SIDE,
            });
        }
        let arguments = arguments::arguments(path, &options);
        let mut process = Process::start(
            "ffmpeg",
            &programs.ffmpeg,
            &arguments,
            Stdio::piped(),
            Stdio::piped(),
        )?;
        let (stdin, stdout) = (process.take_stdin(), process.take_stdout());
        let (frames, waiting) = mpsc::channel();
        let (took, taken) = mpsc::channel();
        let (progress, encoded) = mpsc::channel();
        let encoder = Encoder {
            process,
            ffmpeg: programs.ffmpeg.clone(),
            path: path.into(),
            options,
            frames: Some(frames),
            taken,
            in_queue: 0,
            encoded,
            pushed: 0,
            is_finished: false,
        };
        if let (Some(stdin), Some(stdout)) = (stdin, stdout) {
            process::in_thread("ffmpeg", move || write_frames(stdin, &waiting, &took))?;
            process::in_thread("ffmpeg", move || read_progress(stdout, &progress))?;
        }
        Ok(encoder)
    }

    /// Hands over the next frame; waits while the queue is full.
    ///
    /// # Errors
    /// Scratch full; [`MediaError::FrameSize`] for a frame of another size;
    /// [`MediaError::Stalled`], or what ended ffmpeg.
    pub fn push(&mut self, frame: Frame) -> Result<(), MediaError> {
        let EncodeOptions { width, height, .. } = self.options;
        if (frame.width, frame.height) != (width, height)
            || frame.rgb.len() != Frame::byte_count(width, height)
        {
            let (bytes, expected_width, expected_height) = (frame.rgb.len(), width, height);
            let (width, height) = (frame.width, frame.height);
            return Err(MediaError::FrameSize {
                width,
                height,
                bytes,
                expected_width,
                expected_height,
            });
        }
        self.check_budget()?;
        while self.taken.try_recv().is_ok() {
            self.in_queue -= 1;
        }
        while self.in_queue >= self.options.queue.max(1) {
            match self.taken.recv_timeout(self.options.timeout) {
                Ok(()) => self.in_queue -= 1,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.process.stalled(self.options.timeout));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.reason()),
            }
        }
        let is_sent = self
            .frames
            .as_ref()
            .is_some_and(|frames| frames.send(frame).is_ok());
        if !is_sent {
            return Err(self.reason());
        }
        self.in_queue += 1;
        self.pushed += 1;
        Ok(())
    }

    /// Waits until all frames are encoded and the file is complete.
    ///
    /// # Errors
    /// As [`Encoder::push`]; [`MediaError::NoFrames`] when none was pushed;
    /// [`MediaError::FramesLost`] when the encoder counts other than we do.
    pub fn finish(self) -> Result<Encoded, MediaError> {
        self.finish_while(&mut || true)
    }

    /// The same, which can take minutes. Asks each second whether the video is still wanted.
    ///
    /// # Errors
    /// As [`Encoder::finish`]; [`MediaError::Stopped`] when it is not.
    pub fn finish_while(
        mut self,
        is_wanted: &mut dyn FnMut() -> bool,
    ) -> Result<Encoded, MediaError> {
        if self.pushed == 0 {
            return Err(MediaError::NoFrames);
        }
        self.frames = None;
        let encoded = self.last_progress(is_wanted)?;
        let ending = self.process.end(self.options.timeout)?;
        if !ending.status.success() || ffmpeg_errors::is_disk_full(&ending) {
            return Err(self.encoder_error(&ending));
        }
        self.check_budget()?;
        if encoded != self.pushed {
            return Err(MediaError::FramesLost {
                pushed: self.pushed,
                encoded,
            });
        }
        extent::check(&self.path, Container::Mov).map_err(|error| MediaError::Unfinished {
            path: self.path.clone(),
            source: Box::new(error),
        })?;
        let found = fs::metadata(&self.path).map_err(|source| MediaError::Read {
            path: self.path.clone(),
            source,
        })?;
        self.is_finished = true;
        Ok(Encoded {
            path: self.path.clone(),
            bytes: found.len(),
            frames: encoded,
        })
    }

    fn check_budget(&mut self) -> Result<(), MediaError> {
        let limit = self.options.max_bytes;
        if fs::metadata(&self.path).is_ok_and(|found| found.len() > limit) {
            self.process.kill();
            return Err(MediaError::ScratchBudget {
                path: self.path.clone(),
                limit,
            });
        }
        Ok(())
    }

    /// The frames that the encoder counts in the end; timeout starts anew with every sign of life, and a file that grows is one.
    fn last_progress(&mut self, is_wanted: &mut dyn FnMut() -> bool) -> Result<u64, MediaError> {
        let (mut frames, mut bytes, mut since) = (0, 0, Instant::now());
        loop {
            let timeout = self.options.timeout + Duration::from_secs(bytes / SLOW_DISK);
            match self.encoded.recv_timeout(BEAT.min(timeout)) {
                Ok(encoded) => (frames, since) = (encoded, Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return Ok(frames),
                Err(RecvTimeoutError::Timeout) if since.elapsed() >= timeout => {
                    return Err(self.process.stalled(timeout));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if !is_wanted() {
                return Err(MediaError::Stopped {
                    program: "ffmpeg",
                    signal: "nobody wants the video any more".into(),
                });
            }
            let found = fs::metadata(&self.path).map_or(0, |found| found.len());
            if found != bytes {
                (bytes, since) = (found, Instant::now());
            }
        }
    }

    /// Why ffmpeg takes no more frames.
    fn reason(&mut self) -> MediaError {
        self.frames = None;
        match self.process.end(self.options.timeout) {
            Ok(ending) => self.encoder_error(&ending),
            Err(error) => error,
        }
    }

    fn encoder_error(&self, ending: &process::Ending) -> MediaError {
        let audio = self.options.audio.as_ref();
        let audio = audio.map(|audio| audio.path.as_path());
        ffmpeg_errors::writing_failed(ending, &self.ffmpeg, &self.path, audio)
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        if !self.is_finished {
            self.process.kill();
            process::discard(&self.path);
        }
    }
}

/// Ends when there are no more frames, which closes the pipe and so tells ffmpeg to finish, or with
/// ffmpeg.
fn write_frames(mut stdin: ChildStdin, frames: &Receiver<Frame>, taken: &Sender<()>) {
    for frame in frames {
        if stdin.write_all(&with_even_sides(frame).rgb).is_err() || taken.send(()).is_err() {
            return;
        }
    }
}

/// Reads `frame=12` from `-progress`.
fn read_progress(stdout: ChildStdout, progress: &Sender<u64>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Some(frames) = line
            .strip_prefix("frame=")
            .and_then(|count| count.trim().parse().ok())
            && progress.send(frames).is_err()
        {
            return;
        }
    }
}

/// 4:2:0 needs even sides.
fn even(side: u32) -> u32 {
    side.next_multiple_of(2)
}

fn with_even_sides(mut frame: Frame) -> Frame {
    let row = frame.width as usize * 3;
    if frame.width % 2 == 1 {
        let rows = frame.rgb.chunks_exact(row);
        frame.rgb = rows
            .flat_map(|row| row.iter().chain(&row[row.len() - 3..]))
            .copied()
            .collect();
        frame.width += 1;
    }
    if frame.height % 2 == 1 {
        let row = frame.width as usize * 3;
        frame.rgb.extend_from_within(frame.rgb.len() - row..);
        frame.height += 1;
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sides_get_their_last_column_and_row_once_more() {
        let odd = Frame {
            width: 1,
            height: 1,
            rgb: vec![1, 2, 3],
        };
        assert_eq!(
            with_even_sides(odd),
            Frame {
                width: 2,
                height: 2,
                rgb: [1, 2, 3].repeat(4)
            }
        );

        let mut wide = Frame {
            width: 3,
            height: 2,
            rgb: (0..18).collect(),
        };
        wide = with_even_sides(wide);
        assert_eq!((wide.width, wide.height), (4, 2));
        assert_eq!(wide.rgb[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8]);
    }

    #[test]
    fn even_sides_stay_as_they_are() {
        let frame = Frame {
            width: 2,
            height: 2,
            rgb: (0..12).collect(),
        };
        assert_eq!(with_even_sides(frame.clone()), frame);
    }
}
