//! What is this video? Asked of ffprobe, with a deadline.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::describe::describe;
use super::error::MediaError;
use super::extent;
use super::ffmpeg_errors;
use super::process::Process;
use super::programs::Programs;
use super::sniff::{self, Container, Kind};
use super::video::{Video, VideoLimits};

/// Descriptions of real videos have some kilobytes; those of hostile ones are never read in full.
const ANSWER_LIMIT: u64 = 1 << 20;

/// Says what the video at `path` is. Size and frame rate are within `limits` then; its length is
/// not checked (see [`Video::check_length`]), as often only the first frames are wanted.
///
/// # Errors
/// Invalid input with a sentence for what is broken, cut short, too large or not accepted;
/// misconfigured without ffprobe; [`MediaError::Stalled`] after `timeout`.
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
    let mut process = Process::start(
        "ffprobe",
        &programs.ffprobe,
        &arguments(path, container, limits.coded_pixels()),
        Stdio::null(),
        Stdio::piped(),
    )?;
    let answer = process.answer(ANSWER_LIMIT, timeout)?;
    if answer.bytes.len() as u64 > ANSWER_LIMIT {
        return Err(MediaError::TooMuchMetadata {
            limit: ANSWER_LIMIT,
        });
    }
    if !answer.ending.status.success() {
        return Err(ffmpeg_errors::reading_failed(
            "ffprobe",
            &answer.ending,
            path,
        ));
    }
    describe(&answer.bytes, container, limits)
}

/// How many frames the video at `path` has, which `video` describes, by its packets: for a file whose headers do not say how long it is.
/// Reads the whole file and decodes none of it.
///
/// # Errors
/// Invalid input for a file that is broken; misconfigured without ffprobe; [`MediaError::Stalled`] after `timeout`.
pub fn count_frames(
    programs: &Programs,
    path: &Path,
    video: &Video,
    timeout: Duration,
) -> Result<u64, MediaError> {
    let mut arguments: Vec<OsString> = [
        "-hide_banner",
        "-loglevel",
        "error",
        "-count_packets",
        "-show_entries",
        "stream=nb_read_packets",
        "-of",
        "csv=print_section=0",
        "-select_streams",
    ]
    .map(OsString::from)
    .into();
    arguments.push(video.stream.to_string().into());
    arguments.extend(input(path, video.container, video.coded_pixels()));
    let mut process = Process::start(
        "ffprobe",
        &programs.ffprobe,
        &arguments,
        Stdio::null(),
        Stdio::piped(),
    )?;
    let answer = process.answer(ANSWER_LIMIT, timeout)?;
    let text = String::from_utf8_lossy(&answer.bytes);
    let count = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse().ok());
    match count {
        Some(count) if answer.ending.status.success() => Ok(count),
        Some(_) | None => Err(ffmpeg_errors::reading_failed(
            "ffprobe",
            &answer.ending,
            path,
        )),
    }
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

fn arguments(path: &Path, container: Container, coded_pixels: u64) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = [
        "-hide_banner",
        "-loglevel",
        "error",
        "-show_streams",
        "-show_format",
        "-of",
        "json",
    ]
    .map(OsString::from)
    .into();
    arguments.extend(input(path, container, coded_pixels));
    arguments
}
