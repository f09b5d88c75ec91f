//! How do frames become an MP4 that plays everywhere? H.264, yuv420p, BT.709 with limited range,
//! index first, through one ffmpeg and one thread that feeds it, so that encoding goes on while the
//! next frames are worked on.
//!
//! A picture with an odd side gets its last column or row once more, since 4:2:0 needs even sides
//! and nothing of the picture is to be lost.

mod arguments;
mod join;
mod options;
mod writer;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};

use super::error::MediaError;
use super::frame::Frame;
use super::process;
use super::programs::Programs;
use writer::Writer;

pub use join::{Join, Segment};
pub use options::{EncodeOptions, Preset, lookahead};

/// The longest side that x264 takes.
const MAX_SIDE: u32 = 16_384;

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
    writer: Writer,
    options: EncodeOptions,
    frames: Option<Sender<Frame>>,
    taken: Receiver<()>,
    in_queue: usize,
    pushed: u64,
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
        let audio = options.audio.as_ref().map(|audio| audio.path.clone());
        let mut writer = Writer::start(
            programs,
            path,
            &arguments,
            Stdio::piped(),
            writer::Limits {
                audio,
                max_bytes: options.max_bytes,
                timeout: options.timeout,
            },
        )?;
        let (frames, waiting) = mpsc::channel();
        let (took, taken) = mpsc::channel();
        if let Some(stdin) = writer.take_stdin() {
            process::in_thread("ffmpeg", move || write_frames(stdin, &waiting, &took))?;
        }
        Ok(Encoder {
            writer,
            options,
            frames: Some(frames),
            taken,
            in_queue: 0,
            pushed: 0,
        })
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
        self.writer.check_budget()?;
        while self.taken.try_recv().is_ok() {
            self.in_queue -= 1;
        }
        while self.in_queue >= self.options.queue.max(1) {
            match self.taken.recv_timeout(self.options.timeout) {
                Ok(()) => self.in_queue -= 1,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.writer.stalled());
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
        self.writer.finish(self.pushed, is_wanted)
    }

    /// Why ffmpeg takes no more frames.
    fn reason(&mut self) -> MediaError {
        self.frames = None;
        self.writer.reason()
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
