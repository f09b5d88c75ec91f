//! New frames between source frames, and what is kept of the source frames for that.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::frame::{FrameError, to_planes, to_rgb8};
use crate::media::Frame;
use crate::networks::{FlowScale, Interpolator, NetworkError, SourceFrame};
use crate::pipelines::position::Position;
use crate::pipelines::{PipelineError, ProgressSink};

/// Source frames that are kept as the network sees them: those of the pair that is worked on.
const KEPT: usize = 2;

/// A network, and the source frames that it has seen last.
pub(super) struct FrameInterpolator<'a> {
    network: &'a Interpolator,
    scale: FlowScale,
    kept: VecDeque<(u64, Rc<SourceFrame>)>,
}

/// A source frame and its position.
pub(super) type Placed<'a> = (u64, &'a Frame);

impl<'a> FrameInterpolator<'a> {
    pub(super) fn new(network: &'a Interpolator, scale: FlowScale) -> FrameInterpolator<'a> {
        FrameInterpolator {
            network,
            scale,
            kept: VecDeque::new(),
        }
    }

    /// The frame at `time` between two. Reports several times how far it is, since a single frame can take minutes.
    pub(super) fn between(
        &mut self,
        earlier: Placed<'_>,
        later: Placed<'_>,
        time: f32,
        position: Position,
        sink: &mut ProgressSink<'_>,
    ) -> Result<Frame, PipelineError> {
        let (width, height) = (earlier.1.width, earlier.1.height);
        let (earlier, later) = (self.source(earlier)?, self.source(later)?);
        let parts = self.network.parts();
        let (should_stop, progress) = (sink.should_stop, RefCell::new(&mut sink.progress));
        let part = Cell::new(0);
        let before_a_part = || {
            // A network that begins again has more parts than usual.
            (progress.borrow_mut())(position.progress(part.get().min(parts), parts));
            part.set(part.get() + 1);
            should_stop.load(Ordering::Relaxed)
        };
        let planes = self.network.between(&earlier, &later, time, &before_a_part);
        let planes = planes.map_err(|error| match error {
            NetworkError::Stopped => PipelineError::Stopped,
            NetworkError::Load { .. }
            | NetworkError::Input { .. }
            | NetworkError::Forward { .. } => failed(error.into()),
        })?;
        let rgb = to_rgb8(&planes).map_err(failed)?;
        Ok(Frame { width, height, rgb })
    }

    /// What the network computes of a frame alone, once for all new frames beside it.
    fn source(&mut self, (position, frame): Placed<'_>) -> Result<Rc<SourceFrame>, PipelineError> {
        if let Some((_, source)) = self.kept.iter().find(|(kept, _)| *kept == position) {
            return Ok(Rc::clone(source));
        }
        let (width, height) = (frame.width as usize, frame.height as usize);
        let planes = to_planes(&frame.rgb, width, height, self.network.device()).map_err(failed)?;
        let source = self.network.source(&planes, self.scale);
        let source = Rc::new(source.map_err(|error| failed(error.into()))?);
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((position, Rc::clone(&source)));
        Ok(source)
    }
}

fn failed(error: FrameError) -> PipelineError {
    PipelineError::Network {
        source: Box::new(error),
    }
}
