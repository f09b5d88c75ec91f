//! Names that more than one program must agree on: labels, annotations, ports, task ids, artifact keys.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The API group.
pub const GROUP: &str = "framewright.dev";
/// Label of worker pods: the pool's name.
pub const LABEL_POOL: &str = "framewright.dev/pool";
/// Label of worker pods: a digest of the template that they were made from.
pub const LABEL_REVISION: &str = "framewright.dev/revision";
/// Annotation on a job or pool: a new value asks for new links.
pub const ANNOTATION_RENEW_LINKS: &str = "framewright.dev/renew-links";
/// Audience of the projected token by which a worker proves who it is; worthless to the API server.
pub const TOKEN_AUDIENCE: &str = "framewright.dev/operator";
/// Path of the workers' stream on the operator.
pub const STREAM_PATH: &str = "/v1/stream";
/// Port of the workers' stream on the operator (TLS).
pub const STREAM_PORT: u16 = 9443;
/// Port of the store for workers and operator (TLS).
pub const STORE_PORT: u16 = 8443;
/// Port of the store inside its pod only, for port-forwards (plain HTTP on 127.0.0.1).
pub const STORE_LOCAL_PORT: u16 = 8080;
/// Port of health and metrics, on operator, store and worker (plain HTTP).
pub const HEALTH_PORT: u16 = 8081;
/// Where each of them answers on that port whether it lives.
pub const HEALTH_PATH: &str = "/healthz";
/// Where each answers whether it can do its work.
pub const READY_PATH: &str = "/readyz";
/// Label that the chart puts on the store's pods, by which the kubectl plugin finds them.
pub const STORE_SELECTOR: &str =
    "app.kubernetes.io/name=framewright,app.kubernetes.io/component=store";
/// Name of the worker's container.
pub const WORKER_CONTAINER: &str = "worker";
/// Folder in a worker pod under which each volume with weights is mounted, by the claim's name.
pub const VOLUMES_FOLDER: &str = "/var/lib/framewright/volumes";

/// Environment variables by which the operator sets a worker.
pub mod env {
    /// The operator's stream for workers, as a `wss://` URL.
    pub const OPERATOR: &str = "FRAMEWRIGHT_OPERATOR";
    /// The certificate authority of operator and store, as PEM text.
    pub const CA: &str = "FRAMEWRIGHT_CA";
    /// The file with the projected token.
    pub const TOKEN_FILE: &str = "FRAMEWRIGHT_TOKEN_FILE";
    /// What to compute on: cpu or cuda.
    pub const DEVICE: &str = "FRAMEWRIGHT_DEVICE";
    /// The folder for verified weights.
    pub const WEIGHTS: &str = "FRAMEWRIGHT_WEIGHTS";
    /// The most that they may take, in bytes.
    pub const WEIGHTS_LIMIT: &str = "FRAMEWRIGHT_WEIGHTS_LIMIT";
    /// The folder for the files of tasks.
    pub const SCRATCH: &str = "FRAMEWRIGHT_SCRATCH";
    /// The most that they may take, in bytes.
    pub const SCRATCH_LIMIT: &str = "FRAMEWRIGHT_SCRATCH_LIMIT";
    /// Threads that compute on the CPU.
    pub const THREADS: &str = "FRAMEWRIGHT_THREADS";
    /// What is logged.
    pub const LOG: &str = "RUST_LOG";
}

/// One try of one step: deterministic, so that a repeated order is the same order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// UID of the job.
    pub job_uid: String,
    /// Name of the step.
    pub step: String,
    /// Always 0 until steps have replicas.
    pub replica: u32,
    /// Counts from 1.
    pub attempt: i32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TaskId {
            job_uid,
            step,
            replica,
            attempt,
        } = self;
        write!(out, "{job_uid}/{step}/{replica}/{attempt}")
    }
}

/// A text that is no task id.
#[derive(Debug, PartialEq, Eq)]
pub struct BadTaskId(String);

impl fmt::Display for BadTaskId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "task id {:?} is not job-uid/step/replica/attempt",
            self.0
        )
    }
}

impl std::error::Error for BadTaskId {}

impl FromStr for TaskId {
    type Err = BadTaskId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadTaskId(text.chars().take(120).collect());
        let mut parts = text.split('/');
        let (Some(job_uid), Some(step), Some(replica), Some(attempt), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(bad());
        };
        if job_uid.is_empty() || step.is_empty() {
            return Err(bad());
        }
        Ok(TaskId {
            job_uid: job_uid.to_owned(),
            step: step.to_owned(),
            replica: replica.parse().map_err(|_| bad())?,
            attempt: attempt.parse().map_err(|_| bad())?,
        })
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What kind of object an artifact belongs to; part of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OwnerKind {
    /// An AIJob.
    AIJobs,
    /// A ModelPool.
    ModelPools,
}

impl OwnerKind {
    /// As it stands in a key.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            OwnerKind::AIJobs => "aijobs",
            OwnerKind::ModelPools => "modelpools",
        }
    }
}

/// What an artifact is to its owner; part of its key, so that artifacts of one role can be deleted alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactRole {
    /// A file that somebody has uploaded for a job.
    Input,
    /// What a step has made.
    Output,
    /// How far an attempt has come, so that the next one can go on from there.
    Checkpoint,
    /// A look at a result that is not finished.
    Preview,
    /// A file of a model.
    Model,
}

impl ArtifactRole {
    /// All roles.
    pub const ALL: [ArtifactRole; 5] = [
        ArtifactRole::Input,
        ArtifactRole::Output,
        ArtifactRole::Checkpoint,
        ArtifactRole::Preview,
        ArtifactRole::Model,
    ];

    /// As it stands in a key.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ArtifactRole::Input => "input",
            ArtifactRole::Output => "output",
            ArtifactRole::Checkpoint => "checkpoint",
            ArtifactRole::Preview => "preview",
            ArtifactRole::Model => "model",
        }
    }

    /// What files are to their owner that people upload.
    #[must_use]
    pub fn of_uploads(kind: OwnerKind) -> ArtifactRole {
        match kind {
            OwnerKind::AIJobs => ArtifactRole::Input,
            OwnerKind::ModelPools => ArtifactRole::Model,
        }
    }
}

impl fmt::Display for ArtifactRole {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Whether this is a SHA-256 as text: 64 lower-case hexadecimal digits.
#[must_use]
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What a digest begins with.
const DIGEST_PREFIX: &str = "sha256:";

/// A SHA-256, given as hexadecimal digits, in the form that digests have in objects and messages.
#[must_use]
pub fn digest(sha256: &str) -> String {
    format!("{DIGEST_PREFIX}{sha256}")
}

/// The hexadecimal digits of a digest.
#[must_use]
pub fn bare(digest: &str) -> &str {
    digest.strip_prefix(DIGEST_PREFIX).unwrap_or(digest)
}

/// Whether this is a digest: `sha256:` and 64 lower-case hexadecimal digits.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix(DIGEST_PREFIX).is_some_and(is_sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_id_survives_its_text_form() {
        let id = TaskId {
            job_uid: "0b5c".into(),
            step: "large".into(),
            replica: 0,
            attempt: 2,
        };
        assert_eq!(id.to_string(), "0b5c/large/0/2");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn a_digest_is_64_lower_case_hexadecimal_digits() {
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        assert!(is_sha256(digest));
        for text in [
            "",
            &digest[1..],
            &digest.to_uppercase(),
            &digest.replace('9', "g"),
        ] {
            assert!(!is_sha256(text), "{text}");
        }
        let full = super::digest(digest);
        assert!(!is_sha256(&full) && is_digest(&full) && !is_digest(digest));
        assert_eq!(bare(&full), digest);
    }

    #[test]
    fn a_text_with_other_parts_is_no_task_id() {
        for text in ["", "a/b/c", "a/b/0/1/2", "a/b/x/1", "//0/1"] {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
    }
}
