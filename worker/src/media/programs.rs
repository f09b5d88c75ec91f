//! Which ffmpeg, and can it do what is asked of it?

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::error::MediaError;
use super::ffmpeg_errors;
use super::process::Process;

/// The programs that read and write video: names that are looked up in PATH, or paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// ffmpeg 5.1 or later, with libx264.
    pub ffmpeg: PathBuf,
    /// ffprobe of the same version.
    pub ffprobe: PathBuf,
}

impl Default for Programs {
    fn default() -> Programs {
        Programs {
            ffmpeg: "ffmpeg".into(),
            ffprobe: "ffprobe".into(),
        }
    }
}

/// Far more than `ffmpeg -encoders` prints.
const ANSWER_LIMIT: u64 = 1 << 20;

impl Programs {
    /// Starts both once, so that a worker without them says so before it takes work.
    ///
    /// # Errors
    /// Misconfigured: [`MediaError::NoProgram`] or [`MediaError::ProgramLacks`], which name the
    /// program; [`MediaError::Stalled`] when it does not answer within `timeout`.
    pub fn check(&self, timeout: Duration) -> Result<(), MediaError> {
        let encoders = answer("ffmpeg", &self.ffmpeg, "-encoders", timeout)?;
        for (name, lacks) in [
            (" libx264 ", "the encoder libx264"),
            (" aac ", "the encoder aac"),
        ] {
            if !encoders.contains(name) {
                return Err(MediaError::ProgramLacks {
                    program: self.ffmpeg.clone(),
                    lacks,
                });
            }
        }
        answer("ffprobe", &self.ffprobe, "-version", timeout).map(drop)
    }

    /// What ffmpeg says of itself: its version, how it was built, and the versions of its libraries.
    ///
    /// # Errors
    /// As for [`Programs::check`].
    pub fn version(&self, timeout: Duration) -> Result<String, MediaError> {
        let version = answer("ffmpeg", &self.ffmpeg, "-version", timeout)?;
        Ok(version.trim().to_owned())
    }
}

fn answer(
    name: &'static str,
    program: &Path,
    question: &str,
    timeout: Duration,
) -> Result<String, MediaError> {
    let arguments = ["-hide_banner", "-loglevel", "error", question].map(OsString::from);
    let mut process = Process::start(name, program, &arguments, Stdio::null(), Stdio::piped())?;
    let answer = process.answer(ANSWER_LIMIT, timeout)?;
    if !answer.ending.status.success() {
        return Err(MediaError::Program {
            program: name,
            said: ffmpeg_errors::last_line(&answer.ending.said, None),
        });
    }
    Ok(String::from_utf8_lossy(&answer.bytes).into_owned())
}
