//! One try of a step on one worker, how far it is, and why it failed.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One try of a step on one worker.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Counts from 1.
    #[schemars(range(min = 1))]
    pub number: i32,
    /// The worker pod's namespace.
    pub namespace: String,
    /// The worker pod's name.
    pub worker: String,
    /// The worker pod's UID. Output counts from this pod only.
    pub pod_uid: String,
    /// When it was bound, before the task was sent.
    pub bound_at: Time,
    /// When the worker began to compute. Absent if it ended before an operator heard of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// Why it failed; absent while it runs, after success, and where it was stopped since the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The failure as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Attempt {
    /// One that begins: it is bound to a worker pod.
    #[must_use]
    pub fn bound(number: i32, namespace: &str, worker: &str, pod_uid: &str, at: Timestamp) -> Self {
        Attempt {
            number,
            namespace: namespace.to_owned(),
            worker: worker.to_owned(),
            pod_uid: pod_uid.to_owned(),
            bound_at: Time(at),
            started_at: None,
            finished_at: None,
            cause: None,
            message: None,
        }
    }
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
    /// The worker was told to stop: it drains, or its pod was deleted.
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

impl Cause {
    /// As it stands in a status and as the reason of an Event.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::InvalidInput => "InvalidInput",
            Cause::WorkerLost => "WorkerLost",
            Cause::WorkerDrained => "WorkerDrained",
            Cause::OutOfMemory => "OutOfMemory",
            Cause::ScratchFull => "ScratchFull",
            Cause::Stuck => "Stuck",
            Cause::PreRunningDeadline => "PreRunningDeadline",
            Cause::ActiveDeadline => "ActiveDeadline",
            Cause::WeightsFailed => "WeightsFailed",
            Cause::WeightsChanged => "WeightsChanged",
            Cause::StoreUnavailable => "StoreUnavailable",
            Cause::DeviceError => "DeviceError",
            Cause::Suspended => "Suspended",
            Cause::Internal => "Internal",
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.as_str())
    }
}

/// How far an attempt is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// 0 to 100.
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
    /// Frames done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub frame: Option<i64>,
    /// Frames in all, where the file tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub frames: Option<i64>,
}

impl std::fmt::Display for Progress {
    /// Such as "33%, frame 3 of 9", or "frame 3" of a file that does not tell how many there are.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = self.percent;
        match (self.frame, self.frames) {
            (Some(frame), Some(frames)) => write!(out, "{percent}%, frame {frame} of {frames}"),
            (Some(frame), None) => write!(out, "frame {frame}"),
            (None, _) => write!(out, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_as_far_as_it_is_known() {
        for (percent, frame, frames, words) in [
            (33, Some(3), Some(9), "33%, frame 3 of 9"),
            (0, Some(3), None, "frame 3"),
            (50, None, None, "50%"),
        ] {
            let progress = Progress {
                percent,
                frame,
                frames,
            };
            assert_eq!(progress.to_string(), words);
        }
    }

    #[test]
    fn a_cause_is_called_the_same_in_statuses_and_in_events() {
        let schema = serde_json::to_value(schemars::schema_for!(Cause)).unwrap_or_default();
        let named: Vec<&str> = schema
            .pointer("/oneOf")
            .and_then(serde_json::Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|variant| variant["const"].as_str())
            .collect();
        assert_eq!(named.len(), 14);
        for name in named {
            let cause: Cause = serde_json::from_value(name.into()).expect("a cause");
            assert_eq!(cause.as_str(), name);
        }
    }
}
