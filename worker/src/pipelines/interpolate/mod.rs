//! Interpolate: a video in, a video with frames between its frames out: H.264 MP4.
//!
//! Source frames and new frames take the same way: RGB from one decoder, 8 bits a colour, rounded alike, to one encoder. So a new frame
//! has the colours of its neighbours.
//!
//! *Layout*: `timeline` says which frame shows what, `change` how much two frames differ, `frame_interpolator` makes new frames, `memory_estimate`
//! is whether there is memory for it.

mod change;
mod frame_interpolator;
mod memory_estimate;
mod timeline;

use std::collections::VecDeque;

use framewright_crds::pipelines::Pipeline;
use framewright_crds::pipelines::interpolate::{
    FrameStep, Interpolate, MAX_RATE, MAX_SLOWDOWN, MotionScale,
};
use serde_json::Value;

use super::map_video::{FrameMap, Results, VideoMap, map_video};
use super::video::{video_facts, waiting_frames};
use super::{Input, Outputs, PipelineError, ProgressSink, TaskContext, Work};
use crate::media::{Frame, FrameRate, MediaError, Programs, Video};
use crate::networks::{FlowScale, Interpolator};
use change::change;
use frame_interpolator::FrameInterpolator;
use memory_estimate::Frames;
use timeline::{Shows, Timeline};

/// From this shorter side on, motion is looked for at half the size.
const LARGE_SIDE: u32 = 1600;
/// Source frames that are held at once, at most: four equal ones, the next and the one after it, and the last one before them.
const MOST_FRAMES: u64 = 8;

/// An interpolation whose input was read as far as its headers: what is left is to compute.
#[derive(Clone, Debug)]
pub struct Prepared {
    input: Input,
    video: Video,
    parameters: Interpolate,
    step: FrameStep,
    /// Frames a second of the output.
    rate: FrameRate,
    work: Work,
}

impl Prepared {
    /// How much work it is.
    #[must_use]
    pub fn work(&self) -> &Work {
        &self.work
    }
}

/// Reads the headers of the one input.
///
/// # Errors
/// An input or parameters that nobody can work on.
pub fn prepare(
    parameters: &Interpolate,
    inputs: &[Input],
    programs: &Programs,
) -> Result<Prepared, PipelineError> {
    let [input] = inputs else {
        return Err(PipelineError::NoInput {
            pipeline: "interpolate",
            names: "video",
        });
    };
    let (video, facts) =
        video_facts(&input.path, None, programs).map_err(|source| PipelineError::Input {
            name: input.name.clone(),
            source,
        })?;
    if facts.frames < 2 {
        return Err(PipelineError::SingleFrame);
    }
    let (rate, step) = rates(parameters, video.rate).map_err(PipelineError::Parameters)?;
    Ok(Prepared {
        input: input.clone(),
        video,
        parameters: parameters.clone(),
        step,
        rate,
        work: Work {
            pipeline: Pipeline::Interpolate(parameters.clone()),
            input: facts,
        },
    })
}

/// Frames a second of the output, and the step from one of them to the next. Else what is wrong with the parameters.
fn rates(parameters: &Interpolate, source: FrameRate) -> Result<(FrameRate, FrameStep), String> {
    let slowdown = parameters.slowdown();
    let is_longer = slowdown.numerator > slowdown.denominator;
    let is_shorter = slowdown.numerator < slowdown.denominator;
    if is_shorter
        || u64::from(slowdown.numerator) > u64::from(MAX_SLOWDOWN) * u64::from(slowdown.denominator)
    {
        return Err(format!(
            "interpolate.slowdown is {slowdown}; choose 1 to {MAX_SLOWDOWN}"
        ));
    }
    let step = parameters
        .step(source.fraction())
        .ok_or_else(|| "set exactly one of interpolate.factor and interpolate.fps".to_owned())?;
    let (field, rate) = match (parameters.factor, parameters.fps) {
        (Some(factor), _) => (
            format!("interpolate.factor is {factor}"),
            multiplied(source, factor),
        ),
        (None, Some(fps)) => (
            format!("interpolate.fps is {fps}"),
            FrameRate::new(fps.numerator, fps.denominator),
        ),
        (None, None) => (String::new(), None),
    };
    let shown = |rate: FrameRate| rate.fraction();
    let (has, limit) = (shown(source), MAX_RATE);
    let rate = rate.filter(|rate| rate.as_f64() <= f64::from(limit));
    let Some(rate) = rate else {
        return Err(format!(
            "{field}, the video has {has} frames a second, and the output may have at most {limit}; ask for less"
        ));
    };
    if step.numerator >= step.denominator {
        let ask = if parameters.factor.is_some() {
            "set it to 2 or more".to_owned()
        } else if is_longer {
            format!("ask for more than {has} divided by the slowdown of {slowdown}")
        } else {
            format!("ask for more than {has}")
        };
        return Err(format!(
            "{field}, and the video has {has} frames a second already, so that no frame would be new; {ask}, or raise interpolate.slowdown"
        ));
    }
    Ok((rate, step))
}

fn multiplied(rate: FrameRate, factor: i32) -> Option<FrameRate> {
    let factor = u32::try_from(factor).ok()?;
    // In lowest terms either of the two may still be divided by the factor.
    match rate.numerator().checked_mul(factor) {
        Some(numerator) => FrameRate::new(numerator, rate.denominator()),
        None => FrameRate::new(rate.numerator(), rate.denominator() / factor),
    }
}

/// The size at which motion is looked for.
fn flow_scale(parameters: &Interpolate, video: &Video) -> FlowScale {
    match parameters.scale {
        Some(MotionScale::Quarter) => FlowScale::Quarter,
        Some(MotionScale::Half) => FlowScale::Half,
        Some(MotionScale::Full) => FlowScale::Full,
        Some(MotionScale::Double) => FlowScale::Double,
        None if video.width.min(video.height) >= LARGE_SIDE => FlowScale::Half,
        None => FlowScale::Full,
    }
}

/// Computes what was prepared, with this network.
///
/// # Errors
/// [`PipelineError::cause`] says whose it is: input that nobody can work on, a full disk, or the device.
pub fn interpolate(
    prepared: &Prepared,
    network: &Interpolator,
    context: &TaskContext,
    sink: &mut ProgressSink<'_>,
) -> Result<Outputs, PipelineError> {
    let video = &prepared.video;
    let scale = flow_scale(&prepared.parameters, video);
    let (width, height) = (video.width, video.height);
    let frames = Frames {
        width,
        height,
        waiting: waiting_frames(width, height),
    };
    let on_host = |scale| network.host_bytes(width.into(), height.into(), scale);
    memory_estimate::check(frames, scale, on_host, context.memory)?;
    let input = &prepared.input;
    let slowdown = prepared.parameters.slowdown();
    let audio = video.audio_track(&input.path, None);
    let map = VideoMap {
        input,
        video,
        wanted: None,
        // Pictures may become larger midway, as those of calls do; the memory that this takes was not counted.
        decodable: memory_estimate::decodable(frames, on_host(scale), context.memory),
        waiting: frames.waiting,
        width,
        height,
        waiting_results: frames.waiting,
        rate: prepared.rate,
        audio: audio.map(|audio| audio.slowed_down(slowdown)),
        step: prepared.step,
        work: &prepared.work,
        computing: Value::Null,
    };
    let Interpolate {
        cuts, duplicates, ..
    } = prepared.parameters;
    let mut interpolation = Interpolation {
        frames: VecDeque::new(),
        first: 0,
        timeline: Timeline::new(
            prepared.step,
            cuts.unwrap_or_default(),
            duplicates.unwrap_or_default(),
        ),
        interpolator: FrameInterpolator::new(network, scale),
    };
    let output = map_video("video", &map, &mut interpolation, context, sink)?;
    Ok(Outputs {
        units: map.units(output.media.frames),
        files: vec![output],
    })
}

/// Source frames, and frames between them where the timeline says so.
struct Interpolation<'a> {
    /// Source frames that may be needed still.
    frames: VecDeque<Frame>,
    /// The position of the first of them.
    first: u64,
    timeline: Timeline,
    interpolator: FrameInterpolator<'a>,
}

impl FrameMap for Interpolation<'_> {
    fn next(&mut self, frame: Frame, results: &mut Results<'_, '_>) -> Result<(), PipelineError> {
        let change = self.frames.back().map(|before| change(before, &frame));
        self.frames.push_back(frame);
        if let Some(change) = change {
            for shows in self.timeline.push(change) {
                self.show(shows, results)?;
            }
            self.forget_before(self.timeline.needed());
        }
        Ok(())
    }

    fn finish(&mut self, source: u64, results: &mut Results<'_, '_>) -> Result<(), PipelineError> {
        if source < 2 {
            return Err(PipelineError::SingleFrame);
        }
        for shows in self.timeline.finish(source) {
            self.show(shows, results)?;
        }
        Ok(())
    }
}

impl Interpolation<'_> {
    fn show(&mut self, shows: Shows, results: &mut Results<'_, '_>) -> Result<(), PipelineError> {
        let (frames, first, interpolator) = (&self.frames, self.first, &mut self.interpolator);
        let frame = |at: u64| {
            let index = at
                .checked_sub(first)
                .and_then(|at| usize::try_from(at).ok());
            let found = index.and_then(|index| frames.get(index));
            // The timeline names only frames that are there.
            found.ok_or(PipelineError::Output {
                source: MediaError::NoFrames,
            })
        };
        results.frame(|position, sink| match shows {
            Shows::Source(at) => {
                (sink.progress)(position.progress(0, 1));
                Ok(frame(at)?.clone())
            }
            Shows::Between {
                earlier,
                later,
                time,
            } => {
                let pair = ((earlier, frame(earlier)?), (later, frame(later)?));
                interpolator.between(pair.0, pair.1, time, position, sink)
            }
        })
    }

    fn forget_before(&mut self, needed: u64) {
        while self.first < needed && self.frames.pop_front().is_some() {
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use framewright_crds::fraction::Fraction;

    use super::*;

    fn checked(
        factor: Option<i32>,
        fps: Option<&str>,
        slowdown: Option<&str>,
        source: &str,
    ) -> Result<String, String> {
        let fraction = |text: Option<&str>| text.and_then(Fraction::parse);
        let parameters = Interpolate {
            factor,
            fps: fraction(fps),
            slowdown: fraction(slowdown),
            ..Interpolate::default()
        };
        let source = FrameRate::parse(source).expect("a rate");
        rates(&parameters, source).map(|(rate, _)| rate.to_string())
    }

    #[test]
    fn rates_of_outputs_are_exact() {
        let rate =
            |factor, fps, slowdown, source| checked(factor, fps, slowdown, source).expect("a rate");
        assert_eq!(rate(Some(2), None, None, "24000/1001"), "48000/1001");
        assert_eq!(rate(Some(4), None, Some("5/2"), "25"), "100/1");
        assert_eq!(rate(None, Some("60000/1001"), None, "30"), "60000/1001");
        assert_eq!(rate(None, Some("25"), Some("2"), "25"), "25/1");
        assert_eq!(rate(Some(1), None, Some("2"), "25"), "25/1");
        assert_eq!(rate(Some(2), None, None, "4000000000/160000000"), "50/1");
    }

    #[test]
    fn parameters_that_make_no_sense_are_refused_with_those_that_would() {
        for (factor, fps, slowdown, words) in [
            (
                None,
                None,
                None,
                "set exactly one of interpolate.factor and interpolate.fps",
            ),
            (Some(2), Some("60"), None, "set exactly one of"),
            (Some(0), None, None, "set exactly one of"),
            (
                None,
                Some("25"),
                None,
                "interpolate.fps is 25, and the video has 25 frames a second already, so that no frame would be new; ask for more than 25, or raise interpolate.slowdown",
            ),
            (
                None,
                Some("12"),
                Some("2"),
                "ask for more than 25 divided by the slowdown of 2",
            ),
            (
                Some(1),
                None,
                None,
                "interpolate.factor is 1, and the video has 25",
            ),
            (
                None,
                Some("241"),
                None,
                "interpolate.fps is 241, the video has 25 frames a second, and the output may have at most 240; ask for less",
            ),
            (
                Some(2),
                None,
                Some("1/2"),
                "interpolate.slowdown is 1/2; choose 1 to 8",
            ),
            (
                Some(2),
                None,
                Some("17/2"),
                "interpolate.slowdown is 17/2; choose 1 to 8",
            ),
        ] {
            let refused = checked(factor, fps, slowdown, "25").expect_err(words);
            assert!(
                refused.starts_with(words) || refused.contains(words),
                "{refused}"
            );
        }
        let refused = checked(Some(8), None, None, "60").expect_err("480");
        assert!(
            refused.contains("the video has 60 frames a second"),
            "{refused}"
        );
    }
}
