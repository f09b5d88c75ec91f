//! What is this video? Asked of ffprobe, with a deadline.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::describe::{Described, PacketTimes, describe};
use super::error::MediaError;
use super::extent;
use super::ffmpeg_errors;
use super::process::Process;
use super::programs::Programs;
use super::sniff::{self, Container, Kind};
use super::video::{Video, VideoLimits};

/// Descriptions of real videos have some kilobytes; those of hostile ones are never read in full.
const ANSWER_LIMIT: u64 = 1 << 20;

/// The most that is read of the times of packets: those of many more frames than any limit allows.
const PACKETS_LIMIT: u64 = 16 << 20;

/// Bytes that even a slow disk reads in a second.
const SLOW_DISK: u64 = 10 << 20;

/// Says what the video at `path` is. Size and frame rate are within `limits` then; its length is
/// not checked (see [`Video::check_length`]), as often only the first frames are wanted. Reads the header, and all packets where
/// that does not prove the frame rate and the length; decodes nothing.
///
/// # Errors
/// Invalid input with a sentence for what is broken, cut short, too large or not accepted;
/// misconfigured without ffprobe; [`MediaError::Stalled`] after `timeout`, or longer for a large file.
pub fn probe(
    programs: &Programs,
    path: &Path,
    limits: &VideoLimits,
    timeout: Duration,
) -> Result<Video, MediaError> {
    let container = match sniff::sniff(path)? {
        Kind::Video(container) => container,
        Kind::Still(format) => {
            return Err(MediaError::NotAVideo {
                found: format.name(),
            });
        }
    };
    extent::check(path, container)?;
    let asked = Asked {
        programs,
        path,
        container,
        coded_pixels: limits.coded_pixels(),
    };
    let shown = words("-show_streams -show_chapters -show_format -of json");
    let answer = asked.answer(&shown, ANSWER_LIMIT, timeout)?;
    if answer.len() as u64 > ANSWER_LIMIT {
        return Err(MediaError::TooMuchMetadata {
            limit: ANSWER_LIMIT,
        });
    }
    let stream = match describe(&answer, container, limits, None)? {
        Described::Video(video) => return Ok(*video),
        Described::NeedsPackets { stream } => stream,
    };
    let shown = words(&format!(
        "-show_entries packet=pts,dts,flags -of csv=print_section=0 -select_streams {stream}"
    ));
    let bytes = fs::metadata(path).map_or(0, |found| found.len());
    let timeout = timeout + Duration::from_secs(bytes / SLOW_DISK);
    let lines = asked.answer(&shown, PACKETS_LIMIT, timeout)?;
    let packets = PacketTimes::parse(&String::from_utf8_lossy(&lines));
    match describe(&answer, container, limits, Some(&packets))? {
        Described::Video(video) => Ok(*video),
        Described::NeedsPackets { .. } => Err(MediaError::NoFrames),
    }
}

/// What ffprobe is asked about.
struct Asked<'a> {
    programs: &'a Programs,
    path: &'a Path,
    container: Container,
    coded_pixels: u64,
}

impl Asked<'_> {
    /// The answer, and one byte more than the limit if it is longer.
    fn answer(
        &self,
        shown: &[OsString],
        limit: u64,
        timeout: Duration,
    ) -> Result<Vec<u8>, MediaError> {
        let mut arguments = words("-hide_banner -loglevel error");
        arguments.extend_from_slice(shown);
        arguments.extend(input(self.path, self.container, self.coded_pixels));
        let mut process = Process::start(
            "ffprobe",
            &self.programs.ffprobe,
            &arguments,
            Stdio::null(),
            Stdio::piped(),
        )?;
        let answer = process.answer(limit, timeout)?;
        // One that was cut off ends with an error of its own.
        let is_whole = answer.bytes.len() as u64 <= limit;
        if is_whole && !answer.ending.status.success() {
            return Err(ffmpeg_errors::reading_failed(
                "ffprobe",
                &answer.ending,
                self.path,
            ));
        }
        Ok(answer.bytes)
    }
}

/// Arguments that hold no spaces.
pub(super) fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

/// How ffmpeg and ffprobe open a file that a stranger sent: with the demuxer named, so that they
/// do not guess a playlist, with no other protocol than files and pipes, and with no picture of
/// more than so many pixels, as they are coded.
pub(super) fn input(path: &Path, container: Container, coded_pixels: u64) -> Vec<OsString> {
    let mut file = OsString::from("file:");
    file.push(path);
    let mut arguments: Vec<OsString> = [
        "-protocol_whitelist",
        "file,pipe,fd",
        "-format_whitelist",
        "mov,matroska,avi",
        "-f",
        container.demuxer(),
    ]
    .map(OsString::from)
    .into();
    arguments.extend([
        "-max_pixels".into(),
        coded_pixels.to_string().into(),
        "-i".into(),
        file,
    ]);
    arguments
}
