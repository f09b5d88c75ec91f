//! The `AIJob` kind: what somebody wants done, and what became of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// Most steps in one job.
pub const MAX_STEPS: usize = 50;
/// Most results that a job publishes.
pub const MAX_OUTPUTS: usize = 16;

/// A job of one step or a whole workflow. Steps run as soon as their inputs exist, in parallel where they can.
///
/// Everything in `spec` is fixed at creation but for suspend, priority, the deadlines and ttlSecondsAfterFinished.
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
        json_path = ".status.attempts",
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
    validation = Rule::new("has(self.outputs) || self.steps.filter(s, !self.steps.exists(t, has(t.inputs) && t.inputs.exists(i, has(i.fromStep) && i.fromStep.name == s.name))).size() <= 16")
        .message("spec.steps: more than 16 steps have results that no other step takes; list in spec.outputs the 16 or fewer that you want"),
)]
pub struct AIJobSpec {
    /// The steps, by name, in an order in which each refers to earlier ones only. 1 to 50.
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

    /// How long a step may wait for a worker, its inputs being there, or for an upload, in seconds. 1 to 604800, default 3600. May change.
    #[serde(default = "queue_deadline_default")]
    #[schemars(range(min = 1, max = 604_800))]
    pub queue_deadline_seconds: i64,

    /// How long an attempt may take from its binding to a worker until that worker computes, in seconds. 1 to 86400, default 300. May change.
    #[serde(default = "pre_running_deadline_default")]
    #[schemars(range(min = 1, max = 86_400))]
    pub pre_running_deadline_seconds: i64,

    /// How long one attempt may compute, in seconds. 1 to 604800, default 21600. May change.
    #[serde(default = "active_deadline_default")]
    #[schemars(range(min = 1, max = 604_800))]
    pub active_deadline_seconds: i64,

    /// How many failed attempts of a step are tried again. Bad input is never tried again. 0 to 10, default 3.
    #[serde(default = "backoff_limit_default")]
    #[schemars(range(min = 0, max = 10))]
    pub backoff_limit: i32,

    /// How long the finished job and its artifacts are kept, in seconds, before both are deleted. 0 to 31536000, default 604800 (a week). May change.
    #[serde(default = "ttl_default")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: i64,

    /// True stops the job's running attempts and starts none until it is false again. Default false. May change.
    #[serde(default)]
    pub suspend: bool,
}

fn queue_deadline_default() -> i64 {
    3600
}
fn pre_running_deadline_default() -> i64 {
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

/// One node of the job's graph: a pipeline, a model and inputs. Exactly one pipeline member is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.upscale)].filter(set, set).size() == 1")
        .message(Message::Expression("'step ' + self.name + ' must set exactly one pipeline; available: upscale'".into())),
    validation = Rule::new("!has(self.upscale) || (self.inputs.size() == 1 && self.inputs[0].name in ['video', 'image'])")
        .message(Message::Expression("'step ' + self.name + ': upscale takes exactly one input, named video or image; correct inputs'".into())),
)]
pub struct Step {
    /// The step's name, unique in the job: lower-case letters, digits and '-', at most 40 characters.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,

    /// The model to use, by the name that a ModelPool gives it.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
    )]
    pub model: String,

    /// The pool to use. Default: a pool in the job's own namespace that has the model, then one in the fleet's catalog namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_ref: Option<PoolRef>,

    /// Makes an image or a video larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upscale: Option<Upscale>,

    /// What the step works on.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub inputs: Vec<StepInput>,
}

/// Names a ModelPool.
#[derive(
    KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(rename_all = "camelCase")]
pub struct PoolRef {
    /// The pool's namespace. Default: the job's. The pool's spec.access must allow any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// The pool's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// Parameters of the upscale pipeline. Its input is one image or one video, its output the same, larger: PNG or H.264 MP4.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Upscale {
    /// How many times larger each side gets. 1 to 4; default: the model's own factor. Below the model's factor the result is
    /// reduced with a bicubic filter; a larger one than the model's is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4))]
    pub scale: Option<i32>,
    /// Only the first so many frames of a video, with the sound that belongs to them. 1 to 1000000; default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub frames: Option<i32>,
}

/// One input of a step. Exactly one of fromStep and upload is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.fromStep), has(self.upload)].filter(set, set).size() == 1")
    .message(Message::Expression("'input ' + self.name + ' must set exactly one of fromStep and upload'".into())))]
pub struct StepInput {
    /// What the pipeline calls this input: image or video.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// The result of an earlier step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_step: Option<FromStep>,
    /// A file that you upload to the link that then stands in status.uploads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Upload>,
}

/// Names an earlier step, whose result is meant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FromStep {
    /// The earlier step's name.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// A file named by its content. Nothing else is accepted at the upload link.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// SHA-256 of the file: 64 lower-case hexadecimal digits.
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
    /// Size of the file in bytes. 0 to 1099511627776 (1 TiB).
    #[schemars(range(min = 0, max = 1_099_511_627_776_i64))]
    pub bytes: i64,
}

/// One published result.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct JobOutput {
    /// The result's name, unique in the job; the file that is downloaded is called so.
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// The step whose result it is.
    pub from_step: FromStep,
}

/// What became of the job. Under 16 KiB.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct AIJobStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, Running, Succeeded (Unknown until it is over) and Finished (True after success and failure).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Work done over all steps, such as "42%".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// The pool of the newest attempt, as namespace/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The worker pod of the newest attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Attempts made over all steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// When the first attempt was bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the job succeeded or failed. It is deleted ttlSecondsAfterFinished later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Where to upload the files that the spec names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["sha256"]))]
    pub uploads: Vec<UploadStatus>,
    /// The steps, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<StepStatus>,
    /// The results, with links. A link ends with its `expiresAt`; annotate the job with `framewright.dev/renew-links` and a new
    /// value, such as the time, to get new ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub outputs: Vec<OutputStatus>,
    /// The value of the `framewright.dev/renew-links` annotation that the links were last renewed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links_renewed_for: Option<String>,
}

/// A file that is waited for, or has come.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UploadStatus {
    /// SHA-256 of the file.
    pub sha256: String,
    /// Size of the file in bytes.
    pub bytes: i64,
    /// Whether it has arrived and was verified.
    pub received: bool,
    /// Where to send it with HTTP PUT, until it has arrived. From outside the cluster the scheme, host and port before /v1 may be
    /// replaced, by those of a port-forward for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// When the link ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// What became of one step.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// The step's name.
    pub name: String,
    /// Where the step is.
    pub state: StepState,
    /// Why it is there, as a sentence, when that is not obvious.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Since when it waits for a worker. The queue deadline counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_at: Option<Time>,
    /// The pool that it resolved to, as namespace/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// SHA-256 over the digests of the model's files, in the order of their paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_digest: Option<String>,
    /// Attempts made so far.
    #[serde(default)]
    pub attempts_made: i32,
    /// Attempts that failed and count against backoffLimit: not those that ended because the worker drained or the job was suspended.
    #[serde(default)]
    pub failures: i32,
    /// The newest attempts, oldest first, at most three.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// How far the running attempt is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What came out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Artifact>,
    /// The work done, in the pipeline's units. Upscale: pixels of the output, over all frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<i64>,
}

/// Where a step is. Derived from its attempts; the terminal ones never change.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// An input is missing: an earlier step or an upload.
    Blocked,
    /// It could run, and waits for a worker.
    Queued,
    /// Bound to a worker, which prepares.
    Starting,
    /// A worker computes.
    Running,
    /// Done; it never runs again.
    Succeeded,
    /// Given up; the message says why.
    Failed,
    /// It never ran, since the job ended before.
    Skipped,
}

impl StepState {
    /// Whether the step is over.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            StepState::Succeeded | StepState::Failed | StepState::Skipped => true,
            StepState::Blocked | StepState::Queued | StepState::Starting | StepState::Running => {
                false
            }
        }
    }
}

/// One try of a step on one worker.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Counts from 1.
    pub number: i32,
    /// The worker pod's namespace.
    pub namespace: String,
    /// The worker pod's name.
    pub worker: String,
    /// The worker pod's UID. Output counts from this pod only.
    pub pod_uid: String,
    /// When it was bound, before the task was sent.
    pub bound_at: Time,
    /// When the worker began to compute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Why it failed; absent while it runs and after success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The failure as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Why an attempt failed. The operator decides by it whether there is another one.
#[derive(
    JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord,
)]
pub enum Cause {
    /// The input cannot be worked on by anybody: fails the job at once, and the worker is not blamed.
    InvalidInput,
    /// The worker pod is gone, or its stream did not come back in time.
    WorkerLost,
    /// The worker was told to stop: it drains, or its pod is being replaced.
    WorkerDrained,
    /// The worker ran out of memory.
    OutOfMemory,
    /// The worker's scratch space is full.
    ScratchFull,
    /// The worker made no progress for too long.
    Stuck,
    /// It was not computing within preRunningDeadlineSeconds.
    PreRunningDeadline,
    /// It computed for longer than activeDeadlineSeconds.
    ActiveDeadline,
    /// The model's files could not be loaded.
    WeightsFailed,
    /// The store refused, or was away for too long.
    StoreUnavailable,
    /// The device failed.
    DeviceError,
    /// The job was suspended; this attempt does not count against backoffLimit.
    Suspended,
    /// A defect of the worker.
    Internal,
}

/// How far an attempt is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// 0 to 100.
    pub percent: i32,
    /// Frames done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<i64>,
    /// Frames in all, where the file tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<i64>,
}

/// Bytes in the store, named by their digest.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Where it lies: `artifact://namespace/aijobs/uid/sha256`. The name alone opens nothing.
    pub uri: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Such as video/mp4 or image/png.
    pub media_type: String,
    /// Its size.
    pub bytes: i64,
}

/// A published result.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OutputStatus {
    /// The result's name.
    pub name: String,
    /// The step whose result it is.
    pub step: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Such as video/mp4 or image/png.
    pub media_type: String,
    /// Its size.
    pub bytes: i64,
    /// Where to GET it. From outside the cluster the scheme, host and port before /v1 may be replaced, by those of a port-forward for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// When the link ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}
