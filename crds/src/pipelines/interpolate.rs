//! Makes frames between the frames of a video.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    BASE_MODEL, InputSlot, Inputs, MediaFacts, MediaKind, ModelRole, OutputSlot, Pipeline,
    PipelineSpec, Rule,
};
use crate::aijob::OutputRole;
use crate::fraction::Fraction;

/// The largest factor.
pub const MAX_FACTOR: i32 = 8;
/// The most times that a video becomes longer.
pub const MAX_SLOWDOWN: u32 = 8;
/// The most frames a second of the output.
pub const MAX_RATE: u32 = 240;

/// Parameters of the interpolate pipeline. Its input is one video, its output a video with more frames: H.264 MP4. Exactly one of
/// factor and fps is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Interpolate {
    /// Frame rate of the output, as a multiple of the input's. 1 to 8; 1 needs a slowdown. The output has at most 240 frames per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_FACTOR))]
    pub factor: Option<i32>,
    /// Frames a second of the output: a whole number such as 60, or a fraction as text, such as "24000/1001". Above the input's, times
    /// slowdown; at most 240.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fps: Option<Fraction>,
    /// Duration of the output, as a multiple of the input's: a whole number or a fraction as text, such as "5/2". The sound is stretched, at
    /// the same pitch. 1 to 8; default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowdown: Option<Fraction>,
    /// The resolution at which motion is estimated, relative to the frames. Below "1", fast motion in large frames is found better, and
    /// computing takes less time. Default: "0.5" if the shorter side of the frames has 1600 pixels or more, else "1".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<MotionScale>,
    /// What to do with cuts between scenes: detect finds them and does not blend the two scenes, ignore treats them as motion. Default:
    /// detect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuts: Option<Handling>,
    /// What to do with up to four equal frames in a row, as in drawn animation: detect spreads the motion over their time, ignore shows
    /// them as they are. Five or more equal frames are always shown as they are. Default: detect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicates: Option<Handling>,
}

/// The description of the field is the one that counts.
fn without_description(schema: &mut schemars::Schema) {
    schema.remove("description");
}

/// The size at which motion is looked for.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[schemars(inline, transform = without_description)]
pub enum MotionScale {
    /// A quarter of the frames' size.
    #[serde(rename = "0.25")]
    Quarter,
    /// Half of the frames' size.
    #[serde(rename = "0.5")]
    Half,
    /// The frames' own size.
    #[serde(rename = "1")]
    Full,
    /// Twice the frames' size.
    #[serde(rename = "2")]
    Double,
}

/// Whether something is looked for.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "lowercase")]
#[schemars(inline, transform = without_description)]
pub enum Handling {
    /// It is found and handled.
    #[default]
    Detect,
    /// It is treated like everything else.
    Ignore,
}

/// Source frames from one frame of the output to the next: a fraction, exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameStep {
    /// Above the line.
    pub numerator: u128,
    /// Below the line.
    pub denominator: u128,
}

impl FrameStep {
    /// How many frames the output has if the source has so many: to the nearest, halves up.
    #[must_use]
    pub fn output_frames(self, source: u64) -> Option<u64> {
        let frames = u128::from(source).checked_mul(self.denominator)?;
        let rounded = frames.checked_mul(2)?.checked_add(self.numerator)?;
        u64::try_from(rounded.checked_div(self.numerator.checked_mul(2)?)?).ok()
    }
}

impl Interpolate {
    /// How many times as long the output lasts.
    #[must_use]
    pub fn slowdown(&self) -> Fraction {
        self.slowdown.unwrap_or(Fraction {
            numerator: 1,
            denominator: 1,
        })
    }

    /// The step from one frame of the output to the next, for a source with this many frames a second. None where not exactly one of
    /// factor and fps is set.
    #[must_use]
    pub fn step(&self, source: Fraction) -> Option<FrameStep> {
        let slowdown = self.slowdown();
        let (above, below) = match (self.factor, self.fps) {
            (Some(factor), None) => (1, u128::from(u32::try_from(factor).ok()?)),
            (None, Some(fps)) => (
                u128::from(source.numerator) * u128::from(fps.denominator),
                u128::from(source.denominator) * u128::from(fps.numerator),
            ),
            (None, None) | (Some(_), Some(_)) => return None,
        };
        let step = FrameStep {
            numerator: above * u128::from(slowdown.denominator),
            denominator: below * u128::from(slowdown.numerator),
        };
        (step.numerator > 0 && step.denominator > 0).then_some(step)
    }
}

/// The pipeline.
pub const SPEC: PipelineSpec = PipelineSpec {
    name: "interpolate",
    inputs: Inputs::OneOf(&[InputSlot {
        name: "video",
        media: &[MediaKind::Video],
        minimum: 1,
        maximum: 1,
    }]),
    outputs: &[OutputSlot {
        name: "video",
        role: OutputRole::Result,
    }],
    models: &[ModelRole {
        name: BASE_MODEL,
        is_required: true,
    }],
    unit: "pixels",
    units,
    rules: &[Rule {
        rule: "has(self.interpolate.factor) != has(self.interpolate.fps)",
        message: "set exactly one of interpolate.factor and interpolate.fps",
    }],
    is_published: true,
};

/// Pixels of the output, over all frames.
fn units(pipeline: &Pipeline, inputs: &[MediaFacts]) -> Option<u64> {
    let Pipeline::Interpolate(parameters) = pipeline else {
        return None;
    };
    let [input] = inputs else {
        return None;
    };
    // A factor asks for no rate.
    let any = Fraction {
        numerator: 1,
        denominator: 1,
    };
    let rate = match parameters.factor {
        Some(_) => input.rate.unwrap_or(any),
        None => input.rate?,
    };
    let frames = parameters.step(rate)?.output_frames(input.frames)?;
    let pixels = u64::from(input.width).checked_mul(u64::from(input.height))?;
    pixels.checked_mul(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fraction(text: &str) -> Option<Fraction> {
        Fraction::parse(text)
    }

    #[test]
    fn the_work_is_the_pixels_of_all_frames_that_come_out() {
        let input = MediaFacts {
            kind: MediaKind::Video,
            width: 64,
            height: 48,
            frames: 48,
            rate: fraction("24000/1001"),
        };
        for (factor, fps, slowdown, frames) in [
            (Some(2), None, None, Some(96)),
            (Some(3), None, fraction("5/2"), Some(360)),
            (Some(1), None, fraction("3/2"), Some(72)),
            // 48 * 1001 / 24000 seconds are 2.002 s.
            (None, fraction("60"), None, Some(120)),
            (None, fraction("60000/1001"), None, Some(120)),
            (None, fraction("48000/1001"), fraction("2"), Some(192)),
            (None, None, None, None),
            (Some(2), fraction("60"), None, None),
        ] {
            let parameters = Interpolate {
                factor,
                fps,
                slowdown,
                ..Interpolate::default()
            };
            let units = (SPEC.units)(&Pipeline::Interpolate(parameters), &[input]);
            assert_eq!(units, frames.map(|frames| 64 * 48 * frames));
        }
    }

    #[test]
    fn a_film_of_two_hours_keeps_its_length_to_the_frame() {
        let parameters = Interpolate {
            fps: fraction("60"),
            ..Interpolate::default()
        };
        let step = parameters.step(fraction("24000/1001").expect("a rate"));
        // 172,627 frames last 7200.11... s.
        let frames = step.and_then(|step| step.output_frames(172_627));
        let exact = (172_627 * 1001 * 60 + 12_000) / 24_000;
        assert_eq!(frames, Some(exact));
    }
}
