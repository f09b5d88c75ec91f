//! How does a video become frames? One ffmpeg, one thread that reads its pipe, and a short queue,
//! so that decoding goes on while frames are worked on and only a few are ever in memory.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use super::error::MediaError;
use super::ffmpeg_errors;
use super::frame::Frame;
use super::probe;
use super::process::{self, Process};
use super::programs::Programs;
use super::video::{Video, VideoLimits};

/// How a video is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Only the first so many frames; all of them without.
    pub frames: Option<u64>,
    /// Threads that ffmpeg may use, at least 1.
    pub threads: u32,
    /// Frames that wait decoded, at least 1.
    pub queue: usize,
    /// What is too much; of pixels, for pictures that are larger than the header tells.
    pub limits: VideoLimits,
    /// How long a single frame may take.
    pub timeout: Duration,
}

impl Default for DecodeOptions {
    /// All frames, one thread, four frames ahead, a minute for each.
    fn default() -> DecodeOptions {
        DecodeOptions {
            frames: None,
            threads: 1,
            queue: 4,
            limits: VideoLimits::default(),
            timeout: Duration::from_secs(60),
        }
    }
}

/// A video that is being decoded. Dropping it ends ffmpeg at once.
#[derive(Debug)]
pub struct Decoder {
    process: Process,
    pieces: Receiver<Piece>,
    path: PathBuf,
    width: u32,
    height: u32,
    delivered: u64,
    wanted: Option<u64>,
    limits: VideoLimits,
    timeout: Duration,
    is_over: bool,
}

impl Decoder {
    /// Starts to decode the video at `path`, which `video` describes.
    ///
    /// # Errors
    /// Invalid input when more frames are wanted than the limits allow, as far as its header tells;
    /// misconfigured without ffmpeg.
    pub fn open(
        programs: &Programs,
        path: &Path,
        video: &Video,
        options: &DecodeOptions,
    ) -> Result<Decoder, MediaError> {
        video.check_length(&options.limits, options.frames)?;
        let arguments = arguments(path, video, options);
        let mut process = Process::start(
            "ffmpeg",
            &programs.ffmpeg,
            &arguments,
            Stdio::null(),
            Stdio::piped(),
        )?;
        let (sender, pieces) = mpsc::sync_channel(options.queue.max(1));
        let bytes = Frame::byte_count(video.width, video.height);
        if let Some(stdout) = process.take_stdout() {
            process::in_thread("ffmpeg", move || read_frames(stdout, bytes, &sender))?;
        }
        Ok(Decoder {
            process,
            pieces,
            path: path.into(),
            width: video.width,
            height: video.height,
            delivered: 0,
            wanted: options.frames,
            limits: options.limits,
            timeout: options.timeout,
            is_over: false,
        })
    }

    /// The next frame, upright, of the size that the video's description tells; `None` after the
    /// last one and after an error.
    ///
    /// # Errors
    /// Invalid input for a video that turns out to be broken, endless or empty;
    /// [`MediaError::Stalled`] when a frame takes longer than the options allow.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, MediaError> {
        if self.is_over {
            return Ok(None);
        }
        let next = self.receive();
        if !matches!(next, Ok(Some(_))) {
            self.is_over = true;
            self.process.kill();
        }
        next
    }

    /// Frames that were handed out so far.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    fn receive(&mut self) -> Result<Option<Frame>, MediaError> {
        match self.pieces.recv_timeout(self.timeout) {
            Ok(Piece::Frame(_)) if self.delivered >= self.limits.frames => {
                let limit = self.limits.frames;
                Err(MediaError::TooManyFrames { limit })
            }
            Ok(Piece::Frame(rgb)) => {
                self.delivered += 1;
                Ok(Some(Frame {
                    width: self.width,
                    height: self.height,
                    rgb,
                }))
            }
            Ok(Piece::Fragment) => {
                self.check_ending()?;
                Err(MediaError::Program {
                    program: "ffmpeg",
                    said: "it ended within a frame".into(),
                })
            }
            Ok(Piece::Failure(source)) => Err(MediaError::Read {
                path: self.path.clone(),
                source,
            }),
            Err(RecvTimeoutError::Timeout) => Err(self.process.stalled(self.timeout)),
            Err(RecvTimeoutError::Disconnected) => {
                self.check_ending()?;
                if self.delivered == 0 && self.wanted != Some(0) {
                    Err(MediaError::NoFrames)
                } else {
                    Ok(None)
                }
            }
        }
    }

    fn check_ending(&mut self) -> Result<(), MediaError> {
        let ending = self.process.end(self.timeout)?;
        let is_enough = self.wanted == Some(self.delivered);
        if ending.status.success() && (is_enough || !ffmpeg_errors::is_cut_short(&ending)) {
            return Ok(());
        }
        if ffmpeg_errors::is_too_large(&ending) {
            return Err(MediaError::LargerThanTold {
                width: self.width,
                height: self.height,
                limit: self.limits.pixels,
            });
        }
        Err(ffmpeg_errors::reading_failed("ffmpeg", &ending, &self.path))
    }
}

enum Piece {
    Frame(Vec<u8>),
    /// The pipe ended within a frame.
    Fragment,
    Failure(io::Error),
}

/// Ends with the pipe, or when nobody takes frames any more.
fn read_frames(mut stdout: ChildStdout, bytes: usize, pieces: &SyncSender<Piece>) {
    loop {
        let mut frame = Vec::with_capacity(bytes);
        let piece = match stdout.by_ref().take(bytes as u64).read_to_end(&mut frame) {
            Ok(0) => return,
            Ok(read) if read == bytes => Piece::Frame(frame),
            Ok(_) => Piece::Fragment,
            Err(error) => Piece::Failure(error),
        };
        let is_last = !matches!(piece, Piece::Frame(_));
        if pieces.send(piece).is_err() || is_last {
            return;
        }
    }
}

fn arguments(path: &Path, video: &Video, options: &DecodeOptions) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["-hide_banner", "-nostdin", "-loglevel", "error", "-xerror"]
            .map(OsString::from)
            .into();
    let threads = options.threads.max(1).to_string();
    for option in ["-threads", "-filter_threads"] {
        arguments.extend([option.into(), OsString::from(&threads)]);
    }
    if !video.is_turned {
        arguments.push("-noautorotate".into());
    }
    let coded_pixels = video.coded_pixels().max(options.limits.pixels);
    arguments.extend(probe::input(path, video.container, coded_pixels));
    let filter = video.color.to_rgb(video.width, video.height);
    arguments.extend([
        "-map".into(),
        format!("0:{}", video.stream).into(),
        "-vf".into(),
        filter.into(),
    ]);
    // A constant rate: frames that are missing are repeated, frames too many are left out.
    arguments.extend([
        "-fps_mode".into(),
        "cfr".into(),
        "-r".into(),
        video.rate.to_string().into(),
    ]);
    if let Some(frames) = options.frames {
        arguments.extend(["-frames:v".into(), frames.to_string().into()]);
    }
    arguments.extend(["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"].map(OsString::from));
    arguments
}
