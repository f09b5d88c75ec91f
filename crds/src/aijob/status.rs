//! What became of a job and its steps.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Attempt, Progress};

/// What became of the job. From 16 KiB on it is shortened; it stays under 24 KiB.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct AIJobStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
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
    #[schemars(range(min = 0))]
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
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// Whether it has arrived and was verified.
    pub received: bool,
    /// Where to send it with HTTP PUT, until it has arrived. Of many files eight have links at a time; the next ones get theirs as
    /// those arrive. From outside the cluster the scheme, host and port before /v1 may be
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
    /// Since when it waits for an upload or a worker. The queue deadline counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_at: Option<Time>,
    /// The pool that it resolved to, as namespace/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// SHA-256, in hexadecimal, over the lines `path sha256` of the model's files, in the order of their paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_digest: Option<String>,
    /// Attempts made so far.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub attempts_made: i32,
    /// Attempts that failed and count against backoffLimit. Those that ended because the worker drained, the store was away, the pool's
    /// weights were changed or the job was suspended do not, up to 20 of them.
    #[serde(default)]
    #[schemars(range(min = 0))]
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
    #[schemars(range(min = 0))]
    pub units: Option<i64>,
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
            weights_digest: None,
            attempts_made: 0,
            failures: 0,
            attempts: Vec::new(),
            progress: None,
            output: None,
            units: None,
        }
    }
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
    /// The job ended before it was done: it never ran, or was stopped.
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

/// Bytes in the store, named by their digest.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Where it lies: `artifact://namespace/aijobs/uid/output/sha256`. The name alone opens nothing. Absent in the statuses of jobs with very
    /// many steps, which must stay small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Such as video/mp4 or image/png.
    pub media_type: String,
    /// Its size.
    #[schemars(range(min = 0))]
    pub bytes: i64,
}

impl Artifact {
    /// The bare digest.
    #[must_use]
    pub fn sha256(&self) -> &str {
        bare(&self.digest)
    }
}

impl OutputStatus {
    /// The bare digest.
    #[must_use]
    pub fn sha256(&self) -> &str {
        bare(&self.digest)
    }
}

const PREFIX: &str = "sha256:";

fn bare(digest: &str) -> &str {
    digest.strip_prefix(PREFIX).unwrap_or(digest)
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
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// Where to GET it. From outside the cluster the scheme, host and port before /v1 may be replaced, by those of a port-forward for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// When the link ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}
