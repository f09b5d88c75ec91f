//! One try of a step on one worker, how far it is, and why it failed.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::text_enum::text_enum;

/// One try of a step on one worker.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Which replica of the step. Always 0 until steps have replicas.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub replica: i32,
    /// Counts from 1.
    #[schemars(range(min = 1))]
    pub number: i32,
    /// The worker that it is bound to. Output counts from this worker only.
    pub worker: AttemptWorker,
    /// When it was bound, before the task was sent.
    pub bound_at: Time,
    /// When the worker began to compute. Absent if the attempt ended before the operator received that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Why it failed; absent while it runs, after success, and if it was stopped because the job ended. One of InvalidInput, WorkerLost,
    /// WorkerDrained, OutOfMemory, ScratchFull, Stuck, StartDeadline, ActiveDeadline, WeightsFailed, WeightsChanged,
    /// StoreUnavailable, DeviceError, Suspended, Internal; later versions may add others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The failure as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The work done, also by an attempt that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The number of the invoice that pays for it, if the job is paid for. Reserved: not used yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub invoice: Option<i32>,
}

impl Attempt {
    /// One that begins: it is bound to a worker.
    #[must_use]
    pub fn bound(number: i32, worker: AttemptWorker, at: Timestamp) -> Self {
        Attempt {
            replica: 0,
            number,
            worker,
            bound_at: Time(at),
            started_at: None,
            finished_at: None,
            cause: None,
            message: None,
            usage: None,
            invoice: None,
        }
    }
}

/// The worker of an attempt.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AttemptWorker {
    /// What kind of object it is: Pod.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl AttemptWorker {
    /// A worker that is a pod.
    #[must_use]
    pub fn pod(namespace: &str, name: &str, uid: &str) -> Self {
        AttemptWorker {
            kind: "Pod".to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        }
    }
}

/// Work done, in the unit of a pipeline.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// What is counted. Upscale: pixels of the output, over all frames.
    pub unit: String,
    /// How many.
    #[schemars(range(min = 0))]
    pub amount: i64,
}

text_enum! {
    /// Why an attempt failed. The operator decides by it whether there is another one.
    pub enum Cause {
        /// The input cannot be worked on by anybody: fails the job at once, and the worker is not blamed.
        InvalidInput,
        /// The worker pod is gone, or its stream did not come back in time.
        WorkerLost,
        /// The worker was told to stop: it drains, or its pod was deleted.
        WorkerDrained,
        /// The worker ran out of memory.
        OutOfMemory,
        /// The worker's scratch space is full.
        ScratchFull,
        /// The worker made no progress for too long.
        Stuck,
        /// It was not computing within startDeadlineSeconds.
        StartDeadline,
        /// It computed for longer than activeDeadlineSeconds.
        ActiveDeadline,
        /// The model's files could not be loaded.
        WeightsFailed,
        /// The pool's weights for the model were changed after the step was placed.
        WeightsChanged,
        /// The store refused, or was away for too long.
        StoreUnavailable,
        /// The device failed.
        DeviceError,
        /// The job was suspended.
        Suspended,
        /// A defect of the worker.
        Internal,
    }
}

/// How far an attempt is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
    /// What is counted, such as frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// How many are done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub done: Option<i64>,
    /// How many there are in all, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub of: Option<i64>,
}

impl std::fmt::Display for Progress {
    /// Such as "33%, frame 3 of 9", or "frame 3" of a file that does not tell how many there are.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = self.percent;
        let stage = self.stage.as_deref().unwrap_or("step");
        match (self.done, self.of) {
            (Some(done), Some(of)) => write!(out, "{percent}%, {stage} {done} of {of}"),
            (Some(done), None) => write!(out, "{stage} {done}"),
            (None, _) => write!(out, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_as_far_as_it_is_known() {
        for (percent, done, of, words) in [
            (33, Some(3), Some(9), "33%, frame 3 of 9"),
            (0, Some(3), None, "frame 3"),
            (50, None, None, "50%"),
        ] {
            let progress = Progress {
                percent,
                stage: Some("frame".to_owned()),
                done,
                of,
            };
            assert_eq!(progress.to_string(), words);
        }
    }
}
