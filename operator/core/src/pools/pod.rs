//! What a pod tells of a worker: whose it is, where it is, what is wrong with it, how its process ended.

use std::collections::BTreeMap;

use framewright_crds::ModelPool;
use framewright_crds::aijob::Cause;
use framewright_crds::conditions::pool_reason;
use framewright_crds::names::{LABEL_POOL, LABEL_REVISION, WORKER_CONTAINER};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus,
};
use kube_core::{Resource, ResourceExt};

use super::plan::protection;
use super::seen::{Phase, PodSeen, PodTrouble, StreamSeen};
use crate::jobs::seen::Ended;
use crate::names::WorkerRef;

/// The pool that a pod belongs to, by its controller: name and UID.
#[must_use]
pub fn pool_of(pod: &Pod) -> Option<(String, String)> {
    let owner = pod
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true))?;
    let is_pool =
        owner.kind == ModelPool::kind(&()) && owner.api_version == ModelPool::api_version(&());
    (is_pool && pod.labels().get(LABEL_POOL) == Some(&owner.name))
        .then(|| (owner.name.clone(), owner.uid.clone()))
}

/// When the pod ends, if its deletion was asked for: the API server adds the grace to the moment of asking.
#[must_use]
pub fn leaves_at(pod: &Pod) -> Option<Timestamp> {
    Some(pod.metadata.deletion_timestamp.as_ref()?.0)
}

/// How a worker's process ended since `since`, if it did.
#[must_use]
pub fn ended_since(pod: &Pod, since: Timestamp) -> Option<Ended> {
    let name = pod.name_any();
    let status = pod.status.as_ref()?;
    if let Some("Failed" | "Succeeded") = status.phase.as_deref() {
        return Some(Ended {
            cause: Cause::WorkerLost,
            message: format!("worker pod {name}: {}", end_of_pod(pod, status)),
        });
    }
    let container = container(pod)?;
    let now = container.state.as_ref().and_then(terminated);
    let before = container.last_state.as_ref().and_then(terminated);
    let end = now.or(before).filter(|end| {
        end.finished_at
            .as_ref()
            .is_some_and(|at| at.0 >= whole_second(since))
    })?;
    Some(Ended {
        cause: cause_of(end),
        message: format!("the process of worker {name} ended: {}", end_in_words(end)),
    })
}

/// Why a pod ended for good: the kubelet's reason and words, or else how its process ended.
fn end_of_pod(pod: &Pod, status: &PodStatus) -> String {
    let process = || {
        let state = container(pod)?.state.as_ref()?;
        terminated(state).map(end_in_words)
    };
    match (&status.reason, &status.message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(text), None) | (None, Some(text)) => text.clone(),
        (None, None) => process().unwrap_or_else(|| "it ended".to_owned()),
    }
}

/// A pod, and what its worker says. `template` are the annotations that its pool gives it.
#[must_use]
pub fn pod_seen(
    pod: &Pod,
    template: Option<&BTreeMap<String, String>>,
    stream: Option<StreamSeen>,
    bound: usize,
    now: Timestamp,
) -> PodSeen {
    let worker = WorkerRef {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
    };
    PodSeen {
        worker,
        revision: pod
            .labels()
            .get(LABEL_REVISION)
            .cloned()
            .unwrap_or_default(),
        phase: phase(pod, now),
        trouble: trouble(pod),
        protection: protection::of_pod(pod.annotations(), template),
        stream,
        bound,
    }
}

fn phase(pod: &Pod, now: Timestamp) -> Phase {
    if pod.metadata.deletion_timestamp.is_some() {
        return Phase::Ending;
    }
    match pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
    {
        Some("Running") => Phase::Running,
        Some("Failed" | "Succeeded") => Phase::Ended {
            at: ended_at(pod).unwrap_or(now),
        },
        Some(_) | None => Phase::Pending,
    }
}

/// When a pod ended: its container's end, or its last transition (an evicted or refused pod may have no container).
fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let container = container(pod)
        .and_then(|container| container.state.as_ref())
        .and_then(terminated);
    let by_container = container
        .and_then(|end| end.finished_at.as_ref())
        .map(|at| at.0);
    let conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let by_condition = conditions
        .filter_map(|condition| condition.last_transition_time.as_ref())
        .map(|at| at.0)
        .max();
    by_container
        .or(by_condition)
        .or(pod.metadata.creation_timestamp.as_ref().map(|at| at.0))
}

fn trouble(pod: &Pod) -> Option<PodTrouble> {
    let status = pod.status.as_ref()?;
    if let Some("Failed" | "Succeeded") = status.phase.as_deref() {
        return Some(PodTrouble {
            reason: pool_reason::PODS_ENDED,
            message: end_of_pod(pod, status),
        });
    }
    let conditions = status.conditions.iter().flatten();
    let unscheduled = conditions.clone().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(unscheduled) = unscheduled {
        let message = unscheduled
            .message
            .clone()
            .unwrap_or_else(|| "no node fits".to_owned());
        return Some(PodTrouble {
            reason: pool_reason::UNSCHEDULABLE,
            message,
        });
    }
    let container = container(pod)?;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let why = waiting.reason.clone().unwrap_or_default();
    let message = waiting.message.clone().unwrap_or_default();
    match why.as_str() {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "RegistryUnavailable" => {
            let message = format!("image {}: {why}: {message}", container.image);
            Some(PodTrouble {
                reason: pool_reason::IMAGE_PULL_FAILED,
                message,
            })
        }
        "CrashLoopBackOff" => {
            let end = container
                .last_state
                .as_ref()
                .and_then(terminated)
                .map(end_in_words)
                .unwrap_or_default();
            let message = format!(
                "its process keeps ending ({end}), {} times so far; kubectl logs {} tells more",
                container.restart_count,
                pod.name_any()
            );
            Some(PodTrouble {
                reason: pool_reason::WORKER_CRASHING,
                message,
            })
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some(PodTrouble {
                reason: pool_reason::WORKER_CRASHING,
                message: format!("{why}: {message}"),
            })
        }
        _ => None,
    }
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    containers
        .iter()
        .find(|container| container.name == WORKER_CONTAINER)
}

fn terminated(state: &ContainerState) -> Option<&ContainerStateTerminated> {
    state.terminated.as_ref()
}

fn cause_of(end: &ContainerStateTerminated) -> Cause {
    match end.reason.as_deref() {
        Some("OOMKilled") => Cause::OutOfMemory,
        Some(_) | None => Cause::WorkerLost,
    }
}

fn end_in_words(end: &ContainerStateTerminated) -> String {
    let reason = end.reason.as_deref().unwrap_or("ended");
    match (reason, end.message.as_deref()) {
        ("OOMKilled", _) => {
            "out of memory (OOMKilled); raise the memory limit in the pool's template".to_owned()
        }
        (reason, Some(message)) => {
            format!(
                "{reason}, exit code {}: {}",
                end.exit_code,
                last_line(message)
            )
        }
        (reason, None) => format!("{reason}, exit code {}", end.exit_code),
    }
}

/// The last thing that a process said, as one line without the colours of a terminal.
fn last_line(text: &str) -> String {
    let line = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    let mut plain = String::new();
    let mut is_escape = false;
    for letter in line.trim().chars() {
        match letter {
            '\u{1b}' => is_escape = true,
            _ if is_escape => is_escape = !letter.is_ascii_alphabetic(),
            _ if letter.is_control() => plain.push(' '),
            _ => plain.push(letter),
        }
    }
    plain
}

/// Kubernetes keeps whole seconds.
fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "w-0"}, "status": status}))
            .expect("a pod")
    }

    fn waiting(reason: &str) -> serde_json::Value {
        serde_json::json!({"containerStatuses": [{
            "name": "worker", "image": "registry.example.com/worker:1", "imageID": "", "ready": false, "restartCount": 4,
            "state": {"waiting": {"reason": reason, "message": "as the kubelet says"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no room for weights"}},
        }]})
    }

    #[test]
    fn each_trouble_of_a_pod_has_a_reason_and_a_sentence() {
        let unscheduled = serde_json::json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes have room",
        }]});
        let cases = [
            (
                unscheduled,
                pool_reason::UNSCHEDULABLE,
                "0/3 nodes have room",
            ),
            (
                waiting("ImagePullBackOff"),
                pool_reason::IMAGE_PULL_FAILED,
                "image registry.example.com/worker:1: ImagePullBackOff: as the kubelet says",
            ),
            (
                waiting("ErrImagePull"),
                pool_reason::IMAGE_PULL_FAILED,
                "image registry.example.com/worker:1: ErrImagePull: as the kubelet says",
            ),
            (
                waiting("CrashLoopBackOff"),
                pool_reason::WORKER_CRASHING,
                "its process keeps ending (Error, exit code 1: no room for weights), 4 times so far; kubectl logs w-0 tells more",
            ),
            (
                waiting("CreateContainerConfigError"),
                pool_reason::WORKER_CRASHING,
                "CreateContainerConfigError: as the kubelet says",
            ),
        ];
        for (status, reason, message) in cases {
            let found = trouble(&pod(status)).expect(reason);
            assert_eq!((found.reason, found.message.as_str()), (reason, message));
        }
        assert_eq!(trouble(&pod(waiting("ContainerCreating"))), None);
    }

    #[test]
    fn of_what_a_process_said_the_last_line_is_told_without_colours() {
        let said = "\u{1b}[2m2026-11-23\u{1b}[0m INFO serves\n\u{1b}[31mError\u{1b}[0m: no room for weights\n\n";
        assert_eq!(last_line(said), "Error: no room for weights");
        assert_eq!(last_line(""), "");
    }
}
