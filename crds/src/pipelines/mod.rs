//! The pipelines: what a step can do. One file each, one line each in the list below.
//!
//! The members of a step, the rules of the CRD, the protocol's enum, the units and the checks of `framewright-worker run` follow from
//! that list. The operator knows no pipeline by name.
//!
//! # Layout
//! - here: the list, and what a pipeline is
//! - [`rules`]: the CEL rules that follow from it
//! - one file for each pipeline: its parameters and its [`PipelineSpec`]

pub mod interpolate;
pub mod noop;
pub mod rules;
pub mod upscale;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aijob::OutputRole;
use crate::fraction::Fraction;

/// Writes the members of a step, the enum of the protocol and the table, from one list.
macro_rules! pipelines {
    ($($(#[doc = $doc:literal])+ $member:ident: $Variant:ident($Parameters:ty) = $spec:expr;)+) => {
        /// A pipeline and its parameters.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub enum Pipeline {
            $($(#[doc = $doc])+ $Variant($Parameters),)+
        }

        /// The members of a step of which exactly one is set: its pipeline.
        #[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
        #[serde(rename_all = "camelCase")]
        pub struct PipelineMembers {
            $($(#[doc = $doc])+
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $member: Option<$Parameters>,)+
        }

        /// All pipelines.
        pub const PIPELINES: &[&PipelineSpec] = &[$(&$spec),+];

        impl Pipeline {
            /// What the pipeline is.
            #[must_use]
            pub fn spec(&self) -> &'static PipelineSpec {
                match self {
                    $(Pipeline::$Variant(_) => &$spec,)+
                }
            }
        }

        impl PipelineMembers {
            /// The pipeline, if exactly one member is set.
            #[must_use]
            pub fn only(&self) -> Option<Pipeline> {
                let all = [$(self.$member.clone().map(Pipeline::$Variant)),+];
                let mut set = all.into_iter().flatten();
                set.next().filter(|_| set.next().is_none())
            }
        }

        impl From<Pipeline> for PipelineMembers {
            fn from(pipeline: Pipeline) -> Self {
                match pipeline {
                    $(Pipeline::$Variant(parameters) => PipelineMembers {
                        $member: Some(parameters),
                        ..PipelineMembers::default()
                    },)+
                }
            }
        }
    };
}

pipelines! {
    /// Makes an image or a video larger.
    upscale: Upscale(upscale::Upscale) = upscale::SPEC;
    /// Makes frames between the frames of a video.
    interpolate: Interpolate(interpolate::Interpolate) = interpolate::SPEC;
    /// Does nothing. For tests and benchmarks; published CRDs do not have it.
    noop: Noop(noop::Noop) = noop::SPEC;
}

/// What a pipeline is: all that operator, worker and clients need to know of it but how it computes.
#[derive(Debug)]
pub struct PipelineSpec {
    /// Its name, which is that of a step's member.
    pub name: &'static str,
    /// The files that it takes.
    pub inputs: Inputs,
    /// The files that it makes.
    pub outputs: &'static [OutputSlot],
    /// The models that it needs.
    pub models: &'static [ModelRole],
    /// What its work is counted in.
    pub unit: &'static str,
    /// The work of a step in units, from its parameters and its inputs; none where these do not tell. Pure.
    pub units: fn(&Pipeline, &[MediaFacts]) -> Option<u64>,
    /// CEL rules on a step that is of this pipeline, beyond those that follow from this table.
    pub rules: &'static [Rule],
    /// Whether the published CRD has it.
    pub is_published: bool,
}

/// The files that a pipeline takes.
#[derive(Debug)]
pub enum Inputs {
    /// Files for each of these slots, as many as it says.
    Each(&'static [InputSlot]),
    /// One file, for one of these slots.
    OneOf(&'static [InputSlot]),
}

impl Inputs {
    /// The slots.
    #[must_use]
    pub fn slots(&self) -> &'static [InputSlot] {
        match self {
            Inputs::Each(slots) | Inputs::OneOf(slots) => slots,
        }
    }
}

/// A file that a pipeline takes.
#[derive(Debug)]
pub struct InputSlot {
    /// The name of the input; with a `maximum` above 1 the inputs are `name-0`, `name-1` and so on.
    pub name: &'static str,
    /// What it may be.
    pub media: &'static [MediaKind],
    /// How many there must be at least.
    pub minimum: usize,
    /// How many there may be.
    pub maximum: usize,
}

/// A file that a pipeline makes.
#[derive(Debug)]
pub struct OutputSlot {
    /// The name of the output; of several it is `name-0`, `name-1` and so on.
    pub name: &'static str,
    /// What it is for.
    pub role: OutputRole,
}

/// A model that a pipeline needs.
#[derive(Debug)]
pub struct ModelRole {
    /// Such as `base`.
    pub name: &'static str,
    /// Whether a step must name one.
    pub is_required: bool,
}

/// The role of the model that a step names in `model`.
pub const BASE_MODEL: &str = "base";

/// A rule on a step, as the API server evaluates it.
#[derive(Debug)]
pub struct Rule {
    /// CEL; `self` is the step.
    pub rule: &'static str,
    /// The end of the message, which begins with the step's name.
    pub message: &'static str,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// One picture.
    Image,
    /// Pictures in time, with or without sound.
    Video,
}

/// What the headers of a file say, and its packets where headers lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaFacts {
    /// What it is.
    pub kind: MediaKind,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames; 1 of an image.
    pub frames: u64,
    /// Frames a second; none of an image.
    pub rate: Option<Fraction>,
}

/// The pipeline of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static PipelineSpec> {
    PIPELINES.iter().copied().find(|spec| spec.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_is_called_the_same_in_a_step_in_a_message_and_in_the_table() {
        for spec in PIPELINES {
            let step = serde_json::json!({(spec.name): {}});
            let members: PipelineMembers = serde_json::from_value(step.clone()).expect("members");
            let pipeline = members.only().expect("one pipeline");
            assert_eq!(pipeline.spec().name, spec.name);
            assert_eq!(serde_json::to_value(&pipeline).expect("JSON"), step);
            assert_eq!(PipelineMembers::from(pipeline), members);
            assert!(find(spec.name).is_some());
        }
        assert_eq!(PipelineMembers::default().only(), None);
    }
}
