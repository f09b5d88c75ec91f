//! From a video to a video: decode, frames in, frames out, encode. Decoding and encoding have threads of their own.
//!
//! The result is made in segments of a fixed number of source frames, disturbed or not, each with an encoder of its own. So a task that is
//! done again goes on after the last finished segment, and its result has the same bytes. To go on, the source is decoded from its
//! start: a map sees every frame and decides as it did before, but computes nothing of the segments that are there.
//!
//! *Layout*: `segments` says which frame is in which segment, `checkpoint` which segments are finished, `encoding` makes them.

pub(super) mod checkpoint;
mod encoding;
mod segments;

use std::sync::atomic::Ordering;

use framewright_crds::pipelines::interpolate::FrameStep;
use serde_json::Value;

use super::position::Position;
use super::video::{ENCODER_THREADS, FRAME_DEADLINE};
use super::{Input, Output, PipelineError, ProgressSink, TaskContext, Work, size};
use crate::media::decode::{DecodeOptions, Decoder};
use crate::media::encode::{EncodeOptions, Join};
use crate::media::{AudioTrack, Frame, FrameRate, MediaError, Video, VideoLimits};
use checkpoint::SegmentFolder;
use encoding::Encoding;
use framewright_crds::aijob::OutputRole;
use framewright_crds::pipelines::{MediaFacts, MediaKind};
use segments::Segments;

/// What makes frames of frames.
///
/// What it gives may depend on all frames that it was given, but not on what it has computed of them: of the segments that are there it
/// computes nothing.
pub(super) trait FrameMap {
    /// Takes the next source frame, and gives the frames that can be made by now.
    fn next(&mut self, frame: Frame, results: &mut Results<'_, '_>) -> Result<(), PipelineError>;

    /// Gives the last frames. The source had so many.
    fn finish(&mut self, source: u64, results: &mut Results<'_, '_>) -> Result<(), PipelineError>;
}

/// A video that is made of a video.
pub(super) struct VideoMap<'a> {
    pub(super) input: &'a Input,
    pub(super) video: &'a Video,
    /// The source's frames that are wanted; all without.
    pub(super) wanted: Option<u64>,
    /// The most pixels that a picture of the source may have.
    pub(super) decodable: u64,
    /// Frames that wait to be worked on.
    pub(super) waiting: usize,
    /// The size of the result's frames, and how many of them wait to be encoded.
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) waiting_results: usize,
    /// The result's frames a second.
    pub(super) rate: FrameRate,
    pub(super) audio: Option<AudioTrack>,
    /// Source frames from one frame of the result to the next.
    pub(super) step: FrameStep,
    pub(super) work: &'a Work,
    /// What the bytes of the result depend on beside the request, the inputs and the models.
    pub(super) computing: Value,
}

/// Makes the video, with its output's name.
///
/// # Errors
/// [`PipelineError::cause`] says whose it is: input that nobody can work on, a full disk, or the device.
pub(super) fn map_video(
    name: &str,
    video: &VideoMap<'_>,
    map: &mut dyn FrameMap,
    context: &TaskContext,
    sink: &mut ProgressSink<'_>,
) -> Result<Output, PipelineError> {
    let write = |source| PipelineError::Output { source };
    let segments = Segments { step: video.step };
    let folder = SegmentFolder::open(context, &video.computing, segments).map_err(write)?;
    // The result takes as much as its segments, which stay until it is complete.
    let bytes = context.max_bytes.saturating_sub(size(&video.input.path));
    let told = video.told_frames();
    let all = video.step.output_frames(told);
    let (segments, position) = if folder.is_complete() {
        let done = folder.frames();
        (
            folder,
            Position {
                done,
                all: Some(done),
            },
        )
    } else {
        let mut results = Results {
            video,
            segments,
            position: Position {
                done: folder.frames(),
                all,
            },
            finished: folder.frames(),
            shown: 0,
            segment: None,
            encoding: Encoding::start(video.encode_options(), context, folder, bytes / 2)
                .map_err(write)?,
            max_units: context.max_units,
            beyond: None,
            sink,
        };
        results.work_through(map, context)?;
        let position = results.position;
        (results.encoding.finish(position, sink)?, position)
    };
    let path = context.folder.join("output.mp4");
    let is_wanted = || !sink.should_stop.load(Ordering::Relaxed);
    let join = Join {
        folder: segments.path().to_owned(),
        segments: segments.finished(),
        rate: video.rate,
        audio: video.audio.clone(),
        max_bytes: bytes.saturating_sub(segments.bytes()),
        timeout: FRAME_DEADLINE,
    };
    // The index moves to the front, and sound is encoded: minutes in which no frame comes.
    let joined = join.write(&context.programs, &path, &mut || {
        (sink.progress)(position.progress(0, 1));
        is_wanted()
    });
    let joined = match joined {
        Err(MediaError::Stopped { .. }) if !is_wanted() => return Err(PipelineError::Stopped),
        joined => joined.map_err(write)?,
    };
    segments.discard_unless_kept();
    sink.units
        .store(video.units(joined.frames), Ordering::Relaxed);
    Ok(Output {
        name: name.to_owned(),
        role: OutputRole::Result,
        path,
        media_type: "video/mp4",
        media: MediaFacts {
            kind: MediaKind::Video,
            width: video.width,
            height: video.height,
            frames: joined.frames,
            rate: Some(video.rate.fraction()),
        },
        left_out: video.video.left_out(video.audio.as_ref()),
    })
}

impl VideoMap<'_> {
    /// Source frames, by the header and what is wanted.
    fn told_frames(&self) -> u64 {
        let told = self.work.input.frames;
        self.wanted.map_or(told, |wanted| wanted.min(told))
    }

    /// The work of so many frames of the result.
    pub(super) fn units(&self, frames: u64) -> u64 {
        let pixels = u64::from(self.width) * u64::from(self.height);
        pixels.saturating_mul(frames)
    }

    fn decode_options(&self) -> DecodeOptions {
        let limits = VideoLimits::default();
        DecodeOptions {
            frames: self.wanted,
            queue: self.waiting,
            limits: VideoLimits {
                pixels: limits.pixels.min(self.decodable),
                ..limits
            },
            timeout: FRAME_DEADLINE,
            ..DecodeOptions::default()
        }
    }

    fn encode_options(&self) -> EncodeOptions {
        EncodeOptions {
            color: self.video.color.tags,
            threads: ENCODER_THREADS,
            queue: self.waiting_results,
            timeout: FRAME_DEADLINE,
            ..EncodeOptions::new(self.width, self.height, self.rate)
        }
    }
}

/// Takes the frames of the result, in their order.
pub(super) struct Results<'a, 's> {
    video: &'a VideoMap<'a>,
    segments: Segments,
    /// What is done, those of finished segments included.
    position: Position,
    /// Frames in the segments that were finished before.
    finished: u64,
    /// Frames that the map has given, those of finished segments included.
    shown: u64,
    /// The segment that is made.
    segment: Option<u64>,
    encoding: Encoding,
    max_units: Option<u64>,
    /// Why no more is made, if the limit of work has been reached.
    beyond: Option<PipelineError>,
    sink: &'a mut ProgressSink<'s>,
}

impl<'s> Results<'_, 's> {
    /// Takes the next frame of the result. `make` is called if it is not in a segment that is there.
    pub(super) fn frame(
        &mut self,
        make: impl FnOnce(Position, &mut ProgressSink<'s>) -> Result<Frame, PipelineError>,
    ) -> Result<(), PipelineError> {
        if self.sink.should_stop.load(Ordering::Relaxed) {
            return Err(PipelineError::Stopped);
        }
        if self.beyond.is_some() {
            return Ok(());
        }
        let units = self.video.units(self.shown + 1);
        if let Err(beyond) = self.video.work.check(units, self.max_units) {
            self.beyond = Some(beyond);
            return Ok(());
        }
        if self.shown >= self.finished {
            let frame = make(self.position, self.sink)?;
            let segment = self.segments.segment_of(self.shown);
            if self.segment.is_some_and(|open| open != segment) {
                self.encoding.end_segment();
            }
            self.segment = Some(segment);
            self.encoding.push(frame, self.position, self.sink)?;
            self.position.done += 1;
        } else {
            (self.sink.progress)(self.position.progress(0, 1));
        }
        self.shown += 1;
        self.sink.units.store(units, Ordering::Relaxed);
        Ok(())
    }

    fn work_through(
        &mut self,
        map: &mut dyn FrameMap,
        context: &TaskContext,
    ) -> Result<(), PipelineError> {
        let input = self.video.input;
        let read = |source| PipelineError::Input {
            name: input.name.clone(),
            source,
        };
        let mut decoder = Decoder::open(
            &context.programs,
            &input.path,
            self.video.video,
            &self.video.decode_options(),
        )
        .map_err(read)?;
        while let Some(frame) = decoder.next_frame().map_err(read)? {
            map.next(frame, self)?;
            self.check_limit(decoder.delivered())?;
        }
        map.finish(decoder.delivered(), self)?;
        self.check_limit(decoder.delivered())?;
        self.encoding.end_segment();
        Ok(())
    }

    /// A constant rate may add one frame to what the header says, which is left out beyond the limit. A file with more has another length
    /// than its header says.
    fn check_limit(&mut self, source: u64) -> Result<(), PipelineError> {
        let told = self.video.told_frames();
        let allowed = self.video.step.output_frames(told);
        let is_rounding = source <= told.saturating_add(1)
            && allowed.is_some_and(|frames| {
                let units = self.video.units(frames);
                self.max_units.is_none_or(|max| units <= max)
            });
        if is_rounding {
            return Ok(());
        }
        self.beyond.take().map_or(Ok(()), Err)
    }
}
