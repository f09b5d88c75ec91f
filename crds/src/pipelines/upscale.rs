//! Makes an image or a video larger.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{
    BASE_MODEL, InputSlot, Inputs, MediaFacts, MediaKind, ModelRole, OutputSlot, Pipeline,
    PipelineSpec, Rule,
};
use crate::aijob::OutputRole;

/// Most frames of a video: an hour at 60 a second.
pub const MAX_FRAMES: i32 = 216_000;

/// Parameters of the upscale pipeline. Its input is one image or one video, its output the same, larger: PNG or H.264 MP4.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Upscale {
    /// How many times larger each side gets, as a whole number. 1 to 4; default: the model's own factor. Below the model's factor the result is
    /// reduced with a bicubic filter; a value above the model's factor is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4))]
    pub scale: Option<i32>,
    /// How many frames of a video to use, from its start, with their sound. 1 to 216000; default: all, at most 216000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_FRAMES))]
    pub frames: Option<i32>,
}

/// The pipeline.
pub const SPEC: PipelineSpec = PipelineSpec {
    name: "upscale",
    inputs: Inputs::OneOf(&[
        InputSlot {
            name: "video",
            media: &[MediaKind::Video],
            minimum: 1,
            maximum: 1,
        },
        InputSlot {
            name: "image",
            media: &[MediaKind::Image],
            minimum: 1,
            maximum: 1,
        },
    ]),
    outputs: &[
        OutputSlot {
            name: "video",
            role: OutputRole::Result,
        },
        OutputSlot {
            name: "image",
            role: OutputRole::Result,
        },
    ],
    models: &[ModelRole {
        name: BASE_MODEL,
        is_required: true,
    }],
    unit: "pixels",
    units,
    rules: &[Rule {
        rule: "!has(self.upscale.frames) || !self.inputs.exists(i, i.name == 'image')",
        message: "upscale.frames counts the frames of a video, and the input is an image; leave frames out",
    }],
    is_published: true,
};

/// Pixels of the output, over all frames. The model's own factor is not known here.
fn units(pipeline: &Pipeline, inputs: &[MediaFacts]) -> Option<u64> {
    let Pipeline::Upscale(Upscale { scale, frames }) = pipeline else {
        return None;
    };
    let [input] = inputs else {
        return None;
    };
    let scale = u64::try_from((*scale)?).ok()?;
    let most = frames.and_then(|frames| u64::try_from(frames).ok());
    let frames = most.map_or(input.frames, |most| input.frames.min(most));
    let pixels = u64::from(input.width).checked_mul(u64::from(input.height))?;
    pixels
        .checked_mul(scale)?
        .checked_mul(scale)?
        .checked_mul(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_the_pixels_of_all_frames_that_come_out() {
        let input = MediaFacts {
            kind: MediaKind::Video,
            width: 64,
            height: 48,
            frames: 10,
            rate: None,
        };
        for (scale, frames, expected) in [
            (Some(2), None, Some(64 * 48 * 4 * 10)),
            (Some(2), Some(3), Some(64 * 48 * 4 * 3)),
            (Some(1), Some(30), Some(64 * 48 * 10)),
            (None, None, None),
        ] {
            let pipeline = Pipeline::Upscale(Upscale { scale, frames });
            assert_eq!((SPEC.units)(&pipeline, &[input]), expected);
        }
    }
}
