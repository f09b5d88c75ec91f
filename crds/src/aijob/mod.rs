//! The `AIJob` kind: what somebody wants done, and what became of it.
//!
//! # Layout
//! - here: the job as a whole
//! - [`step`]: one node of its graph
//! - [`status`]: what became of it
//! - [`attempt`]: one try of a step, and why it failed

mod attempt;
mod status;
mod step;

use std::collections::BTreeSet;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::rules;

pub use attempt::{Attempt, AttemptWorker, Cause, Progress, Usage};
pub use status::{
    AIJobStatus, Checkpoint, Fact, FileState, FileStatus, OutputRole, OutputStatus, PaymentStatus,
    Preview, StepModel, StepOutput, StepState, StepStatus,
};
pub use step::{FromStep, PoolRef, Step, StepInput, Upload};

/// Most steps in one job.
pub const MAX_STEPS: usize = 50;
/// Most results that a job publishes.
pub const MAX_OUTPUTS: usize = 16;

/// A job of one step or a whole workflow. Steps run as soon as their inputs exist, in parallel if possible.
///
/// Everything in `spec` is fixed at creation, except suspend, priority, the deadlines and ttlSecondsAfterFinished.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "framewright.dev",
    version = "v1alpha1",
    kind = "AIJob",
    plural = "aijobs",
    namespaced,
    status = "AIJobStatus",
    derive = "PartialEq",
    doc = "A video or image job: one step or a whole workflow. Apply it, and the result comes out.",
    shortname = "aij",
    category = "framewright",
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Succeeded\")].reason",
        description = "Where the job is: the reason of its Succeeded condition."
    ),
    printcolumn(
        name = "Progress",
        type_ = "string",
        json_path = ".status.progress",
        description = "Work done over all steps."
    ),
    printcolumn(
        name = "Pool",
        type_ = "string",
        json_path = ".status.pool",
        description = "The pool that works on it, or did last."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Worker",
        type_ = "string",
        json_path = ".status.worker",
        priority = 1,
        description = "The worker pod of the newest attempt."
    ),
    printcolumn(
        name = "Attempts",
        type_ = "integer",
        json_path = ".status.attemptsMade",
        priority = 1,
        description = "Attempts made over all steps."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Succeeded\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.steps == oldSelf.steps")
        .message("spec.steps is fixed at creation; create another AIJob instead").field_path(".steps"),
    validation = Rule::new("has(self.outputs) == has(oldSelf.outputs) && (!has(self.outputs) || self.outputs == oldSelf.outputs)")
        .message("spec.outputs is fixed at creation; create another AIJob instead"),
    validation = Rule::new("self.backoffLimit == oldSelf.backoffLimit")
        .message("spec.backoffLimit is fixed at creation; create another AIJob instead").field_path(".backoffLimit"),
    validation = Rule::new(rules::STEPS_REFER_BACKWARD)
        .message(Message::Expression(rules::STEPS_REFER_BACKWARD_MESSAGE.into())).field_path(".steps"),
    validation = Rule::new(rules::OUTPUTS_NAME_STEPS)
        .message(Message::Expression(rules::OUTPUTS_NAME_STEPS_MESSAGE.into())),
    validation = Rule::new("has(self.outputs) || self.steps.filter(s, !self.steps.exists(t, t.inputs.exists(i, has(i.fromStep) && i.fromStep.name == s.name))).size() <= 16")
        .message("spec.steps: more than 16 steps have results that no other step takes; list in spec.outputs the 16 or fewer that you want"),
)]
pub struct AIJobSpec {
    /// The steps, by name. Each may refer to earlier ones only. 1 to 50.
    #[schemars(length(min = 1, max = 50), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<Step>,

    /// What to publish as the job's results, at most 16. Default: each step's result that no other step takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub outputs: Option<Vec<JobOutput>>,

    /// Jobs of a higher priority get a free worker first. -1000 to 1000, default 0. May change.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,

    /// How long a step may wait for an upload, or for a worker when its inputs exist, in seconds. 1 to 604800, default 3600. May change.
    #[serde(default = "queue_deadline_default")]
    #[schemars(range(min = 1, max = 604_800))]
    pub queue_deadline_seconds: i64,

    /// How long an attempt may take from its binding to a worker until that worker computes, in seconds. 1 to 86400, default 300. May change.
    #[serde(default = "start_deadline_default")]
    #[schemars(range(min = 1, max = 86_400))]
    pub start_deadline_seconds: i64,

    /// How long one attempt may compute, in seconds. 1 to 604800, default 21600. May change.
    #[serde(default = "active_deadline_default")]
    #[schemars(range(min = 1, max = 604_800))]
    pub active_deadline_seconds: i64,

    /// How many failed attempts of a step are tried again. Invalid input is never tried again. A worker that drains, a store that is
    /// away and a pool whose weights are changed do not count, up to 20 times. 0 to 10, default 3.
    #[serde(default = "backoff_limit_default")]
    #[schemars(range(min = 0, max = 10))]
    pub backoff_limit: i32,

    /// How long the finished job and its artifacts are kept, in seconds, before both are deleted, even while somebody downloads them.
    /// 60 to 31536000, default 604800 (a week). May change.
    #[serde(default = "ttl_default")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub ttl_seconds_after_finished: i64,

    /// True stops the job's running attempts and starts none until it is false again. Default false. May change.
    #[serde(default)]
    pub suspend: bool,
}

impl AIJobSpec {
    /// The results that the job publishes: those in [`AIJobSpec::outputs`], else each step's result that no other step takes, named
    /// after the step.
    #[must_use]
    pub fn published(&self) -> Vec<JobOutput> {
        if let Some(outputs) = &self.outputs {
            return outputs.clone();
        }
        let inputs = self.steps.iter().flat_map(|step| &step.inputs);
        let taken: BTreeSet<&str> = inputs
            .filter_map(|input| Some(input.from_step.as_ref()?.name.as_str()))
            .collect();
        let last = self
            .steps
            .iter()
            .filter(|step| !taken.contains(step.name.as_str()));
        last.map(|step| JobOutput {
            name: step.name.clone(),
            from_step: FromStep {
                name: step.name.clone(),
                output: None,
            },
        })
        .collect()
    }
}

fn queue_deadline_default() -> i64 {
    3600
}
fn start_deadline_default() -> i64 {
    300
}
fn active_deadline_default() -> i64 {
    21_600
}
fn backoff_limit_default() -> i32 {
    3
}
fn ttl_default() -> i64 {
    604_800
}

/// One published result.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct JobOutput {
    /// The result's name, unique in the job. The downloaded file has this name.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// The step that makes the result.
    pub from_step: FromStep,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn without_outputs_what_no_other_step_takes_is_published() {
        let step = |name, from: Option<&str>| {
            let from = from.map(|name| json!({"name": name}));
            json!({"name": name, "model": "m", "inputs": [{"name": "video", "fromStep": from}]})
        };
        let steps = [step("a", None), step("b", Some("a")), step("c", Some("a"))];
        let output = json!({"name": "all", "fromStep": {"name": "a"}});
        for (outputs, expected) in [
            (json!(null), vec![("b", "b"), ("c", "c")]),
            (json!([output]), vec![("all", "a")]),
        ] {
            let spec = json!({"steps": steps, "outputs": outputs});
            let spec: AIJobSpec = serde_json::from_value(spec).expect("a spec");
            let published = spec.published();
            let published: Vec<(&str, &str)> = published
                .iter()
                .map(|output| (output.name.as_str(), output.from_step.name.as_str()))
                .collect();
            assert_eq!(published, expected);
        }
    }
}
