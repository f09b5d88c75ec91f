//! Why a pod does not run, if that does not end by itself, in the words of the component that said it.

use framewright_crds::conditions::pool_reason;
use k8s_openapi::api::core::v1::Pod;
use kube_core::ResourceExt;

use super::containers::{Container, Role, in_order};
use super::ended::{end_in_words, end_of_pod};
use super::waiting::{GATED, unpassed_gates};
use super::{condition, in_words};
use crate::pools::snapshot::PodProblem;

/// The kubelet's reasons for an image that does not come.
const IMAGE: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];
/// What the kubelet says of a container whose turn has not come, or that it is about to create.
const USUAL: [&str; 3] = ["", "ContainerCreating", "PodInitializing"];

/// The first thing that is wrong.
pub(super) fn of(pod: &Pod) -> Option<PodProblem> {
    ended(pod)
        .or_else(|| unscheduled(pod))
        .or_else(|| {
            let containers = in_order(pod);
            containers.iter().find_map(|it| of_container(pod, it))
        })
        .or_else(|| node_lost(pod))
}

fn ended(pod: &Pod) -> Option<PodProblem> {
    let status = pod.status.as_ref()?;
    matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")).then(|| PodProblem {
        reason: pool_reason::PODS_ENDED,
        message: end_of_pod(pod, status),
    })
}

/// The scheduler has looked at the pod and has found no node, or has failed.
fn unscheduled(pod: &Pod) -> Option<PodProblem> {
    let scheduled = condition(pod, "PodScheduled").filter(|it| it.status == "False")?;
    let message = match scheduled.reason.as_deref() {
        Some(GATED) => return None,
        Some("Unschedulable") => {
            let message = scheduled.message.clone();
            message.unwrap_or_else(|| "no node is suitable".to_owned())
        }
        reason => in_words(reason, scheduled.message.as_deref())
            .unwrap_or_else(|| "the scheduler gives no reason".to_owned()),
    };
    let status = pod.status.as_ref()?;
    let message = match status.nominated_node_name.as_deref() {
        Some(node) if !node.is_empty() => {
            format!("{message}; node {node} is nominated: other pods there are removed first")
        }
        Some(_) | None => message,
    };
    Some(PodProblem {
        reason: pool_reason::UNSCHEDULABLE,
        message,
    })
}

fn of_container(pod: &Pod, container: &Container<'_>) -> Option<PodProblem> {
    let is_worker = container.role == Role::Worker;
    let named = |message: String| match container.role {
        Role::Worker => message,
        Role::Init | Role::Sidecar | Role::Other | Role::Ephemeral => {
            format!("{}: {message}", container.name())
        }
    };
    if container.role == Role::Init
        && let Some(end) = container.terminated().filter(|end| end.exit_code != 0)
    {
        return Some(PodProblem {
            reason: pool_reason::CONTAINER_FAILING,
            message: format!("{} failed: {}", container.name(), end_in_words(end)),
        });
    }
    let waiting = container.waiting()?;
    let why = waiting.reason.as_deref().unwrap_or_default();
    let words = in_words(Some(why), waiting.message.as_deref()).unwrap_or_default();
    let name = pod.name_any();
    let (reason, message) = match why {
        why if USUAL.contains(&why) => return None,
        why if IMAGE.contains(&why) => (
            pool_reason::IMAGE_PULL_FAILED,
            named(format!("image {}: {words}", container.status.image)),
        ),
        "CrashLoopBackOff" => {
            let end = container.last_terminated().map(end_in_words);
            let end = end.unwrap_or_default();
            let times = container.status.restart_count;
            if is_worker {
                let message = format!(
                    "its process keeps ending ({end}), {times} times so far; see kubectl logs {name}"
                );
                (pool_reason::WORKER_CRASHING, message)
            } else {
                let message = format!(
                    "{} keeps ending ({end}), {times} times so far; see kubectl logs {name} --container={}",
                    container.name(),
                    container.status.name
                );
                (pool_reason::CONTAINER_FAILING, message)
            }
        }
        _ => (pool_reason::CONTAINER_FAILING, named(words)),
    };
    Some(PodProblem { reason, message })
}

/// The pod runs, as the kubelet has last said, but its node is no longer heard of. The node controller sets Ready to False then and
/// leaves ContainersReady as it was; the kubelet itself would do so only for a readiness gate.
fn node_lost(pod: &Pod) -> Option<PodProblem> {
    let status = pod.status.as_ref()?;
    let node = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or("of the pod");
    let is = |type_: &str, value: &str| condition(pod, type_).is_some_and(|it| it.status == value);
    let message = if status.reason.as_deref() == Some("NodeLost") {
        in_words(status.reason.as_deref(), status.message.as_deref())?
    } else if is("Ready", "False")
        && is("ContainersReady", "True")
        && unpassed_gates(pod).next().is_none()
    {
        format!(
            "node {node} is not ready: its kubelet does not report; see kubectl describe node {node}"
        )
    } else {
        return None;
    };
    Some(PodProblem {
        reason: pool_reason::NODE_NOT_READY,
        message,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problem(spec: Value, status: Value) -> Option<(&'static str, String)> {
        let mut spec = spec;
        spec["containers"] = json!([{"name": "worker"}]);
        let pod = json!({"metadata": {"name": "w-0"}, "spec": spec, "status": status});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        of(&pod).map(|problem| (problem.reason, problem.message))
    }

    fn container(name: &str, state: Value) -> Value {
        json!({
            "name": name, "image": format!("registry.example.com/{name}:1"), "imageID": "", "ready": false, "restartCount": 4,
            "state": state,
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no room for weights"}},
        })
    }

    fn waiting(name: &str, reason: &str) -> Value {
        let message = "as the kubelet says";
        container(
            name,
            json!({"waiting": {"reason": reason, "message": message}}),
        )
    }

    fn check(status: Value, reason: &'static str, message: &str) {
        let sidecar = json!({"initContainers": [{"name": "proxy", "restartPolicy": "Always"}, {"name": "mesh-init"}]});
        assert_eq!(problem(sidecar, status), Some((reason, message.to_owned())));
    }

    #[test]
    fn each_reason_of_the_kubelet_for_the_worker_is_told_in_its_words() {
        let image = |reason: &str| {
            format!("image registry.example.com/worker:1: {reason}: as the kubelet says")
        };
        let words = |reason: &str| format!("{reason}: as the kubelet says");
        let (pull, failing) = (
            pool_reason::IMAGE_PULL_FAILED,
            pool_reason::CONTAINER_FAILING,
        );
        for reason in IMAGE {
            let status = json!({"containerStatuses": [waiting("worker", reason)]});
            check(status, pull, &image(reason));
        }
        for reason in [
            "CreateContainerConfigError",
            "CreateContainerError",
            "RunContainerError",
            "PreStartHookError",
            "WhateverComesNext",
        ] {
            let status = json!({"containerStatuses": [waiting("worker", reason)]});
            check(status, failing, &words(reason));
        }
        check(
            json!({"containerStatuses": [waiting("worker", "CrashLoopBackOff")]}),
            pool_reason::WORKER_CRASHING,
            "its process keeps ending (Error, exit code 1: no room for weights), 4 times so far; see kubectl logs w-0",
        );
        for usual in USUAL {
            let status = json!({"containerStatuses": [waiting("worker", usual)]});
            assert_eq!(problem(json!({}), status), None);
        }
    }

    #[test]
    fn a_container_that_admission_added_is_named_with_the_kubelets_reason() {
        let blocked = waiting("worker", "PodInitializing");
        check(
            json!({"initContainerStatuses": [waiting("mesh-init", "ImagePullBackOff")], "containerStatuses": [blocked]}),
            pool_reason::IMAGE_PULL_FAILED,
            "init container mesh-init: image registry.example.com/mesh-init:1: ImagePullBackOff: as the kubelet says",
        );
        check(
            json!({"initContainerStatuses": [waiting("proxy", "CreateContainerConfigError")]}),
            pool_reason::CONTAINER_FAILING,
            "sidecar container proxy: CreateContainerConfigError: as the kubelet says",
        );
        check(
            json!({"initContainerStatuses": [waiting("mesh-init", "CrashLoopBackOff")]}),
            pool_reason::CONTAINER_FAILING,
            "init container mesh-init keeps ending (Error, exit code 1: no room for weights), 4 times so far; see kubectl logs w-0 --container=mesh-init",
        );
        let failed =
            json!({"terminated": {"exitCode": 2, "reason": "Error", "message": "no route"}});
        check(
            json!({"initContainerStatuses": [container("mesh-init", failed)]}),
            pool_reason::CONTAINER_FAILING,
            "init container mesh-init failed: Error, exit code 2: no route",
        );
        check(
            json!({"containerStatuses": [container("worker", json!({"running": {}})), waiting("logs", "ErrImagePull")]}),
            pool_reason::IMAGE_PULL_FAILED,
            "container logs: image registry.example.com/logs:1: ErrImagePull: as the kubelet says",
        );
        check(
            json!({"ephemeralContainerStatuses": [waiting("debug", "InvalidImageName")]}),
            pool_reason::IMAGE_PULL_FAILED,
            "ephemeral container debug: image registry.example.com/debug:1: InvalidImageName: as the kubelet says",
        );
        let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        let status = json!({"initContainerStatuses": [container("mesh-init", done)]});
        assert_eq!(problem(json!({}), status), None);
    }

    #[test]
    fn what_holds_the_others_back_comes_first() {
        check(
            json!({
                "ephemeralContainerStatuses": [waiting("debug", "ErrImagePull")],
                "containerStatuses": [waiting("logs", "ErrImagePull"), waiting("worker", "CreateContainerError")],
            }),
            pool_reason::CONTAINER_FAILING,
            "CreateContainerError: as the kubelet says",
        );
    }

    #[test]
    fn whatever_keeps_the_scheduler_from_a_node_is_told() {
        let scheduled = |reason: &str| json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": reason, "message": "0/3 nodes have room"}]});
        check(
            scheduled("Unschedulable"),
            pool_reason::UNSCHEDULABLE,
            "0/3 nodes have room",
        );
        check(
            scheduled("SchedulerError"),
            pool_reason::UNSCHEDULABLE,
            "SchedulerError: 0/3 nodes have room",
        );
        let mut preempting = scheduled("Unschedulable");
        preempting["nominatedNodeName"] = json!("gpu-1");
        check(
            preempting,
            pool_reason::UNSCHEDULABLE,
            "0/3 nodes have room; node gpu-1 is nominated: other pods there are removed first",
        );
        assert_eq!(problem(json!({}), scheduled("SchedulingGated")), None);
    }

    #[test]
    fn a_pod_whose_node_is_no_longer_heard_of_names_it() {
        let conditions = json!([{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]);
        let found = problem(
            json!({"nodeName": "gpu-1"}),
            json!({"phase": "Running", "conditions": conditions}),
        );
        let (reason, message) = found.expect("there is one");
        assert_eq!(reason, pool_reason::NODE_NOT_READY);
        assert!(
            message.starts_with("node gpu-1 is not ready: "),
            "{message}"
        );
        // The kubelet says the same of a pod whose readiness gate nobody has passed.
        let gated =
            json!({"nodeName": "gpu-1", "readinessGates": [{"conditionType": "example.com/up"}]});
        let found = problem(gated, json!({"phase": "Running", "conditions": conditions}));
        assert_eq!(found, None);
        check(
            json!({"reason": "NodeLost", "message": "Node gpu-1 is unresponsive"}),
            pool_reason::NODE_NOT_READY,
            "NodeLost: Node gpu-1 is unresponsive",
        );
    }
}
