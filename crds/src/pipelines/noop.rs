//! Does nothing, without a model and without an input: what a job costs apart from its work. Published CRDs do not have it.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Inputs, OutputSlot, PipelineSpec};
use crate::aijob::OutputRole;

/// No parameters.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
pub struct Noop {}

/// The pipeline.
pub const SPEC: PipelineSpec = PipelineSpec {
    name: "noop",
    inputs: Inputs::Each(&[]),
    outputs: &[OutputSlot {
        name: "nothing",
        role: OutputRole::Data,
    }],
    models: &[],
    unit: "tasks",
    units: |_, _| Some(1),
    rules: &[],
    is_published: false,
};
