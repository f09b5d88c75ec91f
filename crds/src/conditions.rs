//! Every condition type and reason that a person can see, and how a condition changes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Condition types of an AIJob.
pub mod job {
    /// The job may start.
    pub const ACCEPTED: &str = "Accepted";
    /// A worker computes for the job.
    pub const RUNNING: &str = "Running";
    /// Unknown until it is over; its reason is the job's state.
    pub const SUCCEEDED: &str = "Succeeded";
    /// True after success and failure.
    pub const FINISHED: &str = "Finished";
    /// Whether it has succeeded.
    pub const READY: &str = super::READY;
}

/// Condition type of both kinds: the object is as its spec asks, in the sense of kstatus.
pub const READY: &str = "Ready";
/// Condition type of both kinds, there only while it is True: the object is on its way to its spec.
pub const RECONCILING: &str = "Reconciling";
/// Condition type of both kinds, there only while it is True: the object does not get to its spec by itself.
pub const STALLED: &str = "Stalled";

/// Reasons of an AIJob's conditions.
pub mod job_reason {
    /// The spec is fine.
    pub const VALID: &str = "Valid";
    /// Waiting for an upload.
    pub const AWAITING_UPLOAD: &str = "AwaitingUpload";
    /// No pool has the model.
    pub const MODEL_NOT_FOUND: &str = "ModelNotFound";
    /// No pool runs the pipeline.
    pub const PIPELINE_NOT_FOUND: &str = "PipelineNotFound";
    /// The named pool does not exist.
    pub const POOL_NOT_FOUND: &str = "PoolNotFound";
    /// The pool does not allow this namespace.
    pub const NOT_ALLOWED: &str = "NotAllowed";
    /// Waiting for a free worker.
    pub const QUEUED: &str = "Queued";
    /// The pool is not ready; the message names the pool and its reason.
    pub const POOL_NOT_READY: &str = "PoolNotReady";
    /// A worker prepares the task.
    pub const STARTING: &str = "Starting";
    /// A worker computes.
    pub const RUNNING: &str = "Running";
    /// A failed attempt is about to be tried again.
    pub const RETRYING: &str = "Retrying";
    /// spec.suspend is true.
    pub const SUSPENDED: &str = "Suspended";
    /// All steps are done.
    pub const SUCCEEDED: &str = "Succeeded";
    /// Too many attempts failed.
    pub const BACKOFF_LIMIT_EXCEEDED: &str = "BackoffLimitExceeded";
    /// No worker can process this input.
    pub const INVALID_INPUT: &str = "InvalidInput";
    /// The spec asks for something that does not exist, such as an output that a pipeline does not make.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// Somebody deleted the job, and finalizers keep it.
    pub const DELETED: &str = "Deleted";
    /// The queue deadline passed.
    pub const QUEUE_DEADLINE_EXCEEDED: &str = "QueueDeadlineExceeded";
}

/// Condition types of a ModelPool.
pub mod pool {
    /// spec.replicas workers take tasks for all models.
    pub const READY: &str = super::READY;
}

/// Reasons of a ModelPool's conditions.
pub mod pool_reason {
    /// All workers take tasks.
    pub const READY: &str = "Ready";
    /// replicas is 0.
    pub const SCALED_TO_ZERO: &str = "ScaledToZero";
    /// Weights are to be uploaded.
    pub const AWAITING_UPLOAD: &str = "AwaitingUpload";
    /// Pods are being created or replaced.
    pub const PROGRESSING: &str = "Progressing";
    /// Pods have scheduling gates, which another controller removes.
    pub const SCHEDULING_GATED: &str = "SchedulingGated";
    /// The scheduler finds no node.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// The image of a container, the worker's or another, cannot be pulled.
    pub const IMAGE_PULL_FAILED: &str = "ImagePullFailed";
    /// The API server refuses the pods.
    pub const PODS_REFUSED: &str = "PodsRefused";
    /// Requests about pods fail: no connection, no answer in time, a 5xx.
    pub const REQUESTS_FAILING: &str = "RequestsFailing";
    /// Pods ended for good, such as evicted ones, or others delete them before they run.
    pub const PODS_ENDED: &str = "PodsEnded";
    /// The worker's container keeps ending.
    pub const WORKER_CRASHING: &str = "WorkerCrashing";
    /// A container cannot be created or started, or one beside the worker keeps ending.
    pub const CONTAINER_FAILING: &str = "ContainerFailing";
    /// The kubelet of a worker's node does not report.
    pub const NODE_NOT_READY: &str = "NodeNotReady";
    /// A worker does not find the device that the pool states.
    pub const DEVICE_MISSING: &str = "DeviceMissing";
    /// No worker can run a pipeline that the spec names.
    pub const PIPELINE_MISSING: &str = "PipelineMissing";
    /// A file of a model is wrong.
    pub const WEIGHTS_FAILED: &str = "WeightsFailed";
    /// Workers fetch and verify weights.
    pub const LOADING: &str = "Loading";
    /// It is being deleted, and finalizers keep it.
    pub const DELETING: &str = "Deleting";
    /// Pods run, but their workers have not connected.
    pub const AWAITING_WORKERS: &str = "AwaitingWorkers";
}

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Not known yet.
    Unknown,
}

impl From<bool> for Truth {
    fn from(is_so: bool) -> Truth {
        if is_so { Truth::True } else { Truth::False }
    }
}

impl Truth {
    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
    }
}

/// Longest message that a condition gets, in characters; the API allows 32768, a status must stay small.
pub const MESSAGE_LIMIT: usize = 400;

/// Cuts a text to [`MESSAGE_LIMIT`] characters.
#[must_use]
pub fn shortened(text: &str) -> String {
    cut(text, MESSAGE_LIMIT)
}

/// A text and its end, of at most [`MESSAGE_LIMIT`] characters: what is cut is the text, not the end.
#[must_use]
pub fn ended_by(text: &str, end: &str) -> String {
    let room = MESSAGE_LIMIT.saturating_sub(end.chars().count());
    format!("{}{end}", cut(text, room))
}

/// In one line, too: what a process says may hold what moves a terminal's cursor, or looks like lines of somebody else.
fn cut(text: &str, most: usize) -> String {
    let is_whole = text.chars().count() <= most;
    let kept = if is_whole {
        most
    } else {
        most.saturating_sub(1)
    };
    let plain = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    let mut short: String = text.chars().take(kept).map(plain).collect();
    if !is_whole {
        short.push('…');
    }
    short
}

/// Sets one condition: the transition time changes only with the status.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    truth: Truth,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let message = shortened(message);
    let new = Condition {
        type_: type_.to_owned(),
        status: truth.as_str().to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: Time(now),
    };
    match conditions
        .iter_mut()
        .find(|condition| condition.type_ == type_)
    {
        Some(old) if old.status == new.status => {
            let since = old.last_transition_time.clone();
            *old = new;
            old.last_transition_time = since;
        }
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

/// Removes a condition.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|condition| condition.type_ != type_);
}

/// The condition of that type.
#[must_use]
pub fn get<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of that type is True.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    get(conditions, type_).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    #[test]
    fn the_transition_time_changes_only_with_the_status() {
        let mut conditions = Vec::new();
        set(
            &mut conditions,
            job::RUNNING,
            Truth::False,
            "Queued",
            "waits",
            Some(1),
            at(1),
        );
        set(
            &mut conditions,
            job::RUNNING,
            Truth::False,
            "Starting",
            "prepares",
            Some(1),
            at(2),
        );
        assert_eq!(conditions[0].last_transition_time.0, at(1));
        assert_eq!(conditions[0].reason, "Starting");
        set(
            &mut conditions,
            job::RUNNING,
            Truth::True,
            "Running",
            "computes",
            Some(1),
            at(3),
        );
        assert_eq!(conditions[0].last_transition_time.0, at(3));
        assert_eq!(conditions.len(), 1);
    }

    #[test]
    fn a_message_is_one_line_without_a_terminals_commands() {
        assert_eq!(
            shortened("bad\u{1b}[2J input\r\ndemo: done\u{9b}1m"),
            "bad [2J input  demo: done 1m"
        );
    }

    #[test]
    fn a_long_message_is_cut_and_stays_valid_text() {
        let text = "ä".repeat(1000);
        let short = shortened(&text);
        assert_eq!(short.chars().count(), MESSAGE_LIMIT);
        assert!(short.ends_with('…'));
        let short = ended_by(&text, "; the end");
        assert_eq!(short.chars().count(), MESSAGE_LIMIT);
        assert!(short.ends_with("ä…; the end"));
    }
}
