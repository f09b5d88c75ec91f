//! One ffmpeg that writes an MP4, until the file is complete.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::Encoded;
use crate::media::error::MediaError;
use crate::media::extent;
use crate::media::ffmpeg_errors;
use crate::media::process::{self, Process};
use crate::media::programs::Programs;
use crate::media::sniff::Container;

/// What even a slow disk does in a second while the index is moved to the front.
const SLOW_DISK: u64 = 10 << 20;

/// How often whoever waits for the end is told that it is still waited for.
const BEAT: Duration = Duration::from_secs(1);

/// A running ffmpeg. Dropping it before it has finished ends ffmpeg at once and removes the file.
#[derive(Debug)]
pub(super) struct Writer {
    process: Process,
    ffmpeg: PathBuf,
    path: PathBuf,
    limits: Limits,
    encoded: Receiver<u64>,
    is_finished: bool,
}

/// What it may take.
#[derive(Debug)]
pub(super) struct Limits {
    /// The sender's file that audio comes from; it may be broken.
    pub(super) audio: Option<PathBuf>,
    /// Bytes of the file.
    pub(super) max_bytes: u64,
    /// Time without a sign of life.
    pub(super) timeout: Duration,
}

impl Writer {
    /// Starts ffmpeg with these arguments, which make it write `path` and tell its progress on standard output.
    pub(super) fn start(
        programs: &Programs,
        path: &Path,
        arguments: &[OsString],
        stdin: Stdio,
        limits: Limits,
    ) -> Result<Writer, MediaError> {
        let mut process =
            Process::start("ffmpeg", &programs.ffmpeg, arguments, stdin, Stdio::piped())?;
        let (progress, encoded) = mpsc::channel();
        let stdout = process.take_stdout();
        let writer = Writer {
            process,
            ffmpeg: programs.ffmpeg.clone(),
            path: path.into(),
            limits,
            encoded,
            is_finished: false,
        };
        if let Some(stdout) = stdout {
            process::in_thread("ffmpeg", move || read_progress(stdout, &progress))?;
        }
        Ok(writer)
    }

    pub(super) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.process.take_stdin()
    }

    /// Waits until ffmpeg has ended and the file is complete. Asks each second whether it is still wanted.
    pub(super) fn finish(
        mut self,
        frames: u64,
        is_wanted: &mut dyn FnMut() -> bool,
    ) -> Result<Encoded, MediaError> {
        let encoded = self.last_progress(is_wanted)?;
        let ending = self.process.end(self.limits.timeout)?;
        if !ending.status.success() || ffmpeg_errors::is_disk_full(&ending) {
            return Err(self.encoder_error(&ending));
        }
        self.check_budget()?;
        if encoded != frames {
            return Err(MediaError::FramesLost {
                pushed: frames,
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

    pub(super) fn check_budget(&mut self) -> Result<(), MediaError> {
        let limit = self.limits.max_bytes;
        if fs::metadata(&self.path).is_ok_and(|found| found.len() > limit) {
            self.process.kill();
            return Err(MediaError::ScratchBudget {
                path: self.path.clone(),
                limit,
            });
        }
        Ok(())
    }

    pub(super) fn stalled(&mut self) -> MediaError {
        self.process.stalled(self.limits.timeout)
    }

    /// Why ffmpeg has ended.
    pub(super) fn reason(&mut self) -> MediaError {
        match self.process.end(self.limits.timeout) {
            Ok(ending) => self.encoder_error(&ending),
            Err(error) => error,
        }
    }

    /// The frames that ffmpeg counts in the end; the timeout starts anew with every sign of life, and a file that grows is one.
    fn last_progress(&mut self, is_wanted: &mut dyn FnMut() -> bool) -> Result<u64, MediaError> {
        let (mut frames, mut bytes, mut since) = (0, 0, Instant::now());
        loop {
            let timeout = self.limits.timeout + Duration::from_secs(bytes / SLOW_DISK);
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

    fn encoder_error(&self, ending: &process::Ending) -> MediaError {
        let audio = self.limits.audio.as_deref();
        ffmpeg_errors::writing_failed(ending, &self.ffmpeg, &self.path, audio)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_finished {
            self.process.kill();
            process::discard(&self.path);
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
