//! What became of a job and its steps.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Attempt, Progress, Usage};
use crate::names::bare;
use crate::text_enum::text_enum;

/// The state of the job. Above 64 KiB it is shortened, except outputs and usage; it is never larger than 256 KiB.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct AIJobStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Accepted, Running, Succeeded (Unknown until it is over) and Finished (True after success and failure); beside them, for tools that
    /// follow kstatus, Ready, and Reconciling and Stalled while they are True.
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
    #[schemars(range(min = 0))]
    pub attempts_made: Option<i32>,
    /// When the first attempt was bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the job succeeded or failed. It is deleted ttlSecondsAfterFinished later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// The files that the spec names, by step and input, with their upload links and states.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub files: Vec<FileStatus>,
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
    /// What the job costs and what has been paid. Reserved: not used yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<PaymentStatus>,
}

/// What a job costs, in wei as decimal digits. Reserved: not used yet.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct PaymentStatus {
    /// What it costs, if that follows from the spec alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote_wei: Option<String>,
    /// The maximum that it can cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_wei: Option<String>,
    /// What is reserved for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub funded_wei: Option<String>,
    /// What is still to be paid before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_wei: Option<String>,
    /// What it has cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged_wei: Option<String>,
    /// Until when the prices are good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_valid_until: Option<Time>,
    /// The number of the pricing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub invoice: Option<i32>,
}

/// A file that an object names.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FileStatus {
    /// Its place in the spec: step/input in a job, model/path in a pool.
    pub name: String,
    /// Where it comes from: upload.
    pub source: String,
    /// Awaited until it is uploaded and verified, then Received.
    pub state: FileState,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Size of the file in bytes.
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// Where to send it with HTTP PUT, until it is received. Of files with the same digest only the first has a link; of many files eight have links
    /// at a time, and the next ones get links as those arrive. From outside the cluster you may replace the scheme, host and port before /v1,
    /// for example by those of a port-forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// When the link ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// A problem with the file, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl FileStatus {
    /// The digest's hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> &str {
        bare(&self.digest)
    }

    /// Whether it has come.
    #[must_use]
    pub fn is_received(&self) -> bool {
        self.state == FileState::Received
    }
}

text_enum! {
    /// Where a file is.
    pub enum FileState {
        /// It has not come yet.
        Awaited,
        /// It has come and was verified.
        Received,
    }
}

/// The state of one step.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// The step's name.
    pub name: String,
    /// The state of the step: Blocked, Queued, Starting, Running, Succeeded, Failed or Skipped.
    pub state: StepState,
    /// Why it is in this state, if that is not obvious.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it began to wait for an upload or a worker. queueDeadlineSeconds counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_at: Option<Time>,
    /// The pool that it resolved to, as namespace/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The models that it resolved to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["role", "name"]))]
    pub models: Vec<StepModel>,
    /// The seed of random numbers: chosen with the first attempt, the same in all of them. 0 to 4294967295.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub seed: Option<i64>,
    /// Attempts made so far.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub attempts_made: i32,
    /// Attempts that failed and count against backoffLimit. Those that ended because the worker drained, the store was away, the pool's
    /// weights were changed or the job was suspended do not, up to 20 of them.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub failures: i32,
    /// The newest attempts, oldest first, at most four of each replica.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["replica", "number"]))]
    pub attempts: Vec<Attempt>,
    /// How far the running attempt is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The files that the step has made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub outputs: Vec<StepOutput>,
    /// The work done, over all attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// From where the next attempt can continue. Reserved: not used yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// A preview of the result. Reserved: not used yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
}

impl StepStatus {
    /// A step that nothing has happened to yet.
    #[must_use]
    pub fn blocked(name: &str) -> StepStatus {
        StepStatus {
            name: name.to_owned(),
            state: StepState::Blocked,
            message: None,
            queued_at: None,
            pool: None,
            models: Vec::new(),
            seed: None,
            attempts_made: 0,
            failures: 0,
            attempts: Vec::new(),
            progress: None,
            outputs: Vec::new(),
            usage: None,
            checkpoint: None,
            preview: None,
        }
    }
}

text_enum! {
    /// Where a step is. Derived from its attempts; the terminal ones never change.
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
        /// The job ended before it was done: it never ran, or was stopped.
        Skipped,
    }
}

impl StepState {
    /// Whether the step is over.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            StepState::Succeeded | StepState::Failed | StepState::Skipped => true,
            StepState::Blocked
            | StepState::Queued
            | StepState::Starting
            | StepState::Running
            | StepState::Unknown => false,
        }
    }
}

/// A model that a step runs with.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StepModel {
    /// Its role in the pipeline, such as base.
    pub role: String,
    /// Its name in the pool.
    pub name: String,
    /// `sha256:` and the SHA-256, in hexadecimal, over the sorted lines `<file digest>  <path>` of its files, as sha256sum prints them.
    pub digest: String,
}

/// A file that a step has made.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StepOutput {
    /// The pipeline's name for it.
    pub name: String,
    /// Its purpose: result, poster or data. By default only results are published.
    pub role: OutputRole,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Such as video/mp4 or image/png.
    pub media_type: String,
    /// Its size.
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// Facts about it, such as its width.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub facts: Vec<Fact>,
}

impl StepOutput {
    /// The digest's hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> &str {
        bare(&self.digest)
    }
}

/// A fact about an output.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Fact {
    /// The name of the fact, such as width.
    pub name: String,
    /// The value, as text.
    pub value: String,
}

text_enum! {
    /// What an output is for.
    pub enum OutputRole {
        /// What the step was run for.
        Result = "result",
        /// A picture of it.
        Poster = "poster",
        /// For another program, such as masks or a transcript.
        Data = "data",
    }
}

/// From where an attempt can continue. Reserved: not used yet.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Its size.
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// How much is done, in the unit of the progress.
    #[schemars(range(min = 0))]
    pub done: i64,
    /// How much there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub of: Option<i64>,
    /// The kind of device that it was made on; only a device of that kind can continue from it.
    pub device_kind: String,
}

/// A preview of a step's result. Reserved: not used yet.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Where to download it with HTTP GET; the file changes.
    pub link: String,
}

impl OutputStatus {
    /// The digest's hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> &str {
        bare(&self.digest)
    }
}

/// A published result.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OutputStatus {
    /// The result's name.
    pub name: String,
    /// The step that made it.
    pub step: String,
    /// Which of the step's outputs.
    pub output: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Such as video/mp4 or image/png.
    pub media_type: String,
    /// Its size.
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// Where to download it with HTTP GET. From outside the cluster you may replace the scheme, host and port before /v1, for example by those of a port-forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// When the link ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}
