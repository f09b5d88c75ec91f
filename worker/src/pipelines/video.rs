//! What all pipelines do alike with videos: reading their headers, deadlines, threads and queues.

use std::path::Path;
use std::time::Duration;

use framewright_crds::pipelines::{MediaFacts, MediaKind};

use crate::media::encode::{Preset, lookahead};
use crate::media::probe::probe;
use crate::media::{Frame, MediaError, Programs, Video, VideoLimits};

const PROBE_DEADLINE: Duration = Duration::from_secs(60);
/// How long ffmpeg may take to say which version it is.
pub(super) const PROGRAMS_DEADLINE: Duration = Duration::from_secs(30);
/// How long decoding or encoding a frame may take.
pub(super) const FRAME_DEADLINE: Duration = Duration::from_secs(120);
/// A constant, since x264's bytes depend on it and the same work is to give the same bytes on every machine.
pub(super) const ENCODER_THREADS: u32 = 4;
/// Memory for frames that wait to be worked on, and as much for those that wait to be encoded.
const WAITING_FRAMES_BYTES: usize = 256 << 20;

/// What the headers of a video say, and its packets where the headers do not agree.
pub(super) fn video_facts(
    path: &Path,
    wanted: Option<u64>,
    programs: &Programs,
) -> Result<(Video, MediaFacts), MediaError> {
    let limits = VideoLimits::default();
    let video = probe(programs, path, &limits, PROBE_DEADLINE)?;
    video.check_length(&limits, wanted)?;
    let facts = MediaFacts {
        kind: MediaKind::Video,
        width: video.width,
        height: video.height,
        frames: video.frames,
        rate: Some(video.rate.fraction()),
    };
    Ok((video, facts))
}

const MIB: u64 = 1 << 20;
/// The worker and two ffmpegs, before the first frame.
const WORKER_AND_FFMPEG: u64 = 160 * MIB;
/// Bytes per pixel of the decoder's reference frames and its frames in RGB.
pub(super) const DECODER: u64 = 64;
/// Bytes per pixel of x264 at preset medium with four threads, its lookahead apart.
const ENCODER: u64 = 110;
/// Bytes per pixel of a frame in x264's lookahead.
const LOOKAHEAD_FRAME: u64 = 3;
const RGB: u64 = 3;

/// The most memory that decoding and encoding take, in bytes: frames of `source` pixels of which so many wait, and frames of `result`
/// pixels of which so many wait.
pub(super) fn coding_bytes(
    source: u64,
    waiting: usize,
    result: u64,
    waiting_results: usize,
) -> u64 {
    // One more is read, one worked on; one more is written, one handed over.
    let waiting = RGB * (waiting as u64 + 2) * source;
    let waiting_results = RGB * (waiting_results as u64 + 2) * result;
    let lookahead = u64::from(lookahead(Preset::Medium, result));
    let encoder = result * (ENCODER + LOOKAHEAD_FRAME * lookahead);
    WORKER_AND_FFMPEG + DECODER * source + waiting + waiting_results + encoder
}

/// How many frames of this size may wait.
pub(super) fn waiting_frames(width: u32, height: u32) -> usize {
    (WAITING_FRAMES_BYTES / Frame::byte_count(width, height).max(1)).clamp(1, 4)
}
