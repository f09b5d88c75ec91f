//! How a pod ended for good, and how the process of a worker ended.

use framewright_crds::aijob::Cause;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod, PodStatus};
use kube_core::ResourceExt;

use super::containers::{Role, in_order, worker};
use super::{disruption, in_words};
use crate::jobs::snapshot::Ended;

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
    let worker = worker(pod)?;
    let now = worker.state.as_ref().and_then(|it| it.terminated.as_ref());
    let before = worker
        .last_state
        .as_ref()
        .and_then(|it| it.terminated.as_ref());
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

/// Why a pod ended for good: the reason and message in its status, or who took it from its node, or how a container ended.
pub(super) fn end_of_pod(pod: &Pod, status: &PodStatus) -> String {
    in_words(status.reason.as_deref(), status.message.as_deref())
        .or_else(|| disruption(pod))
        .or_else(|| {
            let state = worker(pod)?.state.as_ref()?;
            state.terminated.as_ref().map(end_in_words)
        })
        .or_else(|| {
            let containers = in_order(pod);
            let mut others = containers.iter().filter(|it| it.role != Role::Worker);
            others.find_map(|other| {
                let end = other.terminated().filter(|end| end.exit_code != 0)?;
                Some(format!("{}: {}", other.name(), end_in_words(end)))
            })
        })
        .unwrap_or_else(|| "it ended".to_owned())
}

/// When a pod ended: its container's end, or its last transition (an evicted or refused pod may have no container).
pub(super) fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let state = worker(pod).and_then(|worker| worker.state.as_ref());
    let by_container = state
        .and_then(|state| state.terminated.as_ref())
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

fn cause_of(end: &ContainerStateTerminated) -> Cause {
    match end.reason.as_deref() {
        Some("OOMKilled") => Cause::OutOfMemory,
        Some(_) | None => Cause::WorkerLost,
    }
}

pub(super) fn end_in_words(end: &ContainerStateTerminated) -> String {
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
    use serde_json::json;

    use super::*;

    #[test]
    fn of_what_a_process_said_the_last_line_is_told_without_colours() {
        let said = "\u{1b}[2m2026-11-23\u{1b}[0m INFO serves\n\u{1b}[31mError\u{1b}[0m: no room for weights\n\n";
        assert_eq!(last_line(said), "Error: no room for weights");
        assert_eq!(last_line(""), "");
    }

    #[test]
    fn a_pod_that_ended_says_who_ended_it() {
        let terminated = |name: &str, code: i32| {
            json!({
                "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code, "reason": "Error", "message": "no route"}},
            })
        };
        let taken = json!([{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": "PodGC: node no longer exists",
        }]);
        for (status, expected) in [
            (
                json!({"reason": "Evicted", "message": "The node was low on resource: memory.", "conditions": taken}),
                "Evicted: The node was low on resource: memory.",
            ),
            (json!({"reason": "NodeAffinity"}), "NodeAffinity"),
            (
                json!({"conditions": taken}),
                "DeletionByPodGC: PodGC: node no longer exists",
            ),
            (
                json!({"containerStatuses": [terminated("worker", 3)]}),
                "Error, exit code 3: no route",
            ),
            (
                json!({"initContainerStatuses": [terminated("warm", 0), terminated("mesh-init", 2)]}),
                "init container mesh-init: Error, exit code 2: no route",
            ),
            (json!({}), "it ended"),
        ] {
            let pod =
                serde_json::from_value(json!({"metadata": {"name": "w-0"}, "status": status}));
            let pod: Pod = pod.expect("a pod");
            let status = pod.status.as_ref().expect("it has one");
            assert_eq!(end_of_pod(&pod, status), expected);
        }
    }
}
