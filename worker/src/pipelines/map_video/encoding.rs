//! Frames become segments, on a thread of their own: while the last frames of a segment are encoded, the next ones are computed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::checkpoint::SegmentFolder;
use crate::media::encode::{EncodeOptions, Encoder};
use crate::media::{Frame, MediaError, Programs};
use crate::pipelines::position::Position;
use crate::pipelines::{PipelineError, ProgressSink, TaskContext};

/// How often whoever waits looks whether the video is still wanted, and says that it is worked on.
const BEAT: Duration = Duration::from_secs(1);

/// The way to the thread. Dropping it ends the thread, and with it the segment that is not finished.
pub(super) struct Encoding {
    pieces: Option<Sender<Piece>>,
    /// One for each frame that the encoder has taken.
    taken: Receiver<()>,
    in_queue: usize,
    queue: usize,
    is_cancelled: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<SegmentFolder, MediaError>>>,
}

enum Piece {
    Frame(Frame),
    EndOfSegment,
    EndOfVideo,
}

impl Encoding {
    /// Starts the thread. All segments together may take so many bytes.
    pub(super) fn start(
        options: EncodeOptions,
        context: &TaskContext,
        folder: SegmentFolder,
        max_bytes: u64,
    ) -> Result<Encoding, MediaError> {
        let (pieces, waiting) = mpsc::channel();
        let (took, taken) = mpsc::channel();
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let queue = options.queue.max(1);
        let worker = Worker {
            programs: context.programs.clone(),
            // Frames wait here, so one in the encoder's own queue is enough.
            options: EncodeOptions {
                queue: 1,
                ..options
            },
            max_bytes,
            folder,
            is_cancelled: Arc::clone(&is_cancelled),
        };
        let thread = thread::Builder::new()
            .name("encoding".into())
            .spawn(move || worker.work(&waiting, &took))
            .map_err(|source| MediaError::Spawn {
                program: "ffmpeg".into(),
                source,
            })?;
        Ok(Encoding {
            pieces: Some(pieces),
            taken,
            in_queue: 0,
            queue,
            is_cancelled,
            thread: Some(thread),
        })
    }

    /// Hands over the next frame of the segment; waits while the queue is full.
    pub(super) fn push(
        &mut self,
        frame: Frame,
        position: Position,
        sink: &mut ProgressSink<'_>,
    ) -> Result<(), PipelineError> {
        while self.taken.try_recv().is_ok() {
            self.in_queue -= 1;
        }
        while self.in_queue >= self.queue {
            match self.taken.recv_timeout(BEAT) {
                Ok(()) => self.in_queue -= 1,
                Err(RecvTimeoutError::Timeout) => still_wanted(position, sink)?,
                Err(RecvTimeoutError::Disconnected) => return Err(self.failure()),
            }
        }
        let pieces = self.pieces.as_ref();
        if pieces.is_some_and(|pieces| pieces.send(Piece::Frame(frame)).is_ok()) {
            self.in_queue += 1;
            Ok(())
        } else {
            Err(self.failure())
        }
    }

    /// The next frame belongs to another segment, or there is none.
    pub(super) fn end_segment(&mut self) {
        // A thread that has failed says so to the next frame, or in the end.
        if let Some(pieces) = &self.pieces {
            let _ = pieces.send(Piece::EndOfSegment);
        }
    }

    /// Waits until all segments are finished.
    pub(super) fn finish(
        mut self,
        position: Position,
        sink: &mut ProgressSink<'_>,
    ) -> Result<SegmentFolder, PipelineError> {
        if let Some(pieces) = self.pieces.take() {
            let _ = pieces.send(Piece::EndOfVideo);
        }
        loop {
            match self.taken.recv_timeout(BEAT) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => still_wanted(position, sink)?,
                Err(RecvTimeoutError::Disconnected) => {
                    return self
                        .result()
                        .map_err(|source| PipelineError::Output { source });
                }
            }
        }
    }

    fn failure(&mut self) -> PipelineError {
        self.pieces = None;
        PipelineError::Output {
            source: match self.result() {
                Ok(_) => defect(),
                Err(error) => error,
            },
        }
    }

    fn result(&mut self) -> Result<SegmentFolder, MediaError> {
        let result = self.thread.take().map(JoinHandle::join);
        result.and_then(Result::ok).unwrap_or_else(|| Err(defect()))
    }
}

impl Drop for Encoding {
    fn drop(&mut self) {
        self.pieces = None;
        self.is_cancelled.store(true, Ordering::Relaxed);
        // The folder is removed afterwards, so nothing may be written to it any more. An encoder gives up after its deadline.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn still_wanted(position: Position, sink: &mut ProgressSink<'_>) -> Result<(), PipelineError> {
    (sink.progress)(position.progress(0, 1));
    if sink.should_stop.load(Ordering::Relaxed) {
        Err(PipelineError::Stopped)
    } else {
        Ok(())
    }
}

fn defect() -> MediaError {
    MediaError::Spawn {
        program: "ffmpeg".into(),
        source: io::Error::other("the thread that encodes has ended"),
    }
}

/// What the thread works with.
struct Worker {
    programs: Programs,
    options: EncodeOptions,
    max_bytes: u64,
    folder: SegmentFolder,
    is_cancelled: Arc<AtomicBool>,
}

impl Worker {
    fn work(
        mut self,
        pieces: &Receiver<Piece>,
        taken: &Sender<()>,
    ) -> Result<SegmentFolder, MediaError> {
        let mut encoder: Option<Encoder> = None;
        for piece in pieces {
            if self.is_cancelled.load(Ordering::Relaxed) {
                break;
            }
            match piece {
                Piece::Frame(frame) => {
                    let open = match encoder.take() {
                        Some(open) => open,
                        None => self.next_encoder()?,
                    };
                    encoder.insert(open).push(frame)?;
                    // Nobody waits for it if the work was stopped.
                    let _ = taken.send(());
                }
                Piece::EndOfSegment => {
                    if let Some(open) = encoder.take() {
                        let is_cancelled = Arc::clone(&self.is_cancelled);
                        let mut is_wanted = move || !is_cancelled.load(Ordering::Relaxed);
                        let encoded = open.finish_while(&mut is_wanted)?;
                        self.folder.add(encoded.frames)?;
                    }
                }
                Piece::EndOfVideo => {
                    self.folder.complete()?;
                    return Ok(self.folder);
                }
            }
        }
        Err(MediaError::Stopped {
            program: "ffmpeg",
            signal: "nobody wants the video any more".into(),
        })
    }

    fn next_encoder(&self) -> Result<Encoder, MediaError> {
        let options = EncodeOptions {
            max_bytes: self.max_bytes.saturating_sub(self.folder.bytes()),
            ..self.options.clone()
        };
        Encoder::create(&self.programs, &self.folder.next_path(), options)
    }
}
